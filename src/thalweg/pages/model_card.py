"""MODEL_CARD.md: what a model is, what it was made from, how well it does, and what it should not be trusted with.

(Mitchell et al., 2019; arXiv:1810.03993.)
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..tasks.base import CardText, Metric, Plot
from .summary import (
    RecordLike,
    build_data_table,
    build_initial_weights_table,
    build_model_table,
    build_plan_table,
    build_results_table,
    build_unreadable_table,
    build_versions_table,
)

#: files that are listed; the report has them all
MAX_UNREADABLE = 20


def render_card(record: RecordLike, metrics: Sequence[Metric], plots: Sequence[Plot], text: CardText) -> str:
    """Render the card of a run in Markdown.

    Args:
        record: The run.
        metrics: The task's metrics.
        plots: The report's figures; their tables stand in the card too.
        text: What the task says of the model.

    Returns:
        The Markdown.
    """
    title = f"# {_escape_markdown(record.model)} on {_escape_markdown(record.data.name)}"
    version = record.versions.get("thalweg", "")
    first = f"Made by `thalweg train {_format_code(record.task)}`, version {_escape_markdown(version)}."
    parts = [title, f"{first} {_escape_markdown(text.summary)}".strip()]
    parts += _format_heading("Results", _format_table(build_results_table(record, metrics)))
    for plot in plots:
        if plot.table:
            parts += _format_heading(plot.title, _format_table(plot.table))
    parts += _format_heading("Limits", _format_bullets(text.limitations))
    parts += _format_heading("Use", _format_usage(text))
    parts += _format_heading("Model", _format_table(build_model_table(record)))
    parts += _format_heading("Initial weights", _format_table(build_initial_weights_table(record)))
    parts += _format_heading("Preprocessing", _format_bullets(text.preprocessing))
    parts += _format_heading(
        "Data", _format_table(build_data_table(record)), _format_bullets(record.data.warnings), _format_skipped(record)
    )
    parts += _format_heading("Training", _format_table(build_plan_table(record)))
    if record.command:
        parts += _format_heading("Repeat it", _fence_code(record.command), _format_table(build_versions_table(record)))
    parts += _format_heading(
        "License",
        "The weights follow from the data they were trained on: whoever trained them says under which license they may "
        "be used, within what the data allow. Thalweg itself is under Apache-2.0.",
    )
    return "\n\n".join(parts) + "\n"


def _format_heading(title: str, *blocks: str) -> list[str]:
    filled = list(filter(None, blocks))
    if not filled:
        return []
    return [f"## {_escape_markdown(title)}", *filled]


def _escape_markdown(text: object) -> str:
    """Text that stays text: one line, with everything escaped that Markdown or HTML would read as more."""
    line = re.sub("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+", " ", str(text)).strip()
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = re.sub(r"([\\`*_\[\]#!|~$])", r"\\\1", line)
    # at the beginning of a line these would begin a list, or make a title of the line above
    return re.sub(r"^(\d*)([-+=.)])(?=[-=\s]|$)", r"\1\\\2", line)


def _format_code(text: object) -> str:
    return re.sub(r"[^\w .:/=-]", "?", str(text))


def _format_table(table: Sequence[Sequence[object]] | None) -> str:
    if not table:
        return ""
    lines = []
    for row in table:
        lines.append("| " + " | ".join(map(_escape_markdown, row)) + " |")
    return "\n".join([lines[0], "|" + " --- |" * len(table[0]), *lines[1:]])


def _format_bullets(sentences: Sequence[object]) -> str:
    lines = []
    for sentence in sentences:
        lines.append(f"- {_escape_markdown(sentence)}")
    return "\n".join(lines)


def _fence_code(text: str, language: str = "sh") -> str:
    text = re.sub("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", "\ufffd", text)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"


def _format_skipped(record: RecordLike) -> str:
    table = build_unreadable_table(record)
    if table is None:
        return ""
    more = len(table) - 1 - MAX_UNREADABLE
    text = _format_table(table[: MAX_UNREADABLE + 1])
    if more <= 0:
        return text
    return f"{text}\n\nand {more} more."


def _format_usage(text: CardText) -> str:
    shell = _fence_code(text.usage_command or "thalweg evaluate path/to/this/run")
    code = 'import thalweg as tw\n\nrun = tw.load("path/to/this/run")\n' + (text.usage_python or "run.evaluate()")
    return f"From the command line:\n\n{shell}\n\nIn Python:\n\n{_fence_code(code, 'python')}"
