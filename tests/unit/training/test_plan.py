"""What is decided before anything is trained."""

from __future__ import annotations

import math
import types

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg.config.options import Options, parse_options
from thalweg.data.batches import InMemoryBatches
from thalweg.engine.config import DEFAULT_LR, TrainConfig
from thalweg.engine.trainer import Trainer
from thalweg.errors import OptionError, ResourceError
from thalweg.objectives.base import Loss
from thalweg.objectives.supervised import Supervised
from thalweg.training import plan
from thalweg.training.plan import TrainPlan


@pytest.mark.parametrize(
    ("text", "expected"), [("90s", 90), ("90", 90), ("2m", 120), ("1.5h", 5400), (" 3 m ", 180), ("0.5s", 0.5)]
)
def test_times_are_read(text, expected):
    assert plan.parse_duration(text) == expected


@pytest.mark.parametrize("text", ["", "0s", "-2m", "2 days", "1e3", "m", "1m30s", "nan"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(OptionError, match="is no time"):
        plan.parse_duration(text)
    with pytest.raises(OptionError, match="--time"):
        plan.validate_options(Options(time=text))


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0.0},
        {"epochs": -1.0},
        {"steps": 0},
        {"lr": 0.0},
        {"lr": -0.1},
        {"momentum": 1.0},
        {"momentum": -0.1},
        {"clip": 0.0},
        {"warmup": 1.1},
        {"warmup": -0.1},
        {"batch": 0},
        {"accumulate": 0},
        {"patience": 0},
        {"size": 0},
        {"size": 5000},
        {"threads": 0},
        {"ema": 1.0},
        {"smoothing": -0.1},
        {"smoothing": 1.0},
        {"valid": 1.0},
        {"weight_decay": -1.0},
        {"save_every": -1.0},
        {"seed": -1},
        {"seed": 2**32},
        {"optimizer": "nesterov", "momentum": 0.0},
        {"epochs": 2.0, "steps": 3},
        {"epochs": 2.0, "time": "2m"},
        {"gradual": 0.0},
        {"gradual": -1.0},
        {"unfreeze": -1},
        {"cached_views": 0},
        {"layer_decay": 0.0},
        {"layer_decay": 1.01},
        {"graph": True, "gradual": 1.0},
        {"cached_views": 2, "augment": "flip"},
        {"cached_views": 2, "freeze": True},
        {"graph": True, "optimizer": "adagrad"},
    ],
)
def test_values_that_no_run_can_have_are_refused_by_name(wrong):
    with pytest.raises(OptionError) as raised:
        plan.validate_options(Options(**wrong))
    for name in wrong:
        assert f"--{name.replace('_', '-')}" in f"{raised.value.message} {raised.value.cure}"


def test_values_at_the_edge_are_allowed():
    plan.validate_options(Options())
    plan.validate_options(
        Options(momentum=0.0, warmup=1.0, weight_decay=0.0, seed=2**32 - 1, steps=1, batch=1, size=4096)
    )
    plan.validate_options(Options(lr="auto", batch="auto", time="2m", optimizer="nesterov"))
    plan.validate_options(Options(unfreeze=0, gradual=0.5, layer_decay=1.0, cached_views=1))


@pytest.mark.parametrize(
    ("optimizer", "momentum"), [(o, m) for o in DEFAULT_LR for m in (0.0, 0.5, 0.999) if (o, m) != ("nesterov", 0.0)]
)
def test_what_passes_the_check_can_be_built(optimizer, momentum):
    options = Options(optimizer=optimizer, momentum=momentum, seed=2**32 - 1)
    plan.validate_options(options)
    trainer = Trainer(*problem(seed=options.seed), plan.resolve_config(options, problem()[1], "float32"))
    next(iter(trainer))


def test_small_training_sets_have_small_batches():
    assert [plan.default_batch_size(n) for n in (0, 1, 100, 640, 1280, 2560, 1e4, 60000)] == [
        16,
        16,
        16,
        16,
        32,
        64,
        128,
        128,
    ]


def test_large_pictures_come_in_small_batches():
    assert [plan.default_batch_size(60000, side * side) for side in (28, 160, 161, 224)] == [128, 128, 32, 32]
    assert plan.default_batch_size(100, 224 * 224) == 16


def test_the_processor_is_always_there():
    assert plan.resolve_device(Options(device="cpu")) == torch.device("cpu")
    assert plan.resolve_device(Options()).type in ("cpu", "cuda", "mps")


@pytest.mark.parametrize("name", ["gpu", "meta", "xpu", "cuda:x", "cpu; rm", ""])
def test_a_device_that_is_none_is_refused(name):
    with pytest.raises(OptionError, match="no such device"):
        plan.resolve_device(Options(device=name))


def test_a_device_that_is_not_here_is_a_matter_of_the_surroundings():
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    for name in [name for name in here if not here[name]] or ["cuda:99"]:
        with pytest.raises(ResourceError, match=f"--device {name}"):
            plan.resolve_device(Options(device=name))


