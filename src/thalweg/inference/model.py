"""What every trained model can do: evaluate, predict, sample, explain, export."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from ..config.options import TrainOptions
from ..config.parsing import parse_options
from ..data.base import DataRequest, Dataset
from ..errors import DataError, NotFoundError, OptionError, ResourceError
from ..io.log import log_warning
from ..predictions.base import Prediction
from ..runs.artifacts import save_images
from ..tasks.base import Context, EvalResult, Task
from .predict import PredictionStream, Predictor
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
    #: loads another model by name, for tasks that build on one; inference.load sets it, because it imports this file
    load_other: ClassVar[Callable[[str], Any] | None] = None

    def __init__(self, offline: bool = False):
        self.offline = offline
        self._model: nn.Module | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def _build(self) -> nn.Module:
        raise AssertionError("each kind of trained model builds its own")

    @property
    def model(self) -> nn.Module:
        """The model with its weights, in evaluation mode. Raises ModelFileError for weights that do not fit."""
        if self._model is None:
            model = self._build()
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            self._model = model.eval()
        return self._model

    @property
    def context(self) -> Context:
        """Where this model's task runs."""
        return Context(
            torch.device("cpu"),
            seed=self.options.seed,
            offline=self.offline,
            log=log_warning,
            load=type(self).load_other,
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

    def evaluate(self, data: Any = None, split: str | None = None, save: Any = None, **options: Any) -> dict[str, Any]:
        """Evaluate on the run's data or on other data.

        Args:
            data: Other data than the run's own.
            split: train, val, test or all. Default: test; all of other data that has no test split of its own.
            save: Write plots into the folder `save`/plots.
            options: The task's own options, such as `feature_network` of a generator.

        Returns:
            {"split", "metrics", "data"}, "details" with the task's further figures, and "trained_on" where some of the
            examples are known to have been trained on: {"examples", "metrics" without them}.

        Raises:
            OptionError: For an unknown split or option.
            DataError: For a split without examples.
        """
        task_options = self._options_of_evaluation(options)
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
        result = self.task.evaluate(self.model, chosen, self.spec, task_options, self.context)
        summary = {"split": split, "metrics": result.metrics, "data": dataset.name, "details": result.details}
        if not is_own:
            summary |= self._check_trained_on(chosen, task_options)
        if save is not None:
            self._save_plots(dataset, result, save, is_own)
        return summary

    def _default_split(self, dataset: Dataset[Any], data: Any, is_own: bool) -> str:
        has_test = is_own or isinstance(data, Dataset) or "test" in dataset.official_splits
        return "test" if has_test else "all"

    def _options_of_evaluation(self, options: Mapping[str, Any]) -> Any:
        """Return the options of the training, with those of this evaluation in their place. Raises OptionError."""
        chosen = parse_options(options, self.task.EvaluateOptions)
        values = {name: value for name, value in vars(chosen).items() if value is not None}
        return replace(self.task_options, **values)

    def _check_trained_on(self, split: Any, task_options: Any) -> dict[str, Any]:
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
            metrics = self.task.evaluate(self.model, split.take(rest), self.spec, task_options, self.context).metrics
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
        count = 0
        if not isinstance(sources, Iterator):  # an iterator may never end
            sources = list(self._sources(sources))
            count = len(sources)
        model = self.model
        if count >= FUSE_FROM:
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


def _select_split(dataset: Dataset[Any], split: str) -> Any:
    if split == "all":
        examples = getattr(dataset, "all", None)
        return dataset.train if examples is None else examples
    if split not in dataset.splits:
        raise OptionError(
            f"--split: unknown split '{split}'; expected train, val, test or all.",
            option="split",
            value=split,
            allowed=[*dataset.splits, "all"],
        )
    return dataset.splits[split]
