"""From a table to series with a regular step: sorted, without gaps; what cannot be mended is refused by its row.

A table is wide (a column of times, columns of numbers) or long (`unique_id, ds, y`: a row per series and time).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import DataError, did_you_mean, pluralize
from .table import Table, has_numbers, parse_numbers
from .time_step import TimeStep, find_step, format_time, looks_like_times, parse_step, parse_times

#: names of the column of times, in lower case; else the first column that holds dates
TIME_NAMES = ("ds", "date", "datetime", "timestamp", "time", "month", "day", "year", "index")
#: name of the column that tells the series of a long table apart, and of the column that is forecast in it
ID_COLUMN = "unique_id"
VALUE_COLUMN = "y"
#: at most this many rows are named in a message
_MAX_NAMED = 3


@dataclass(frozen=True)
class Series:
    """A series: `start` is the time of the first row; NaN in `values_TK` where a value is missing."""

    id: str
    start: int
    values_TK: np.ndarray

    def __len__(self) -> int:
        return len(self.values_TK)


@dataclass(frozen=True)
class SeriesTable:
    """Series with a common regular step and the same columns of numbers."""

    name: str
    format: str
    path: str
    columns: tuple[str, ...]
    series: tuple[Series, ...]
    step: TimeStep
    are_dates: bool
    is_long: bool
    warnings: tuple[str, ...] = ()

    def times(self, series: Series) -> np.ndarray:
        """Return the times (T,) int64 of the rows of a series."""
        return self.step.times(series.start, len(series))

    def time_name(self, series: Series, row: int) -> str:
        """Return the time of a row, with the series where there are several."""
        text = format_time(int(self.step.times(series.start, row + 1)[row]), self.are_dates)
        return f"{series.id} at {text}" if self.is_long else text


def find_time_column(table: Table) -> str:
    """Return the name of the column of times. Raises DataError where none is."""
    by_name = {name.lower(): name for name in reversed(list(table.columns))}
    for name in TIME_NAMES:
        if name in by_name:
            return by_name[name]
    for name, values in table.columns.items():
        if looks_like_times(values):
            return name
    raise DataError(
        f"{table.path}: no column of times among {', '.join(list(table.columns)[:8])}; expected one such as ds.",
        "Add a column ds with the time of each row, as 2024-01-31 13:00, or with its number.",
        path=table.path,
        value=list(table.columns),
        allowed=TIME_NAMES,
    )


def make_series_table(
    table: Table, columns: Sequence[str] | None = None, resample: str | None = None, step: TimeStep | None = None
) -> SeriesTable:
    """Clean a table.

    Args:
        table: The table.
        columns: Columns to read; None: all that hold numbers.
        resample: "auto" or a step such as "1h": rows that fall into the same step become their mean, and steps without
            a row have missing values. None refuses such tables.
        step: A model's step that the table must have; None: the most frequent one.

    Returns:
        The series, sorted by time, with NaN where a value is missing.

    Raises:
        DataError: For duplicate and irregular times, for texts among numbers, for columns that are not there.
        OptionError: For a step that is none.
    """
    time_column = find_time_column(table)
    is_long = ID_COLUMN in table.columns and ID_COLUMN != time_column
    others = [name for name in table.columns if name not in (time_column, ID_COLUMN)]
    chosen, warnings = _choose_columns(table, others, columns)
    values_NK = np.stack([parse_numbers(table, name) for name in chosen], 1)
    times_N, are_dates = parse_times(table, time_column)
    rows_by_id = _group_rows(table, is_long)
    if any((np.diff(times_N[rows]) < 0).any() for rows in rows_by_id.values()):
        warnings.append("the rows are not in the order of time; they are read sorted")
    sorted_rows = {}
    for name, rows in rows_by_id.items():
        sorted_rows[name] = rows[np.argsort(times_N[rows], kind="stable")]
    if resample not in (None, "auto"):
        step = parse_step(resample)
    elif step is None:
        step = find_step([times_N[rows] for rows in sorted_rows.values()], are_dates)
    if step is None:
        raise DataError(
            f"{table.path}: no series has two rows; expected a row per time step.", "Give more rows.", path=table.path
        )
    series = []
    for name, rows in sorted_rows.items():
        if resample is None:
            _check_regular(table, rows, times_N, step, are_dates)
            series.append(Series(name, int(times_N[rows[0]]), values_NK[rows]))
        else:
            series.append(resample_rows(name, times_N[rows], values_NK[rows], step))
    return SeriesTable(
        table.name, table.format, table.path, tuple(chosen), tuple(series), step, are_dates, is_long, tuple(warnings)
    )


def resample_table(table: SeriesTable, resample: str) -> SeriesTable:
    """Return a table with a longer step, each row the mean of those that fall into it. Raises OptionError."""
    if resample == "auto":
        return table
    step = parse_step(resample)
    series = []
    for item in table.series:
        series.append(resample_rows(item.id, table.times(item), item.values_TK, step))
    return SeriesTable(
        table.name,
        table.format,
        table.path,
        table.columns,
        tuple(series),
        step,
        table.are_dates,
        table.is_long,
        table.warnings,
    )


def _choose_columns(table: Table, others: Sequence[str], columns: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Return the columns to read, and a note of those that are left out."""
    for name in columns or ():
        if name not in others:
            raise DataError(
                f"{table.path}: no column '{name}'; expected one of {', '.join(others[:12])}.",
                did_you_mean(name, others),
                path=table.path,
                value=name,
                allowed=others,
            )
    if columns is not None:
        return list(columns), []
    numeric = [name for name in others if has_numbers(table.columns[name])]
    if not numeric:
        raise DataError(
            f"{table.path}: no column of numbers beside the times ({', '.join(others) or 'no other column'}); "
            "expected at least one.",
            "Add the values that are to be forecast, as a column of numbers.",
            path=table.path,
            value=list(others),
        )
    texts = [name for name in others if name not in numeric]
    notes = []
    if texts:
        notes.append(f"left out, because they hold texts: {', '.join(texts)}")
    return numeric, notes


