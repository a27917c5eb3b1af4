from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import pytest
from PIL import Image

from tests.helpers.toy_tasks import TASKS, interrupt_after, plan_toy
from thalweg import api
from thalweg.config.options import TrainOptions, parse_train_options
from thalweg.errors import OptionError
from thalweg.runs.run_dir import RunDir
from thalweg.runs.trackers import list_trackers
from thalweg.runs.trackers.base import read_run_id, select_finite, write_run_id
from thalweg.training.run import TrainingRun

STEPS, STOP = 40, 25


class FakeStore:
    """What a tracker got, however it was told: rows of (step, values), settings, images, and how runs ended."""

    def __init__(self):
        self.runs: dict[str, dict[str, Any]] = {}
        self.where: list[str] = []
        self.inits: list[dict[str, Any]] = []
        self.fail_at: int | None = None

    def run(self, run_id: str) -> dict[str, Any]:
        return self.runs.setdefault(run_id, {"rows": [], "params": {}, "images": [], "status": None})

    def add_row(self, run_id: str, step: int, values: dict[str, float]) -> None:
        if self.fail_at is not None and step >= self.fail_at:
            raise ConnectionError("the server is gone\nand a long traceback")
        self.run(run_id)["rows"].append((step, values))


class Metric(NamedTuple):
    key: str
    value: float
    timestamp: int
    step: int


class Param(NamedTuple):
    key: str
    value: str


class FakeMissingError(Exception):
    error_code = "RESOURCE_DOES_NOT_EXIST"


def make_mlflow(store: FakeStore) -> ModuleType:
    class MlflowClient:
        def __init__(self, tracking_uri: str):
            store.where.append(tracking_uri)

        def get_experiment_by_name(self, name: str) -> None:
            return None

        def create_experiment(self, name: str) -> str:
            return name

        def create_run(self, experiment_id: str, run_name: str) -> Any:
            run_id = f"{run_name}-{len(store.runs)}"
            store.run(run_id)
            return SimpleNamespace(info=SimpleNamespace(run_id=run_id))

        def get_run(self, run_id: str) -> Any:
            if run_id not in store.runs:
                raise FakeMissingError("no such run")
            run = store.runs[run_id]
            metrics = {name: value for _, values in run["rows"] for name, value in values.items()}
            return SimpleNamespace(data=SimpleNamespace(params=run["params"], metrics=metrics))

        def get_metric_history(self, run_id: str, name: str) -> list[Metric]:
            rows = store.runs[run_id]["rows"]
            return [Metric(name, values[name], 0, step) for step, values in rows if name in values]

        def update_run(self, run_id: str, status: str) -> None:
            store.runs[run_id]["status"] = status

        def log_batch(self, run_id: str, metrics: Any = (), params: Any = ()) -> None:
            assert len(params) <= 100 and all(len(param.value) <= 500 for param in params)
            for param in params:
                assert store.runs[run_id]["params"].setdefault(param.key, param.value) == param.value
            for metric in metrics:
                store.add_row(run_id, metric.step, {metric.key: metric.value})

        def log_image(self, run_id: str, image: Image.Image, key: str, step: int) -> None:
            store.runs[run_id]["images"].append(key)

        def set_terminated(self, run_id: str, status: str) -> None:
            store.runs[run_id]["status"] = status

    module = ModuleType("mlflow")
    module.MlflowClient = MlflowClient
    module.entities = ModuleType("mlflow.entities")
    module.entities.Metric, module.entities.Param = Metric, Param
    return module


