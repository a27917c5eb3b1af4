"""MODEL_CARD.md: what a model is, what it was made from, how well it does, and what it should not be trusted with.

(Mitchell et al., 2019; arXiv:1810.03993.)
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .summary import (
    RunContent,
    Table,
    build_per_class_table,
    build_results_table,
    build_settings_table,
    describe_preprocessing,
    format_value,
    get_model_name,
    join_values,
    limitations,
)


def render_card(content: RunContent) -> str:
    """The card of a run, in Markdown, from what run.json holds; `results` may have `per_class`, as Scores gives it."""
    name, data = get_model_name(content), content.get("data") or {}
    title = f"# {_escape_markdown(name)}" + (f" on {_escape_markdown(data['name'])}" if data.get("name") else "")
    classes = list((content.get("facts") or {}).get("classes") or [])
    version = (content.get("versions") or {}).get("thalweg") or content.get("thalweg")
    first = f"Made by `thalweg train {_format_code(content['task'])}`" if content.get("task") else "Made with Thalweg"
    first += f" of version {_escape_markdown(version)}." if version else "."
    if classes:
        first += f" It answers with one of {len(classes)} classes: {_escape_markdown(join_values(classes))}."
    parts = [title, first]
    parts += _format_heading("Results", _format_table(build_results_table(content)))
    parts += _format_heading("Class by class", _format_table(build_per_class_table(content)))
    parts += _format_heading("Limits", _format_bullets(limitations(content)))
    parts += _format_heading("Use", _format_usage())
    parts += _format_heading("Model", _format_table(_build_model_table(content)))
    parts += _format_heading("Begins from", _format_table(_build_initial_weights_table(content)))
    parts += _format_heading("What it sees", _format_bullets(describe_preprocessing(content)))
    parts += _format_heading(
        "Data",
        _format_table(build_settings_table(content, "data")),
        _format_bullets(data.get("notes") or []),
        _describe_unreadable(data),
    )
    parts += _format_heading("Training", _format_table(build_settings_table(content, "plan")))
    if content.get("command"):
        parts += _format_heading(
            "Repeat it", _fence_code(str(content["command"])), _format_table(build_settings_table(content, "versions"))
        )
    parts += _format_heading(
        "Licence",
        "The weights follow from the data they were trained on: whoever trained them says under which licence they may "
        "be used, within what the data allow. Thalweg itself is under Apache-2.0.",
    )
    return "\n\n".join(parts) + "\n"


def _format_heading(title: str, *blocks: str) -> list[str]:
    filled = [block for block in blocks if block]
    return [f"## {title}", *filled] if filled else []


def _escape_markdown(text: object) -> str:
    """Text that stays text: one line, with everything escaped that Markdown or HTML would read as more."""
    line = re.sub("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+", " ", str(text)).strip()
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = re.sub(r"([\\`*_\[\]#!|~$])", r"\\\1", line)
    # at the beginning of a line these would begin a list, or make a title of the line above
    return re.sub(r"^(\d*)([-+=.)])(?=[-=\s]|$)", r"\1\\\2", line)


def _format_code(text: object) -> str:
    return re.sub(r"[^\w .:/=-]", "?", str(text))


def _format_table(table: Table | None) -> str:
    if not table:
        return ""
    lines = ["| " + " | ".join(map(_escape_markdown, row)) + " |" for row in table]
    return "\n".join([lines[0], "|" + " --- |" * len(table[0]), *lines[1:]])


def _format_bullets(sentences: Sequence[object]) -> str:
    return "\n".join(f"- {_escape_markdown(sentence)}" for sentence in sentences)


def _fence_code(text: str, language: str = "sh") -> str:
    text = re.sub("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", "\ufffd", text)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"


def _describe_unreadable(data: Mapping[str, Any]) -> str:
    bad = data.get("bad") or []
    if not bad:
        return ""
    rows = [["file", "why it was left out"], *([str(b.get("source", "")), str(b.get("reason", ""))] for b in bad[:20])]
    more = f"\n\nand {len(bad) - 20} more." if len(bad) > 20 else ""
    return _format_table(rows) + more


def _build_model_table(content: RunContent) -> Table | None:
    options, facts = content.get("options") or {}, content.get("facts") or {}
    known = {
        "network": get_model_name(content) if options.get("model") or content.get("model") else None,
        "arguments": options.get("arguments"),
        "parameters": content.get("parameters"),
        "input": join_values([*facts.get("size", []), facts.get("channels", "")], " x ") if facts.get("size") else None,
    }
    rows = [[k, format_value(k, v)] for k, v in known.items() if v]
    return [["", ""], *rows] if rows else None


def _build_initial_weights_table(content: RunContent) -> Table | None:
    """The weights that the training began with: they were made from other data, under other terms."""
    start = content.get("start") or {}
    known = {
        "weights": start.get("weights"),
        "file": start.get("file"),
        "SHA-256": start.get("sha256"),
        "made anew": join_values(start.get("new") or []),
        "licence": start.get("licence"),
    }
    rows = [[name, format_value(name, told)] for name, told in known.items() if told]
    return [["", ""], *rows] if rows else None


def _format_usage() -> str:
    shell = _fence_code("thalweg predict path/to/this/run picture.png")
    code = (
        "import thalweg as tw\n\n"
        'run = tw.load("path/to/this/run")\n'
        'for answer in run.predict("picture.png"):\n'
        "    print(answer.label, answer.top(3))"
    )
    return f"From the command line:\n\n{shell}\n\nIn Python:\n\n{_fence_code(code, 'python')}"