def _group_rows(table: Table, is_long: bool) -> dict[str, np.ndarray]:
    """Return the rows of each series by its name, in the order in which they appear."""
    if not is_long:
        return {"": np.arange(len(table))}
    names = np.array(list(map(str, table.columns[ID_COLUMN])))
    unique, firsts, series_N, counts = np.unique(names, return_index=True, return_inverse=True, return_counts=True)
    parts = np.split(np.argsort(series_N, kind="stable"), np.cumsum(counts)[:-1])
    return {str(unique[index]): parts[index] for index in np.argsort(firsts).tolist()}


def _check_regular(table: Table, rows: np.ndarray, times_N: np.ndarray, step: TimeStep, are_dates: bool) -> None:
    """Raise DataError that names the first duplicate time, else the first gap."""
    times_T = times_N[rows]
    positions_T = step.positions(times_T, int(times_T[0]))
    distances = np.diff(positions_T)
    wrong = np.flatnonzero(distances != 1)
    if not len(wrong):
        return
    duplicates = np.flatnonzero(np.diff(times_T) == 0)
    index = int(duplicates[0] if len(duplicates) else wrong[0])
    row = int(rows[index + 1])
    times = [format_time(int(time), are_dates) for time in times_T[index : index + 2]]
    if len(duplicates):
        problem = f"the time {times[1]} is there twice (first in {table.row_name(int(rows[index]))})"
        expected = "each time once"
        more = len(duplicates) - 1
    else:
        problem = f"{times[1]} follows {times[0]}"
        expected = f"steps of {step}"
        more = len(wrong) - 1
    others = f" ({pluralize(more, 'more place')} like this)" if more else ""
    raise DataError(
        f"{table.path}, {table.row_name(row)}: {problem}; expected {expected}{others}.",
        "Repair the rows, or give --resample auto: the mean per step, and steps without a row filled forward.",
        path=table.path,
        line=table.line(row),
        value=times[1],
    )


def resample_rows(name: str, times_T: np.ndarray, values_TK: np.ndarray, step: TimeStep) -> Series:
    """Return a series whose rows are the means of the values within each step from the first time on.

    Args:
        name: Name of the series.
        times_T: Sorted times.
        values_TK: Values; NaN where missing.
        step: The step of the result.

    Returns:
        The series; NaN for steps without a value.
    """
    start = int(times_T[0])
    if step.unit == "microseconds":
        start -= start % step.count
    index_T = np.floor(step.positions(times_T, start)).astype(np.int64)
    sums = np.zeros((int(index_T[-1]) + 1, values_TK.shape[1]))
    counts = np.zeros_like(sums)
    np.add.at(sums, index_T, np.nan_to_num(values_TK))
    np.add.at(counts, index_T, np.isfinite(values_TK))
    with np.errstate(invalid="ignore"):
        return Series(name, start, sums / counts)


def fill_missing(table: SeriesTable, series: Series, columns: Sequence[str], longest: int) -> tuple[Series, int]:
    """Fill missing values forward; those before the first value with it.

    Args:
        table: The table of the series, for messages.
        series: The series.
        columns: Columns to fill; others are left as they are.
        longest: More missing values than this in a row are refused.

    Returns:
        The series, and how many values were filled.

    Raises:
        DataError: That names the column and the first row of a run that is too long.
    """
    values_TK = series.values_TK.copy()
    total = 0
    for name in columns:
        column = values_TK[:, table.columns.index(name)]
        missing_T = np.isnan(column)
        if not missing_T.any():
            continue
        start, length = _longest_run(missing_T)
        if length > longest or missing_T.all():
            raise DataError(
                f"{table.path}: column '{name}' has no value in {length:,} rows from {table.time_name(series, start)} "
                f"on; expected at most {longest:,} in a row, the lookback.",
                "Leave the column out with --target, cut the table there, or fill the values in.",
                path=table.path,
                value=length,
                allowed=[longest],
                option=name,
            )
        last_T = np.where(missing_T, -1, np.arange(len(column)))
        last_T = np.maximum.accumulate(last_T)
        last_T[last_T < 0] = np.flatnonzero(~missing_T)[0]
        column[:] = column[last_T]
        total += int(missing_T.sum())
    return Series(series.id, series.start, values_TK), total


def _longest_run(is_missing_T: np.ndarray) -> tuple[int, int]:
    """Return start and length of the longest run of True."""
    edges = np.diff(np.concatenate([[0], is_missing_T.astype(np.int8), [0]]))
    starts = np.flatnonzero(edges == 1)
    lengths = np.flatnonzero(edges == -1) - starts
    index = int(np.argmax(lengths))
    return int(starts[index]), int(lengths[index])
