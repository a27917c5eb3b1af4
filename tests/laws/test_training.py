"""The laws of the training loop, for every kind of training."""

from __future__ import annotations

import copy
import io
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as multiprocessing
from torch import Tensor, nn

from tests.helpers.toy_objectives import SINGLE_LOSS_TOYS, TOY_OBJECTIVES, make_trainer
from thalweg.data.batches import BatchOrder
from thalweg.engine import checkpoint
from thalweg.engine import distributed as ranks
from thalweg.engine.config import DEFAULT_LR, TrainConfig
from thalweg.engine.freezing import freeze
from thalweg.engine.trainer import StepReport, Trainer
from thalweg.errors import NonFiniteError, OptionError
from thalweg.objectives.base import Loss, Objective


def run(trainer: Trainer, until: int | None = None) -> list[StepReport]:
    reports = []
    for report in trainer:
        reports.append(report)
        if report.step == until:
            break
    return reports


def flatten(trainer: Trainer) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    checkpoint.flatten_state(trainer.state_dict(), "", tensors)
    return tensors


def assert_equal_states(a: Trainer, b: Trainer) -> None:
    """Bit for bit: parameters, buffers, averages, optimizers."""
    tensors_a = flatten(a)
    tensors_b = flatten(b)
    assert tensors_a.keys() == tensors_b.keys()
    for name, value in tensors_a.items():
        assert torch.equal(value, tensors_b[name]), name


@pytest.mark.parametrize("toy", TOY_OBJECTIVES)
def test_training_learns(toy):
    reports = run(make_trainer(toy, steps=120, lr=1e-2))
    assert reports[-1].step == 120
    if toy in SINGLE_LOSS_TOYS:  # two losses in balance need not fall
        assert reports[-1].losses["loss"] < reports[0].losses["loss"]


@pytest.mark.parametrize("optimizer", ["adam", "momentum", "adagrad", "rmsprop", "adadelta", "muon"])
@pytest.mark.parametrize("toy", TOY_OBJECTIVES)
def test_resuming_changes_nothing(toy, optimizer, tmp_path):
    full = make_trainer(toy, optimizer=optimizer)
    expected = run(full)
    first = make_trainer(toy, optimizer=optimizer)
    before = run(first, until=12)
    checkpoint.save_checkpoint(tmp_path, 12, first.state_dict())
    second = make_trainer(toy, optimizer=optimizer, seed=99)  # other initial parameters
    second.batches = first.batches  # the same data, at any position
    latest = checkpoint.load_latest(tmp_path, print)
    assert latest is not None and latest[0] == 12
    second.load_state_dict(latest[1])
    after = run(second)
    assert_equal_states(full, second)
    assert before + after == expected


@pytest.mark.parametrize("toy", TOY_OBJECTIVES)
@pytest.mark.parametrize("stop", range(0, 16))
def test_stopping_anywhere_and_resuming_changes_nothing(toy, stop, tmp_path):
    """At every step of five-step epochs, including the ends of epochs and of the run."""
    settings = {"batch_size": 12, "steps": 15, "report_every": 4}
    full = make_trainer(toy, **settings)
    run(full)
    first = make_trainer(toy, **settings)
    if stop:
        first.pause_requested = True  # yields after every step
        run(first, until=stop)
    checkpoint.save_checkpoint(tmp_path, stop, first.state_dict())
    second = make_trainer(toy, **settings)
    second.load_state_dict(checkpoint.load_latest(tmp_path, print)[1])
    run(second)
    assert_equal_states(full, second)


@pytest.mark.parametrize("toy", TOY_OBJECTIVES)
def test_equal_seeds_give_equal_runs_and_other_seeds_do_not(toy):
    trainers = [make_trainer(toy), make_trainer(toy), make_trainer(toy, seed=2)]
    for trainer in trainers:
        run(trainer)
    assert_equal_states(trainers[0], trainers[1])
    with pytest.raises(AssertionError):
        assert_equal_states(trainers[0], trainers[2])


@pytest.mark.parametrize("toy", TOY_OBJECTIVES)
def test_a_phase_changes_its_own_module_only(toy):
    trainer = make_trainer(toy)
    trainer.objective.train()
    batch = next(iter(trainer.batches))
    for phase in trainer.phases:
        before = {name: param.clone() for name, param in trainer.objective.named_parameters()}
        trainer.run_phase(phase, [batch])
        own = {id(param) for param in phase.module.parameters()}
        changed = {
            id(param) for name, param in trainer.objective.named_parameters() if not torch.equal(param, before[name])
        }
        assert changed and changed <= own


@pytest.mark.parametrize("toy", TOY_OBJECTIVES)
def test_frozen_parameters_stay_frozen(toy):
    torch.manual_seed(1)
    objective, batches = TOY_OBJECTIVES[toy](8, 0, 1)
    layer = next(m for m in objective.model.modules() if isinstance(m, (nn.Linear, nn.Embedding)))
    freeze(layer)
    before = copy.deepcopy(layer.state_dict())
    config = make_trainer(toy, weight_decay=0.1, optimizer="adamw").config
    run(Trainer(objective, batches, config))
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name])


