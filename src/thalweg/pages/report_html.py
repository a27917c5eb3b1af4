"""report.html: one file that tells the story of a run, needs no network and no script, and prints well.

Everything in it that a user named (classes, files, folders) is escaped, and a content security policy forbids the page
to load or run anything, should an escape ever be missed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from .html import document, embedded, safe
from .summary import figures, interval, model_name, per_class_table, results_table, settings_table, value

#: rows above which a table is folded away
_LONG = 16


@dataclass(frozen=True)
class Picture:
    """A picture of the report; drawn at half its pixels, so that it is sharp on dense screens."""

    title: str
    caption: str
    image: Image.Image


@dataclass(frozen=True)
class Section:
    """A part under its title. `text` has paragraphs, divided by empty lines; the first row of `table` is its heads."""

    title: str
    text: str = ""
    table: Sequence[Sequence[object]] | None = None
    pictures: Sequence[Picture] = ()


@dataclass(frozen=True)
class Story:
    """All that a report says, of any task: the figures that matter most, what repeats them, the rest in sections."""

    title: str
    command: str = ""
    headline: Sequence[tuple[str, str]] = ()
    sections: Sequence[Section] = ()


#: name of a picture -> title of its section, caption; in the order of the report
PICTURES = {
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


def story(content: Mapping[str, Any], pictures: Mapping[str, Image.Image]) -> Story:
    """The story of a run, from what run.json holds and its pictures by name; whatever is missing is left out.

    Pictures other than those of PICTURES come last, under their names.
    """
    data = content.get("data") or {}
    sections = [Section("Results", table=results_table(content))]
    for name in [*PICTURES, *(n for n in pictures if n not in PICTURES)]:
        title, caption = PICTURES.get(name, (name.replace("_", " ").capitalize(), ""))
        table = per_class_table(content) if name == "classes" else None
        if name in pictures or table:
            drawn = [Picture(title, caption, pictures[name])] if name in pictures else []
            sections.append(Section(title, table=table, pictures=drawn))
    bad = [
        ["file", "why it was left out"],
        *([b.get("source", ""), b.get("reason", "")] for b in data.get("bad") or []),
    ]
    sections += [
        Section("Data", "\n\n".join(map(str, data.get("notes") or [])), settings_table(content, "data")),
        Section("Files left out", table=bad if len(bad) > 1 else None),
        Section("Plan", table=settings_table(content, "plan")),
        Section("Options", table=settings_table(content, "options")),
        Section("Versions", table=settings_table(content, "versions")),
    ]
    told = [s for s in sections if s.text or s.table or s.pictures]
    title = model_name(content) + (f" on {data['name']}" if data.get("name") else "")
    return Story(title, str(content.get("command") or ""), headline(content), told)


def headline(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The figures that matter most: test accuracy with its interval, validation accuracy, parameters, time."""
    results = content.get("results") or {}
    found = []
    for split, label in (("test", "test accuracy"), ("valid", "validation accuracy")):
        measured = figures(content).get(split, {})
        if measured.get("accuracy") is not None:
            between = interval(measured)
            found.append(
                (label + (f", 95 % interval {between}" if between else ""), value("accuracy", measured["accuracy"]))
            )
    test = figures(content).get("test", {})
    found += [
        (name, value(key, test[key])) for key, name in (("macro_f1", "macro F1 on the test set"),) if test.get(key)
    ]
    if content.get("parameters"):
        found.append(("parameters", value("parameters", content["parameters"])))
    if results.get("seconds"):
        found.append(("seconds of training", value("seconds", results["seconds"])))
    return found


# --- machinery: from a story to a page -------------------------------------------------------------------------------


def report(told: Story) -> str:
    """The page, as text to be written in UTF-8."""
    heads = "".join(f"<div><dt>{safe(label)}</dt><dd>{safe(figure)}</dd></div>" for label, figure in told.headline)
    links = "".join(f'<li><a href="#s{n}">{safe(s.title)}</a></li>' for n, s in enumerate(told.sections, 1))
    sections = "\n".join(_section(n, section) for n, section in enumerate(told.sections, 1))
    command = f"<h2>Repeat it</h2>\n<pre><code>{safe(told.command)}</code></pre>\n" if told.command else ""
    body = (
        f"<h1>{safe(told.title)}</h1>\n"
        + (f"<dl>{heads}</dl>\n" if heads else "")
        + command
        + (f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n' if len(told.sections) > 1 else "")
        + sections
    )
    return document(told.title, body)


def _section(number: int, section: Section) -> str:
    paragraphs = [p for p in section.text.split("\n\n") if p.strip()]
    parts = [f"<p>{safe(paragraph)}</p>" for paragraph in paragraphs]
    parts += [_picture(picture) for picture in section.pictures]
    if section.table:
        parts.append(_table(section.table))
    return f'<section id="s{number}">\n<h2>{safe(section.title)}</h2>\n' + "\n".join(parts) + "\n</section>"


def _table(rows: Sequence[Sequence[object]]) -> str:
    head = "".join(f'<th scope="col">{safe(cell)}</th>' for cell in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{safe(cell)}</td>" for cell in row) + "</tr>\n" for row in rows[1:])
    table = f'<div class="wide" tabindex="0"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'
    if len(rows) <= _LONG:
        return table
    return f"<details><summary>All {len(rows) - 1} rows</summary>{table}</details>"


def _picture(picture: Picture) -> str:
    width, height = picture.image.width // 2, picture.image.height // 2
    caption = f"<figcaption>{safe(picture.caption)}</figcaption>" if picture.caption else ""
    return (
        f'<figure><div class="wide" tabindex="0"><img src="{embedded(picture.image)}" alt="{safe(picture.title)}" '
        f'width="{width}" height="{height}"></div>{caption}</figure>'
    )
