"""Predictions as a table, as CSV and as JSON; rows of any listing as a table."""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
import sys
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
    is_main_process,
    print_notice,
    print_result,
    to_json,
)

#: predictions whose rows have more columns are printed as a block of lines each
MAX_COLUMNS = 13


def expand_stdin(sources: Sequence[str], stdin: TextIO) -> list[Any]:
    """Replace '-' by what standard input holds: an image as bytes, or one path per line.

    The paths may also be separated by null characters, as `find -print0` does. Raises DataError where it is empty.
    """
    expanded: list[Any] = []
    for source in sources:
        expanded += _read_stdin(stdin) if source == "-" else [source]
    return expanded


def _read_stdin(stdin: TextIO) -> list[Any]:
    content = stdin.buffer.read()
    if not content.strip():
        raise DataError("-: standard input is empty; expected a file's content, or one path per line.")
    if _is_image(content):
        return [content]
    lines = content.split(b"\0" if b"\0" in content else b"\n")
    paths = [os.fsdecode(line) for line in (line.removesuffix(b"\r") for line in lines) if line.strip()]
    return paths


def _is_image(content: bytes) -> bool:
    """Whether bytes are an image, though perhaps a damaged one, and not a list of paths, none of which is empty."""
    from ..data.images.image_decoding import ImageReadError, read_header

    if content.startswith(b"\xff\xd8\xff") or b"\0\0" in content:
        return True
    try:
        return bool(read_header(content))
    except ImageReadError:
        return False


def print_predictions(predictions: Iterable[Any], form: str) -> int:
    """Print every prediction as it comes, in `form` (table, csv, json); report unreadable sources; the exit code."""
    printer = {"table": TablePrinter, "csv": CsvPrinter, "json": JsonPrinter}[form]()
    num_unreadable = 0
    for prediction in predictions:
        if not prediction:
            num_unreadable += 1
            print_notice(f"unreadable: {prediction.source}: {prediction.reason}")
        else:
            printer.show(prediction)
    if num_unreadable:
        print_notice(f"{num_unreadable} of the sources could not be read.")
    return DataError.exit_code if num_unreadable else 0


def print_comparison(predictions: Mapping[str, Iterable[Any]], form: str) -> int:
    """Print the predictions of several models for the same sources, side by side in a table; the exit code.

    `predictions` are those of each model by its name, in the same order of sources. What one model cannot read, as an
    empty page where it was trained on drawings, is predicted by the others.
    """
    num_unreadable = 0
    csv_rows = ComparisonCsv(predictions)
    for row in zip(*predictions.values(), strict=True):
        by_name = dict(zip(predictions, row, strict=True))
        readable = {name: prediction for name, prediction in by_name.items() if prediction}
        if len(readable) < len(row):
            num_unreadable += 1
            _print_unreadable(by_name, is_alone=not readable)
        if form == "csv":
            csv_rows.show(readable)
        elif form == "table" and readable:
            _print_side_by_side(readable)
        elif form == "json":
            for name, prediction in readable.items():
                print_result(to_json({"model": name, **prediction.json()}))
    csv_rows.finish()
    if num_unreadable:
        print_notice(f"{num_unreadable} of the sources could not be read.")
    return DataError.exit_code if num_unreadable else 0


class ComparisonCsv:
    """CSV of several models with the columns of all: rows wait until each model has predicted once."""

    def __init__(self, names: Iterable[str]):
        self.unknown = set(names)
        self.waiting: list[dict[str, Any]] = []
        self.header: list[str] | None = None

    def show(self, predictions: Mapping[str, Any]) -> None:
        """Print the rows of one source by model, or keep them while the columns of a model are unknown."""
        rows = []
        for name, prediction in predictions.items():
            self.unknown.discard(name)
            rows += [{"model": name, **values} for values in prediction.rows()]
        if self.header is not None:
            _print_csv_rows(rows, self.header)
            return
        self.waiting += rows
        if not self.unknown:
            self.finish()

    def finish(self) -> None:
        """Print the header and the rows that wait."""
        if self.header is None and self.waiting:
            columns: dict[str, None] = {}
            for row in self.waiting:
                columns |= dict.fromkeys(row)
            self.header = list(columns)
            print_result(format_csv_line(self.header))
            _print_csv_rows(self.waiting, self.header)


