"""Predictions as a table, as CSV and as JSON; rows of any listing as a table."""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

from ..errors import DataError
from .console import (
    display_width,
    escape_controls,
    format_cell,
    format_csv_line,
    format_table,
    print_notice,
    print_result,
    to_json,
)

#: with so many classes or fewer, every class is shown in a column of its own
MAX_COLUMNS = 10


def expand_stdin(sources: Sequence[str], stdin: TextIO) -> list[Any]:
    """The sources, with '-' replaced by what standard input holds: a picture as bytes, or one path per line.

    The paths may also be divided by null characters, as `find -print0` does.
    Raises DataError where standard input is empty.
    """
    found: list[Any] = []
    for source in sources:
        found += _read_stdin(stdin) if source == "-" else [source]
    return found


def _read_stdin(stdin: TextIO) -> list[Any]:
    content = stdin.buffer.read()
    if not content.strip():
        raise DataError("-: standard input is empty.", cure="Send it a picture, or one path per line.")
    if _is_image(content):
        return [content]
    lines = content.split(b"\0" if b"\0" in content else b"\n")
    return [os.fsdecode(line) for line in (line.removesuffix(b"\r") for line in lines) if line.strip()]


def _is_image(content: bytes) -> bool:
    """Whether bytes are a picture, though perhaps a damaged one, and no list of paths, none of which is empty."""
    from ..data.images.image_decoding import ImageReadError, read_header

    if content.startswith(b"\xff\xd8\xff") or b"\0\0" in content:
        return True
    try:
        return bool(read_header(content))
    except ImageReadError:
        return False


def print_predictions(found: Iterable[Any], form: str, top: int | None) -> int:
    """Prints every prediction as it comes, in `form` (table, csv, json); names what was unreadable; the exit code.

    `top` is the number of classes shown; None: all of them where they are few, else five.
    """
    printer = {"table": TablePrinter, "csv": CsvPrinter, "json": JsonPrinter}[form](top)
    unreadable = 0
    for one in found:
        if hasattr(one, "reason"):
            unreadable += 1
            print_notice(f"unreadable: {escape_controls(one.source)}: {escape_controls(one.reason)}")
        else:
            printer.show(one)
    if unreadable:
        print_notice(f"{unreadable} of the sources could not be read.")
    return DataError.exit_code if unreadable else 0


def print_comparison(found: Mapping[str, Iterable[Any]], form: str, top: int | None) -> int:
    """Prints the answers of several models to the same sources, side by side in a table; the exit code.

    `found` has the predictions of each model by its name, in the same order of sources. What one model cannot read, as
    an empty page where it has learned drawings, is answered by the others.
    """
    count, unreadable, begun = top or 5, 0, False
    for row in zip(*found.values(), strict=True):
        answers = {name: one for name, one in zip(found, row, strict=True) if not hasattr(one, "reason")}
        if len(answers) < len(row):
            unreadable += 1
            _print_unreadable(dict(zip(found, row, strict=True)), alone=not answers)
        if form == "csv" and answers and not begun:
            ranked = [name for rank in range(1, count + 1) for name in (f"label_{rank}", f"probability_{rank}")]
            print_result(format_csv_line(["source", "model", "label", *ranked]))
            begun = True
        if form == "table" and answers:
            _print_side_by_side(answers, count)
        for name, answer in answers.items() if form != "table" else ():
            line = format_csv_line([str(answer.source), name, answer.label, *_format_cells(answer.top(count), count)])
            print_result(line if form == "csv" else to_json({"model": name, **answer.json()}))
    if unreadable:
        print_notice(f"{unreadable} of the sources could not be read.")
    return DataError.exit_code if unreadable else 0


def _print_unreadable(row: Mapping[str, Any], alone: bool) -> None:
    """Says why one source has no answer: in one line if all models say the same, else with the models' names."""
    reasons = {name: one.reason for name, one in row.items() if hasattr(one, "reason")}
    source = escape_controls(next(iter(row.values())).source)
    if alone and len(set(reasons.values())) == 1:
        reasons = {"": next(iter(reasons.values()))}
    for name, reason in reasons.items():
        print_notice(f"unreadable{' by ' if name else ''}{escape_controls(name)}: {source}: {escape_controls(reason)}")


def _print_side_by_side(answers: Mapping[str, Any], top: int) -> None:
    """One source: a column for each model with its likeliest classes."""
    print_result(escape_controls(next(iter(answers.values())).source))
    columns = [[f"{p:.3f}  {escape_controls(label)}" for label, p in answer.top(top)] for answer in answers.values()]
    for line in format_table(
        list(map(escape_controls, answers)), [list(row) for row in itertools.zip_longest(*columns, fillvalue="")]
    ):
        print_result("  " + line)


