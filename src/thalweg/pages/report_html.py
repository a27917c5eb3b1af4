"""report.html: one file that tells the story of a run, needs no network and no script, and prints well.

Everything in it that a user named (classes, files, folders) is escaped, and a content security policy forbids the page
to load or run anything, should an escape ever be missed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from .html import escape, html_document, image_data_uri
from .summary import (
    accuracy_interval,
    build_per_class_table,
    build_results_table,
    build_settings_table,
    format_value,
    get_model_name,
    split_metrics,
)

#: rows above which a table is folded away
_MAX_SHORT_ROWS = 16


@dataclass(frozen=True)
class ReportImage:
    """A picture of the report; drawn at half its pixels, so that it is sharp on dense screens."""

    title: str
    caption: str
    image: Image.Image


@dataclass(frozen=True)
class ReportSection:
    """A part under its title. `text` has paragraphs, divided by empty lines; the first row of `table` is its heads."""

    title: str
    text: str = ""
    table: Sequence[Sequence[object]] | None = None
    pictures: Sequence[ReportImage] = ()


@dataclass(frozen=True)
class ReportData:
    """All that a report says, of any task: the figures that matter most, what repeats them, the rest in sections."""

    title: str
    command: str = ""
    headline: Sequence[tuple[str, str]] = ()
    sections: Sequence[ReportSection] = ()


#: name of a picture -> title of its section, caption; in the order of the report
PLOT_SECTIONS = {
    "curves": (
        "Learning curves",
        "Training figures are means over the updates between two reports; validation follows every epoch. Above 90 % "
        "the axis of the accuracy is logarithmic in the share of mistakes.",
    ),
    "confusion": ("What is taken for what", "Counts on the test set; mistakes have a colour scale of their own."),
    "classes": ("Class by class", "The classes with the lowest F1 come first."),
    "mistakes": (
        "The worst mistakes",
        "Test examples whose true class was held least likely, with the probability of the answer and their source.",
    ),
    "calibration": (
        "Is it as sure as it should be?",
        "Of the answers given with 80 % probability, 80 % should be right: bars on the dashed line.",
    ),
    "batch": ("A batch as the model saw it", "After resizing, augmentation and normalisation."),
    "filters": (
        "What the first layer looks for",
        "One tile per neuron, all on one scale: blue weights ask for light, orange ones for dark; a pale tile has "
        "learned little.",
    ),
}


def build_report(content: Mapping[str, Any], pictures: Mapping[str, Image.Image]) -> ReportData:
    """The story of a run, from what run.json holds and its pictures by name; whatever is missing is left out.

    Pictures other than those of PICTURES come last, under their names.
    """
    data = content.get("data") or {}
    sections = [ReportSection("Results", table=build_results_table(content))]
    for name in [*PLOT_SECTIONS, *(n for n in pictures if n not in PLOT_SECTIONS)]:
        title, caption = PLOT_SECTIONS.get(name, (name.replace("_", " ").capitalize(), ""))
        table = build_per_class_table(content) if name == "classes" else None
        if name in pictures or table:
            drawn = [ReportImage(title, caption, pictures[name])] if name in pictures else []
            sections.append(ReportSection(title, table=table, pictures=drawn))
    bad = [
        ["file", "why it was left out"],
        *([b.get("source", ""), b.get("reason", "")] for b in data.get("bad") or []),
    ]
    sections += [
        ReportSection("Data", "\n\n".join(map(str, data.get("notes") or [])), build_settings_table(content, "data")),
        ReportSection("Files left out", table=bad if len(bad) > 1 else None),
        ReportSection("Plan", table=build_settings_table(content, "plan")),
        ReportSection("Options", table=build_settings_table(content, "options")),
        ReportSection("Versions", table=build_settings_table(content, "versions")),
    ]
    told = [s for s in sections if s.text or s.table or s.pictures]
    title = get_model_name(content) + (f" on {data['name']}" if data.get("name") else "")
    return ReportData(title, str(content.get("command") or ""), key_metrics(content), told)


def key_metrics(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The figures that matter most: test accuracy with its interval, validation accuracy, parameters, time."""
    results = content.get("results") or {}
    found = []
    for split, label in (("test", "test accuracy"), ("valid", "validation accuracy")):
        measured = split_metrics(content).get(split, {})
        if measured.get("accuracy") is not None:
            between = accuracy_interval(measured)
            found.append(
                (
                    label + (f", 95 % interval {between}" if between else ""),
                    format_value("accuracy", measured["accuracy"]),
                )
            )
    test = split_metrics(content).get("test", {})
    found += [
        (name, format_value(key, test[key]))
        for key, name in (("macro_f1", "macro F1 on the test set"),)
        if test.get(key)
    ]
    if content.get("parameters"):
        found.append(("parameters", format_value("parameters", content["parameters"])))
    if results.get("seconds"):
        found.append(("seconds of training", format_value("seconds", results["seconds"])))
    return found


# --- machinery: from a story to a page -------------------------------------------------------------------------------


def render_report(told: ReportData) -> str:
    """The page, as text to be written in UTF-8."""
    heads = "".join(f"<div><dt>{escape(label)}</dt><dd>{escape(figure)}</dd></div>" for label, figure in told.headline)
    links = "".join(f'<li><a href="#s{n}">{escape(s.title)}</a></li>' for n, s in enumerate(told.sections, 1))
    sections = "\n".join(_render_section(n, section) for n, section in enumerate(told.sections, 1))
    command = f"<h2>Repeat it</h2>\n<pre><code>{escape(told.command)}</code></pre>\n" if told.command else ""
    body = (
        f"<h1>{escape(told.title)}</h1>\n"
        + (f"<dl>{heads}</dl>\n" if heads else "")
        + command
        + (f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n' if len(told.sections) > 1 else "")
        + sections
    )
    return html_document(told.title, body)


def _render_section(number: int, section: ReportSection) -> str:
    paragraphs = [p for p in section.text.split("\n\n") if p.strip()]
    parts = [f"<p>{escape(paragraph)}</p>" for paragraph in paragraphs]
    parts += [_render_image(picture) for picture in section.pictures]
    if section.table:
        parts.append(_render_table(section.table))
    return f'<section id="s{number}">\n<h2>{escape(section.title)}</h2>\n' + "\n".join(parts) + "\n</section>"


def _render_table(rows: Sequence[Sequence[object]]) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>\n" for row in rows[1:])
    table = f'<div class="wide" tabindex="0"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'
    if len(rows) <= _MAX_SHORT_ROWS:
        return table
    return f"<details><summary>All {len(rows) - 1} rows</summary>{table}</details>"


def _render_image(picture: ReportImage) -> str:
    width, height = picture.image.width // 2, picture.image.height // 2
    caption = f"<figcaption>{escape(picture.caption)}</figcaption>" if picture.caption else ""
    return (
        f'<figure><div class="wide" tabindex="0"><img src="{image_data_uri(picture.image)}" alt="{escape(picture.title)}" '
        f'width="{width}" height="{height}"></div>{caption}</figure>'
    )
