"""The recent rows of series from which a forecast is made, and what is known in advance of the rows to come."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...errors import DataError, pluralize
from .cleaning import Series, SeriesTable, fill_missing, make_series_table
from .dataset import SeriesData, SeriesSettings, join_series
from .table import is_frame, read_table
from .time_step import TimeStep


@dataclass(frozen=True)
class RecentRows:
    """`lookback` known rows of each series, then `horizon` rows of which only covariates are known.

    `frame_package` is the package of the data frame that they came in, None for files.
    """

    data: SeriesData
    frame_package: str | None = None


def read_recent_rows(source: Any, settings: SeriesSettings, step: TimeStep, are_dates: bool) -> RecentRows:
    """Read the rows that a forecast needs.

    Args:
        source: A path, the bytes of a CSV file, or a data frame. Rows at the end without a value of any target column
            are those to come; covariates that are known in advance stand in them.
        settings: A model's settings.
        step: A model's step.
        are_dates: Whether its times are dates.

    Returns:
        The last rows of each series.

    Raises:
        DataError: For fewer rows than the lookback, missing covariates of the rows to come, and irregular times.
    """
    table = read_table(source)
    names = list(dict.fromkeys([*(settings.target or ()), *settings.covariates]))
    cleaned = make_series_table(table, names, settings.resample, step)
    if cleaned.are_dates != are_dates:
        expected = "dates, as 2024-01-31" if are_dates else "numbers"
        raise DataError(
            f"{table.path}: times of another kind; expected {expected}, as in training.",
            "Give the times as they were in the training data.",
            path=table.path,
            value=cleaned.are_dates,
        )
    series = tuple(_take_recent(cleaned, item, settings) for item in cleaned.series)
    package = type(source).__module__.partition(".")[0] if is_frame(source) else None
    return RecentRows(join_series(replace(cleaned, series=series), settings), package)


def _take_recent(table: SeriesTable, series: Series, settings: SeriesSettings) -> Series:
    """Return the last `lookback` known rows of a series and `horizon` rows to come; their targets repeat the last."""
    lookback = settings.lookback or 1
    horizon = settings.horizon or 1
    target = [table.columns.index(name) for name in settings.target or ()]
    future = [table.columns.index(name) for name in settings.future_covariates]
    has_value_T = np.isfinite(series.values_TK[:, target]).any(1)
    count = int(np.flatnonzero(has_value_T)[-1]) + 1 if has_value_T.any() else 0
    name = f" of series '{series.id}'" if table.is_long else ""
    if count < lookback:
        raise DataError(
            f"{table.path}: {pluralize(count, 'row')}{name} with a value; expected at least {lookback}, the lookback.",
            "Give more recent rows, or train with a smaller --lookback.",
            path=table.path,
            value=count,
            allowed=[lookback],
        )
    names = [*(settings.target or ()), *settings.past_covariates, *settings.static_covariates]
    filled, _ = fill_missing(table, Series(series.id, series.start, series.values_TK[:count]), names, lookback)
    last_TK = filled.values_TK[-1:].repeat(horizon, 0)
    coming = series.values_TK[count : count + horizon, future]
    missing = [column for column in range(len(future)) if len(coming) < horizon or np.isnan(coming[:, column]).any()]
    if missing:
        column = settings.future_covariates[missing[0]]
        raise DataError(
            f"{table.path}: '{column}' is not known in all of the {horizon} rows to come{name}; expected a row for "
            "each of them, with the covariates that are known in advance and without values of the target.",
            f"Add the rows, or train without --future-covariates {column}.",
            path=table.path,
            value=len(coming),
            allowed=[horizon],
            option=column,
        )
    values_TK = np.concatenate([filled.values_TK[-lookback:], last_TK])
    if future:
        values_TK[lookback:, future] = coming
        values_TK[:lookback, future] = series.values_TK[count - lookback : count, future]
    start = int(table.step.times(series.start, count - lookback + 1)[-1])
    return fill_missing(table, Series(series.id, start, values_TK), settings.future_covariates, lookback)[0]
