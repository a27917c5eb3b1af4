"""Trained models: a finished run, a bundled model, or a model with published weights.

load("runs/a")                          a run
load("digits-lenet")                    bundled with the package
load("resnet152")                       with ImageNet weights, downloaded by that name
load("resnet18", weights="mine.pth")    with the weights of a file, or of another run
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..config.options import TrainOptions
from ..config.parsing import parse_options
from ..data.base import DataRequest, Dataset
from ..engine import checkpoint
from ..errors import DataError, ModelFileError, NotFoundError, OptionError, ResourceError
from ..io.log import log_warning
from ..pages.summary import format_metric
from ..predictions.base import Prediction, UnreadableSource
from ..registry import find_model, find_task, get_models
from ..runs.artifacts import read_training_keys, save_images
from ..runs.initial_weights import resolve
from ..runs.run_dir import RunDir, bundled_models
from ..runs.run_record import parse_data_spec, parse_record_part
from ..tasks.base import Context, EvalResult, Task
from ..training.resume import recorded_options
from ..weights import external_models, files, store
from ..weights.catalog import CATALOG
from ..weights.initial import InitialWeights, assume_spec
from .predict import Predictor
from .sources import Source, iter_sources

#: from so many sources on, a model is optimized for inference first
FUSE_FROM = 64


class TrainedModel:
    """A model with its task, what it knows of its data (`spec`), and the options it was trained with."""

    name: str
    task: Task
    spec: Any
    options: TrainOptions
    task_options: Any

    def __init__(self, offline: bool = False):
        self.offline = offline
        self._model: nn.Module | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def _build(self) -> nn.Module:
        raise AssertionError("each kind of trained model builds its own")

    @property
    def model(self) -> nn.Module:
        """The model with its weights, in evaluation mode. Raises ModelFileError naming the first tensor that differs."""
        if self._model is None:
            self._model = self._build().to(memory_format=torch.channels_last).eval()
        return self._model

    @property
    def context(self) -> Context:
        """Where this model's task runs."""
        return Context(
            torch.device("cpu"),
            seed=self.options.seed,
            offline=self.offline,
            log=log_warning,
            load=load,
            options=self.options,
        )

    # --- evaluate -----------------------------------------------------------------------------------------------------

    def load_data(self, data: Any = None, make_splits: bool = False) -> Dataset[Any]:
        """Read other data in this model's terms. Raises DataError."""
        if data is None:
            raise DataError(f"{self.name} came without data.", "Name the data to evaluate on.")
        request = DataRequest(
            source=os.fspath(data) if isinstance(data, os.PathLike) else data,
            val_fraction=self.options.val_fraction,
            make_splits=make_splits,
            strict=self.options.strict,
            offline=self.offline,
        )
        dataset = self.task.load_data(request, self.task_options, self.context, self.spec)
        for line in dataset.messages():
            log_warning(line)
        return dataset

    def evaluate(self, data: Any = None, split: str | None = None, save: Any = None) -> dict[str, Any]:
        """Evaluate on the run's data or on other data.

        Args:
            data: Other data than the run's own.
            split: train, val, test or all. Default: test; all of other data that has no test split of its own.
            save: Write plots into the folder `save`/plots.

        Returns:
            {"split", "metrics", "data"}, and "trained_on" where some of the examples are known to have been trained on:
            {"examples", "metrics" without them}.

        Raises:
            OptionError: For an unknown split.
            DataError: For a split without examples.
        """
        dataset = self.load_data(data)
        is_own = self._is_training_data(data)
        split = split or self._default_split(dataset, data, is_own)
        chosen = _select_split(dataset, split)
        if not len(chosen):
            raise DataError(
                f"{dataset.name} has no examples in its {split} split.",
                "Other data is not split: give --split all." if not is_own else "",
                value=split,
            )
        result = self.task.evaluate(self.model, chosen, self.spec, self.task_options, self.context)
        summary = {"split": split, "metrics": result.metrics, "data": dataset.name}
        if not is_own:
            summary |= self._check_trained_on(chosen)
        if save is not None:
            self._save_plots(dataset, result, save, is_own)
        return summary

    def _default_split(self, dataset: Dataset[Any], data: Any, is_own: bool) -> str:
        has_test = is_own or isinstance(data, Dataset) or "test" in dataset.official_splits
        return "test" if has_test else "all"

    def _check_trained_on(self, split: Any) -> dict[str, Any]:
        """Return how many examples were trained on, and the metrics without them."""
        trained = self._training_keys()
        keys = split.keys()
        if trained is None or keys is None:
            return {}
        is_trained = np.isin(keys, trained)
        count = int(is_trained.sum())
        if not count:
            return {}
        rest = np.flatnonzero(~is_trained)
        metrics = None
        if len(rest):
            metrics = self.task.evaluate(
                self.model, split.take(rest), self.spec, self.task_options, self.context
            ).metrics
        log_warning(f"{count:,} of these {len(keys):,} examples were trained on; see the figures without them")
        return {"trained_on": {"examples": count, "metrics": metrics}}

    def _training_keys(self) -> np.ndarray | None:
        return None

    def _save_plots(self, dataset: Dataset[Any], result: EvalResult, save: Any, is_own: bool) -> None:
        history = self._history() if is_own else []
        plots = self.task.plots(self.model, dataset, self.spec, self.task_options, result, history)
        images = {plot.name: plot.image for plot in plots if plot.image is not None}
        for path in save_images(images, Path(save) / "plots"):
            log_warning(f"wrote {path}")

    def _is_training_data(self, data: Any) -> bool:
        """Whether `data` is this run's training data, so that only its held-out splits are meaningful."""
        return data is None

    def _history(self) -> list[dict[str, Any]]:
        return []

    # --- predict, sample, explain, export -----------------------------------------------------------------------------

    def predict(
        self, sources: Any, *, batch_size: int | None = None, save: Any = None, **options: Any
    ) -> PredictionStream:
        """Predict for sources.

        Args:
            sources: Files, folders, patterns, URLs, arrays, tensors, Pillow images, or a list of these.
            batch_size: Sources at a time. Default: as many as are fastest.
            save: Write a file per prediction into this folder.
            options: The task's own options, such as `top_k` of a classifier.

        Returns:
            A stream of predictions, one per source in order: iterate over it, or index it as a list. An unreadable
            source is an UnreadableSource, which is false and has a `reason`.

        Raises:
            OptionError: For an unknown option.
            DataError: If there are no sources.
        """
        chosen = parse_options(options, self.task.PredictOptions)
        if self.task.input_type is None:
            self.task.preprocess(None, self.spec, chosen)  # refuses in one sentence
        batch_size = batch_size or self.task.eval_batch_size(self.spec, torch.device("cpu"))
        is_repeatable = not isinstance(sources, Iterator)  # what can be iterated only once is not counted
        if is_repeatable:
            sources = list(self._sources(sources))
        model = self.model
        if is_repeatable and len(list(islice(self._sources(sources), FUSE_FROM))) == FUSE_FROM:
            model = self.task.for_inference(model, self.spec, batch_size)
        predictor = Predictor(self.task, model, self.spec, chosen, batch_size, self.offline, save)
        return PredictionStream(predictor(self._sources(sources)))

    def _sources(self, sources: Any) -> Iterator[Source]:
        input_type = self.task.input_type
        if input_type is None:
            raise OptionError(f"{self.name} reads no sources.", value=self.name)
        return iter_sources(sources, input_type)

    def sample(self, **options: Any) -> Iterator[Prediction]:
        """Generate samples; `options` are the task's own, such as `seed` and `count`. The k-th depends on seed + k."""
        return self.task.sample(self.model, self.spec, self.sample_options(options))

    def sample_options(self, options: Mapping[str, Any]) -> Any:
        """Parse the options of sampling. Raises OptionError where this model does not sample."""
        if self.task.SampleOptions is None:
            list(self.task.sample(nn.Identity(), self.spec, None))  # refuses in one sentence
            raise OptionError(f"{self.name} does not sample.", value=self.name)
        return parse_options(options, self.task.SampleOptions)

    def read_one(self, source: Any) -> tuple[str, Any]:
        """Return the name and the content of exactly one source. Raises DataError."""
        sources = list(islice(self._sources(source), 2))
        if len(sources) != 1:
            names = ", ".join(item.name for item in sources) or "none"
            raise DataError(f"Expected one source; got {names}.", value=len(sources))
        name = sources[0].name
        try:
            return name, sources[0].read(self.offline)
        except (DataError, ResourceError) as error:
            raise type(error)(f"{name}: {error.message}", error.cure, path=name) from error

    def explain(self, source: Any, **options: Any) -> Any:
        """Show what the model looked at in one source; `options` are the task's own, such as `target_class`."""
        chosen = parse_options(options, self.task.ExplainOptions)
        name, content = self.read_one(source)
        try:
            return self.task.explain(self.model, content, self.spec, chosen)
        except DataError as error:
            raise DataError(f"{name}: {error.message}", error.cure, path=name) from error

    def export(self, format: str = "onnx", out: Any = None) -> Any:
        """Write the model with its preprocessing as ONNX, and prove that it agrees. Raises ExportError.

        The proof is on examples of the test split, or on noise where the data is not at hand. Without `out` the file
        goes into the run, or into the current folder for a model that has no folder of the user's.
        """
        from .export_onnx import export_onnx

        if format != "onnx":
            raise OptionError(f"--format: '{format}' is unknown; expected onnx.", option="format", value=format)
        spec = self.task.export_spec(self.model, self.spec, self._export_samples())
        return export_onnx(spec, Path(out) if out is not None else self._default_export_path())

    def _export_samples(self) -> Any:
        """Return the test split, or None where it is not at hand; nothing is downloaded."""
        offline, self.offline = self.offline, True
        try:
            return self.load_data().test
        except (DataError, NotFoundError, ResourceError) as error:
            log_warning(f"the proof is on noise, because the data is not at hand: {error.message}")
            return None
        finally:
            self.offline = offline

    def _default_export_path(self) -> Path:
        return Path(f"{self.name}.onnx")


