"""Objectives against the formulas of their papers, on networks small enough to do by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.helpers.toy_objectives import LetterGRU
from thalweg.objectives.adversarial import Adversarial
from thalweg.objectives.base import Loss, Objective
from thalweg.objectives.recurrent import Recurrent
from thalweg.objectives.supervised import Supervised


def softplus(x: np.ndarray) -> np.ndarray:
    return np.log1p(np.exp(x))


class Doubling(nn.Module):
    """A generator with one weight, whose pictures are its latents times the weight."""

    latent = 4

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, z):
        return self.weight * z


def adversarial(**more) -> Adversarial:
    torch.manual_seed(0)
    return Adversarial(Doubling(), nn.Linear(4, 1), **more)


def test_supervised_is_its_criterion():
    network = nn.Linear(2, 1)
    objective = Supervised(network, lambda net, batch: Loss(net(batch["x"]).mean(), len(batch["x"])))
    (phase,) = objective.phases()
    loss = phase.loss({"x": torch.ones(3, 2)})
    assert phase.name == "fit" and phase.module is network and phase.interval == 1 and phase.compile
    assert loss.count == 3 and loss.metrics == {}
    torch.testing.assert_close(loss.mean, network(torch.ones(1, 2)).squeeze())


def test_an_objective_is_all_that_a_checkpoint_must_know():
    assert set(adversarial().state_dict()) == {"model.weight", "critic.weight", "critic.bias"}
    assert "state_SBD" in Recurrent(LetterGRU(), 2).state_dict()


def test_an_objective_must_list_its_phases():
    class Nothing(Objective):
        pass

    with pytest.raises(TypeError, match="Nothing lists no phases"):
        Nothing().phases()


# --- adversarial -----------------------------------------------------------------------------------------------------


def test_the_penalty_of_a_linear_critic_is_half_its_squared_weights():
    """The gradient of w x + b is w, whatever the picture; lazily, it is multiplied by the steps left out."""
    for r1, every in ((1.0, 1), (10.0, 16)):
        objective = adversarial(r1=r1, every=every)
        loss = objective.r1_loss({"image": torch.randn(5, 4)})
        weight = objective.critic.weight
        torch.testing.assert_close(loss.mean, r1 / 2 * every * weight.square().sum())
        loss.mean.backward()
        torch.testing.assert_close(weight.grad, r1 * every * weight)
        assert loss.count == 5


def test_the_penalty_of_any_critic_is_that_of_finite_differences():
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    x, step = torch.randn(4, 3, dtype=torch.float64), 1e-5
    slopes = [(critic(x + step * e) - critic(x - step * e)) / (2 * step) for e in torch.eye(3, dtype=torch.float64)]
    expected = 0.5 * torch.cat(slopes, 1).square().sum(1).mean()
    found = Adversarial(Doubling(), critic, r1=1.0, every=1).r1_loss({"image": x}).mean
    torch.testing.assert_close(found, expected, atol=1e-8, rtol=1e-6)


def test_the_losses_are_those_of_the_paper():
    objective, real = adversarial(), torch.randn(6, 4)

    def critic(x: torch.Tensor) -> np.ndarray:
        return objective.critic(x).detach().numpy()

    torch.manual_seed(5)
    fake = 2.0 * torch.randn(6, 4)
    torch.manual_seed(5)
    loss = objective.critic_loss({"image": real})
    expected = softplus(critic(fake)).mean() + softplus(-critic(real)).mean()
    assert loss.mean.item() == pytest.approx(expected, rel=1e-5) and loss.count == 6
    assert loss.metrics["real"].item() == pytest.approx(critic(real).mean(), abs=1e-6)
    assert loss.metrics["fake"].item() == pytest.approx(critic(fake).mean(), abs=1e-6)
    torch.manual_seed(5)
    loss = objective.generator_loss({"image": real})
    assert loss.mean.item() == pytest.approx(softplus(-critic(fake)).mean(), rel=1e-5)


def test_the_critic_learns_without_the_generator():
    objective = adversarial()
    objective.critic_loss({"image": torch.randn(3, 4)}).mean.backward()
    assert objective.model.weight.grad is None and objective.critic.weight.grad is not None
    objective.generator_loss({"image": torch.randn(3, 4)}).mean.backward()
    assert objective.model.weight.grad is not None


def test_phases_are_critic_penalty_generator():
    phases = adversarial(every=8).phases()
    assert [(p.name, p.interval, p.compile) for p in phases] == [
        ("critic", 1, True),
        ("r1", 8, False),
        ("generator", 1, True),
    ]
    assert [p.name for p in adversarial(r1=0.0).phases()] == ["critic", "generator"]


# --- recurrent -------------------------------------------------------------------------------------------------------


def text(rows: int = 2, length: int = 12) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randint(11, (rows, length + 1))


def piece(tokens: torch.Tensor, start: int, length: int, begins: float) -> dict[str, torch.Tensor]:
    return {
        "tokens": tokens[:, start : start + length],
        "targets": tokens[:, start + 1 : start + length + 1],
        "resets": torch.full((len(tokens),), begins),
    }


def test_the_state_goes_on_so_that_pieces_equal_the_whole():
    tokens, network = text(), LetterGRU()
    whole = Recurrent(network, 2).loss(piece(tokens, 0, 12, 1.0))
    objective = Recurrent(network, 2)
    parts = [objective.loss(piece(tokens, start, 4, float(start == 0))) for start in (0, 4, 8)]
    torch.testing.assert_close(torch.stack([p.mean for p in parts]).mean(), whole.mean)
    assert whole.count == 24 and [p.count for p in parts] == [8] * 3
    assert whole.metrics["bits"].item() == pytest.approx(whole.mean.item() / math.log(2))


def test_the_loss_is_the_cross_entropy_per_letter():
    tokens, network = text(), LetterGRU()
    batch = piece(tokens, 0, 12, 1.0)
    logits, _ = network(batch["tokens"], network.initial_state(2))
    expected = sum(F.cross_entropy(logits[b, t], batch["targets"][b, t]) for b in range(2) for t in range(12)) / 24
    torch.testing.assert_close(Recurrent(network, 2).loss(batch).mean, expected)


def test_a_row_that_begins_a_new_text_forgets_and_the_others_do_not():
    tokens, network = text(), LetterGRU()
    objective = Recurrent(network, 2)
    objective.loss(piece(tokens, 0, 4, 1.0))
    carried = objective.state_SBD.clone()
    assert float(carried.abs().min()) > 0
    batch = {**piece(tokens, 4, 4, 0.0), "resets": torch.tensor([1.0, 0.0])}
    objective.loss(batch)
    _, fresh = network(batch["tokens"], network.initial_state(2))
    _, gone_on = network(batch["tokens"], carried)
    torch.testing.assert_close(objective.state_SBD[:, 0], fresh[:, 0])
    torch.testing.assert_close(objective.state_SBD[:, 1], gone_on[:, 1])


def test_gradients_end_where_the_piece_begins():
    objective = Recurrent(LetterGRU(), 2)
    objective.loss(piece(text(), 0, 4, 1.0))
    assert not objective.state_SBD.requires_grad
    objective.loss(piece(text(), 4, 4, 0.0)).mean.backward()  # the graph of the first piece is not needed
    assert all(w.grad is not None for w in objective.model.parameters())
