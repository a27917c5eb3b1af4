"""Read points in the plane from a table with two columns of numbers, and a label for each from a third column."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from ..errors import DataError, NotFoundError, OptionError, pluralize
from .images.csv_dataset import decode_text, detect_delimiter

#: a column of one of these names holds the label, whatever is in it
LABEL_COLUMN_NAMES = ("label", "class", "target", "species")
#: beyond this a number is taken for a slip; its square would overflow
MAX_MAGNITUDE = 1e100
#: what `columns` names, by how many it should name, and an example
_EXPECTED_COLUMNS = {
    2: ("two different columns of numbers", "x,y"),
    3: ("three different columns: two of numbers and the label's", "x,y,label"),
}
COLUMNS_HINT = "Say which columns to use: --set columns=x,y,label"


@dataclass(frozen=True)
class PointTable:
    """A table as read: `cells` row by row, the `lines` of the file where they stand, `decimal_comma`: 1,5 is 1.5."""

    name: str
    header: list[str]
    header_line: int
    decimal_comma: bool
    lines: list[int] = field(default_factory=list)
    cells: list[list[str]] = field(default_factory=list)

    def locate(self, row: int, column: int) -> str:
        """Return the position of a cell in words."""
        return f"{self.name}, line {self.lines[row]}, column '{self.header[column]}'"

    def column(self, index: int) -> list[str]:
        """Return the cells of a column."""
        return [cells[index] for cells in self.cells]


def parse_table(content: bytes, name: str) -> tuple[PointTable, list[str]]:
    """Parse a table into texts; also return notes for the user. Raises DataError with file and line."""
    text, encoding = decode_text(content, name)
    notes = []
    if encoding == "cp1252":
        notes.append(f"{name} is not UTF-8; read as Windows-1252.")
    delimiter = detect_delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    table: PointTable | None = None
    try:
        for raw_cells in reader:
            cells = list(map(str.strip, raw_cells))
            if not any(cells):
                continue
            if table is None:
                header = _parse_header(cells, name, reader.line_num)
                table = PointTable(name, header, reader.line_num, delimiter != ",")
                continue
            _check_width(table, cells, reader.line_num)
            table.lines.append(reader.line_num)
            table.cells.append(cells)
    except csv.Error as error:
        raise DataError(
            f"{name}, line {reader.line_num}: {error}.",
            "Check the quotes around this line.",
            path=name,
            line=reader.line_num,
        ) from None
    if table is None or not table.cells:
        raise DataError(
            f"{name}: the table has no rows; expected a line of column names, then a line per point.", path=name
        )
    return table, notes


def _check_width(table: PointTable, cells: list[str], line: int) -> None:
    if len(cells) != len(table.header):
        raise DataError(
            f"{table.name}, line {line}: {pluralize(len(cells), 'column')}; expected {len(table.header)}.",
            "Put quotes around a cell that holds the delimiter.",
            path=table.name,
            line=line,
            value=len(cells),
        )


def _parse_header(cells: list[str], name: str, line: int) -> list[str]:
    """Return the names of the columns; one without is named by its number."""
    if _count_numbers(cells, True) > 1:
        raise DataError(
            f"{name}, line {line}: the first line holds numbers; expected column names.",
            "Put a line of names before it: x,y,label",
            path=name,
            line=line,
        )
    header = []
    for number, cell in enumerate(cells, 1):
        header.append(cell or f"column {number}")
    for column in header:
        if header.count(column) > 1:
            raise DataError(
                f"{name}, line {line}: two columns are named '{column}'.",
                "Rename one of them.",
                path=name,
                line=line,
                value=column,
            )
    return header


def parse_number(text: str, decimal_comma: bool) -> float | None:
    """Return the number that a text is, below MAX_MAGNITUDE in size; None for another text."""
    if decimal_comma:
        text = text.replace(",", ".")
    try:
        value = float(text)
    except ValueError:
        return None
    if math.isfinite(value) and abs(value) < MAX_MAGNITUDE:
        return value
    return None


def _count_numbers(cells: Sequence[str], decimal_comma: bool) -> int:
    count = 0
    for cell in cells:
        if parse_number(cell, decimal_comma) is not None:
            count += 1
    return count


def choose_columns(table: PointTable, columns: str | Sequence[str]) -> tuple[list[int], list[str]]:
    """Return the two columns of numbers and that of the label, and a note where there was a choice.

    The label's has one of the names LABEL_COLUMN_NAMES, else it is the only one without numbers, else the last; the
    numbers are the first two columns left that do not only count the rows. Raises NotFoundError, OptionError and
    DataError where `columns`, or the table, leave it open.
    """
    if columns != "auto":
        return _find_named_columns(table, list(columns), 3), []
    numeric = []
    for index in range(len(table.header)):
        if _is_numeric(table, index):
            numeric.append(index)
    label = _choose_label_column(table, numeric)
    axes = list(numeric)
    if label in axes:
        axes.remove(label)
    axes = _leave_out_row_numbers(table, axes)
    if len(axes) < 2:
        raise DataError(
            f"{table.name}, line {table.header_line}: {pluralize(len(axes), 'column')} of numbers besides the label "
            f"'{table.header[label]}'; expected two.",
            COLUMNS_HINT,
            path=table.name,
            line=table.header_line,
            value=_column_names(table, axes),
        )
    chosen = [*axes[:2], label]
    return chosen, _describe_choice(table, axes, chosen)


def choose_axes(table: PointTable, columns: str | Sequence[str]) -> tuple[list[int], list[str]]:
    """Return two columns of numbers, and a note where there was a choice; a column with a label's name is left out.

    Raises NotFoundError, OptionError and DataError where `columns`, or the table, leave it open.
    """
    if columns != "auto":
        return _find_named_columns(table, list(columns), 2), []
    numeric = []
    for index, column in enumerate(table.header):
        if _is_numeric(table, index) and column.casefold() not in LABEL_COLUMN_NAMES:
            numeric.append(index)
    axes = _leave_out_row_numbers(table, numeric)
    if len(axes) < 2:
        raise DataError(
            f"{table.name}, line {table.header_line}: {pluralize(len(axes), 'column')} of numbers; expected two.",
            "Say which columns to use: --set columns=x,y",
            path=table.name,
            line=table.header_line,
            value=_column_names(table, axes),
        )
    if len(axes) == 2:
        return axes, []
    x, y, *others = _column_names(table, axes)
    note = f"Of {len(axes)} columns of numbers {x} and {y} are used; not used: {', '.join(others)}."
    return axes[:2], [f"{note} --set columns=x,y chooses others."]


def _column_names(table: PointTable, columns: Sequence[int]) -> list[str]:
    names = []
    for column in columns:
        names.append(table.header[column])
    return names


def _leave_out_row_numbers(table: PointTable, axes: list[int]) -> list[int]:
    """Return the columns of numbers; where there are more than two, without those that only count the rows."""
    if len(axes) <= 2:
        return axes
    coordinates = []
    for index in axes:
        if not _is_row_number(table, index):
            coordinates.append(index)
    return coordinates


def _choose_label_column(table: PointTable, numeric: list[int]) -> int:
    named = []
    texts = []
    for index, column in enumerate(table.header):
        if column.casefold() in LABEL_COLUMN_NAMES:
            named.append(index)
        if index not in numeric and any(table.column(index)):
            texts.append(index)
    if len(named) == 1:
        return named[0]
    if len(texts) > 1:
        columns = _column_names(table, texts)
        raise DataError(
            f"{table.name}, line {table.header_line}: {len(texts)} columns could be the label: {', '.join(columns)}.",
            COLUMNS_HINT,
            path=table.name,
            line=table.header_line,
            value=columns,
        )
    if texts:
        return texts[0]
    return numeric[-1]


def _describe_choice(table: PointTable, axes: list[int], chosen: list[int]) -> list[str]:
    if len(axes) == 2:
        return []
    x, y, label = _column_names(table, chosen)
    others = ", ".join(_column_names(table, axes[2:]))
    note = f"Of {len(axes)} columns of numbers {x} and {y} are used, and {label} as the label; not used: {others}."
    return [f"{note} --set columns=x,y,label chooses others."]


def _find_named_columns(table: PointTable, columns: list[str], count: int) -> list[int]:
    if len(columns) != count or len(set(columns)) != count:
        expected, example = _EXPECTED_COLUMNS[count]
        raise OptionError(
            f"columns: {','.join(columns)}; expected {expected}.",
            f"For example: --set columns={example}",
            option="columns",
            value=columns,
        )
    for column in columns:
        if column not in table.header:
            raise NotFoundError.for_unknown("column", column, table.header)
    return list(map(table.header.index, columns))


def _is_numeric(table: PointTable, column: int) -> bool:
    """Whether most cells are numbers; what else is in the column is then a mistake and not a label."""
    filled = list(filter(None, table.column(column)))
    return _count_numbers(filled, table.decimal_comma) > len(filled) / 2


def _is_row_number(table: PointTable, column: int) -> bool:
    """Whether every number is one more than the one before it."""
    for before_text, after_text in pairwise(table.column(column)):
        before = parse_number(before_text, table.decimal_comma)
        after = parse_number(after_text, table.decimal_comma)
        if before is None or after is None or after - before != 1:
            return False
    return True


def extract_points(table: PointTable, chosen: Sequence[int]) -> tuple[np.ndarray, list[str]]:
    """Return points (N, 2) float64, and the label of each where a third column is chosen.

    Raises DataError for an empty cell and a wrong number.
    """
    points = []
    labels = []
    for row, cells in enumerate(table.cells):
        for column in chosen:
            if not cells[column]:
                raise DataError(
                    f"{table.locate(row, column)}: the cell is empty.",
                    "Fill it in, or remove the line.",
                    path=table.name,
                    line=table.lines[row],
                )
        x = _read_number(table, row, chosen[0])
        y = _read_number(table, row, chosen[1])
        points.append([x, y])
        labels += [cells[column] for column in chosen[2:]]
    return np.array(points, np.float64), labels


def _read_number(table: PointTable, row: int, column: int) -> float:
    text = table.cells[row][column]
    value = parse_number(text, table.decimal_comma)
    if value is None:
        raise DataError(
            f"{table.locate(row, column)}: '{text}' is not a finite number; expected e.g. 1.5 or 1.5e3.",
            path=table.name,
            line=table.lines[row],
            value=text,
        )
    return value
