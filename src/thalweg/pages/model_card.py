"""MODEL_CARD.md: what a model is, what it was made from, how well it does, and what it should not be trusted with.

(Mitchell et al., 2019; arXiv:1810.03993.)
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .summary import (
    Content,
    Table,
    limits,
    listing,
    model_name,
    per_class_table,
    preprocessing,
    results_table,
    settings_table,
    value,
)


def card(content: Content) -> str:
    """The card of a run, in Markdown, from what run.json holds; `results` may have `per_class`, as Scores gives it."""
    name, data = model_name(content), content.get("data") or {}
    title = f"# {_safe(name)}" + (f" on {_safe(data['name'])}" if data.get("name") else "")
    classes = list((content.get("facts") or {}).get("classes") or [])
    version = (content.get("versions") or {}).get("thalweg") or content.get("thalweg")
    first = f"Made by `thalweg train {_code(content['task'])}`" if content.get("task") else "Made with Thalweg"
    first += f" of version {_safe(version)}." if version else "."
    if classes:
        first += f" It answers with one of {len(classes)} classes: {_safe(listing(classes))}."
    parts = [title, first]
    parts += _part("Results", _markdown(results_table(content)))
    parts += _part("Class by class", _markdown(per_class_table(content)))
    parts += _part("Limits", _bullets(limits(content)))
    parts += _part("Use", _use())
    parts += _part("Model", _markdown(_model_table(content)))
    parts += _part("Begins from", _markdown(_start_table(content)))
    parts += _part("What it sees", _bullets(preprocessing(content)))
    parts += _part(
        "Data", _markdown(settings_table(content, "data")), _bullets(data.get("notes") or []), _left_out(data)
    )
    parts += _part("Training", _markdown(settings_table(content, "plan")))
    if content.get("command"):
        parts += _part("Repeat it", _fenced(str(content["command"])), _markdown(settings_table(content, "versions")))
    parts += _part(
        "Licence",
        "The weights follow from the data they were trained on: whoever trained them says under which licence they may "
        "be used, within what the data allow. Thalweg itself is under Apache-2.0.",
    )
    return "\n\n".join(parts) + "\n"


def _part(title: str, *blocks: str) -> list[str]:
    filled = [block for block in blocks if block]
    return [f"## {title}", *filled] if filled else []


def _safe(text: object) -> str:
    """Text that stays text: one line, with everything escaped that Markdown or HTML would read as more."""
    line = re.sub("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+", " ", str(text)).strip()
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = re.sub(r"([\\`*_\[\]#!|~$])", r"\\\1", line)
    # at the beginning of a line these would begin a list, or make a title of the line above
    return re.sub(r"^(\d*)([-+=.)])(?=[-=\s]|$)", r"\1\\\2", line)


def _code(text: object) -> str:
    return re.sub(r"[^\w .:/=-]", "?", str(text))


def _markdown(table: Table | None) -> str:
    if not table:
        return ""
    lines = ["| " + " | ".join(map(_safe, row)) + " |" for row in table]
    return "\n".join([lines[0], "|" + " --- |" * len(table[0]), *lines[1:]])


def _bullets(sentences: Sequence[object]) -> str:
    return "\n".join(f"- {_safe(sentence)}" for sentence in sentences)


def _fenced(text: str, language: str = "sh") -> str:
    text = re.sub("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", "\ufffd", text)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"


def _left_out(data: Mapping[str, Any]) -> str:
    bad = data.get("bad") or []
    if not bad:
        return ""
    rows = [["file", "why it was left out"], *([str(b.get("source", "")), str(b.get("reason", ""))] for b in bad[:20])]
    more = f"\n\nand {len(bad) - 20} more." if len(bad) > 20 else ""
    return _markdown(rows) + more


def _model_table(content: Content) -> Table | None:
    options, facts = content.get("options") or {}, content.get("facts") or {}
    known = {
        "network": model_name(content) if options.get("model") or content.get("model") else None,
        "arguments": options.get("arguments"),
        "parameters": content.get("parameters"),
        "input": listing([*facts.get("size", []), facts.get("channels", "")], " x ") if facts.get("size") else None,
    }
    rows = [[k, value(k, v)] for k, v in known.items() if v]
    return [["", ""], *rows] if rows else None


def _start_table(content: Content) -> Table | None:
    """The weights that the training began with: they were made from other data, under other terms."""
    start = content.get("start") or {}
    known = {
        "weights": start.get("weights"),
        "file": start.get("file"),
        "SHA-256": start.get("sha256"),
        "made anew": listing(start.get("new") or []),
        "licence": start.get("licence"),
    }
    rows = [[name, value(name, told)] for name, told in known.items() if told]
    return [["", ""], *rows] if rows else None


def _use() -> str:
    shell = _fenced("thalweg predict path/to/this/run picture.png")
    code = (
        "import thalweg as tw\n\n"
        'run = tw.load("path/to/this/run")\n'
        'for answer in run.predict("picture.png"):\n'
        "    print(answer.label, answer.top(3))"
    )
    return f"From the command line:\n\n{shell}\n\nIn Python:\n\n{_fenced(code, 'python')}"
