"""report.html: one file that tells the story of a run, needs no network and no script, and prints well.

Everything in it that a user named (classes, files, folders) is escaped, and a content security policy forbids the page
to load or run anything, should an escape ever be missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from ..tasks.base import CardText, Metric, Plot
from .html import escape, html_document, image_data_uri
from .summary import (
    RecordLike,
    build_data_table,
    build_options_table,
    build_plan_table,
    build_results_table,
    build_unreadable_table,
    build_versions_table,
    key_metrics,
)

#: rows above which a table is folded away
_MAX_SHORT_ROWS = 16


@dataclass(frozen=True)
class ReportImage:
    """A image of the report; drawn at half its pixels, so that it is sharp on dense screens."""

    title: str
    caption: str
    image: Image.Image


@dataclass(frozen=True)
class ReportSection:
    """A part under its title. `text` has paragraphs, divided by empty lines; the first row of `table` is its heads."""

    title: str
    text: str = ""
    table: Sequence[Sequence[object]] | None = None
    images: Sequence[ReportImage] = ()


@dataclass(frozen=True)
class ReportData:
    """All that a report says, of any task: the figures that matter most, what repeats them, the rest in sections."""

    title: str
    command: str = ""
    key_metrics: Sequence[tuple[str, str]] = ()
    sections: Sequence[ReportSection] = ()


def build_report(record: RecordLike, metrics: Sequence[Metric], plots: Sequence[Plot], text: CardText) -> ReportData:
    """Build the report of a run.

    Args:
        record: The run.
        metrics: The task's metrics.
        plots: The figures, in their order.
        text: What the task says of the model.

    Returns:
        The report; what is missing is left out.
    """
    sections = [ReportSection("Results", text.summary, build_results_table(record, metrics))]
    for plot in plots:
        images = []
        if plot.image is not None:
            images.append(ReportImage(plot.title, plot.caption, plot.image))
        sections.append(ReportSection(plot.title, table=plot.table, images=images))
    sections += [
        ReportSection("Limits", "\n\n".join(text.limitations)),
        ReportSection("Data", "\n\n".join(record.data.warnings), build_data_table(record)),
        ReportSection("Skipped files", table=build_unreadable_table(record)),
        ReportSection("Plan", table=build_plan_table(record)),
        ReportSection("Options", table=build_options_table(record)),
        ReportSection("Versions", table=build_versions_table(record)),
    ]
    filled = [section for section in sections if section.text or section.table or section.images]
    title = f"{record.model} on {record.data.name}"
    return ReportData(title, record.command, key_metrics(record, metrics), filled)


# --- machinery: from a story to a page -------------------------------------------------------------------------------


def render_report(report: ReportData) -> str:
    """The page, as text to be written in UTF-8."""
    body = f"<h1>{escape(report.title)}</h1>\n"
    if report.key_metrics:
        body += f"<dl>{_render_figures(report.key_metrics)}</dl>\n"
    if report.command:
        body += f"<h2>Repeat it</h2>\n<pre><code>{escape(report.command)}</code></pre>\n"
    links = ""
    sections = []
    for number, section in enumerate(report.sections, 1):
        links += f'<li><a href="#s{number}">{escape(section.title)}</a></li>'
        sections.append(_render_section(number, section))
    if len(sections) > 1:
        body += f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n'
    return html_document(report.title, body + "\n".join(sections))


def _render_figures(figures: Sequence[tuple[str, str]]) -> str:
    terms = ""
    for label, figure in figures:
        terms += f"<div><dt>{escape(label)}</dt><dd>{escape(figure)}</dd></div>"
    return terms


def _render_section(number: int, section: ReportSection) -> str:
    parts = []
    for paragraph in section.text.split("\n\n"):
        if paragraph.strip():
            parts.append(f"<p>{escape(paragraph)}</p>")
    parts += map(_render_image, section.images)
    if section.table:
        parts.append(_render_table(section.table))
    return f'<section id="s{number}">\n<h2>{escape(section.title)}</h2>\n' + "\n".join(parts) + "\n</section>"


def _render_table(rows: Sequence[Sequence[object]]) -> str:
    head = _render_cells(rows[0], '<th scope="col">', "</th>")
    body = ""
    for row in rows[1:]:
        body += f"<tr>{_render_cells(row, '<td>', '</td>')}</tr>\n"
    table = f'<div class="wide" tabindex="0"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'
    if len(rows) <= _MAX_SHORT_ROWS:
        return table
    return f"<details><summary>All {len(rows) - 1} rows</summary>{table}</details>"


def _render_cells(cells: Sequence[object], start: str, end: str) -> str:
    text = ""
    for cell in cells:
        text += f"{start}{escape(cell)}{end}"
    return text


def _render_image(image: ReportImage) -> str:
    width, height = image.image.width // 2, image.image.height // 2
    caption = ""
    if image.caption:
        caption = f"<figcaption>{escape(image.caption)}</figcaption>"
    return (
        f'<figure><div class="wide" tabindex="0"><img src="{image_data_uri(image.image)}" alt="{escape(image.title)}" '
        f'width="{width}" height="{height}"></div>{caption}</figure>'
    )
