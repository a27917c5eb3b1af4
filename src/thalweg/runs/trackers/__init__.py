"""Experiment trackers: where the figures of a run also go when the user asks for it by name. None is on by default."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from PIL import Image

from ...config.options import TrainOptions
from ...errors import OptionError
from ...predictions.base import Prediction
from ..run_dir import RunDir
from ..run_record import RunRecord
from . import mlflow, tensorboard, wandb
from .base import Tracker, TrackerStatus, list_params, select_finite

_TRACKERS: dict[str, tuple[Any, Callable[[RunDir, RunRecord, int], Tracker]]] = {
    "tensorboard": (tensorboard, tensorboard.TensorBoardTracker),
    "mlflow": (mlflow, mlflow.MLflowTracker),
    "wandb": (wandb, wandb.WandbTracker),
}


def list_trackers(options: TrainOptions) -> list[str]:
    """Return the trackers that were asked for, each once."""
    names = list(options.tracker or ())
    if options.tensorboard:
        names.append("tensorboard")
    return list(dict.fromkeys(names))


def check_trackers(options: TrainOptions) -> None:
    """Raise OptionError for a tracker whose package is not installed."""
    for name in list_trackers(options):
        module, _ = _TRACKERS[name]
        try:
            module.load_package()
        except ImportError as error:
            raise OptionError(
                f"--tracker {name} needs a package that is not installed: {error}.",
                f'pip install "thalweg[{name}]"',
                option="tracker",
                value=name,
            ) from error


def open_tracker(name: str, run_dir: RunDir, record: RunRecord, step: int = 0) -> Tracker:
    """Open a tracker by name.

    Args:
        name: tensorboard, mlflow or wandb.
        run_dir: The run's folder, where its files and its id are kept.
        record: The run.
        step: The step from which a resumed run goes on; 0 for a new one.

    Returns:
        The tracker; the run continues in it where it was there before.
    """
    tracker = _TRACKERS[name][1](run_dir, record, step)
    tracker.log_params(list_params(record))
    return tracker


class TrackerGroup:
    """The trackers of one run. One that fails is left out from then on, with one warning: the training goes on."""

    def __init__(self, log: Callable[[str], None]):
        self._log = log
        self._trackers: dict[str, Tracker] = {}

    def open(self, names: Sequence[str], run_dir: RunDir, record: RunRecord, step: int) -> None:
        """Open trackers by name."""
        for name in names:
            try:
                self._trackers[name] = open_tracker(name, run_dir, record, step)
            except Exception as error:
                self._warn(name, error)

    def log_metrics(self, split: str, step: int, values: Mapping[str, Any]) -> None:
        """Log one row of metrics."""
        finite = select_finite(split, values)
        if finite:
            self._call_each(lambda tracker: tracker.log_metrics(step, finite))

    def log_images(self, step: int, images: Mapping[str, Image.Image]) -> None:
        """Log images by name."""
        for name, image in images.items():
            self._call_each(lambda tracker, name=name, image=image: tracker.log_image(step, name, image))

    def log_samples(self, step: int, samples: Sequence[Prediction]) -> None:
        """Log the images among the samples of a validation."""
        if not self._trackers:
            return
        images = {}
        for index, sample in enumerate(samples):
            content = sample.files().get(".png")
            if content is not None:
                images[f"samples/{index}"] = Image.open(io.BytesIO(content))
        self.log_images(step, images)

    def close(self, status: TrackerStatus) -> None:
        """Close all; none is open afterwards."""
        self._call_each(lambda tracker: tracker.close(status))
        self._trackers.clear()

    def _call_each(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                call(tracker)
            except Exception as error:
                del self._trackers[name]
                self._warn(name, error)

    def _warn(self, name: str, error: Exception) -> None:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        self._log(f"--tracker {name} failed, and the training goes on without it: {reason[:300]}")
