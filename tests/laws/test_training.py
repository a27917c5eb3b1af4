"""The laws of the loop, for every shape that a training can take."""

from __future__ import annotations

import copy
import io
import os
import socket

import pytest
import torch
import torch.multiprocessing as multiprocessing
from torch import nn

from tests.helpers.toy_objectives import TOY_OBJECTIVES, make_trainer
from thalweg.engine import checkpoint
from thalweg.engine import distributed as ranks
from thalweg.engine.config import DEFAULT_LR, TrainConfig
from thalweg.engine.freezing import freeze
from thalweg.engine.trainer import Trainer
from thalweg.errors import NonFiniteError
from thalweg.objectives.base import Objective


def run(trainer: Trainer, until: int | None = None) -> list:
    reports = []
    for report in trainer:
        reports.append(report)
        if report.step == until:
            break
    return reports


def assert_equal_states(a: Trainer, b: Trainer) -> None:
    """Bit for bit: weights, buffers, average, optimisers."""
    one, other = {}, {}
    checkpoint.flatten_state(a.state_dict(), "", one)
    checkpoint.flatten_state(b.state_dict(), "", other)
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.mark.parametrize("toy", TOY_OBJECTIVES)
def test_training_learns(toy):
    reports = run(make_trainer(toy, steps=120, lr=1e-2))
    assert reports[-1].step == 120
    if toy != "generate":  # two losses in balance need not fall
        assert reports[-1].losses["loss"] < reports[0].losses["loss"]


@pytest.mark.parametrize("optimizer", ["adam", "momentum", "adagrad", "rmsprop", "adadelta", "muon"])
@pytest.mark.parametrize("toy", TOY_OBJECTIVES)
def test_resuming_changes_nothing(toy, optimizer, tmp_path):
    whole = make_trainer(toy, optimizer=optimizer)
    rows = run(whole)
    first = make_trainer(toy, optimizer=optimizer)
    before = run(first, until=12)
    checkpoint.save_checkpoint(tmp_path, 12, first.state_dict())
    second = make_trainer(toy, optimizer=optimizer, seed=99)  # other weights
    second.batches = first.batches  # the same data, at whatever position
    step, state = checkpoint.load_latest(tmp_path, print)
    assert step == 12
    second.load_state_dict(state)
    after = run(second)
    assert_equal_states(whole, second)
    assert before + after == rows


@pytest.mark.parametrize("toy", TOY_OBJECTIVES)
@pytest.mark.parametrize("stop", range(0, 16))
def test_stopping_anywhere_and_resuming_changes_nothing(toy, stop, tmp_path):
    """Every step of five-step epochs, the ends of epochs and of the run among them."""
    whole = make_trainer(toy, batch=12, steps=15, report_every=4)
    run(whole)
    first = make_trainer(toy, batch=12, steps=15, report_every=4)
    if stop:
        first.pause_requested = True  # a report after every step
        run(first, until=stop)
    checkpoint.save_checkpoint(tmp_path, stop, first.state_dict())
    second = make_trainer(toy, batch=12, steps=15, report_every=4)
    second.load_state_dict(checkpoint.load_latest(tmp_path, print)[1])
    run(second)
    assert_equal_states(whole, second)


@pytest.mark.parametrize("toy", TOY_OBJECTIVES)
def test_equal_seeds_give_equal_runs_and_others_do_not(toy):
    runs = [make_trainer(toy), make_trainer(toy), make_trainer(toy, seed=2)]
    for one in runs:
        run(one)
    assert_equal_states(runs[0], runs[1])
    with pytest.raises(AssertionError):
        assert_equal_states(runs[0], runs[2])


