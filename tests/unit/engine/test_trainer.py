"""The details of the training loop: reports, averages, clipping, micro-batches, phases."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.helpers.toy_objectives import make_trainer
from thalweg.data.batches import InMemoryBatches
from thalweg.engine.config import TrainConfig
from thalweg.engine.trainer import Trainer, split_micro_batches
from thalweg.errors import NonFiniteError
from thalweg.objectives.base import Batch, Loss, Phase
from thalweg.objectives.supervised import Supervised


def make_linear(steps: int = 10, n: int = 10, batch_size: int = 2, **config) -> Trainer:
    """One weight w with the loss x w: its gradient is the mean of x over the batch, whatever w is."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)

    def criterion(model: nn.Module, batch: Batch) -> Loss:
        return Loss((model.weight * batch["x"]).mean(), len(batch["x"]), {"mean": batch["x"].mean()})

    tensors = {"x": torch.arange(1.0, n + 1)[:, None]}
    settings = {"optimizer": "sgd", "schedule": "constant", "lr": 0.5, "report_every": 1, **config}
    objective = Supervised(model, criterion)
    return Trainer(objective, InMemoryBatches(tensors, batch_size), TrainConfig(steps=steps, **settings))


def weight_of(trainer: Trainer) -> float:
    return trainer.objective.model.weight.item()


# --- reports ---------------------------------------------------------------------------------------------------------


def test_reports_come_at_the_interval_at_ends_of_epochs_and_at_the_end():
    assert [report.step for report in make_linear(steps=12, report_every=3)] == [3, 5, 6, 9, 10, 12]


def test_a_report_is_the_mean_over_all_items_since_the_last():
    trainer = make_linear(steps=10, report_every=5)
    for index, report in enumerate(trainer):
        examples = []
        for step in range(5 * index, 5 * index + 5):
            examples += trainer.batches.batch_indices(step)
        assert report.losses["mean"] == pytest.approx(sum(example + 1 for example in examples) / 10)
        assert list(report.losses) == ["loss", "mean"] and report.lr == 0.5


def test_losses_are_weighted_by_their_counts():
    """Batches with many boxes count more than batches with few."""
    settings = {"steps": 4, "lr": 0.0, "ema_decay": 0.0}
    (report,) = list(make_trainer("detect", report_every=4, **settings))
    trainer = make_trainer("detect", report_every=1, **settings)
    real = trainer.batches.tensors["real"]
    boxes = [float(real[trainer.batches.batch_indices(step)].sum()) for step in range(4)]
    losses = [report.losses["loss"] for report in trainer]
    expected = sum(n * loss for n, loss in zip(boxes, losses, strict=True)) / sum(boxes)
    assert len(set(boxes)) > 1 and report.losses["loss"] == pytest.approx(expected, rel=1e-5)


def test_phases_that_did_not_run_are_not_reported():
    reports = list(make_trainer("generate", steps=8, report_every=1))
    assert ["penalty" in report.losses for report in reports] == [True, False, False, False] * 2
    metrics = {f"discriminator/{name}" for name in ("real_logit", "fake_logit", "accuracy")}
    expected = {"discriminator", "generator", *metrics}
    assert all(report.losses.keys() - {"penalty", "penalty/r1"} == expected for report in reports)


def test_a_paused_trainer_yields_after_every_step_and_loses_nothing():
    trainer = make_trainer("classify", steps=8, report_every=4)
    paused = make_trainer("classify", steps=8, report_every=4)
    paused.pause_requested = True
    reports = list(paused)
    assert [report.step for report in reports] == list(range(1, 9))
    assert [report for report in reports if report.losses] == list(trainer)


def test_extra_yield_steps_yield_without_losses():
    trainer = make_trainer("classify", steps=8, report_every=4)
    trainer.extra_yield_steps = frozenset({1, 4, 6})
    assert [(report.step, bool(report.losses)) for report in trainer] == [(1, False), (4, True), (6, False), (8, True)]


def test_divergence_is_reported_with_step_learning_rate_and_examples():
    trainer = make_linear(steps=30, n=2, lr=1e38)
    with pytest.raises(NonFiniteError) as error:
        list(trainer)
    assert error.value.step == trainer.step and sorted(error.value.indices) == [0, 1]
    assert f"step {trainer.step} (lr 1e+38)" in error.value.message
    assert "--lr auto" in error.value.cure


# --- updates ---------------------------------------------------------------------------------------------------------


def test_the_learning_rate_is_that_of_the_step():
    trainer = make_linear(steps=4, schedule="linear", n=2)
    before = 0.0
    lrs = []
    for report in trainer:
        lrs.append((before - weight_of(trainer)) / 1.5)
        before = weight_of(trainer)
        assert report.lr == pytest.approx(lrs[-1])
    assert lrs == pytest.approx([0.5, 0.375, 0.25, 0.125])


def test_the_learning_rate_of_a_phase_is_scaled_even_if_phases_share_an_optimizer():
    trainer = make_linear(steps=1, n=2)
    (fit,) = trainer.phases
    slow = replace(fit, name="slow", lr_scale=0.25)
    trainer.objective.phases = lambda: [fit, slow]
    trainer = Trainer(trainer.objective, trainer.batches, trainer.config)
    (report,) = list(trainer)
    assert len(trainer.optimizers) == 1
    assert weight_of(trainer) == pytest.approx(-0.5 * 1.5 * (1 + 0.25))
    assert report.losses.keys() == {"fit", "fit/mean", "slow", "slow/mean"}


