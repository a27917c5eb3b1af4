"""report.html: one file that tells the story of a run, needs no network and no script, and prints well.

Everything in it that a user named (classes, files, folders) is escaped, and a content security policy forbids the page
to load or run anything, should an escape ever be missed.
"""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image, features

from .figures import figures, interval, model_name, per_class_table, results_table, settings_table, value

#: bytes above which a picture without loss gives way to one with loss, if that is smaller
_LARGE = 200_000
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
    heads = "".join(f"<div><dt>{_safe(label)}</dt><dd>{_safe(figure)}</dd></div>" for label, figure in told.headline)
    links = "".join(f'<li><a href="#s{n}">{_safe(s.title)}</a></li>' for n, s in enumerate(told.sections, 1))
    sections = "\n".join(_section(n, section) for n, section in enumerate(told.sections, 1))
    command = f"<h2>Repeat it</h2>\n<pre><code>{_safe(told.command)}</code></pre>\n" if told.command else ""
    return (
        "<!DOCTYPE html>\n"
        '<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{_safe(told.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{_safe(told.title)}</h1>\n"
        + (f"<dl>{heads}</dl>\n" if heads else "")
        + command
        + (f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n' if len(told.sections) > 1 else "")
        + f"{sections}\n</main>\n</body>\n</html>\n"
    )


def _safe(text: object) -> str:
    """Escaped, and without what HTML or UTF-8 cannot hold: controls, and halves of surrogate pairs."""
    return html.escape(re.sub("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", "\ufffd", str(text)))


def _section(number: int, section: Section) -> str:
    paragraphs = [p for p in section.text.split("\n\n") if p.strip()]
    parts = [f"<p>{_safe(paragraph)}</p>" for paragraph in paragraphs]
    parts += [_picture(picture) for picture in section.pictures]
    if section.table:
        parts.append(_table(section.table))
    return f'<section id="s{number}">\n<h2>{_safe(section.title)}</h2>\n' + "\n".join(parts) + "\n</section>"


def _table(rows: Sequence[Sequence[object]]) -> str:
    head = "".join(f'<th scope="col">{_safe(cell)}</th>' for cell in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{_safe(cell)}</td>" for cell in row) + "</tr>\n" for row in rows[1:])
    table = f'<div class="wide" tabindex="0"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'
    if len(rows) <= _LONG:
        return table
    return f"<details><summary>All {len(rows) - 1} rows</summary>{table}</details>"


def _picture(picture: Picture) -> str:
    kind, content = encoded(picture.image)
    width, height = picture.image.width // 2, picture.image.height // 2
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    caption = f"<figcaption>{_safe(picture.caption)}</figcaption>" if picture.caption else ""
    return (
        f'<figure><div class="wide" tabindex="0"><img src="{source}" alt="{_safe(picture.title)}" '
        f'width="{width}" height="{height}"></div>{caption}</figure>'
    )


def encoded(image: Image.Image) -> tuple[str, bytes]:
    """(format, bytes): WebP without loss, which suits charts; with loss where that would be large, as for photographs.

    PNG where Pillow was built without WebP.
    """

    def written(**how: Any) -> bytes:
        file = io.BytesIO()
        image.save(file, **how)
        return file.getvalue()

    if not features.check("webp"):
        return "png", written(format="PNG", optimize=True)
    exact = written(format="WEBP", lossless=True, method=2)
    if len(exact) <= _LARGE:
        return "webp", exact
    return "webp", min(exact, written(format="WEBP", quality=85, method=2), key=len)


_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_STYLE = """
:root { --ink: #1d2126; --soft: #5b646e; --paper: #ffffff; --card: #f4f6f8; --line: #d9dee3; --accent: #0072b2; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8ebee; --soft: #a5afb9; --paper: #15181c; --card: #1f2429; --line: #363d45; --accent: #56b4e9; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 964px; margin: 0 auto; padding: 24px 20px 64px; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 16px; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 40px 0 8px; overflow-wrap: anywhere; }
p { margin: 8px 0; max-width: 70ch; overflow-wrap: anywhere; }
a { color: var(--accent); }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 0; }
dl div { background: var(--card); border-radius: 8px; padding: 12px 14px; display: flex; flex-direction: column-reverse;
  justify-content: flex-end; }
dd { margin: 0; font-size: 1.5rem; font-weight: 650; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
dt { color: var(--soft); font-size: 0.85rem; line-height: 1.35; }
pre { background: var(--card); border-radius: 8px; padding: 12px 14px; white-space: pre-wrap; overflow-wrap: anywhere;
  margin: 8px 0; font-size: 0.875rem; }
nav ul { list-style: none; padding: 0; margin: 24px 0 0; display: flex; flex-wrap: wrap; gap: 4px 18px;
  font-size: 0.9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: 5px 18px 5px 0; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; min-width: 7ch; }
th { color: var(--soft); font-weight: 600; }
td, dd, dt, code, p, h1, h2, figcaption { unicode-bidi: isolate; }
summary { cursor: pointer; color: var(--accent); margin: 8px 0; }
figure { margin: 12px 0; }
figure .wide { background: #ffffff; border-radius: 8px; padding: 10px; border: 1px solid var(--line); }
img { display: block; max-width: 100%; height: auto; }
figcaption { color: var(--soft); font-size: 0.875rem; margin-top: 6px; max-width: 80ch; }
@media (max-width: 700px) { img { max-width: none; } img[width="900"] { width: 720px; } h1 { font-size: 1.5rem; } }
@media print {
  :root { --ink: #000000; --soft: #444444; --paper: #ffffff; --card: #f4f4f4; --line: #cccccc; --accent: #000000; }
  body { font-size: 11pt; }
  nav, summary { display: none; }
  details::details-content { content-visibility: visible; display: block; height: auto; }
  figure, tr, dl div { break-inside: avoid; }
  h2 { break-after: avoid; }
  .wide { overflow: visible; }
  img, img[width="900"] { max-width: 100%; width: auto; }
}
"""
