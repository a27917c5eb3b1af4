"""Predict for sources in batches: threads read and preprocess while the model predicts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, overload

from torch import nn

from ..data.prefetch import prefetch_map
from ..errors import DataError, ResourceError
from ..predictions.base import Prediction, UnreadableSource
from ..runs.artifacts import save_files
from ..tasks.base import Task
from .sources import SUFFIXES, RemoteFile, Source


@dataclass(frozen=True)
class Predictor:
    """A task with a model, its spec, and the options of one predict call."""

    task: Task
    model: nn.Module
    spec: Any
    options: Any
    batch_size: int
    offline: bool = False
    save: str | Path | None = None

    def __call__(self, sources: Iterable[Source]) -> Iterator[Prediction | UnreadableSource]:
        """Yield a prediction or an UnreadableSource per source, in order. Raises DataError without sources."""
        names: list[str] = []
        examples: list[Any] = []
        is_empty = True
        for name, example in prefetch_map(self._read_one, sources):
            is_empty = False
            if isinstance(example, UnreadableSource):
                yield from self._predict_batch(names, examples)
                names, examples = [], []
                yield example
                continue
            names.append(name)
            examples.append(example)
            if len(names) == self.batch_size:
                yield from self._predict_batch(names, examples)
                names, examples = [], []
        yield from self._predict_batch(names, examples)
        if is_empty:
            kind = self.task.input_type
            suffixes = sorted(SUFFIXES[kind]) if kind is not None else []
            raise DataError(
                f"There is no {kind.value if kind else 'input'} among the sources; expected files that end in "
                f"{', '.join(suffixes)}.",
                allowed=suffixes,
            )

    def _read_one(self, source: Source) -> tuple[str, Any]:
        """Return the name of a source with its example, or why it cannot be read."""
        try:
            return source.name, self.task.preprocess(source.read(self.offline), self.spec, self.options)
        except (DataError, ResourceError) as error:
            if isinstance(error, ResourceError) and not isinstance(source.content, RemoteFile):
                raise
            return source.name, UnreadableSource(source.name, f"{error.message} {error.cure}".strip())

    def _predict_batch(self, names: list[str], examples: list[Any]) -> Iterator[Prediction]:
        if not names:
            return
        for prediction in self.task.predict(self.model, names, examples, self.spec, self.options):
            if self.save is not None:
                save_prediction(prediction, self.save)
            yield prediction


class PredictionStream:
    """Predictions in order of their sources: an iterator, and a sequence once it is indexed or measured.

    It keeps what it yields; `drain` does not, for more sources than memory holds.
    """

    def __init__(self, predictions: Iterator[Prediction | UnreadableSource]):
        self._predictions = predictions
        self._seen: list[Prediction | UnreadableSource] = []

    def __iter__(self) -> Iterator[Prediction | UnreadableSource]:
        index = 0
        while index < len(self._seen) or self._read_next():
            yield self._seen[index]
            index += 1

    def __next__(self) -> Prediction | UnreadableSource:
        if not self._read_next():
            raise StopIteration
        return self._seen[-1]

    def __len__(self) -> int:
        return len(self._read_all())

    @overload
    def __getitem__(self, index: int) -> Prediction | UnreadableSource: ...

    @overload
    def __getitem__(self, index: slice) -> list[Prediction | UnreadableSource]: ...

    def __getitem__(self, index: int | slice) -> Any:
        return self._read_all()[index]

    def drain(self) -> Iterator[Prediction | UnreadableSource]:
        """Yield the predictions that were not yielded yet, without keeping them."""
        yield from self._predictions

    def _read_next(self) -> bool:
        """Read one prediction more, if there is one."""
        for prediction in self._predictions:
            self._seen.append(prediction)
            return True
        return False

    def _read_all(self) -> list[Prediction | UnreadableSource]:
        self._seen += self._predictions
        return self._seen


def save_prediction(prediction: Prediction, folder: str | Path) -> list[Path]:
    """Write the files of a prediction as NAME.suffix; existing files are not overwritten. Returns their paths."""
    stem = re.sub(r"[^\w.-]+", "_", Path(prediction.source).stem)[:80] or "prediction"
    files = prediction.files()
    name = stem
    for number in count(2):
        if not any(os.path.lexists(Path(folder) / f"{name}{suffix}") for suffix in files):
            break
        name = f"{stem}-{number}"
    return save_files({f"{name}{suffix}": content for suffix, content in files.items()}, folder)
