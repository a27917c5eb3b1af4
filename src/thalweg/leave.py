"""What a finished run leaves for people: pictures, report.html, MODEL_CARD.md, and TensorBoard's files on request."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ResourceError

if TYPE_CHECKING:
    import torch

    from .session import Session


def pictures_and_report(session: Session, network: torch.nn.Module, outcome: Any) -> None:
    """Draws everything the task can draw of the run, and writes it into the run's folder."""
    from .card import card
    from .report import report, story

    folder = session.folder
    drawn = session.task.pictures(network, session.data, session.facts, session.options, outcome, folder.metrics())
    for name, picture in drawn.items():
        file = io.BytesIO()
        picture.save(file, "PNG")
        folder.write_file(f"pictures/{name}.png", file.getvalue())
    folder.write_file("report.html", report(story(session.content, drawn)).encode())
    folder.write_file("MODEL_CARD.md", card(session.content).encode())


def tensorboard_writer(folder: Path) -> Any:
    """A writer of TensorBoard's files. Raises ResourceError where the package is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ResourceError("--tensorboard needs a package that is not installed.", cure='pip install "thalweg[tensorboard]"') from error
    return SummaryWriter(str(folder))