def test_frozen_batch_statistics_stay_frozen():
    trainer = make_trainer("classify")
    norm = trainer.objective.model[1]
    freeze(norm)
    before = norm.running_mean.clone()
    run(trainer)
    assert torch.equal(norm.running_mean, before)


def test_a_phase_without_trainable_parameters_is_skipped():
    torch.manual_seed(1)
    objective, batches = TOY_OBJECTIVES["generate"](8, 0, 1)
    freeze(objective.model.discriminator)
    before = copy.deepcopy(objective.model.state_dict())
    reports = run(Trainer(objective, batches, TrainConfig(steps=6)))
    assert reports[-1].losses.keys() == {"generator"}
    after = objective.model.state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"network"}


def test_training_without_trainable_parameters_is_refused():
    objective, batches = TOY_OBJECTIVES["classify"](8, 0, 1)
    freeze(objective)
    with pytest.raises(OptionError) as error:
        Trainer(objective, batches, TrainConfig())
    assert error.value.option == "freeze"


@pytest.mark.parametrize("toy", SINGLE_LOSS_TOYS)
@pytest.mark.parametrize("grad_accum", [2, 4])
def test_micro_batches_equal_the_full_batch(toy, grad_accum):
    """Even if each micro-batch has another number of boxes, and with a state that is carried per row of text."""
    models = []
    for count in (1, grad_accum):
        trainer = make_trainer(toy, steps=6, grad_accum=count, ema_decay=0.0)
        for module in trainer.objective.modules():
            if isinstance(module, (nn.Dropout, nn.BatchNorm1d)):
                module.eval()
                module.train = lambda mode=True, module=module: module
        run(trainer)
        models.append(trainer.objective)
    for a, b in zip(models[0].state_dict().values(), models[1].state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("toy", ["write", "write-lstm"])
def test_gradients_of_micro_batches_of_text_equal_those_of_the_full_batch(toy):
    gradients = []
    for count in (1, 2):
        trainer = make_trainer(toy, steps=3, grad_accum=count, optimizer="sgd", grad_clip=None)
        run(trainer)
        gradients.append([param.grad for param in trainer.objective.parameters()])
    for full, accumulated in zip(*gradients, strict=True):
        torch.testing.assert_close(accumulated, full, atol=1e-6, rtol=1e-4)


RANKED_TOYS = ["classify", "detect", "write", "write-lstm"]


def _train_rank(rank: int, port: int, folder: str) -> None:
    """Train in one of two processes and save the results."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE="2")
    torch.set_num_threads(1)
    with ranks.process_group(torch.device("cpu")):
        results = {
            "broadcast": ranks.broadcast_from_0(rank + 0.25),
            "any_rank": [ranks.any_rank(rank == 1), ranks.any_rank(False)],
            "steps": [],
        }
        for toy in RANKED_TOYS:
            trainer = disable_dropout(make_trainer(toy, rank=rank, world_size=2, steps=10))
            trainer.pause_requested = rank == 1  # a signal reaches one rank only
            results["steps"].append([report.step for report in run(trainer)])
            results[toy] = trainer.objective.model.state_dict()
            results[f"{toy}/ranks"] = trainer.state_dict()["ranks"]
        unfreezing = make_unfreezing_trainer(rank, world_size=2)
        run(unfreezing)
        results["unfreezing"] = unfreezing.objective.model.state_dict()
        torch.save(results, f"{folder}/{rank}.pt")


def change_ranks(order: BatchOrder, rank: int, world_size: int) -> BatchOrder:
    """Return an order for other ranks."""
    return BatchOrder(order.num_examples, order.batch_size, order.seed, rank, world_size)


def make_unfreezing_trainer(rank: int, world_size: int) -> Trainer:
    """Gradual unfreezing, with an optimizer that counts its updates."""
    torch.manual_seed(1)
    objective, batches = TOY_OBJECTIVES["classify"](8, rank, 2)  # without batch statistics, which ranks do not share
    batches.order = change_ranks(batches.order, rank, world_size)
    config = TrainConfig(steps=12, lr=1e-2, optimizer="adam", trainable_groups=0, unfreeze_interval=6, report_every=6)
    return disable_dropout(Trainer(objective, batches, config))


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory) -> list[dict]:
    """The results of two processes; started once, because starting takes most of the time."""
    folder: Path = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free_socket:
        free_socket.bind(("127.0.0.1", 0))
        port = free_socket.getsockname()[1]
    multiprocessing.spawn(_train_rank, (port, str(folder)), nprocs=2)
    return [torch.load(io.BytesIO((folder / f"{rank}.pt").read_bytes()), weights_only=True) for rank in (0, 1)]


def disable_dropout(trainer: Trainer) -> Trainer:
    for module in trainer.objective.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return trainer


@pytest.mark.parametrize("toy", RANKED_TOYS)
def test_two_ranks_equal_one(toy, two_ranks):
    torch.manual_seed(1)
    single = make_trainer(toy, steps=10)
    if toy == "classify":  # the two ranks have no batch statistics
        torch.manual_seed(1)
        objective, batches = TOY_OBJECTIVES[toy](8, 0, 2)
        batches.order = change_ranks(batches.order, 0, 1)
        single = Trainer(objective, batches, single.config)
    run(disable_dropout(single))
    for name, value in single.objective.model.state_dict().items():
        torch.testing.assert_close(two_ranks[0][toy][name], value, atol=1e-5, rtol=1e-4)
        assert torch.equal(two_ranks[0][toy][name], two_ranks[1][toy][name])


@pytest.mark.parametrize("toy", ["write", "write-lstm"])
def test_each_rank_saves_the_state_of_its_own_rows(toy, two_ranks):
    single = make_trainer(toy, steps=10)
    run(single)
    for name, state_SBD in single.objective.named_buffers():
        state_RSBD = two_ranks[0][f"{toy}/ranks"][name]
        by_rank = torch.cat([state_RSBD[0, :, :4], state_RSBD[1, :, 4:]], 1)
        torch.testing.assert_close(by_rank, state_SBD, atol=1e-5, rtol=1e-4)


def test_two_ranks_unfreeze_like_one(two_ranks):
    """A layer group that is not yet trained does not count as updated, on one rank or two."""
    single = make_unfreezing_trainer(0, world_size=1)
    run(single)
    for name, value in single.objective.model.state_dict().items():
        torch.testing.assert_close(two_ranks[0]["unfreezing"][name], value, atol=1e-5, rtol=1e-4)
        assert torch.equal(two_ranks[0]["unfreezing"][name], two_ranks[1]["unfreezing"][name])


def test_ranks_report_and_pause_at_the_same_steps_and_agree(two_ranks):
    """A pause request reaches one rank only; if that rank paused alone, the sums would no longer match."""
    assert two_ranks[0]["steps"] == two_ranks[1]["steps"]
    assert [results["broadcast"] for results in two_ranks] == [0.25, 0.25]
    assert [results["any_rank"] for results in two_ranks] == [[True, False]] * 2


def test_one_process_has_nothing_to_agree_on():
    assert ranks.world_size() == 1 and ranks.get_rank() == 0
    assert ranks.broadcast_from_0(0.5) == 0.5 and ranks.any_rank(True) and not ranks.any_rank(False)


@pytest.mark.parametrize("toy", TOY_OBJECTIVES)
def test_a_loss_that_is_nan_stops_before_the_update(toy):
    trainer = make_trainer(toy, steps=40, ema_decay=0.0)
    run(trainer, until=6)
    trainer.pause_requested = True  # yields after every step
    last = trainer.phases[-1].module
    phase = next(phase for phase in trainer.phases if phase.module is last)
    while not phase.is_due(trainer.step):
        run(trainer, until=trainer.step + 1)
    compute_loss = trainer.losses[phase.name]
    trainer.losses[phase.name] = lambda batch: _multiply_with_nan(compute_loss(batch))
    before = copy.deepcopy(dict(phase.module.named_parameters()))
    step = trainer.step
    with pytest.raises(NonFiniteError) as error:
        run(trainer)
    assert error.value.step == step and error.value.indices
    assert f"step {step} " in error.value.message and "objective" not in str(error.value)
    for name, value in phase.module.named_parameters():
        assert torch.equal(value, before[name])


def _multiply_with_nan(loss: Loss) -> Loss:
    return replace(loss, mean=loss.mean * float("nan"))


# the toy that grows gives the same numbers too, but its augmentation compiles for half a minute
@pytest.mark.parametrize("toy", [name for name in TOY_OBJECTIVES if name != "growing"])
def test_compiled_phases_give_the_same_numbers(toy):
    eager = make_trainer(toy, steps=4, report_every=1)
    compiled = make_trainer(toy, steps=4, report_every=1)
    for phase in compiled.phases:
        if phase.compile:
            compiled.losses[phase.name] = torch.compile(phase.loss, backend="aot_eager")
    for a, b in zip(run(disable_dropout(eager)), run(disable_dropout(compiled)), strict=True):
        assert a.losses.keys() == b.losses.keys()
        for name in a.losses:
            assert a.losses[name] == pytest.approx(b.losses[name], rel=1e-3, abs=1e-4), name


def test_every_optimizer_lowers_a_loss_at_its_default_learning_rate():
    for name, lr in DEFAULT_LR.items():
        reports = run(make_trainer("classify", optimizer=name, lr=lr, steps=60))
        assert reports[-1].losses["loss"] < reports[0].losses["loss"], name


def test_an_objective_must_define_phases():
    with pytest.raises(TypeError):
        Objective().phases()