def test_each_process_of_one_machine_has_a_gpu_of_its_own(monkeypatch):
    asked = []
    monkeypatch.setattr(plan.ranks, "count", lambda: 2)
    monkeypatch.setattr(plan.torch, "zeros", lambda *a, device: asked.append(str(device)))
    monkeypatch.setenv("LOCAL_RANK", "1")
    plan.resolve_device(Options(device="cuda"))
    assert asked == ["cuda:1"]


def test_precision_is_what_was_asked_for_or_what_is_quick_here(monkeypatch):
    cpu, dense, filters = torch.device("cpu"), nn.Linear(2, 2), nn.Conv2d(1, 1, 3)
    assert plan.resolve_precision(Options(precision="bfloat16"), cpu, dense) == "bfloat16"
    for amx in (True, False):
        monkeypatch.setattr(plan, "has_amx", lambda amx=amx: amx)
        assert plan.resolve_precision(Options(), cpu, dense) == "float32"
        assert plan.resolve_precision(Options(), cpu, filters) == ("bfloat16" if amx else "float32")


def test_amx_is_asked_of_the_processor(monkeypatch):
    for told, expected in (({"amx_bf16": True}, True), ({"amx_tile": True}, True), ({"avx2": True}, False)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda told=told: told, raising=False)
        assert plan.has_amx() is expected


STREAM = types.SimpleNamespace(steps_per_epoch=100)


def test_an_unstated_length_depends_on_the_data():
    def epochs(steps_per_epoch: int) -> float:
        stream = types.SimpleNamespace(steps_per_epoch=steps_per_epoch)
        return plan.resolve_config(Options(), stream, "float32").steps / steps_per_epoch

    assert [epochs(n) for n in (10, 100, 1000)] == [40, 15, 5]


def test_what_was_asked_for_is_what_is_done():
    asked = {"optimizer": "sgd", "lr": 1, "clip": 3, "ema": 0.9, "accumulate": 2, "seed": 7, "momentum": 0}
    recipe = plan.resolve_config(parse_options({"epochs": 2.5, **asked}), STREAM, "bfloat16")
    fields = {"clip": "grad_clip", "ema": "ema_decay", "accumulate": "grad_accum"}
    assert {name: getattr(recipe, fields.get(name, name)) for name in asked} == asked
    assert recipe.steps == 250 and recipe.precision == "bfloat16"
    assert not plan.resolve_config(
        Options(graph=True), problem()[1], "float32"
    ).cuda_graph  # on a processor nothing is recorded
    assert plan.resolve_config(Options(steps=7), STREAM, "float32").steps == 7
    assert plan.resolve_config(Options(epochs=1e-6), STREAM, "float32").steps == 1


def test_rates_and_warm_up_follow_optimiser_and_schedule():
    for name, rate in DEFAULT_LR.items():
        assert plan.resolve_config(Options(optimizer=name), STREAM, "float32").lr == rate
    assert plan.resolve_config(Options(lr="auto"), STREAM, "float32").lr == DEFAULT_LR["adamw"]
    assert plan.resolve_config(Options(), STREAM, "float32").warmup_fraction == 0.25
    assert plan.resolve_config(Options(schedule="cosine"), STREAM, "float32").warmup_fraction == 0.0
    assert plan.resolve_config(Options(schedule="cosine", warmup=0.1), STREAM, "float32").warmup_fraction == 0.1


@pytest.mark.parametrize(
    ("asked", "trained", "every"),
    [
        ({}, None, 0),
        ({"freeze": True}, 0, 0),
        ({"unfreeze": 0}, 0, 0),
        ({"unfreeze": 2}, 2, 0),
        ({"freeze": True, "unfreeze": 2}, 2, 0),
        ({"gradual": 0.5}, 0, 50),
        ({"unfreeze": 1, "gradual": 2.0}, 1, 200),
        ({"freeze": True, "gradual": 0.013}, 0, 1),
        ({"gradual": 0.001}, 0, 1),
    ],
    ids=str,
)
def test_frozen_parts_are_those_that_were_asked_for(asked, trained, every):
    recipe = plan.resolve_config(Options(**asked), STREAM, "float32")
    assert (recipe.trainable_groups, recipe.unfreeze_interval) == (trained, every)
    assert plan.resolve_config(Options(layer_decay=0.8), STREAM, "float32").layer_decay == 0.8


@pytest.mark.parametrize(
    ("asked", "share"),
    [
        ({}, 1.0),
        ({"weights": "w.pth"}, 0.1),
        ({"weights": "w.pth", "layer_decay": 0.5}, 0.1),
        ({"weights": "w.pth", "unfreeze": 2}, 0.1),
        ({"weights": "w.pth", "freeze": True, "unfreeze": 2}, 0.1),
        ({"weights": "w.pth", "gradual": 1.0}, 0.1),
        ({"weights": "w.pth", "freeze": True, "gradual": 1.0}, 0.1),
        ({"weights": "w.pth", "freeze": True}, 1.0),
        ({"weights": "w.pth", "unfreeze": 0}, 1.0),
        ({"freeze": True}, 1.0),
    ],
    ids=str,
)
@pytest.mark.parametrize("optimizer", DEFAULT_LR)
def test_what_was_learned_elsewhere_goes_on_at_a_tenth_of_the_usual_rate(asked, share, optimizer):
    recipe = plan.resolve_config(Options(optimizer=optimizer, **asked), STREAM, "float32")
    assert recipe.lr == pytest.approx(share * DEFAULT_LR[optimizer])
    assert plan.resolve_config(Options(optimizer=optimizer, lr=0.25, **asked), STREAM, "float32").lr == 0.25


