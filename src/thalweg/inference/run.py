"""A run as a trained model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from ..data.base import DataRequest, Dataset
from ..engine import checkpoint
from ..errors import DataError, ModelFileError, NotFoundError, OptionError, pluralize
from ..io.log import log_warning
from ..pages.summary import format_metric
from ..registry import find_model, find_task
from ..runs.artifacts import read_training_keys
from ..runs.run_dir import RunDir, bundled_models
from ..runs.run_record import parse_data_spec, parse_record_part
from ..tasks.base import Context
from ..training.resume import recorded_options
from ..weights import files
from .model import TrainedModel


class Run(TrainedModel):
    """A run: evaluate, predict, sample, explain, export."""

    def __init__(self, run_dir: RunDir, offline: bool = False):
        super().__init__(offline)
        self.run_dir = run_dir
        self.record = run_dir.read_record()
        path = run_dir.path / "run.json"
        try:
            self.task = find_task(self.record.task)()
        except NotFoundError as error:
            raise ModelFileError(f"{path}: {error.message}", error.cure, path=path, option="task") from error
        self.spec = parse_data_spec(self.record, self.task.DataSpec, path)
        self.options, self.task_options = recorded_options(self.record, self.task.TrainOptions, path)
        self.offline = offline or self.options.offline

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name of its folder."""
        return self.path.name

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.run_dir.path

    @property
    def context(self) -> Context:
        """Where its task runs, with what the training's setup left in run.json."""
        return replace(super().context, setup_record=self.record.setup)

    @property
    def results(self) -> dict[str, Any]:
        """Validation and test metrics, steps, epochs, seconds; empty for a run that is not finished."""
        return asdict(self.record.results) if self.record.results is not None else {}

    @property
    def history(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl."""
        return self.run_dir.read_metrics()

    def _build(self) -> nn.Module:
        model = self._build_model()
        path = self.path / "weights.safetensors"
        if self.record.status in ("running", "stopped") and self.run_dir.has_checkpoint:
            return self._load_checkpoint(model)
        files.load_strict(model, self.run_dir.load_weights(self.record), path)
        return model

    def _build_model(self) -> nn.Module:
        path = self.path / "run.json"
        try:
            return find_model(self.record.model, self.record.task)(**self.record.model_kwargs)
        except (OptionError, NotFoundError) as error:
            raise ModelFileError(f"{path}: {error.message}", error.cure, path=path, option="model") from error

    def _load_checkpoint(self, model: nn.Module) -> nn.Module:
        """Load the newest checkpoint of an interrupted run, and say so."""
        saved = checkpoint.load_latest(self.run_dir.state, log_warning)
        if saved is None:
            raise ModelFileError(f"{self.path} has no checkpoint.", "Finish the run with --resume.", path=self.path)
        step, state = saved
        log_warning(f"{self.path} is not finished: its checkpoint after {step:,} steps is used")
        tensors = averaged_state(state["trainer"])
        files.load_strict(model, tensors, self.run_dir.state)
        return model

    def load_data(self, data: Any = None, make_splits: bool = False) -> Dataset[Any]:
        """Read the run's data, or other data in this model's terms. Raises DataError."""
        if not self._is_training_data(data):
            return super().load_data(data, make_splits)
        if self.record.data.in_memory:
            raise DataError(f"{self.path} was trained on data in memory.", "Give the data again.", path=self.path)
        initial = self.record.initial_weights
        spec = None
        if initial is not None and initial.data_spec is not None:
            path = self.path / "run.json"
            spec = parse_record_part(initial.data_spec, self.task.DataSpec, "initial_weights.data_spec", path)
        request = DataRequest(
            source=self.options.data or self.task.default_data,
            val_fraction=self.options.val_fraction,
            strict=self.options.strict,
            offline=self.offline,
            for_training=True,
        )
        return self.task.load_data(request, self.task_options, self.context, spec)

    def _is_training_data(self, data: Any) -> bool:
        if data is None:
            return True
        trained_on = self.options.data or self.task.default_data
        is_same = isinstance(data, str | os.PathLike) and os.path.realpath(data) == os.path.realpath(trained_on)
        return is_same and not self.record.data.in_memory

    def _training_keys(self) -> np.ndarray | None:
        return read_training_keys(self.run_dir)

    def _history(self) -> list[dict[str, Any]]:
        return self.history

    def _default_export_path(self) -> Path:
        is_bundled = self.path in bundled_models().values()
        return Path(f"{self.name}.onnx") if is_bundled else self.path / "model.onnx"

    def summary(self) -> list[str]:
        """Return the result in words."""
        results = self.record.results
        if results is None:
            return [f"{self.path}: not finished; continue with --resume."]
        metric = self.task.metrics[0]
        examples = results.test.get("examples", self.record.data.counts.get("test"))
        counted = f" on {pluralize(examples, self.record.data.unit)}" if examples is not None else ""
        text = format_metric(metric.name, results.test, metric)
        lines = [f"test {metric.label} {text}{counted}, {results.seconds:.1f} s"]
        for name, value in results.details.items():
            if name == "near_duplicates" and value:
                lines.append(f"near duplicates of training examples in the test split: {value}")
        report = self.path / "report.html"
        return [*lines, f"report: {report}"] if report.is_file() else lines

    def _repr_html_(self) -> str:
        from ..pages.notebook import render_run

        return render_run(self.record, self.task.metrics, self.path / "plots")


def averaged_state(trainer_state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the model's tensors of a trainer's state, with the averaged weights where there are any."""
    tensors = {}
    for name, value in trainer_state["objective"].items():
        if name.startswith("model."):
            tensors[name.removeprefix("model.")] = value
    average = trainer_state.get("ema_model") or {}
    has_child = any(name.startswith("network.") for name in tensors)
    for name, value in average.items():
        tensors[f"network.{name}" if has_child else name] = value
    return tensors
