"""Objectives compared with the formulas of their papers, on models small enough to compute by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.helpers.toy_objectives import GAN, CharGRU, CharLSTM
from thalweg.objectives.adversarial import Adversarial
from thalweg.objectives.base import Loss, Objective, Phase, averaged_child
from thalweg.objectives.recurrent import Recurrent
from thalweg.objectives.supervised import Supervised


def softplus(x: np.ndarray) -> np.ndarray:
    return np.log1p(np.exp(x))


class ScalingGenerator(nn.Module):
    """A generator with one parameter, whose images are its latents times the parameter."""

    latent_dim = 4

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, z: Tensor) -> Tensor:
        return self.weight * z


def make_adversarial(**settings) -> Adversarial:
    torch.manual_seed(0)
    return Adversarial(GAN(ScalingGenerator(), nn.Linear(4, 1)), **settings)


def test_supervised_loss_is_the_criterion():
    model = nn.Linear(2, 1)
    objective = Supervised(model, lambda model, batch: Loss(model(batch["x"]).mean(), len(batch["x"])))
    (phase,) = objective.phases()
    loss = phase.loss({"x": torch.ones(3, 2)})
    assert phase.name == "fit" and phase.module is model and phase.interval == 1 and phase.compile
    assert loss.count == 3 and loss.metrics == {}
    torch.testing.assert_close(loss.mean, model(torch.ones(1, 2)).squeeze())


def test_the_state_of_an_objective_holds_all_networks_and_buffers():
    assert set(make_adversarial().state_dict()) == {
        "model.network.weight",
        "model.discriminator.weight",
        "model.discriminator.bias",
    }
    assert "state_0" in Recurrent(CharGRU(), 2).state_dict()
    assert {"state_0", "state_1"} <= Recurrent(CharLSTM(), 2).state_dict().keys()


def test_an_objective_must_define_phases():
    class Empty(Objective):
        pass

    with pytest.raises(TypeError) as error:
        Empty().phases()
    assert "Empty" in str(error.value)


def test_a_phase_is_due_in_its_range_of_steps_at_its_interval():
    phase = Phase("r1", nn.Identity(), lambda batch: Loss(batch["x"], 1), interval=4, begins=3, ends=12)
    assert [step for step in range(20) if phase.is_due(step)] == [4, 8]
    endless = Phase("fit", nn.Identity(), phase.loss)
    assert all(endless.is_due(step) for step in range(5))


def test_only_a_child_named_network_is_averaged():
    model = GAN(ScalingGenerator(), nn.Linear(4, 1))
    assert averaged_child(model) is model.network
    assert averaged_child(model.discriminator) is model.discriminator
    model.discriminator.network = "not a module"
    assert averaged_child(model.discriminator) is model.discriminator


# --- adversarial -----------------------------------------------------------------------------------------------------


def test_the_penalty_of_a_linear_discriminator_is_half_its_squared_weights():
    """The gradient of w x + b is w for every image; a lazy penalty is multiplied by its interval."""
    for r1, interval in ((1.0, 1), (10.0, 16)):
        objective = make_adversarial(r1=r1, r1_interval=interval)
        loss = objective.r1_loss({"image": torch.randn(5, 4)})
        weight = objective.discriminator.weight
        torch.testing.assert_close(loss.mean, r1 / 2 * interval * weight.square().sum())
        loss.mean.backward()
        torch.testing.assert_close(weight.grad, r1 * interval * weight)
        assert loss.count == 5


def test_the_penalty_of_any_discriminator_matches_finite_differences():
    torch.manual_seed(0)
    discriminator = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    x = torch.randn(4, 3, dtype=torch.float64)
    h = 1e-5
    derivatives = []
    for direction in torch.eye(3, dtype=torch.float64):
        difference = discriminator(x + h * direction) - discriminator(x - h * direction)
        derivatives.append(difference / (2 * h))
    expected = 0.5 * torch.cat(derivatives, 1).square().sum(1).mean()
    objective = Adversarial(GAN(ScalingGenerator(), discriminator), r1=1.0, r1_interval=1)
    torch.testing.assert_close(objective.r1_loss({"image": x}).mean, expected, atol=1e-8, rtol=1e-6)


def test_the_losses_are_those_of_the_paper():
    objective = make_adversarial()
    real = torch.randn(6, 4)

    def discriminate(x: Tensor) -> np.ndarray:
        return objective.discriminator(x).detach().numpy()

    torch.manual_seed(5)
    fake = 2.0 * torch.randn(6, 4)
    torch.manual_seed(5)
    loss = objective.discriminator_loss({"image": real})
    expected = softplus(discriminate(fake)).mean() + softplus(-discriminate(real)).mean()
    assert loss.mean.item() == pytest.approx(expected, rel=1e-5) and loss.count == 6
    assert loss.metrics["real_logit"].item() == pytest.approx(discriminate(real).mean(), abs=1e-6)
    assert loss.metrics["fake_logit"].item() == pytest.approx(discriminate(fake).mean(), abs=1e-6)
    torch.manual_seed(5)
    loss = objective.generator_loss({"image": real})
    assert loss.mean.item() == pytest.approx(softplus(-discriminate(fake)).mean(), rel=1e-5)


def test_the_discriminator_loss_gives_the_generator_no_gradient():
    objective = make_adversarial()
    objective.discriminator_loss({"image": torch.randn(3, 4)}).mean.backward()
    assert objective.generator.weight.grad is None and objective.discriminator.weight.grad is not None
    objective.generator_loss({"image": torch.randn(3, 4)}).mean.backward()
    assert objective.generator.weight.grad is not None


def test_adversarial_phases_are_discriminator_r1_generator():
    objective = make_adversarial(r1_interval=8)
    assert [(phase.name, phase.interval, phase.compile) for phase in objective.phases()] == [
        ("discriminator", 1, True),
        ("r1", 8, False),
        ("generator", 1, True),
    ]
    modules = [phase.module for phase in objective.phases()]
    assert modules == [objective.model.discriminator, objective.model.discriminator, objective.model.network]
    assert [phase.name for phase in make_adversarial(r1=0.0).phases()] == ["discriminator", "generator"]


# --- recurrent -------------------------------------------------------------------------------------------------------

MODELS = [CharGRU, CharLSTM]


def make_text(batch_size: int = 2, length: int = 12) -> Tensor:
    torch.manual_seed(1)
    return torch.randint(11, (batch_size, length + 1))


def make_batch(tokens: Tensor, start: int, length: int, reset: float) -> dict[str, Tensor]:
    return {
        "tokens": tokens[:, start : start + length],
        "targets": tokens[:, start + 1 : start + length + 1],
        "row": torch.arange(len(tokens)),
        "resets": torch.full((len(tokens),), reset),
    }


def states(objective: Recurrent) -> list[Tensor]:
    return [buffer.clone() for buffer in objective.buffers()]


@pytest.mark.parametrize("model_class", MODELS)
def test_the_carried_state_makes_short_batches_equal_a_long_one(model_class):
    tokens = make_text()
    model = model_class()
    full = Recurrent(model, 2).loss(make_batch(tokens, 0, 12, 1.0))
    objective = Recurrent(model, 2)
    losses = [objective.loss(make_batch(tokens, start, 4, float(start == 0))) for start in (0, 4, 8)]
    torch.testing.assert_close(torch.stack([loss.mean for loss in losses]).mean(), full.mean)
    assert full.count == 24 and [loss.count for loss in losses] == [8] * 3
    assert full.metrics["bits"].item() == pytest.approx(full.mean.item() / math.log(2))


def test_the_loss_is_the_cross_entropy_per_character():
    tokens = make_text()
    model = CharGRU()
    batch = make_batch(tokens, 0, 12, 1.0)
    logits, _ = model(batch["tokens"], model.initial_state(2))
    total = sum(F.cross_entropy(logits[b, t], batch["targets"][b, t]) for b in range(2) for t in range(12))
    torch.testing.assert_close(Recurrent(model, 2).loss(batch).mean, total / 24)


def test_a_row_that_resets_forgets_and_the_others_do_not():
    tokens = make_text()
    model = CharGRU()
    objective = Recurrent(model, 2)
    objective.loss(make_batch(tokens, 0, 4, 1.0))
    (carried,) = states(objective)
    assert float(carried.abs().min()) > 0
    batch = {**make_batch(tokens, 4, 4, 0.0), "resets": torch.tensor([1.0, 0.0])}
    objective.loss(batch)
    _, fresh = model(batch["tokens"], model.initial_state(2))
    _, continued = model(batch["tokens"], carried)
    torch.testing.assert_close(objective.state_0[:, 0], fresh[:, 0])
    torch.testing.assert_close(objective.state_0[:, 1], continued[:, 1])


@pytest.mark.parametrize("model_class", MODELS)
def test_a_batch_of_some_rows_changes_their_state_only(model_class):
    tokens = make_text(batch_size=4)
    model = model_class()
    full = Recurrent(model, 4)
    full.loss(make_batch(tokens, 0, 4, 1.0))
    objective = Recurrent(model, 4)
    rows = torch.tensor([3, 1])
    batch = make_batch(tokens, 0, 4, 1.0)
    objective.loss({name: values[rows] for name, values in batch.items()})
    for state, expected in zip(states(objective), states(full), strict=True):
        torch.testing.assert_close(state[:, rows], expected[:, rows])
        assert not state[:, [0, 2]].any()


@pytest.mark.parametrize("model_class", MODELS)
def test_gradients_end_at_the_start_of_the_batch(model_class):
    objective = Recurrent(model_class(), 2)
    objective.loss(make_batch(make_text(), 0, 4, 1.0))
    assert not any(state.requires_grad for state in objective.buffers())
    loss = objective.loss(make_batch(make_text(), 4, 4, 0.0))
    loss.mean.backward()  # does not need the graph of the first batch
    assert all(param.grad is not None for param in objective.model.parameters())
