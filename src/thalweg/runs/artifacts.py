"""What a finished run leaves for people: pictures, report.html, MODEL_CARD.md, and TensorBoard's files on request."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..data.images.dataset import ImageDataset
from ..errors import ResourceError
from ..io.download import cache_dir
from .run_dir import RunDir


def write_report(folder: RunDir, content: dict[str, Any], drawn: dict[str, Image.Image]) -> None:
    """Writes the pictures of a run, and the report and the card made of them and of what run.json holds."""
    from ..pages.model_card import render_card
    from ..pages.report_html import build_report, render_report

    write_plots(folder, drawn)
    folder.write_file("report.html", render_report(build_report(content, drawn)).encode())
    folder.write_file("MODEL_CARD.md", render_card(content).encode())


def write_plots(folder: RunDir, drawn: dict[str, Image.Image]) -> None:
    """pictures/NAME.png for every picture. Raises ResourceError where the disk is full."""
    for name, picture in drawn.items():
        file = io.BytesIO()
        picture.save(file, "PNG")
        folder.write_file(f"pictures/{name}.png", file.getvalue())


def save_images(pictures: Mapping[str, Image.Image], folder: Any) -> list[Path]:
    """Writes pictures as NAME.png where --save says, a folder that is made if need be; their files.

    Raises ResourceError.
    """
    path, written = Path(folder), []
    try:
        path.mkdir(parents=True, exist_ok=True)
        for name, picture in pictures.items():
            path = Path(folder) / f"{name}.png"
            picture.save(path)
            written.append(path)
    except OSError as error:
        told = f"Could not write {path}: {error.strerror or error}."
        raise ResourceError(told, cure="Make room, or give another --save.") from error
    return written


def near_duplicates(data: ImageDataset, outcome: Any) -> dict[str, Any]:
    """How many test pictures are nearly in the training set, and the accuracy without them.

    Which they are is kept in the cache under the content of both: ten thousand against fifty take most of a minute.
    """
    from ..data.images.duplicates import leaked_rows

    content = hashlib.sha256(np.ascontiguousarray(data.train.images))
    content.update(np.ascontiguousarray(data.test.images))
    kept = cache_dir() / "duplicates" / f"{content.hexdigest()[:32]}.json"
    rows = None
    with suppress(OSError, ValueError, TypeError):
        rows = np.array(json.loads(kept.read_text(encoding="utf-8")), np.int64)
    if rows is None:
        rows = leaked_rows(data.train, data.test)
        with suppress(OSError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(rows.tolist()), encoding="utf-8")
    return outcome.without(rows)


def open_tensorboard_writer(folder: Path) -> Any:
    """A writer of TensorBoard's files. Raises ResourceError where the package is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ResourceError(
            "--tensorboard needs a package that is not installed.", cure='pip install "thalweg[tensorboard]"'
        ) from error
    return SummaryWriter(str(folder))


def all_finite(network: torch.nn.Module) -> bool:
    """Whether every weight and buffer is a number."""
    return all(bool(value.isfinite().all()) for value in network.state_dict().values())
