"""How runs and training look in a notebook."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..tasks.base import Metric
from .html import data_uri, escape
from .summary import RecordLike, key_metrics


def render_run(record: RecordLike, metrics: Sequence[Metric], plots: Path) -> str:
    """Render the cards and the learning curves of a run as HTML."""
    cards = ""
    for label, value in key_metrics(record, metrics):
        cards += f'<div style="margin-right:2em"><small>{escape(label)}</small><br><b>{escape(value)}</b></div>'
    title = f"<b>{escape(record.model)} on {escape(record.data.name)}</b>"
    curves = plots / "curves.png"
    image = ""
    if curves.is_file():
        image = f'<img src="{data_uri("png", curves.read_bytes())}" width="720">'
    return f'<div>{title}<div style="display:flex;margin:.5em 0">{cards}</div>{image}</div>'


def make_progress_display() -> Callable[[Any], None] | None:
    """Return a function that shows training progress as a bar in a notebook; None outside of one."""
    if "ipykernel" not in sys.modules:
        return None
    from IPython.display import HTML, display  # type: ignore[import-not-found]

    handle = display(HTML(""), display_id=True)

    def show(progress: Any) -> None:
        handle.update(HTML(render_progress(progress)))

    return show


def render_progress(progress: Any) -> str:
    """Render the progress of a training as an HTML bar with its figures."""
    figures = []
    for name, value in progress.losses.items():
        figures.append(f"{name} {value:.4f}")
    for name, value in (progress.val or {}).items():
        if isinstance(value, float):
            figures.append(f"val {name} {value:.4f}")
    text = escape(f"epoch {progress.epoch:.3g}/{progress.epochs:.3g}  " + "  ".join(figures[:6]))
    return f'<progress value="{progress.step}" max="{progress.steps}"></progress> <code>{text}</code>'
