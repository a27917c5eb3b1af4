"""From options to a plan: device, precision, steps, learning rates, frozen layers."""

from __future__ import annotations

import json
import types
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.helpers.toy_setup import make_setup
from thalweg.config.options import TrainOptions, parse_train_options
from thalweg.engine.config import DEFAULT_LR, TrainConfig
from thalweg.engine.trainer import Trainer
from thalweg.errors import ModelFileError, OptionError, ResourceError
from thalweg.tasks.classify_support import default_batch_size
from thalweg.training import plan
from thalweg.training.plan import TrainPlan

CPU = torch.device("cpu")
BATCHES = types.SimpleNamespace(steps_per_epoch=100, device=CPU)


def resolve(**options) -> TrainConfig:
    return plan.resolve_config(parse_train_options(options), BATCHES, "float32")


@pytest.mark.parametrize("optimizer", DEFAULT_LR)
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.999])
def test_valid_options_make_a_trainer(optimizer, momentum):
    if optimizer == "nesterov" and momentum == 0.0:
        pytest.skip("rejected by validate_options")
    setup = make_setup()
    options = TrainOptions(optimizer=optimizer, momentum=momentum, seed=2**32 - 1)
    config = plan.resolve_config(options, setup.batches, "float32")
    next(iter(Trainer(setup.objective, setup.batches, config, setup.transform)))


# --- batch, device, precision ----------------------------------------------------------------------------------------


def test_small_training_sets_and_large_images_have_small_batches():
    sizes = [default_batch_size(count) for count in (0, 1, 100, 640, 1280, 2560, 10_000, 60_000)]
    assert sizes == [16, 16, 16, 16, 32, 64, 128, 128]
    assert [default_batch_size(60_000, side * side) for side in (28, 160, 161, 224)] == [128, 128, 32, 32]
    assert default_batch_size(100, 224 * 224) == 16


def test_the_cpu_is_always_available():
    assert plan.resolve_device("cpu") == CPU
    assert plan.resolve_device("auto").type in ("cpu", "cuda", "mps")


@pytest.mark.parametrize("name", ["gpu", "meta", "xpu", "cuda:x", "cpu; rm", ""])
def test_unknown_devices_are_rejected(name):
    with pytest.raises(OptionError) as error:
        plan.resolve_device(name)
    assert (error.value.option, error.value.value) == ("device", name) and "cuda" in (error.value.allowed or ())


def test_devices_that_are_not_available_are_a_resource_error():
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    missing = [name for name, is_available in available.items() if not is_available]
    for name in missing or ["cuda:99"]:
        with pytest.raises(ResourceError) as error:
            plan.resolve_device(name)
        assert (error.value.option, error.value.value) == ("device", name)


def test_each_process_of_one_machine_has_a_gpu_of_its_own(monkeypatch):
    devices = []
    monkeypatch.setattr(plan.distributed, "world_size", lambda: 2)
    monkeypatch.setattr(plan.torch, "zeros", lambda *shape, device: devices.append(str(device)))
    monkeypatch.setenv("LOCAL_RANK", "1")
    plan.resolve_device("cuda")
    assert devices == ["cuda:1"]


def test_precision_is_the_requested_one_or_the_fastest(monkeypatch):
    assert plan.resolve_precision("bfloat16", CPU, nn.Linear(2, 2)) == "bfloat16"
    gains = {nn.Conv2d(1, 1, 3): True, nn.LSTM(2, 256): True, nn.LSTM(2, 128): False, nn.Linear(2, 2): False}
    for has_units in (True, False):
        monkeypatch.setattr(plan, "has_bfloat16_units", lambda has_units=has_units: has_units)
        for module, is_faster in gains.items():
            expected = "bfloat16" if has_units and is_faster else "float32"
            assert plan.resolve_precision("auto", CPU, module) == expected


@pytest.mark.parametrize(
    ("name", "expected"), [("amx_bf16", True), ("amx_tile", True), ("avx512_bf16", True), ("avx2", False)]
)
def test_bfloat16_units_are_a_capability_of_the_cpu(monkeypatch, name, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {name: True}, raising=False)
    assert plan.has_bfloat16_units() is expected


# --- defaults of a task ----------------------------------------------------------------------------------------------


def test_a_task_fills_in_what_the_user_left_open():
    defaults = {"batch_size": 16, "precision": "float32", "keep_best": True, "epochs": 3.0}
    options = plan.apply_defaults(TrainOptions(), defaults)
    assert {name: getattr(options, name) for name in defaults} == defaults
    requested = {"batch_size": 64, "precision": "bfloat16", "keep_best": False, "steps": 9}
    options = plan.apply_defaults(TrainOptions(**requested), defaults)
    assert {name: getattr(options, name) for name in requested} == requested and options.epochs is None


# --- steps and learning rates ----------------------------------------------------------------------------------------