def make_wandb(store: FakeStore) -> ModuleType:
    class Settings:
        model_fields = {"console": None, "disable_git": None, "save_code": None, "x_disable_stats": None}

        def __init__(self, **values: Any):
            assert set(values) == set(self.model_fields)
            self.values = values

    class Run:
        def __init__(self, run_id: str):
            self.id = run_id
            params = store.run(run_id)["params"]
            self.config = SimpleNamespace(update=lambda values, allow_val_change: params.update(values))

        def log(self, values: dict[str, Any], step: int) -> None:
            images = [name for name, value in values.items() if isinstance(value, Image.Image)]
            store.run(self.id)["images"] += images
            numbers = {name: value for name, value in values.items() if name not in images}
            if numbers:
                store.add_row(self.id, step, numbers)

        def finish(self, exit_code: int) -> None:
            store.run(self.id)["status"] = exit_code

    def init(**values: Any) -> Run:
        store.inits.append(values)
        store.where.append(values["mode"])
        store.run(values["id"])["rows"] = []  # offline, each part of a run is a folder of its own
        return Run(values["id"])

    module = ModuleType("wandb")
    module.Settings, module.init, module.Image = Settings, init, lambda image: image
    return module


MAKERS = {"mlflow": make_mlflow, "wandb": make_wandb}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_MODE", "WANDB_PROJECT", "THALWEG_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


def install(monkeypatch, name: str) -> FakeStore:
    """Put a fake package into the place of the real one, which need not be installed."""
    store = FakeStore()
    module = MAKERS[name](store)
    monkeypatch.setitem(sys.modules, name, module)
    if name == "mlflow":
        monkeypatch.setitem(sys.modules, "mlflow.entities", module.entities)
    return store


def resume(out: Path, **options: Any) -> TrainingRun:
    run = api.plan_training("classify", TASKS["classify"]().toy_dataset(), out=out, resume=True, **options)
    for _ in run:
        pass
    return run


def steps_of(store: FakeStore, name: str) -> list[int]:
    """The steps of a metric: of the one run, of which the last folder counts."""
    (run,) = store.runs.values()
    return [step for step, values in run["rows"] if name in values]


@pytest.mark.parametrize(("name", "stopped", "finished"), [("mlflow", "KILLED", "FINISHED"), ("wandb", 255, 0)])
def test_a_resumed_run_continues_in_its_tracker(name, stopped, finished, monkeypatch, tmp_path):
    store = install(monkeypatch, name)
    run = plan_toy("classify", tmp_path / "run", steps=STEPS, tracker=name, report=False)
    interrupt_after(run, STOP)
    run_id = read_run_id(run.run_dir, name)
    assert list(store.runs) == [run_id] and store.runs[run_id]["status"] == stopped
    resume(tmp_path / "run")
    assert list(store.runs) == [run_id] and store.runs[run_id]["status"] == finished
    rows = run.run_dir.read_metrics()
    for split, metric in (("train", "loss"), ("val", "accuracy")):
        expected = [row["step"] for row in rows if row["split"] == split]
        assert steps_of(store, f"{split}/{metric}") == expected and len(expected) > 3
    assert steps_of(store, "test/accuracy") == [STEPS]
    params = store.runs[run_id]["params"]
    assert params["task"] == "classify" and str(params["batch_size"]) == "16" and params["optimizer"] == "adamw"


def test_steps_that_were_lost_with_a_crash_are_logged_once(monkeypatch, tmp_path):
    store = install(monkeypatch, "mlflow")
    run = plan_toy("classify", tmp_path / "run", steps=STEPS, tracker="mlflow", report=False)
    interrupt_after(run, STOP)
    (values,) = store.runs.values()
    values["rows"] += [(STOP + 1, {"train/loss": 0.5})]  # after the last checkpoint, before a kill
    resume(tmp_path / "run")
    steps = steps_of(store, "train/loss")
    assert len(steps) == len(set(steps)) and steps == sorted(steps)


def test_images_are_logged(monkeypatch, tmp_path):
    store = install(monkeypatch, "mlflow")
    other = install(monkeypatch, "wandb")
    run = plan_toy("classify", tmp_path / "run", steps=2, tracker=["mlflow", "wandb"])
    for _ in run:
        pass
    for fake in (store, other):
        (values,) = fake.runs.values()
        assert "plots/confusion" in values["images"]


