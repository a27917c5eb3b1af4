"""The loop in its details: what is reported, averaged, clipped, divided and frozen."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tests.helpers.toy_objectives import make_trainer
from thalweg.data.batches import InMemoryBatches
from thalweg.engine import distributed as ranks
from thalweg.engine.config import TrainConfig
from thalweg.engine.freezing import freeze
from thalweg.engine.trainer import Trainer, split_micro_batches
from thalweg.objectives.base import Loss, Phase
from thalweg.objectives.supervised import Supervised


def slope(steps: int = 10, examples: int = 10, batch: int = 2, **recipe) -> Trainer:
    """One weight w under the loss x w, so that its gradient is the mean of x over the batch, whatever w is."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)

    def criterion(network: nn.Module, b) -> Loss:
        return Loss((network.weight * b["x"]).mean(), len(b["x"]), {"mean": b["x"].mean()})

    data = {"x": torch.arange(1.0, examples + 1)[:, None]}
    settings = {"optimizer": "sgd", "schedule": "constant", "lr": 0.5, "report_every": 1, **recipe}
    return Trainer(Supervised(network, criterion), InMemoryBatches(data, batch), TrainConfig(steps=steps, **settings))


def weight(one: Trainer) -> float:
    return one.objective.model.weight.item()


def test_reports_come_every_so_often_at_ends_of_epochs_and_at_the_end():
    assert [r.step for r in slope(steps=12, report_every=3)] == [3, 5, 6, 9, 10, 12]


def test_a_report_is_the_mean_over_all_items_since_the_last():
    one = slope(steps=10, report_every=5)
    for number, report in enumerate(one):
        rows = [row for step in range(5 * number, 5 * number + 5) for row in one.batches.batch_indices(step)]
        assert report.losses["mean"] == pytest.approx(sum(row + 1 for row in rows) / 10)
        assert list(report.losses) == ["loss", "mean"] and report.lr == 0.5


def test_losses_are_weighted_by_what_they_are_means_of():
    """Batches with many boxes count for more than batches with few."""
    one, alone = (
        make_trainer("detect", steps=4, report_every=4, lr=0.0, ema_decay=0.0),
        make_trainer("detect", steps=4, report_every=1, lr=0.0, ema_decay=0.0),
    )
    (whole,) = list(one)
    boxes = [float(alone.batches.tensors["real"][alone.batches.batch_indices(step)].sum()) for step in range(4)]
    losses = [report.losses["loss"] for report in alone]
    expected = sum(n * loss for n, loss in zip(boxes, losses, strict=True)) / sum(boxes)
    assert len(set(boxes)) > 1 and whole.losses["loss"] == pytest.approx(expected, rel=1e-5)


def test_phases_that_did_not_run_are_not_reported():
    reports = list(make_trainer("generate", steps=8, report_every=1))
    assert ["r1" in report.losses for report in reports] == [True, False, False, False] * 2
    assert all({"critic", "generator", "critic/real", "critic/fake"} <= set(r.losses) for r in reports)


def test_the_rate_is_that_of_the_step():
    one = slope(steps=4, schedule="linear", examples=2)
    before, found = 0.0, []
    for report in one:
        found.append((before - weight(one)) / 1.5)
        before = weight(one)
        assert report.lr == pytest.approx(found[-1])
    assert found == pytest.approx([0.5, 0.375, 0.25, 0.125])


def test_gradients_are_clipped_to_the_norm():
    one = slope(steps=1, examples=2, grad_clip=0.25)
    next(iter(one))
    assert weight(one) == pytest.approx(-0.5 * 0.25)


def test_the_average_is_an_exponential_mean_that_begins_quickly():
    one = slope(steps=6, ema_decay=0.9, examples=2)
    average = 0.0
    for report in one:
        decay = min(0.9, report.step / (report.step + 9))
        average = decay * average + (1 - decay) * weight(one)
        assert one.model.weight.item() == pytest.approx(average)
    assert one.model is one.ema_model is not one.objective.model
    assert slope().model is not None and slope().ema_model is None


def test_the_average_has_the_batch_statistics_of_the_weights_that_ran():
    one = make_trainer("classify", steps=6)
    list(one)
    for mean, latest in zip(one.ema_model.buffers(), one.objective.model.buffers(), strict=True):
        assert torch.equal(mean, latest)


def test_a_paused_trainer_hands_back_control_after_every_step_and_loses_nothing():
    one, paused = make_trainer("classify", steps=8, report_every=4), make_trainer("classify", steps=8, report_every=4)
    paused.pause_requested = True
    reports = list(paused)
    assert [r.step for r in reports] == list(range(1, 9))
    assert [r for r in reports if r.losses] == list(one)


def test_randomness_depends_on_seed_step_and_rank_only(monkeypatch):
    one = slope()
    seeds = {one.step_seed()}
    one.step = 1
    seeds.add(one.step_seed())
    monkeypatch.setattr(ranks, "get_rank", lambda: 1)
    seeds.add(one.step_seed())
    one.step = 0
    seeds.add(one.step_seed())
    seeds.add(slope(seed=1).step_seed())
    assert len(seeds) == 5 and all(0 <= seed < 2**32 for seed in seeds)


def test_any_step_can_be_replayed_alone():
    """What augmentation drew at step 5 is drawn again, without the steps before it."""
    drawn: dict[int, list[torch.Tensor]] = {}

    def augment(batch):
        drawn.setdefault(one.step, []).append(torch.rand(3))
        return batch

    one = slope(steps=8)
    one.augment = augment
    list(one)
    one.load_state_dict({**slope(steps=8).state_dict(), "step": 5, "stream": {"step": 5}})
    next(iter(one))
    assert torch.equal(drawn[5][0], drawn[5][1]) and not torch.equal(drawn[5][0], drawn[4][0])


def test_a_batch_is_divided_as_evenly_as_can_be():
    batch = {"x": torch.arange(7), "y": torch.arange(7) * 2}
    pieces = split_micro_batches(batch, 3)
    assert [p["x"].tolist() for p in pieces] == [[0, 1, 2], [3, 4], [5, 6]]
    assert all(torch.equal(p["y"], p["x"] * 2) for p in pieces)
    assert len(split_micro_batches(batch, 20)) == 7


def test_phases_that_share_a_module_share_its_optimiser():
    one = make_trainer("generate")
    assert len(one.phases) == 3 and len(one.optimizers) == 2


def test_a_phase_runs_when_it_is_due():
    ran = []

    def counted(phase: Phase) -> Phase:
        def loss(batch):
            ran.append((one.step, phase.name))
            return phase.loss(batch)

        return Phase(phase.name, phase.module, loss, phase.interval, phase.compile)

    one = make_trainer("generate", steps=5)
    one.losses = {p.name: counted(p).loss for p in one.phases}
    list(one)
    expected = [(s, name) for s in range(5) for name in ("critic", "r1", "generator") if name != "r1" or s in (0, 4)]
    assert ran == expected


def test_freezing_holds_for_weights_and_batch_statistics_in_every_mode():
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    freeze(network[:2])
    before = copy.deepcopy(network.state_dict())
    network.train()
    network(torch.randn(8, 3)).sum().backward()
    assert not network[1].training and network[2].training
    assert all(w.grad is None for w in network[:2].parameters()) and network[2].weight.grad is not None
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])