def test_the_default_length_depends_on_the_data():
    def default_epochs(steps_per_epoch: int) -> float:
        batches = types.SimpleNamespace(steps_per_epoch=steps_per_epoch, device=CPU)
        return plan.resolve_config(TrainOptions(), batches, "float32").steps / steps_per_epoch

    assert [default_epochs(steps) for steps in (10, 100, 1000)] == [40, 15, 5]


def test_requested_options_reach_the_config():
    requested = {
        "optimizer": "sgd",
        "lr": 1,
        "grad_clip": 3,
        "ema_decay": 0.9,
        "grad_accum": 2,
        "seed": 7,
        "momentum": 0,
        "layer_decay": 0.8,
    }
    config = plan.resolve_config(parse_train_options({"epochs": 2.5, **requested}), BATCHES, "bfloat16")
    assert {name: getattr(config, name) for name in requested} == requested
    assert config.steps == 250 and config.precision == "bfloat16"
    assert resolve(steps=7).steps == 7
    assert resolve(epochs=1e-6).steps == 1


def test_nothing_is_recorded_on_a_cpu():
    assert not resolve(cuda_graph=True).cuda_graph
    assert plan.supports_cuda_graph(True, torch.device("cuda"))


def test_learning_rate_and_warmup_follow_optimizer_and_schedule():
    for optimizer, lr in DEFAULT_LR.items():
        assert resolve(optimizer=optimizer).lr == lr
    assert resolve(lr="auto").lr == DEFAULT_LR["adamw"]
    assert resolve().warmup_fraction == 0.25
    assert resolve(schedule="cosine").warmup_fraction == 0.0
    assert resolve(schedule="cosine", warmup_fraction=0.1).warmup_fraction == 0.1


@pytest.mark.parametrize(
    ("options", "groups", "interval"),
    [
        ({}, None, 0),
        ({"freeze": True}, 0, 0),
        ({"unfreeze_groups": 0}, 0, 0),
        ({"unfreeze_groups": 2}, 2, 0),
        ({"freeze": True, "unfreeze_groups": 2}, 2, 0),
        ({"unfreeze_every": 0.5}, 0, 50),
        ({"unfreeze_groups": 1, "unfreeze_every": 2.0}, 1, 200),
        ({"freeze": True, "unfreeze_every": 0.013}, 0, 1),
        ({"unfreeze_every": 0.001}, 0, 1),
    ],
    ids=str,
)
def test_requested_layer_groups_are_frozen(options, groups, interval):
    config = resolve(**options)
    assert (config.trainable_groups, config.unfreeze_interval) == (groups, interval)


@pytest.mark.parametrize(
    ("options", "factor"),
    [
        ({}, 1.0),
        ({"weights": "w.pth"}, 0.1),
        ({"weights": "w.pth", "layer_decay": 0.5}, 0.1),
        ({"weights": "w.pth", "unfreeze_groups": 2}, 0.1),
        ({"weights": "w.pth", "freeze": True, "unfreeze_groups": 2}, 0.1),
        ({"weights": "w.pth", "unfreeze_every": 1.0}, 0.1),
        ({"weights": "w.pth", "freeze": True, "unfreeze_every": 1.0}, 0.1),
        ({"weights": "w.pth", "freeze": True}, 1.0),
        ({"weights": "w.pth", "unfreeze_groups": 0}, 1.0),
        ({"freeze": True}, 1.0),
    ],
    ids=str,
)
@pytest.mark.parametrize("optimizer", DEFAULT_LR)
def test_pretrained_features_are_trained_at_a_tenth_of_the_default_rate(options, factor, optimizer):
    assert resolve(optimizer=optimizer, **options).lr == pytest.approx(factor * DEFAULT_LR[optimizer])
    assert resolve(optimizer=optimizer, lr=0.25, **options).lr == 0.25


# --- the plan in run.json --------------------------------------------------------------------------------------------

CONFIG = TrainConfig(steps=250, grad_clip=1.0, trainable_groups=1, unfreeze_interval=7, layer_decay=0.9)
PLAN = TrainPlan("cpu", cpu_threads=2, world_size=1, batch_size=64, steps_per_epoch=100, config=CONFIG)
PATH = Path("run.json")


def test_plans_survive_json():
    values = json.loads(json.dumps(PLAN.json(), allow_nan=False))
    assert values["epochs"] == PLAN.epochs == 2.5 and TrainPlan.parse(values, PATH) == PLAN


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"device": 3}, "plan.device"),
        ({"batch_size": 0.5}, "plan.batch_size"),
        ({"config": 3}, "plan.config"),
        ({"config": {"steps": "many"}}, "plan.config.steps"),
        ({"config": {"lr": None}}, "plan.config.lr"),
    ],
    ids=str,
)
def test_damaged_plans_name_the_field(changed, name):
    with pytest.raises(ModelFileError) as error:
        TrainPlan.parse({**PLAN.json(), **changed}, PATH)
    assert (error.value.option, error.value.path) == (name, PATH)
