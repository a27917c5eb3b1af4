"""Points in the plane with a label each: a table of the user's with two columns of numbers and one of labels."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...data.images.csv_dataset import decode_text, detect_delimiter
from ...errors import DataError, NotFoundError, OptionError, pluralize
from . import check_max_words

#: fewest points, most points (of more, so many are drawn), most classes
MIN_POINTS, MAX_POINTS, MAX_CLASSES = 10, 5000, 10
#: a column of one of these names holds the label, whatever is in it
LABEL_COLUMN_NAMES = ("label", "class", "target", "species")
#: beyond this a number is taken for a slip; its square would be none
MAX_MAGNITUDE = 1e100


class PointTable(NamedTuple):
    """A table as read: `cells` row by row, the `lines` of the file where they stand, `comma`: as decimal point."""

    name: str
    header: list[str]
    header_line: int
    lines: list[int]
    cells: list[list[str]]
    comma: bool

    def where(self, row: int, column: int) -> str:
        """The place of a cell in words."""
        return f"{self.name}, line {self.lines[row]}, column '{self.header[column]}'"


def load_input(words: list[Any], settings: Any, weights: str | None, offline: bool) -> dict[str, Any]:
    """[TABLE]: `points` (N, 2), `labels` (N,) into `classes`, the names of the two `axes`, `told`, `notes`.

    In Python TABLE may be a pair: points (N, 2) and a label for each. Nothing without words: the points are then made.
    `settings.columns` names the two columns of numbers and the label's; `settings.seed` draws where there are more.
    Raises NotFoundError for an unknown file or column, DataError with file, line and column for unusable cells.
    """
    check_max_words(words, 1, "a table")
    if weights is not None:
        raise OptionError("This concept trains networks of its own.", cure="Leave --weights out.")
    if not words:
        return {}
    given, notes = words[0], []
    if isinstance(given, tuple):
        points, names, axes, title = *_check_arrays(given), ["x1", "x2"], "points"
    else:
        table, notes = parse_table(_read_file(Path(given).expanduser()), str(given))
        chosen, more = choose_columns(table, settings.columns)
        notes += more
        points, names = _extract_points(table, chosen)
        axes, title = [table.header[column] for column in chosen[:2]], Path(given).name
    if len(points) > MAX_POINTS:
        rows = np.sort(np.random.default_rng(settings.seed).permutation(len(points))[:MAX_POINTS])
        notes.append(f"{MAX_POINTS} of {len(points)} points are used, drawn by the seed.")
        points, names = points[rows], [names[row] for row in rows]
    classes = _sorted_classes(names, title)
    labels = np.array([classes.index(name) for name in names], np.int64)
    return {"points": points, "labels": labels, "classes": classes, "axes": axes, "title": title, "notes": notes}


def _read_file(path: Path) -> bytes:
    """The bytes of a file. Raises NotFound, DataError."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        near = [str(path.parent / one.name) for one in path.parent.glob("*.[ct]sv")]
        raise NotFoundError.for_unknown("file", str(path), near) from None
    except OSError as error:
        raise DataError(
            f"{path} cannot be read as a table: {error.strerror}.", cure="Give a CSV file: points.csv"
        ) from None


def parse_table(content: bytes, name: str) -> tuple[PointTable, list[str]]:
    """The cells of a table as texts, and what the user should know. Raises DataError with file and line."""
    text, encoding = decode_text(content, name)
    notes = [f"{name} is not UTF-8; read as Windows-1252."] if encoding == "cp1252" else []
    delimiter = detect_delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    table = None
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            if table is None:
                table = PointTable(
                    name, _column_names(cells, name, reader.line_num), reader.line_num, [], [], delimiter != ","
                )
                continue
            if len(cells) != len(table.header):
                raise DataError(
                    f"{name}, line {reader.line_num}: {pluralize(len(cells), 'column')}, "
                    f"the header has {len(table.header)}.",
                    cure="Put quotes around a cell that holds the delimiter.",
                )
            table.lines.append(reader.line_num)
            table.cells.append(cells)
    except csv.Error as error:
        raise DataError(
            f"{name}, line {reader.line_num}: {error}.", cure="Check the quotes around this line."
        ) from None
    if table is None or not table.cells:
        raise DataError(
            f"{name}: there is no point in it.", cure="The first line names the columns, each other one is a point."
        )
    return table, notes


def _column_names(cells: list[str], name: str, line: int) -> list[str]:
    """The names of the columns; one without is named by its number."""
    if sum(parse_number(cell, True) is not None for cell in cells) > 1:
        raise DataError(
            f"{name}, line {line}: the first line should name the columns, and holds numbers.",
            cure="Put a line of names before it: x,y,label",
        )
    header = [cell or f"column {place}" for place, cell in enumerate(cells, 1)]
    for column in header:
        if header.count(column) > 1:
            raise DataError(f"{name}, line {line}: two columns are named '{column}'.", cure="Rename one of them.")
    return header


def parse_number(text: str, comma: bool) -> float | None:
    """The number that a text is, in size below HUGE; None for another text. `comma` allows 1,5 for 1.5."""
    try:
        value = float(text.replace(",", ".") if comma else text)
    except ValueError:
        return None
    return value if math.isfinite(value) and abs(value) < MAX_MAGNITUDE else None