def test_a_plan_is_the_same_after_json():
    import json

    one = TrainPlan(
        "cpu", 2, 1, 64, 100, TrainConfig(steps=250, grad_clip=1.0, trainable_groups=1, unfreeze_interval=7, layer_decay=0.9)
    )
    told = json.loads(json.dumps(one.json(), allow_nan=False))
    assert told["epochs"] == 2.5 and TrainPlan.from_json(told) == one


def test_as_many_steps_as_fit_into_the_time():
    recipe = plan.steps_within_budget(TrainConfig(), budget=100.0, per_step=0.1, per_validation=4.0, steps_per_epoch=10)
    spent = recipe.steps * 0.1 + recipe.steps / 10 * 4.0
    assert 85 < spent <= 90
    with pytest.raises(OptionError, match="one update takes 2.0 s"):
        plan.steps_within_budget(TrainConfig(), budget=1.0, per_step=2.0, per_validation=0.0, steps_per_epoch=10)


def problem(seed: int = 3, batch: int = 32) -> tuple[Supervised, InMemoryBatches]:
    """Two clouds of points; one layer can tell them apart."""
    torch.manual_seed(0)
    labels = torch.arange(256) % 2
    points = torch.randn(256, 8) + 2.0 * labels[:, None]
    network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))

    def criterion(network: nn.Module, batch) -> Loss:
        return Loss(F.cross_entropy(network(batch["image"]), batch["label"]), len(batch["label"]))

    return Supervised(network, criterion), InMemoryBatches({"image": points, "label": labels}, batch, seed)


def same(batch):
    return batch


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_range_test_finds_a_rate_that_trains(optimizer):
    objective, stream = problem()
    before = [w.clone() for w in objective.parameters()]
    recipe = TrainConfig(steps=60, optimizer=optimizer, report_every=10, schedule="constant")
    rate = plan.lr_range_test(objective, stream, recipe, same)
    assert 1e-4 < rate < 2 and rate == float(f"{rate:.2g}")
    assert stream.step == 0 and all(torch.equal(a, b) for a, b in zip(before, objective.parameters(), strict=True))
    recipe = TrainConfig(steps=60, optimizer=optimizer, report_every=10, schedule="constant", lr=rate)
    losses = [report.losses["loss"] for report in Trainer(objective, stream, recipe)]
    assert losses[-1] < 0.5 * losses[0] and math.isfinite(losses[-1])


def test_the_range_test_survives_a_loss_that_is_no_number():
    objective, stream = problem()
    broken = Supervised(objective.model, lambda network, batch: Loss(network(batch["image"]).sum() * math.nan, 1))
    assert plan.lr_range_test(broken, stream, TrainConfig(), same) == 1e-6


def test_trying_costs_the_run_nothing():
    objective, stream = problem()
    stream.step = 5
    before = {k: v.clone() for k, v in objective.state_dict().items()}
    assert 0 < plan.time_steps(objective, stream, TrainConfig(steps=100), same, count=4) < 60
    assert stream.step == 5 and all(torch.equal(v, before[k]) for k, v in objective.state_dict().items())


def streams_of(examples: int):
    return lambda batch: types.SimpleNamespace(batch_size=batch, steps_per_epoch=examples // batch)


def test_the_smallest_batch_at_nearly_the_best_speed_is_taken(monkeypatch):
    speeds = {32: 100.0, 64: 180.0, 128: 191.0, 256: 199.0, 512: 200.0, 1024: 150.0}
    monkeypatch.setattr(plan, "time_steps", lambda objective, stream, *rest, count: stream.batch_size / speeds[stream.batch_size])
    assert plan.find_batch_size(None, streams_of(100_000), TrainConfig(), same) == 64


def test_the_search_for_a_batch_ends_where_memory_or_data_do(monkeypatch):
    def time_steps(objective, stream, *rest, count):
        if stream.batch_size > 64:
            raise MemoryError
        return 1.0

    monkeypatch.setattr(plan, "time_steps", time_steps)
    assert plan.find_batch_size(None, streams_of(100_000), TrainConfig(), same) == 64
    assert plan.find_batch_size(None, streams_of(320), TrainConfig(), same) == 32


@pytest.mark.parametrize("given", [{"unfreeze": -1}, {"cached_views": 0}], ids=str)
def test_a_count_that_is_too_low_is_named_alone_with_its_value(given):
    ((name, value),) = given.items()
    with pytest.raises(OptionError, match=f"^--{name.replace('_', '-')} {value} is out of range") as error:
        plan.validate_options(Options(**given))
    assert error.value.cure == f"Give {value + 1} or more."
