"""Objectives compared with the formulas of their papers, on models small enough to compute by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.helpers.toy_objectives import CharGRU, CharLSTM, make_gan
from thalweg.objectives.base import Loss, Objective, Phase, averaged_child
from thalweg.objectives.recurrent import Recurrent
from thalweg.objectives.supervised import Supervised


def test_supervised_loss_is_the_criterion():
    model = nn.Linear(2, 1)
    objective = Supervised(model, lambda model, batch: Loss(model(batch["x"]).mean(), len(batch["x"])))
    (phase,) = objective.phases()
    loss = phase.loss({"x": torch.ones(3, 2)})
    assert phase.name == "fit" and phase.module is model and phase.interval == 1 and phase.compile
    assert loss.count == 3 and loss.metrics == {}
    torch.testing.assert_close(loss.mean, model(torch.ones(1, 2)).squeeze())


def test_the_state_of_an_objective_holds_what_is_carried():
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
    model = make_gan(nn.Linear(16, 1))
    assert averaged_child(model) is model.network
    assert averaged_child(model.discriminator) is model.discriminator
    model.discriminator.network = "not a module"
    assert averaged_child(model.discriminator) is model.discriminator


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
