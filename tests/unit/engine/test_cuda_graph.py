"""A recorded update is the update: nothing in it depends on the host."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.helpers.fake_cuda_graph import FakeCudaGraphRecorder
from tests.helpers.toy_objectives import TOY_OBJECTIVES, make_trainer
from thalweg.config.options import Options
from thalweg.data.images.dataset import ImageDataset
from thalweg.engine import checkpoint
from thalweg.engine.cuda_graph import WARMUP_CALLS, CudaGraphRecorder, GraphedStep
from thalweg.engine.trainer import Trainer
from thalweg.registry import find_model, find_task
from thalweg.training import plan


def rates_in_place(one: Trainer) -> Trainer:
    """The trainer with its rates where a recording reads them; in single precision, as GPUs have them."""
    for group in one.param_groups:
        group["lr"] = torch.full((), one.config.lr)
    return one


def recorded(one: Trainer) -> Trainer:
    """The trainer with its updates recorded."""
    rates_in_place(one).graphed_step = GraphedStep(one.train_step, FakeCudaGraphRecorder())
    return one


def tensors(one: Trainer) -> dict:
    found = {}
    checkpoint.flatten_state(one.state_dict(), "", found)
    return found


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov", "adam", "adamw", "muon"])
@pytest.mark.parametrize("toy", TOY_OBJECTIVES)
def test_a_recorded_update_is_the_update(toy, optimizer):
    """Bit for bit: with dropout, random latents, carried state, a phase on every fourth step, rates that change."""
    plain, replayed = (make_trainer(toy, optimizer=optimizer, lr=0.01, weight_decay=0.1, warmup_fraction=0.3) for _ in range(2))
    rates_in_place(plain)
    recorded(replayed)
    assert list(plain) == list(replayed)
    kinds = 2 if toy == "generate" else 1
    assert replayed.graphed_step.recorder.recorded == kinds and len(replayed.graphed_step.replays) == kinds
    one, other = tensors(plain), tensors(replayed)
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def in_colour(data: ImageDataset) -> ImageDataset:
    """With three channels, each of which has its own mean."""
    tints = np.array([[255, 128, 64]]) / 255
    return replace(
        data,
        **{part: replace(s, images=(s.images * tints).astype(np.uint8)) for part, s in data.splits.items()},
    )


@pytest.mark.parametrize(
    "asked",
    [
        {"augment": "shift=2,flip,cutout", "smoothing": 0.2, "optimizer": "muon", "accumulate": 2},
        {"augment": "rotate,scale,shear,elastic,thickness", "balance": True, "loss": "squared-error"},
        {"balance": True, "clip": 1.0, "layer_decay": 0.5, "unfreeze": 2},
    ],
    ids=["pixels", "geometry", "fine-tuning"],
)
def test_the_update_of_a_classifier_can_be_recorded(asked):
    """Nothing but the processor's own look for losses that are no numbers would make a GPU wait."""
    found = []
    for record in (False, True):
        task, options = find_task("classify")(), Options(steps=9, **asked)
        data = in_colour(task.toy())
        facts = task.facts(data)
        torch.manual_seed(0)
        network = find_model("airbench")(**task.arguments(facts), widths=(8, 8))
        stream = task.stream(data.train, 16, 0, 0, 1, torch.device("cpu"))
        objective, augment = task.objective(network, facts, options), task.augment(facts, options)
        one = rates_in_place(Trainer(objective, stream, plan.resolve_config(options, stream, "float32"), augment))
        found.append(list(recorded(one) if record else one))
        found.append(tensors(one))
    assert one.graphed_step.recorder.waits == ["_local_scalar_dense"]
    assert found[0] == found[2]
    for name, value in found[1].items():
        assert torch.equal(value, found[3][name]), name


def test_the_stand_in_finds_what_depends_on_the_host():
    """A rate that is a Python number stays that of the recording, so the weights come out otherwise."""
    plain, replayed = make_trainer("classify", optimizer="momentum"), make_trainer("classify", optimizer="momentum")
    replayed.graphed_step = GraphedStep(replayed.train_step, FakeCudaGraphRecorder())
    assert list(plain) != list(replayed)


@pytest.mark.parametrize("toy", TOY_OBJECTIVES)
def test_a_recorded_run_that_goes_on_is_recorded_anew(toy, tmp_path):
    whole, first, second = (recorded(make_trainer(toy)) for _ in range(3))
    rows = list(whole)
    before = []
    for report in first:
        before.append(report)
        if report.step == 12:
            break
    checkpoint.save_checkpoint(tmp_path, 12, first.state_dict())
    list(second)  # has recorded what lies elsewhere afterwards
    second.load_state_dict(checkpoint.load_latest(tmp_path, print)[1])
    assert not second.graphed_step.replays
    assert before + list(second) == rows
    one, other = tensors(whole), tensors(second)
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def test_the_first_updates_are_done_as_usual():
    one = recorded(make_trainer("classify", steps=WARMUP_CALLS, report_every=1))
    list(one)
    assert one.graphed_step.recorder.recorded == 0 and one.graphed_step.calls.total() == WARMUP_CALLS


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("toy", TOY_OBJECTIVES)
def test_on_a_gpu_a_graph_is_the_update(toy):
    from thalweg.engine.config import TrainConfig

    found = []
    for graph in (False, True):
        torch.manual_seed(1)
        objective, stream = TOY_OBJECTIVES[toy](8, 0, 1)
        for name in ("tensors", "rows_BW"):
            held = getattr(stream, name, None)
            if held is not None:
                moved = {k: v.cuda() for k, v in held.items()} if isinstance(held, dict) else held.cuda()
                setattr(stream, name, moved)
        stream.device = torch.device("cuda")
        one = Trainer(objective.cuda(), stream, TrainConfig(steps=24, lr=3e-3, report_every=6, optimizer="adam", cuda_graph=graph))
        assert isinstance(getattr(one.graphed_step, "recorder", None), CudaGraphRecorder) == graph
        found.append([report.losses for report in one])
    for plain, replayed in zip(*found, strict=True):
        assert plain == pytest.approx(replayed, rel=1e-3)