@pytest.mark.parametrize("name", MAKERS)
def test_a_tracker_that_fails_does_not_end_the_training(name, monkeypatch, tmp_path):
    store = install(monkeypatch, name)
    store.fail_at = 10
    run = plan_toy("classify", tmp_path / "run", steps=STEPS, tracker=name, report=False)
    for _ in run:
        pass
    assert run.record.is_finished and max(steps_of(store, "train/loss")) < 10
    assert len([line for line in run.warnings if name in line and "the server is gone" in line]) == 1


@pytest.mark.parametrize("name", MAKERS)
def test_a_missing_package_is_refused_before_anything_is_trained(name, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(OptionError) as error:
        plan_toy("classify", tmp_path / "run", tracker=name)
    assert error.value.option == "tracker" and error.value.value == name
    assert f"thalweg[{name}]" in error.value.cure and not (tmp_path / "run").exists()


def test_an_unknown_tracker_is_refused_with_the_known_ones():
    with pytest.raises(OptionError) as error:
        parse_train_options({"tracker": "mlflow,comet"})
    assert error.value.option == "tracker" and error.value.allowed == ["tensorboard", "mlflow", "wandb"]


def test_no_tracker_is_on_by_default_and_each_is_opened_once():
    assert list_trackers(TrainOptions()) == []
    options = parse_train_options({"tracker": "tensorboard, mlflow,mlflow", "tensorboard": True})
    assert list_trackers(options) == ["tensorboard", "mlflow"]


@pytest.mark.parametrize(
    ("name", "variable", "value", "default"),
    [("mlflow", "MLFLOW_TRACKING_URI", "https://server.invalid", None), ("wandb", "WANDB_MODE", "online", "offline")],
)
def test_the_network_is_used_only_where_the_user_says_so(name, variable, value, default, monkeypatch, tmp_path):
    store = install(monkeypatch, name)
    default = default or (tmp_path / "run" / "mlflow").resolve().as_uri()
    out = tmp_path / "run"
    for _ in plan_toy("classify", out, steps=2, tracker=name, report=False):
        pass
    monkeypatch.setenv(variable, value)
    resume(out, steps=4)
    resume(out, steps=6, offline=True)
    assert store.where == [default, value, default]


def test_weights_and_biases_logs_nothing_of_the_machine(monkeypatch, tmp_path):
    store = install(monkeypatch, "wandb")
    for _ in plan_toy("classify", tmp_path / "run", steps=2, tracker="wandb", report=False):
        pass
    (init,) = store.inits
    settings = init["settings"].values
    assert settings == {"console": "off", "disable_git": True, "save_code": False, "x_disable_stats": True}
    assert init["dir"] == str(tmp_path / "run") and init["resume"] is None


def test_tensorboard_shows_every_step_once(tmp_path):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = plan_toy("classify", tmp_path / "run", steps=STEPS, tensorboard=True, report=False)
    interrupt_after(run, STOP)
    resume(tmp_path / "run")
    events = event_accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    logged = [scalar.step for scalar in events.Scalars("train/loss")]
    assert logged == [row["step"] for row in run.run_dir.read_metrics() if row["split"] == "train"]
    assert [scalar.step for scalar in events.Scalars("test/accuracy")] == [STEPS]


def test_ids_survive_other_trackers_and_damaged_files_count_as_none(tmp_path):
    run_dir = RunDir(tmp_path)
    write_run_id(run_dir, "mlflow", "a")
    write_run_id(run_dir, "wandb", "b")
    assert (read_run_id(run_dir, "mlflow"), read_run_id(run_dir, "wandb")) == ("a", "b")
    for content in ("no json", "[1]", json.dumps({"mlflow": 3})):
        (tmp_path / "trackers.json").write_text(content, encoding="utf-8")
        assert read_run_id(run_dir, "mlflow") is None


def test_only_finite_numbers_are_logged():
    values = {"loss": 1, "bad": float("nan"), "none": None, "text": "a", "large": float("inf")}
    assert select_finite("val", values) == {"val/loss": 1.0}