@pytest.mark.parametrize("toy", TOY_OBJECTIVES)
def test_a_phase_changes_its_own_module_only(toy):
    one = make_trainer(toy)
    one.objective.train()
    batch = next(iter(one.batches))
    for phase in one.phases:
        before = {k: v.clone() for k, v in one.objective.named_parameters()}
        one.run_phase(phase, [batch])
        own = {id(w) for w in phase.module.parameters()}
        changed = {id(v) for k, v in one.objective.named_parameters() if not torch.equal(v, before[k])}
        assert changed and changed <= own


@pytest.mark.parametrize("toy", TOY_OBJECTIVES)
def test_frozen_weights_stay_frozen(toy):
    torch.manual_seed(1)
    objective, stream = TOY_OBJECTIVES[toy](8, 0, 1)
    part = next(m for m in objective.model.modules() if isinstance(m, (nn.Linear, nn.Embedding)))
    freeze(part)
    before = copy.deepcopy(part.state_dict())
    settings = make_trainer(toy, weight_decay=0.1, optimizer="adamw").config
    run(Trainer(objective, stream, settings))
    for name, value in part.state_dict().items():
        assert torch.equal(value, before[name])


def test_frozen_batch_statistics_stay_frozen():
    one = make_trainer("classify")
    norm = one.objective.model[1]
    freeze(norm)
    before = norm.running_mean.clone()
    run(one)
    assert torch.equal(norm.running_mean, before)


@pytest.mark.parametrize("toy", ["classify", "detect"])
def test_micro_batches_equal_the_big_batch(toy):
    """Also where each micro-batch has another number of boxes."""
    nets = []
    for accumulate in (1, 4):
        one = make_trainer(toy, steps=6, grad_accum=accumulate, ema_decay=0.0)
        for part in one.objective.modules():
            if isinstance(part, (nn.Dropout, nn.BatchNorm1d)):
                part.eval()
                part.train = lambda mode=True, part=part: part
        nets.append(run(one) and one.objective.model)
    for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


RANKED = ["classify", "detect", "write"]


def _one_of_two(rank: int, port: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE="2")
    torch.set_num_threads(1)
    with ranks.process_group(torch.device("cpu")):
        left = {
            "first": ranks.broadcast_from_0(rank + 0.25),
            "agree": [ranks.any_rank(rank == 1), ranks.any_rank(False)],
            "steps": [],
        }
        for toy in RANKED:
            one = quiet(make_trainer(toy, rank=rank, ranks=2, steps=10))
            one.pause_requested = rank == 1  # a signal reaches one rank only
            left["steps"].append([report.step for report in run(one)])
            left[toy] = one.objective.model.state_dict()
            left[f"{toy}/ranks"] = one.state_dict()["ranks"]
        thawed = gradual(rank, ranks=2)
        run(thawed)
        left["gradual"] = thawed.objective.model.state_dict()
        torch.save(left, f"{folder}/{rank}.pt")