class PredictionStream:
    """Predictions in order of their sources: an iterator, and a sequence once it is indexed or measured."""

    def __init__(self, predictions: Iterator[Prediction | UnreadableSource]):
        self._predictions = predictions
        self._seen: list[Prediction | UnreadableSource] = []

    def __iter__(self) -> Iterator[Prediction | UnreadableSource]:
        yield from self._seen
        for prediction in self._predictions:
            self._seen.append(prediction)
            yield prediction

    def __next__(self) -> Prediction | UnreadableSource:
        return next(self._predictions)

    def _read_all(self) -> list[Prediction | UnreadableSource]:
        for prediction in self._predictions:
            self._seen.append(prediction)
        return self._seen

    def __len__(self) -> int:
        return len(self._read_all())

    def __getitem__(self, index: int) -> Prediction | UnreadableSource:
        return self._read_all()[index]


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
        counted = f" on {examples:,} {self.record.data.unit}s" if examples is not None else ""
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


class PretrainedModel(TrainedModel):
    """A registered model with published weights, or those of a file, as they are."""

    def __init__(self, weights: InitialWeights, offline: bool = False):
        super().__init__(offline)
        self.weights = assume_spec(weights, log_warning)
        self.name = weights.model
        self.entry = find_model(weights.model)
        self.task = find_task(self.entry.task)()
        self.spec = self.task.spec_from_weights(self.weights)
        self.options = TrainOptions(model=weights.model)
        self.task_options = self.task.TrainOptions()

    def _build(self) -> nn.Module:
        weights = self.weights
        kwargs = {**self.task.model_kwargs(self.spec), **weights.model_kwargs, **weights.build_kwargs}
        with files.skip_init() if weights.tensors else nullcontext():
            model = self.entry(**kwargs)
        if getattr(model, "replaced", False):
            raise OptionError(
                f"{self.name} was not trained on ImageNet's 1,000 classes.",
                "Fine-tune it: thalweg train.",
                value=self.name,
            )
        if weights.tensors:
            files.load_strict(model, weights.tensors, weights.path)
        return model


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


