"""Tables: CSV and TSV files, Parquet files, and data frames of pandas and polars, as columns by name."""

from __future__ import annotations

import csv
import importlib
import importlib.util
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError, NotFoundError, ResourceError
from ..text.text_file import decode_text, read_text_file

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
#: cells that stand for a missing value, in lower case
MISSING = {"", "na", "n/a", "nan", "null", "none", "?", "-", "."}
#: a column in which at least this fraction of the cells are numbers is one of numbers
NUMERIC_FRACTION = 0.5
_DELIMITERS = ("\t", ";", ",")


@dataclass(frozen=True)
class Table:
    """Columns (N,) by name, as they were read: texts, numbers or time stamps. `row_name` names a row in messages."""

    name: str
    format: str
    path: str
    columns: Mapping[str, np.ndarray]
    lines: Sequence[int] | None = None

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def row_name(self, row: int) -> str:
        """Return 'line 15' for a file of lines, 'row 13' for another table, counted from 0."""
        if self.lines is None:
            return f"row {row}"
        return f"line {self.lines[row]}"

    def line(self, row: int) -> int:
        """Return the line of a row, or its number where there are no lines."""
        return row if self.lines is None else self.lines[row]


def is_frame(source: Any) -> bool:
    """Whether a value is a data frame, of pandas, polars, or alike."""
    return hasattr(source, "columns") and hasattr(source, "__getitem__") and not isinstance(source, type)


def read_table(source: Any) -> Table:
    """Read a table.

    Args:
        source: A path, the bytes of a CSV file, or a data frame.

    Returns:
        The table, with at least one row and two columns.

    Raises:
        NotFoundError: Where there is no such file.
        DataError: For what is no table.
        ResourceError: For Parquet where neither polars nor pandas can read it.
    """
    if isinstance(source, bytes):
        table = _parse_csv(decode_text(source, "the table"), "table", "table")
    elif is_frame(source):
        table = _read_frame(source, "frame", "data frame", "memory")
    elif isinstance(source, str | os.PathLike):
        table = _read_file(Path(source).expanduser())
    else:
        raise DataError(
            f"{type(source).__name__} is not a table; expected a path or a data frame.",
            "Give a CSV or Parquet file, or a data frame of pandas or polars.",
            value=type(source).__name__,
        )
    _check_shape(table)
    return table


def _read_file(path: Path) -> Table:
    if not path.exists():
        raise NotFoundError(
            f"{path}: there is no such file; expected a table.",
            "Check the path, or give hourly for the series that comes with Thalweg.",
            path=path,
            value=str(path),
        )
    if path.is_dir():
        raise DataError(
            f"{path}: a folder; expected one table: a file that ends in {', '.join(TABLE_SUFFIXES)}.",
            "Name the file itself.",
            path=path,
            allowed=TABLE_SUFFIXES,
        )
    if path.suffix.lower() == ".parquet":
        return _read_parquet(path)
    return _parse_csv(read_text_file(path), path.stem, str(path))


def _read_parquet(path: Path) -> Table:
    for package in ("polars", "pandas"):
        if importlib.util.find_spec(package) is None:
            continue
        try:
            frame = importlib.import_module(package).read_parquet(path)
        except ImportError:  # pandas reads Parquet by yet another package
            continue
        except Exception as error:  # noqa: BLE001 - each package has errors of its own
            raise DataError(
                f"{path}: not a Parquet file: {type(error).__name__}.", "Write it again.", path=path
            ) from error
        return _read_frame(frame, path.stem, "Parquet file", str(path))
    raise ResourceError(
        f"{path}: Parquet needs polars, or pandas with pyarrow; neither is installed.",
        "pip install polars, or save the table as CSV.",
        path=path,
    )


def _read_frame(frame: Any, name: str, format_name: str, path: str) -> Table:
    if hasattr(frame, "collect"):  # a lazy frame of polars
        frame = frame.collect()
    index = getattr(frame, "index", None)
    if index is not None and str(getattr(index, "dtype", "")).startswith(("datetime", "period")):
        frame = frame.reset_index()
    columns = {}
    for column in frame.columns:
        columns[str(column)] = np.asarray(frame[column].to_numpy())
    return Table(name, format_name, path, columns)