def gradual(rank: int, ranks: int) -> Trainer:
    """A network that thaws part by part, under an optimiser that counts updates."""
    torch.manual_seed(1)
    objective, stream = TOY_OBJECTIVES["classify"](8, rank, 2)  # without batch statistics, which ranks do not share
    stream.rank, stream.world_size = rank, ranks
    recipe = TrainConfig(steps=12, lr=1e-2, optimizer="adam", trainable_groups=0, unfreeze_interval=6, report_every=6)
    return quiet(Trainer(objective, stream, recipe))


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory) -> list[dict]:
    """What each of two processes was left with; started once, because starting is what takes time."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(_one_of_two, (port, str(folder)), nprocs=2)
    return [torch.load(io.BytesIO((folder / f"{rank}.pt").read_bytes()), weights_only=True) for rank in (0, 1)]


def quiet(one: Trainer) -> Trainer:
    """Without dropout and without penalties drawn at random, so that both sides see the same numbers."""
    for part in one.objective.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    return one


@pytest.mark.parametrize("toy", RANKED)
def test_two_ranks_equal_one(toy, two_ranks):
    torch.manual_seed(1)
    alone = make_trainer(toy, steps=10)
    if toy == "classify":  # the two ranks have no batch statistics
        torch.manual_seed(1)
        objective, stream = TOY_OBJECTIVES[toy](8, 0, 2)
        stream.rank, stream.world_size = 0, 1
        alone = Trainer(objective, stream, alone.config)
    run(quiet(alone))
    for name, value in alone.objective.model.state_dict().items():
        torch.testing.assert_close(two_ranks[0][toy][name], value, atol=1e-5, rtol=1e-4)
        assert torch.equal(two_ranks[0][toy][name], two_ranks[1][toy][name])
    if toy == "write":  # the state of each rank's own rows is kept
        carried = two_ranks[0]["write/ranks"]["state_SBD"].transpose(0, 1).flatten(1, 2)
        torch.testing.assert_close(carried, alone.objective.state_SBD, atol=1e-5, rtol=1e-4)


def test_two_ranks_thaw_as_one_does(two_ranks):
    """A part that waits is not counted as updated, on one rank as on two."""
    alone = gradual(0, ranks=1)
    run(alone)
    for name, value in alone.objective.model.state_dict().items():
        torch.testing.assert_close(two_ranks[0]["gradual"][name], value, atol=1e-5, rtol=1e-4)
        assert torch.equal(two_ranks[0]["gradual"][name], two_ranks[1]["gradual"][name])


def test_ranks_report_and_pause_at_the_same_steps_and_agree(two_ranks):
    """One rank was asked to pause and the other was not: were they to part, their sums would no longer meet."""
    assert two_ranks[0]["steps"] == two_ranks[1]["steps"]
    assert [left["first"] for left in two_ranks] == [0.25, 0.25]
    assert [left["agree"] for left in two_ranks] == [[True, False]] * 2


def test_alone_there_is_nothing_to_agree_on():
    assert ranks.world_size() == 1 and ranks.get_rank() == 0
    assert ranks.broadcast_from_0(0.5) == 0.5 and ranks.any_rank(True) and not ranks.any_rank(False)


@pytest.mark.parametrize("toy", TOY_OBJECTIVES)
def test_a_loss_that_is_no_number_stops_before_the_update(toy):
    one = make_trainer(toy, steps=40, ema_decay=0.0)
    run(one, until=6)
    phase = one.phases[-1]
    one.losses[phase.name] = lambda batch, honest=one.losses[phase.name]: _spoiled(honest(batch))
    before = copy.deepcopy(phase.module.state_dict())
    with pytest.raises(NonFiniteError) as raised:
        run(one)
    assert raised.value.step == 6 and raised.value.indices and "step 6" in str(raised.value)
    for name, value in phase.module.state_dict().items():
        if "running" not in name and "batches" not in name:
            assert torch.equal(value, before[name])


def _spoiled(loss):
    from dataclasses import replace

    return replace(loss, mean=loss.mean * float("nan"))


@pytest.mark.parametrize("toy", TOY_OBJECTIVES)
def test_compiled_phases_give_the_plain_numbers(toy):
    plain, compiled = make_trainer(toy, steps=4, report_every=1), make_trainer(toy, steps=4, report_every=1)
    compiled.losses = {
        p.name: torch.compile(p.loss, backend="aot_eager") if p.compile else p.loss for p in compiled.phases
    }
    for a, b in zip(run(quiet(plain)), run(quiet(compiled)), strict=True):
        assert a.losses.keys() == b.losses.keys()
        for name in a.losses:
            assert a.losses[name] == pytest.approx(b.losses[name], rel=1e-3, abs=1e-4), name


def test_every_optimiser_has_a_rate_and_lowers_a_loss():
    for name, rate in DEFAULT_LR.items():
        reports = run(make_trainer("classify", optimizer=name, lr=rate, steps=60))
        assert reports[-1].losses["loss"] < reports[0].losses["loss"], name


def test_an_objective_without_phases_says_so():
    with pytest.raises(TypeError, match="lists no phases"):
        Objective().phases()