def _select_split(dataset: Dataset[Any], split: str) -> Any:
    if split == "all":
        return dataset.all if hasattr(dataset, "all") else dataset.train
    if split not in dataset.splits:
        raise OptionError(
            f"--split: unknown split '{split}'; expected train, val, test or all.",
            option="split",
            value=split,
            allowed=[*dataset.splits, "all"],
        )
    return dataset.splits[split]


def load(name: str | os.PathLike[str], weights: str | None = None, offline: bool = False) -> TrainedModel:
    """Load a run, a bundled model, or a model by name.

    Args:
        name: A run's folder, the name of a bundled model, or of a registered model.
        weights: For a registered model: imagenet (default), another published set, a file, a run's folder.
        offline: Never use the network.

    Returns:
        The trained model.

    Raises:
        NotFoundError: For an unknown name.
        ModelFileError: For a broken run or weights file.
        ResourceError: Where weights are needed that are not here.
    """
    folder = resolve_name(name, weights)
    if folder is not None:
        return Run(RunDir(folder), offline)
    return PretrainedModel(resolve(str(name), weights or "imagenet", offline, log_warning), offline)


def resolve_name(name: str | os.PathLike[str], weights: str | None = None) -> Path | None:
    """Return the folder of the run that a name means; None where it means a model. Downloads nothing.

    Raises OptionError for an empty name, NotFoundError and ModelFileError for an unusable one.
    """
    name = os.fspath(name)
    bundled = bundled_models()
    if not name:
        raise OptionError("The model's name is empty; expected a run's folder or a model.", option="run", value="")
    if weights is None and os.path.isfile(os.path.join(name, "run.json")):
        return Path(name)
    if weights is None and name in bundled:
        return bundled[name]
    pretrained = {model for model, _ in CATALOG}
    is_external = external_models.split_name(name) is not None
    if weights is None and name not in {*pretrained, *get_models()} and not is_external:
        if os.path.exists(name):
            raise _not_a_run_error(name)
        raise NotFoundError.for_unknown("run or model", name, {*bundled, *pretrained})
    find_model(name)
    if not is_external or weights not in (None, "imagenet"):
        store.validate_name(name, weights or "imagenet")
    return None


def _not_a_run_error(path: str) -> ModelFileError:
    if os.path.isfile(path):
        return ModelFileError(
            f"{path} is a file; expected a run's folder.",
            f"Weights need the name of a model: MODEL --weights {path}",
            path=path,
        )
    return ModelFileError(
        f"{path} is not a run: there is no run.json in it.", "Give the folder that `thalweg train` printed.", path=path
    )