def _parse_csv(text: str, name: str, path: str) -> Table:
    first = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=first.count)
    header, rows, lines = _read_rows(text, delimiter)
    widths = list(map(len, rows))
    if widths and set(widths) != {len(header)}:
        index = next(index for index, width in enumerate(widths) if width != len(header))
        raise DataError(
            f"{path}, line {lines[index]}: {widths[index]} cells; expected {len(header)}, as in the header.",
            "Repair the line.",
            path=path,
            line=lines[index],
            value=widths[index],
            allowed=[len(header)],
        )
    if not rows:
        raise DataError(
            f"{path}: no rows; expected a header and a row per time step.",
            "Give a table such as ds,y with a line per hour, day or month.",
            path=path,
        )
    _check_header(header, path)
    cells = np.array(rows, dtype=object)
    columns = {}
    for index, column in enumerate(header):
        columns[column] = cells[:, index]
    format_name = "TSV file" if delimiter == "\t" else "CSV file"
    return Table(name, format_name, path, columns, lines)


def _read_rows(text: str, delimiter: str) -> tuple[list[str], list[list[str]], Sequence[int]]:
    """Return the header, the rows that are not empty, and the line on which each ends."""
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    rows = list(reader)
    lines: Sequence[int] = range(1, len(rows) + 1)
    if reader.line_num != len(rows) or not all(map(any, rows)):  # line feeds inside of cells, or empty lines
        reader = csv.reader(io.StringIO(text), delimiter=delimiter)
        numbered = [(reader.line_num, row) for row in reader if any(map(str.strip, row))]
        rows = [row for _, row in numbered]
        lines = [line for line, _ in numbered]
    header = list(map(str.strip, rows[0])) if rows else []
    return header, rows[1:], lines[1:]


def _check_header(header: Sequence[str], path: str) -> None:
    for column in header:
        if header.count(column) > 1:
            raise DataError(
                f"{path}, line 1: two columns are named '{column}'; expected different names.",
                "Rename one.",
                path=path,
                line=1,
                value=column,
            )
        if _is_number(column):
            raise DataError(
                f"{path}, line 1: '{column}' is a number; expected a header with the names of the columns.",
                "Write a first line such as ds,y.",
                path=path,
                line=1,
                value=column,
            )


def _check_shape(table: Table) -> None:
    if len(table.columns) < 2:
        names = ", ".join(table.columns) or "none"
        raise DataError(
            f"{table.path}: one column ({names}); expected a column of time stamps and one of numbers.",
            "Add a column ds with the time of each row, separated by commas.",
            path=table.path,
            value=list(table.columns),
        )
    if not len(table):
        raise DataError(f"{table.path}: no rows; expected one per time step.", "Give more rows.", path=table.path)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.strip().lower() not in MISSING


def has_numbers(values: np.ndarray) -> bool:
    """Whether most cells of a column that are not missing are numbers."""
    if values.dtype.kind in "iufb":
        return True
    if values.dtype.kind == "M":
        return False
    if _parse_fast(values) is not None:
        return True
    present = [value for value in map(_to_text, values) if value.lower() not in MISSING]
    count = sum(1 for value in present if _is_number(_use_decimal_point(value)))
    return bool(present) and count >= NUMERIC_FRACTION * len(present)


def _parse_fast(values: np.ndarray) -> np.ndarray | None:
    """Return the numbers of a column in which every cell is one as Python writes it; None where some are not."""
    if values.dtype.kind == "M":
        return None
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError):
        return None


def parse_numbers(table: Table, column: str) -> np.ndarray:
    """Return a column (N,) float64, NaN where a value is missing. Raises DataError with the line of a text."""
    values = table.columns[column]
    numbers = _parse_fast(values)
    if numbers is None:
        numbers = np.full(len(values), np.nan)
        for row, value in enumerate(values):
            text = _use_decimal_point(_to_text(value))
            if text.lower() in MISSING:
                continue
            if not _is_number(text):
                raise DataError(
                    f"{table.path}, {table.row_name(row)}: '{text[:40]}' in column '{column}'; expected a number.",
                    "Repair the cell, or leave it empty where the value is missing.",
                    path=table.path,
                    line=table.line(row),
                    value=text,
                    option=column,
                )
            numbers[row] = float(text)
    infinite = np.flatnonzero(np.isinf(numbers))
    if len(infinite):
        row = int(infinite[0])
        raise DataError(
            f"{table.path}, {table.row_name(row)}: column '{column}' is infinite; expected a finite number.",
            "Repair the cell, or leave it empty.",
            path=table.path,
            line=table.line(row),
            value=float(numbers[row]),
            option=column,
        )
    return numbers


def _to_text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _use_decimal_point(text: str) -> str:
    """Return '3.5' for '3,5'; a comma inside of a cell can only be a decimal one where it is the only one."""
    return text.replace(",", ".") if text.count(",") == 1 and "." not in text else text
