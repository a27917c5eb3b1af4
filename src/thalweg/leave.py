"""What a finished run leaves for people: pictures, report.html, MODEL_CARD.md, and TensorBoard's files on request."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image

from .errors import ResourceError
from .run import RunFolder


def pictures_and_report(folder: RunFolder, content: dict[str, Any], drawn: dict[str, Image.Image]) -> None:
    """Writes the pictures of a run, and the report and the card made of them and of what run.json holds."""
    from .card import card
    from .report import report, story

    write_pictures(folder, drawn)
    folder.write_file("report.html", report(story(content, drawn)).encode())
    folder.write_file("MODEL_CARD.md", card(content).encode())


def write_pictures(folder: RunFolder, drawn: dict[str, Image.Image]) -> None:
    """pictures/NAME.png for every picture. Raises ResourceError where the disk is full."""
    for name, picture in drawn.items():
        file = io.BytesIO()
        picture.save(file, "PNG")
        folder.write_file(f"pictures/{name}.png", file.getvalue())


def tensorboard_writer(folder: Path) -> Any:
    """A writer of TensorBoard's files. Raises ResourceError where the package is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ResourceError(
            "--tensorboard needs a package that is not installed.", cure='pip install "thalweg[tensorboard]"'
        ) from error
    return SummaryWriter(str(folder))