def _print_csv_rows(rows: list[dict[str, Any]], header: list[str] | None) -> list[str]:
    """Print CSV rows, before the first of them their header; return the header."""
    if header is None:
        header = list(rows[0])
        print_result(format_csv_line(header))
    for row in rows:
        print_result(format_csv_line([row.get(name, "") for name in header]))
    return header


def _print_unreadable(row: Mapping[str, Any], is_alone: bool) -> None:
    """Say why one source was not read: in one line if all models say the same, else with the models' names."""
    reasons = {name: prediction.reason for name, prediction in row.items() if not prediction}
    source = escape_controls(next(iter(row.values())).source)
    if is_alone and len(set(reasons.values())) == 1:
        reasons = {"": next(iter(reasons.values()))}
    for name, reason in reasons.items():
        by = " by " if name else ""
        print_notice(f"unreadable{by}{name}: {source}: {reason}")


def _print_side_by_side(predictions: Mapping[str, Any]) -> None:
    """Print one source: a column for each model with its lines."""
    print_result(escape_controls(next(iter(predictions.values())).source))
    columns = [list(map(escape_controls, prediction.brief())) for prediction in predictions.values()]
    rows = [list(row) for row in itertools.zip_longest(*columns, fillvalue="")]
    for line in format_table(list(map(escape_controls, predictions)), rows):
        print_result("  " + line)


class JsonPrinter:
    """One JSON object per line."""

    def show(self, prediction: Any) -> None:
        """Print one prediction."""
        print_result(to_json(prediction.json()))


class CsvPrinter:
    """Comma-separated values with a header."""

    def __init__(self) -> None:
        self.header: list[str] | None = None

    def show(self, prediction: Any) -> None:
        """Print the rows of one prediction, and the header before the first one."""
        self.header = _print_csv_rows(prediction.rows(), self.header)


class TablePrinter:
    """A line per prediction where its columns are few; else its source with its lines below."""

    def __init__(self) -> None:
        self.header: list[str] | None = None
        self.widths: list[int] = []

    def show(self, prediction: Any) -> None:
        """Print one prediction, and the header before the first one."""
        rows = prediction.rows()
        columns = [name for name in rows[0] if name != "source"] if rows else []
        is_narrow = len(rows) == 1 and 2 <= len(columns) <= MAX_COLUMNS and not columns[-1].startswith("probability_")
        if not is_narrow:
            return self._print_block(prediction)
        if self.header is None:
            self._print_header(columns, rows[0])
        cells = []
        for name, width in zip(self.header or [], self.widths, strict=True):
            cells.append(_align(_format_number(rows[0].get(name)), width))
        print_result("  ".join([*cells, escape_controls(prediction.source)]))

    def _print_header(self, columns: list[str], row: dict[str, Any]) -> None:
        numbers = [name for name in columns if isinstance(row[name], float)]
        others = [name for name in columns if name not in numbers]
        self.header = [*numbers, *others]
        longest = max((display_width(escape_controls(name)) for name in columns), default=0)
        for name in self.header:
            width = max(5, display_width(escape_controls(name)))
            self.widths.append(width if name in numbers else max(width, longest))
        cells = [_align(escape_controls(name), width) for name, width in zip(self.header, self.widths, strict=True)]
        print_result("  ".join([*cells, "source"]))

    def _print_block(self, prediction: Any) -> None:
        print_result(escape_controls(prediction.source))
        color = is_main_process() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        color = color and "NO_COLOR" not in os.environ
        lines = prediction.colored(color)
        for line in lines:
            print_result(f"  {line}" if color else f"  {escape_controls(line)}")


def _format_number(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else escape_controls(format_cell(value))


def _align(text: str, width: int) -> str:
    return " " * (width - display_width(text)) + text


def format_rows(rows: Iterable[Any], json: bool) -> list[str]:
    """Format rows as one JSON list, as a table where it fits the terminal, else as a block of lines per row.

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
    """Format the first value as a heading; the others below it, each with its name."""
    (_, heading), *rest = row.items()
    lines = [format_cell(heading)]
    indent = max(len(name) for name in row) + 4
    for name, value in rest:
        if text := format_cell(value):
            lead = f"  {name}".ljust(indent)
            lines += textwrap.wrap(text, columns, initial_indent=lead, subsequent_indent=" " * indent)
    return lines


def _row_to_dict(row: Any) -> dict[str, Any]:
    if isinstance(row, Mapping):
        return dict(row)
    if hasattr(row, "_asdict"):
        return row._asdict()
    return dataclasses.asdict(row)