def choose_columns(table: PointTable, columns: str | Sequence[str]) -> tuple[list[int], list[str]]:
    """Where the two columns of numbers and the label's are, and a note where there was a choice.

    The label's is one of the names LABELS, else the only one that holds no numbers, else the last; the numbers are the
    first two columns left that do more than count the rows. Raises NotFound, OptionError and DataError where
    `columns`, or the table, leave it open.
    """
    if columns != "auto":
        return _find_named_columns(table, list(columns)), []
    named = [place for place, column in enumerate(table.header) if column.casefold() in LABEL_COLUMN_NAMES]
    numbers = [place for place in range(len(table.header)) if _is_numeric(table, place)]
    texts = [place for place in range(len(table.header)) if place not in numbers and _has_values(table, place)]
    say = "Say which columns to use: --set columns=x,y,label"
    where = f"{table.name}, line {table.header_line}"
    if len(named) != 1 and len(texts) > 1:
        told = ", ".join(f"'{table.header[place]}'" for place in texts)
        raise DataError(f"{where}: which column is the label? These hold texts: {told}.", cure=say)
    label = named[0] if len(named) == 1 else texts[0] if texts else numbers[-1]
    axes = [place for place in numbers if place != label]
    axes = [place for place in axes if not _is_row_number(table, place)] if len(axes) > 2 else axes
    if len(axes) < 2:
        told = f"; the label is '{table.header[label]}'"
        raise DataError(
            f"{where}: two columns of numbers and one of labels are needed, and "
            f"{'none is left' if not axes else f'only {table.header[axes[0]]!r} is left'} for the numbers{told}.",
            cure=say,
        )
    chosen = [*axes[:2], label]
    if len(axes) == 2:
        return chosen, []
    x, y, told = (table.header[place] for place in chosen)
    others = ", ".join(table.header[place] for place in axes[2:])
    note = f"Of {len(axes)} columns of numbers {x} and {y} are used, and {told} as the label; not used: {others}."
    return chosen, [f"{note} --set columns=x,y,label chooses others."]


def _find_named_columns(table: PointTable, columns: list[str]) -> list[int]:
    if len(columns) != 3 or len(set(columns)) != 3:
        raise OptionError(
            f"columns: {','.join(columns)} are not three different columns.",
            cure="Give two of numbers and the label's: --set columns=x,y,label",
        )
    for column in columns:
        if column not in table.header:
            raise NotFoundError.for_unknown("column", column, table.header)
    return [table.header.index(column) for column in columns]


def _has_values(table: PointTable, column: int) -> bool:
    return any(cells[column] for cells in table.cells)


def _is_numeric(table: PointTable, column: int) -> bool:
    """Whether most of its cells are numbers; what else is in it is then a mistake and not a label."""
    told = [cells[column] for cells in table.cells if cells[column]]
    return sum(parse_number(text, table.comma) is not None for text in told) > len(told) / 2


def _is_row_number(table: PointTable, column: int) -> bool:
    """Whether every number is one more than that before it."""
    values: list[float] = []
    for cells in table.cells:
        value = parse_number(cells[column], table.comma)
        if value is None:
            return False
        values.append(value)
    return all(after - before == 1 for before, after in pairwise(values))


def _extract_points(table: PointTable, chosen: Sequence[int]) -> tuple[np.ndarray, list[str]]:
    """Points (N, 2) float64 and the label of each. Raises DataError for an empty cell and for what is no number."""
    points, names = [], []
    for row, cells in enumerate(table.cells):
        for column in chosen:
            if not cells[column]:
                raise DataError(
                    f"{table.where(row, column)}: the cell is empty.", cure="Fill it in, or remove the line."
                )
        point = [parse_number(cells[column], table.comma) for column in chosen[:2]]
        if None in point:
            column = chosen[point.index(None)]
            raise DataError(
                f"{table.where(row, column)}: '{cells[column]}' is no finite number.",
                cure="Write it as 1.5 or 1.5e3, or remove the line.",
            )
        points.append(point)
        names.append(cells[chosen[2]])
    return np.array(points, np.float64), names


def _check_arrays(given: tuple[Any, ...]) -> tuple[np.ndarray, list[str]]:
    """Points (N, 2) and labels (N,) that were given in Python. Raises DataError."""
    cure = "Give numbers of the shape (N, 2), and N labels."
    if len(given) != 2:
        raise DataError(f"A pair of points and labels is needed, not {len(given)} things.", cure=cure)
    try:
        points, labels = np.asarray(given[0], np.float64), np.asarray(given[1])
    except (TypeError, ValueError):
        raise DataError("The points are not numbers.", cure=cure) from None
    if points.ndim != 2 or points.shape[1] != 2 or labels.shape != points.shape[:1]:
        raise DataError(f"Points of shape {points.shape} and labels of shape {labels.shape} do not fit.", cure=cure)
    if not (np.abs(points) < MAX_MAGNITUDE).all():
        row = int(np.flatnonzero(~(np.abs(points) < MAX_MAGNITUDE).all(1))[0])
        raise DataError(f"Row {row} of the points is not of finite numbers.", cure="Leave it out.")
    return points, [str(label) for label in labels.tolist()]


def _sorted_classes(names: Sequence[str], told: str) -> list[str]:
    """The different labels, in the order of numbers if all are, else of the alphabet. Raises DataError."""
    if len(names) < MIN_POINTS:
        raise DataError(f"{told}: there are {pluralize(len(names), 'point')}.", cure=f"Give at least {MIN_POINTS}.")
    classes = sorted(set(names))
    if all(parse_number(name, False) is not None for name in classes):
        classes.sort(key=float)
    if len(classes) == 1:
        raise DataError(
            f"{told}: all points have the label '{classes[0]}'.", cure="Add points of another, to be told apart."
        )
    if len(classes) > MAX_CLASSES:
        some = ", ".join(f"'{name}'" for name in classes[:4])
        raise DataError(
            f"{told}: {len(classes)} different labels are more than can be shown: {some} ….",
            cure=f"Give at most {MAX_CLASSES}; --set columns=x,y,label says which column is the label.",
        )
    return classes
