"""A recorded step computes what the step computes: nothing in it depends on the host."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.helpers.fake_cuda_graph import FakeCudaGraphRecorder
from tests.helpers.toy_objectives import TOY_OBJECTIVES, make_trainer
from thalweg.config.options import TrainOptions, split_options
from thalweg.config.parsing import parse_options
from thalweg.data.images.dataset import ImageDataset
from thalweg.engine import checkpoint
from thalweg.engine.config import TrainConfig
from thalweg.engine.cuda_graph import WARMUP_CALLS, CudaGraphRecorder, GraphedStep
from thalweg.engine.trainer import Trainer
from thalweg.registry import find_model, find_task
from thalweg.tasks.base import Context
from thalweg.training import plan

#: the different sets of phases that the steps of a toy run; 1 if not listed
NUM_RECORDINGS = {"generate": 2, "two-time-scale": 2, "delayed": 3, "growing": 2}


@pytest.fixture
def no_onednn() -> Iterator[None]:
    """Turn oneDNN off: the fake recorder cannot replay its LSTM, whose workspace is an opaque tensor."""
    torch._C._set_mkldnn_enabled(False)
    yield
    torch._C._set_mkldnn_enabled(True)


def use_lr_tensors(trainer: Trainer) -> Trainer:
    """Return the trainer with float32 learning rates, as a GPU has them."""
    trainer.use_lr_tensors()
    return trainer


def record(trainer: Trainer) -> Trainer:
    """Return the trainer with recorded steps."""
    trainer.use_lr_tensors()
    trainer.graphed_step = GraphedStep(trainer.train_step, FakeCudaGraphRecorder())
    return trainer


def flatten(trainer: Trainer) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    checkpoint.flatten_state(trainer.state_dict(), "", tensors)
    return tensors


def assert_equal_tensors(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.equal(value, b[name]), name


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov", "adam", "adamw", "muon"])
@pytest.mark.parametrize("toy", TOY_OBJECTIVES)
def test_a_recorded_step_equals_the_step(toy, optimizer, no_onednn):
    """Bit for bit: with dropout, random latents, carried state, lazy phases, and changing learning rates."""
    settings = {"optimizer": optimizer, "lr": 0.01, "weight_decay": 0.1, "warmup_fraction": 0.3}
    eager = use_lr_tensors(make_trainer(toy, **settings))
    recorded = record(make_trainer(toy, **settings))
    assert list(eager) == list(recorded)
    count = NUM_RECORDINGS.get(toy, 1)
    assert recorded.graphed_step.recorder.num_recordings == count == len(recorded.graphed_step.replays)
    assert_equal_tensors(flatten(eager), flatten(recorded))


def tint(data: ImageDataset) -> ImageDataset:
    """Return the data with three channels that have different means."""
    tints = np.array([[255, 128, 64]]) / 255
    splits = {}
    for name, split in data.splits.items():
        splits[name] = replace(split, images=(split.images * tints).astype(np.uint8))
    return replace(data, splits=splits)


@pytest.mark.parametrize(
    "settings",
    [
        {"augment": "shift=2,flip,cutout", "label_smoothing": 0.2, "optimizer": "muon", "grad_accum": 2},
        {"augment": "rotate,scale,shear,elastic,thickness", "balance_classes": True, "loss": "squared-error"},
        {"balance_classes": True, "grad_clip": 1.0, "layer_decay": 0.5, "unfreeze_groups": 2},
    ],
    ids=["pixels", "geometry", "fine-tuning"],
)
def test_the_step_of_a_classifier_can_be_recorded(settings):
    """The only operation that would make a GPU wait is the check for NaN, which runs on the CPU only."""
    reports = []
    tensors = []
    for is_recorded in (False, True):
        task = find_task("classify")()
        common, own = split_options({"steps": 9, **settings}, task.TrainOptions)
        options = TrainOptions(**common)
        task_options = parse_options(own, task.TrainOptions)
        data = tint(task.toy_dataset())
        spec = task.data_spec(data, task_options)
        torch.manual_seed(0)
        model = find_model("airbench")(**task.model_kwargs(spec), widths=(8, 8))
        context = Context(torch.device("cpu"), options=options)
        setup = task.setup(model, data, spec, task_options, 16, context)
        config = plan.resolve_config(options, setup.batches, "float32")
        trainer = use_lr_tensors(Trainer(setup.objective, setup.batches, config, setup.transform))
        if is_recorded:
            record(trainer)
        reports.append(list(trainer))
        tensors.append(flatten(trainer))
    assert trainer.graphed_step.recorder.syncing_ops == ["_local_scalar_dense"]
    assert reports[0] == reports[1]
    assert_equal_tensors(*tensors)


def test_the_fake_recorder_detects_what_depends_on_the_host():
    """A learning rate that is a Python number keeps its recorded value, so the result differs."""
    eager = make_trainer("classify", optimizer="momentum")
    recorded = make_trainer("classify", optimizer="momentum")
    recorded.graphed_step = GraphedStep(recorded.train_step, FakeCudaGraphRecorder())
    assert list(eager) != list(recorded)


@pytest.mark.parametrize("toy", TOY_OBJECTIVES)
def test_a_resumed_run_records_again(toy, tmp_path, no_onednn):
    full, first, second = (record(make_trainer(toy)) for _ in range(3))
    expected = list(full)
    before = []
    for report in first:
        before.append(report)
        if report.step == 12:
            break
    checkpoint.save_checkpoint(tmp_path, 12, first.state_dict())
    list(second)  # records operations on memory that is replaced afterwards
    second.load_state_dict(checkpoint.load_latest(tmp_path, print)[1])
    assert not second.graphed_step.replays
    assert before + list(second) == expected
    assert_equal_tensors(flatten(full), flatten(second))


def test_the_first_steps_run_without_recording():
    trainer = record(make_trainer("classify", steps=WARMUP_CALLS, report_every=1))
    list(trainer)
    assert trainer.graphed_step.recorder.num_recordings == 0
    assert trainer.graphed_step.calls.total() == WARMUP_CALLS


def move_batches_to_gpu(batches) -> None:
    for name, value in vars(batches).items():
        if isinstance(value, Tensor):
            setattr(batches, name, value.cuda())
    if hasattr(batches, "tensors"):
        batches.tensors = {name: value.cuda() for name, value in batches.tensors.items()}
    batches.device = torch.device("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("toy", TOY_OBJECTIVES)
def test_a_graph_on_a_gpu_equals_the_step(toy):
    losses = []
    for cuda_graph in (False, True):
        torch.manual_seed(1)
        objective, batches = TOY_OBJECTIVES[toy](8, 0, 1)
        move_batches_to_gpu(batches)
        config = TrainConfig(steps=24, lr=3e-3, report_every=6, optimizer="adam", cuda_graph=cuda_graph)
        trainer = Trainer(objective.cuda(), batches, config)
        assert isinstance(getattr(trainer.graphed_step, "recorder", None), CudaGraphRecorder) == cuda_graph
        losses.append([report.losses for report in trainer])
    for eager, graphed in zip(*losses, strict=True):
        assert eager == pytest.approx(graphed, rel=1e-3)