def test_gradients_are_clipped_to_the_norm():
    trainer = make_linear(steps=1, n=2, grad_clip=0.25)
    next(iter(trainer))
    assert weight_of(trainer) == pytest.approx(-0.5 * 0.25)


def test_phases_of_the_same_module_share_its_optimizer():
    trainer = make_trainer("generate")
    assert len(trainer.phases) == 3 and len(trainer.optimizers) == 2


def phases_run(toy: str, steps: int) -> list[tuple[int, str]]:
    """Return (step, phase) of every loss that a training computes."""
    calls = []
    trainer = make_trainer(toy, steps=steps)

    def count_calls(phase: Phase) -> Phase:
        def loss(batch: Batch) -> Loss:
            calls.append((trainer.step, phase.name))
            return phase.loss(batch)

        return replace(phase, loss=loss)

    trainer.losses = {phase.name: count_calls(phase).loss for phase in trainer.phases}
    list(trainer)
    return calls


def test_a_lazy_phase_runs_at_its_interval():
    expected = []
    for step in range(5):
        names = ["discriminator", "penalty", "generator"] if step in (0, 4) else ["discriminator", "generator"]
        expected += [(step, name) for name in names]
    assert phases_run("generate", 5) == expected


def test_a_phase_runs_in_its_range_of_steps():
    calls = phases_run("delayed", 16)
    assert [step for step, name in calls if name == "discriminator"] == list(range(16))
    assert [step for step, name in calls if name == "penalty"] == list(range(2, 13))
    assert [step for step, name in calls if name == "generator"] == list(range(7, 16))


def test_a_batch_is_split_as_evenly_as_possible():
    batch = {"x": torch.arange(7), "y": torch.arange(7) * 2}
    micro_batches = split_micro_batches(batch, 3)
    assert [micro_batch["x"].tolist() for micro_batch in micro_batches] == [[0, 1, 2], [3, 4], [5, 6]]
    assert all(torch.equal(micro_batch["y"], micro_batch["x"] * 2) for micro_batch in micro_batches)
    assert len(split_micro_batches(batch, 20)) == 7


# --- averages --------------------------------------------------------------------------------------------------------


def test_the_average_is_an_exponential_mean_with_a_small_decay_at_first():
    trainer = make_linear(steps=6, ema_decay=0.9, n=2)
    average = 0.0
    for report in trainer:
        decay = min(0.9, report.step / (report.step + 9))
        average = decay * average + (1 - decay) * weight_of(trainer)
        assert trainer.model.weight.item() == pytest.approx(average)
    assert trainer.model is trainer.ema_model is not trainer.objective.model


def test_without_averaging_the_trained_model_is_scored():
    trainer = make_linear()
    assert trainer.model is trainer.objective.model and trainer.ema_model is None


def test_the_averaged_model_has_the_batch_statistics_of_the_trained_model():
    trainer = make_trainer("classify", steps=6)
    list(trainer)
    for ema_buffer, buffer in zip(trainer.ema_model.buffers(), trainer.objective.model.buffers(), strict=True):
        assert torch.equal(ema_buffer, buffer)


def test_of_several_networks_only_the_generator_is_averaged():
    trainer = make_trainer("generate", steps=6)
    list(trainer)
    model = trainer.objective.model
    assert trainer.model.discriminator is model.discriminator
    assert trainer.model.network is trainer.ema_model is not model.network
    scored = trainer.model.state_dict()
    trained = model.state_dict()
    assert scored.keys() == trained.keys()
    for name, value in scored.items():
        is_averaged = name.startswith("network.layers")
        assert torch.equal(value, trained[name]) != is_averaged
    for name, value in trainer.ema_model.state_dict().items():
        assert torch.equal(scored[f"network.{name}"], value)


def test_loading_weights_into_the_scored_model_leaves_the_trained_generator_unchanged():
    trainer = make_trainer("generate", steps=6)
    list(trainer)
    before = {name: value.clone() for name, value in trainer.objective.model.network.state_dict().items()}
    zeros = {name: torch.zeros_like(value) for name, value in trainer.model.state_dict().items()}
    trainer.model.load_state_dict(zeros)
    assert not any(value.any() for value in trainer.ema_model.state_dict().values())
    for name, value in trainer.objective.model.network.state_dict().items():
        assert torch.equal(value, before[name])


# --- randomness ------------------------------------------------------------------------------------------------------


def test_the_seed_of_a_step_depends_on_seed_step_and_rank_only():
    trainer = make_linear()
    seeds = {trainer.step_seed()}
    trainer.step = 1
    seeds.add(trainer.step_seed())
    trainer.rank = 1
    seeds.add(trainer.step_seed())
    trainer.step = 0
    seeds.add(trainer.step_seed())
    seeds.add(make_linear(seed=1).step_seed())
    assert len(seeds) == 5 and all(0 <= seed < 2**32 for seed in seeds)


def test_any_step_can_be_replayed_alone():
    """The augmentation of step 5 samples the same numbers without the steps before it."""
    samples: dict[int, list[torch.Tensor]] = {}

    def augment(batch: Batch) -> Batch:
        samples.setdefault(trainer.step, []).append(torch.rand(3))
        return batch

    trainer = make_linear(steps=8)
    trainer.augment = augment
    list(trainer)
    trainer.load_state_dict({**make_linear(steps=8).state_dict(), "step": 5, "batches": {"step": 5}})
    next(iter(trainer))
    assert torch.equal(samples[5][0], samples[5][1]) and not torch.equal(samples[5][0], samples[4][0])
