"""TensorBoard files in RUN/tensorboard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from ..run_dir import RunDir
from ..run_record import RunRecord
from .base import TrackerStatus


def load_package() -> Any:
    """Import the writer of TensorBoard files. Raises ImportError."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter


class TensorBoardTracker:
    """Writes event files."""

    def __init__(self, run_dir: RunDir, record: RunRecord, step: int):
        # what an earlier part of the run wrote after its last checkpoint is hidden: it comes again
        self._writer = load_package()(str(run_dir.path / "tensorboard"), purge_step=step + 1 if step else None)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Write the settings as a table."""
        lines = ["| setting | value |", "|---|---|"]
        for name, value in params.items():
            lines.append(f"| {name} | {value} |")
        self._writer.add_text("settings", "\n".join(lines))

    def log_metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Write scalars."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def log_image(self, step: int, name: str, image: Image.Image) -> None:
        """Write an image."""
        self._writer.add_image(name, np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def close(self, status: TrackerStatus) -> None:
        """Write what is left; the files do not say how a run ended."""
        self._writer.close()
