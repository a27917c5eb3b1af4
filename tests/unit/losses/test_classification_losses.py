import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from thalweg.losses.classification import cross_entropy, one_hot, squared_error

LABELS = torch.tensor([2, 0, 1, 2])
SMOOTHINGS = [0.0, 0.1, 1.0]


def random_logits(rows: int = 4, classes: int = 3, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, classes, generator=generator, dtype=torch.float64)


def test_one_hot_targets_are_rows_of_the_identity():
    assert torch.equal(one_hot(LABELS, 3), torch.eye(3)[LABELS])


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_smoothed_targets_mix_the_label_with_the_uniform_distribution(smoothing):
    expected = (1 - smoothing) * torch.eye(5, dtype=torch.float64)[LABELS] + smoothing / 5
    assert torch.allclose(one_hot(LABELS, 5, smoothing, torch.float64), expected, rtol=0, atol=1e-15)


def test_a_label_outside_the_classes_has_no_target():
    with pytest.raises(RuntimeError, match="out of bounds"):
        one_hot(torch.tensor([3]), 3)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_cross_entropy_is_the_mean_of_minus_target_times_log_softmax(smoothing):
    logits = random_logits()
    rows = []
    for row, label in zip(logits.tolist(), LABELS.tolist(), strict=True):
        log_sum = math.log(sum(math.exp(z) for z in row))
        targets = [(1 - smoothing) * (k == label) + smoothing / 3 for k in range(3)]
        rows.append(-sum(t * (z - log_sum) for t, z in zip(targets, row, strict=True)))
    assert cross_entropy(logits, LABELS, smoothing).item() == pytest.approx(sum(rows) / 4, abs=1e-12)


def test_cross_entropy_of_huge_logits_is_finite():
    assert cross_entropy(torch.tensor([[1e4, -1e4]]), torch.tensor([1])).item() == 2e4


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_squared_error_sums_over_classes_and_averages_over_the_batch(smoothing):
    logits = random_logits()
    total = 0.0
    for row, label in zip(logits.tolist(), LABELS.tolist(), strict=True):
        total += sum((z - ((1 - smoothing) * (k == label) + smoothing / 3)) ** 2 for k, z in enumerate(row))
    assert squared_error(logits, LABELS, smoothing).item() == pytest.approx(total / 4, abs=1e-12)


@pytest.mark.parametrize("loss", [cross_entropy, squared_error])
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_gradients_match_finite_differences(loss, smoothing):
    assert torch.autograd.gradcheck(lambda z: loss(z, LABELS, smoothing), random_logits().requires_grad_())


def test_the_gradient_of_cross_entropy_is_softmax_minus_target():
    logits = random_logits().requires_grad_()
    cross_entropy(logits, LABELS, 0.1).backward()
    expected = (logits.detach().softmax(1) - one_hot(LABELS, 3, 0.1, torch.float64)) / 4
    assert torch.allclose(logits.grad, expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("loss", [cross_entropy, squared_error])
@given(rows=st.integers(2, 9), classes=st.integers(1, 12), cut=st.integers(1, 8), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_the_loss_of_a_batch_is_the_weighted_mean_of_its_parts(loss, rows, classes, cut, seed):
    logits = random_logits(rows, classes, seed)
    cut = min(cut, rows - 1)
    labels = torch.randint(classes, (rows,), generator=torch.Generator().manual_seed(seed))
    parts = cut * loss(logits[:cut], labels[:cut]) + (rows - cut) * loss(logits[cut:], labels[cut:])
    assert (parts / rows).item() == pytest.approx(loss(logits, labels).item(), abs=1e-12)


def test_cross_entropy_is_a_single_torch_call():
    """Its autograd node is that of F.cross_entropy, so a training step has no further cost."""
    logits = random_logits().requires_grad_()
    ours = cross_entropy(logits, LABELS)
    theirs = F.cross_entropy(logits, LABELS)
    assert ours.grad_fn.name() == theirs.grad_fn.name()
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("loss", [cross_entropy, squared_error])
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_the_weight_multiplies_the_loss_of_its_example(loss, smoothing):
    logits = random_logits()
    weights = torch.tensor([2.0, 0.0, 0.5, 1.0], dtype=torch.float64)
    single = [loss(logits[row : row + 1], LABELS[row : row + 1], smoothing).item() for row in range(4)]
    expected = sum(w * value for w, value in zip(weights.tolist(), single, strict=True)) / 4
    assert loss(logits, LABELS, smoothing, weights).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("loss", [cross_entropy, squared_error])
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_weights_of_one_change_nothing_and_integers_are_repetitions(loss, smoothing):
    logits = random_logits()
    plain = loss(logits, LABELS, smoothing)
    torch.testing.assert_close(loss(logits, LABELS, smoothing, torch.ones(4, dtype=torch.float64)), plain)
    rows = torch.tensor([0, 0, 0, 2, 3])  # three times, never, once, once: five examples, divided by four
    repeated = loss(logits[rows], LABELS[rows], smoothing) * 5 / 4
    weights = torch.tensor([3.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(loss(logits, LABELS, smoothing, weights), repeated)


@pytest.mark.parametrize("loss", [cross_entropy, squared_error])
def test_gradients_of_weighted_losses_match_finite_differences(loss):
    weights = torch.tensor([2.0, 0.0, 0.5, 1.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda z: loss(z, LABELS, 0.1, weights), random_logits().requires_grad_())