class JsonPrinter:
    """One JSON object per line."""

    def __init__(self, top: int | None):
        pass

    def show(self, prediction: Any) -> None:
        """Prints one prediction."""
        print_result(to_json(prediction.json()))


class _ColumnPrinter:
    """What table and CSV share: the first prediction decides whether every class has a column of its own."""

    def __init__(self, top: int | None):
        self.top = top
        self.classes: Sequence[str] | None = None

    def show(self, prediction: Any) -> None:
        """Prints one prediction, and the headings before the first one."""
        if self.classes is None:
            few = self.top is None and len(prediction.classes) <= MAX_COLUMNS
            self.classes = list(prediction.classes) if few else []
            self.headings()
        if self.classes:
            probability = dict(prediction.top(MAX_COLUMNS))
            self.every(prediction, [probability[label] for label in self.classes])
        else:
            self.best(prediction, prediction.top(self.top or 5))


class TablePrinter(_ColumnPrinter):
    """The table of the talk: a row per source, a column per class. With many classes, the best of them in lines."""

    def headings(self) -> None:
        """The names of the classes, over their columns."""
        if self.classes:
            self.widths = [max(5, display_width(escape_controls(label))) for label in self.classes]
            named = (
                " " * (w - display_width(escape_controls(c))) + escape_controls(c)
                for c, w in zip(self.classes, self.widths, strict=True)
            )
            print_result("  ".join([*named, "answer", "source"]))

    def every(self, prediction: Any, probabilities: list[float]) -> None:
        """The probability of every class."""
        cells = [f"{p:{w}.3f}" for p, w in zip(probabilities, self.widths, strict=True)]
        longest = max(len("answer"), *(display_width(escape_controls(c)) for c in self.classes))
        label = escape_controls(prediction.label)
        print_result(
            "  ".join([*cells, label + " " * (longest - display_width(label)), escape_controls(prediction.source)])
        )

    def best(self, prediction: Any, ranked: list[tuple[str, float]]) -> None:
        """The likeliest classes."""
        print_result(escape_controls(prediction.source))
        for label, probability in ranked:
            print_result(f"  {probability:.3f}  {escape_controls(label)}")


class CsvPrinter(_ColumnPrinter):
    """Comma-separated values with one line of headings."""

    def headings(self) -> None:
        """Columns per class, or the best classes by rank."""
        ranks = range(1, (self.top or 5) + 1)
        last = self.classes or [name for rank in ranks for name in (f"label_{rank}", f"probability_{rank}")]
        print_result(format_csv_line(["source", "label", *last]))

    def every(self, prediction: Any, probabilities: list[float]) -> None:
        """The probability of every class."""
        print_result(format_csv_line([str(prediction.source), prediction.label, *probabilities]))

    def best(self, prediction: Any, ranked: list[tuple[str, float]]) -> None:
        """The likeliest classes."""
        print_result(format_csv_line([str(prediction.source), prediction.label, *_format_cells(ranked, self.top or 5)]))


def _format_cells(ranked: list[tuple[str, float]], count: int) -> list[Any]:
    """Labels and probabilities in one row, with empty cells where there are fewer than `count` classes."""
    cells = [cell for pair in ranked for cell in pair]
    return cells + [""] * (2 * count - len(cells))


def format_rows(rows: Iterable[Any], json: bool) -> list[str]:
    """Rows as one JSON list, as a table where it is not wider than the terminal, else as a block of lines per row.

    A row is a mapping, a dataclass or a named tuple.
    """
    plain = [_row_to_dict(row) for row in rows]
    if json:
        return [to_json(plain, indent=2)]
    if not plain:
        return ["none"]
    lines = format_table(list(plain[0]), [list(row.values()) for row in plain])
    columns = shutil.get_terminal_size((120, 24)).columns
    if max(map(display_width, lines)) <= columns:
        return lines
    return [line for row in plain for line in _format_block(row, columns)]


def _format_block(row: dict[str, Any], columns: int) -> list[str]:
    """The first value as a heading; the others below it, each with its name."""
    (_, heading), *rest = row.items()
    lines, indent = [format_cell(heading)], max(len(name) for name in row) + 4
    for name, value in rest:
        if text := format_cell(value):
            lead = f"  {name}".ljust(indent)
            lines += textwrap.wrap(text, columns, initial_indent=lead, subsequent_indent=" " * indent)
    return lines


def _row_to_dict(row: Any) -> dict[str, Any]:
    if isinstance(row, Mapping):
        return dict(row)
    return dataclasses.asdict(row) if dataclasses.is_dataclass(row) else row._asdict()
