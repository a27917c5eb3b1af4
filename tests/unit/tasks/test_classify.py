"""The classifier: facts of pictures, weights of classes, and the loss of answers, features and auxiliary heads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from thalweg import registry
from thalweg.config.options import Options
from thalweg.data.images.dataset import Split
from thalweg.data.images.synthetic import make_bars
from thalweg.tasks.classify import Classify, channel_mean_std, class_weights

TASK, CPU = Classify(), torch.device("cpu")
FACTS = {"counts": [6, 3, 1], "classes": list("abc"), "size": [4, 4], "mean": [0.5], "std": [0.5], "channels": 1}


@given(arrays(np.uint8, st.tuples(st.integers(1, 70), st.integers(1, 4), st.integers(1, 4), st.sampled_from([1, 3]))))
@settings(max_examples=60, deadline=None)
def test_mean_and_deviation_are_those_of_the_pixels(images):
    pixels = images.reshape(-1, images.shape[3]) / 255
    mean_C, std_C = channel_mean_std(images)
    np.testing.assert_allclose(mean_C, pixels.mean(0), atol=1e-12)
    np.testing.assert_allclose(std_C, pixels.std(0), atol=1e-12)


def test_facts_of_many_pictures_take_little_memory():
    import tracemalloc

    images = np.zeros((2000, 32, 32, 3), np.uint8)
    tracemalloc.start()
    channel_mean_std(images)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < images.nbytes


# --- weights of classes ----------------------------------------------------------------------------------------------


def test_the_weight_of_a_class_is_the_mean_count_over_its_own():
    assert class_weights([6, 3, 1]).tolist() == pytest.approx([10 / 18, 10 / 9, 10 / 3])
    assert class_weights([4, 4]).tolist() == [1, 1]
    assert class_weights([2, 0, 6]).tolist() == pytest.approx([2, 0, 2 / 3])


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=20))
@settings(max_examples=60, deadline=None)
def test_every_class_counts_as_much_as_any_other_and_all_as_before(counts):
    share_K = class_weights(counts).double() * torch.tensor(counts)
    torch.testing.assert_close(share_K, torch.full_like(share_K, sum(counts) / len(counts)))


def loss(network: nn.Module, batch: dict, **options) -> float:
    return TASK.objective(network, FACTS, Options(**options)).loss(batch).mean.item()


class Fixed(nn.Module):
    """Answers with the pictures themselves, taken to be logits; and another answer while it is trained, if asked to."""

    def __init__(self, auxiliary: bool = False):
        super().__init__()
        self.head, self.auxiliary = nn.Linear(3, 3), auxiliary

    def forward(self, x):
        return (x, -x) if self.auxiliary and self.training else x


LOGITS = torch.tensor([[1.0, 0.0, -1.0], [0.5, 2.0, 0.0], [0.0, 0.0, 0.0], [3.0, -1.0, 1.0]])
LABELS = torch.tensor([0, 1, 2, 2])


@pytest.mark.parametrize("kind", ["cross-entropy", "squared-error"])
def test_balanced_losses_weigh_each_example_by_its_class(kind):
    each = F.cross_entropy(LOGITS, LABELS, reduction="none")
    if kind == "squared-error":
        each = (LOGITS - torch.eye(3)[LABELS]).square().sum(1)
    batch = {"image": LOGITS, "label": LABELS}
    assert loss(Fixed(), batch, loss=kind) == pytest.approx(each.mean().item())
    expected = (each * torch.tensor([10 / 18, 10 / 9, 10 / 3, 10 / 3])).mean().item()
    assert loss(Fixed(), batch, loss=kind, balance=True) == pytest.approx(expected)


def test_an_epoch_of_balanced_losses_counts_every_class_alike():
    """Gradients of a bias with equal answers: those of a rare class weigh as much as those of a frequent one."""
    labels = torch.tensor([0] * 6 + [1] * 3 + [2])
    logits = torch.zeros(10, 3, requires_grad=True)
    batch = {"image": logits, "label": labels}
    TASK.objective(Fixed(), FACTS, Options(balance=True)).loss(batch).mean.backward()
    torch.testing.assert_close(logits.grad.sum(0), torch.zeros(3), atol=1e-6, rtol=0)


@pytest.mark.parametrize("balance", [True, False])
def test_auxiliary_answers_count_four_tenths_while_training(balance):
    batch, other = {"image": LOGITS, "label": LABELS}, {"image": -LOGITS, "label": LABELS}
    expected = loss(Fixed(), batch, balance=balance) + 0.4 * loss(Fixed(), other, balance=balance)
    assert loss(Fixed(auxiliary=True).train(), batch, balance=balance) == pytest.approx(expected)
    assert loss(Fixed(auxiliary=True).eval(), batch, balance=balance) == pytest.approx(
        loss(Fixed(), batch, balance=balance)
    )


def test_the_accuracy_of_a_batch_is_that_of_the_main_answer():
    found = TASK.objective(Fixed(auxiliary=True).train(), FACTS, Options()).loss({"image": LOGITS, "label": LABELS})
    assert found.metrics["accuracy"].item() == 0.5 and found.count == 4


def test_features_go_through_the_head_alone():
    network = Fixed()
    found = loss(network, {"features": LOGITS, "label": LABELS})
    assert found == pytest.approx(F.cross_entropy(network.head(LOGITS), LABELS).item())


def test_scores_of_features_are_those_of_the_pictures():
    data = make_bars(count=48)
    facts = TASK.facts(data)
    network = registry.find_model("lenet")(in_channels=1, num_classes=4, image_size=16, hidden=8).eval()
    x_BCHW = TASK.prepared(data.test.images, facts, CPU)
    with torch.no_grad():
        features_BF = network.features(x_BCHW)
    plain, _ = TASK.score(network, data.test, facts, CPU)
    known, outcome = TASK.score(network, data.test, facts, CPU, features_BF)
    assert known == pytest.approx(plain, abs=1e-5) and outcome.split is data.test


@pytest.mark.parametrize(
    ("rows", "expected"),
    [([], {"examples": 0, "accuracy_without": 0.5}), ([1, 2], {"examples": 2, "accuracy_without": 1.0}),
     ([0, 1, 2, 3], {"examples": 4, "accuracy_without": None})],
)  # fmt: skip
def test_the_accuracy_without_some_examples(rows, expected):
    from thalweg.tasks.classify import EvalResult

    split = Split(np.zeros((4, 2, 2, 1), np.uint8), LABELS.numpy(), list("abcd"))
    right = torch.eye(3)[torch.tensor([0, 2, 0, 2])].numpy()
    assert EvalResult(split, right, None).without(np.array(rows, np.int64)) == expected
