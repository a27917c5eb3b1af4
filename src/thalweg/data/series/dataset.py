"""Windows of time series: `lookback` rows that are known and `horizon` rows that are to be forecast.

The splits are consecutive in time. Windows of val and test begin `lookback` rows earlier, so that the first row of a
split is forecast too; they move on by one row, and none is left out: a split of n rows has n - horizon + 1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...errors import DataError, OptionError, did_you_mean, pluralize
from ..base import SPLITS, DataRequest, Dataset
from . import named
from .cleaning import VALUE_COLUMN, SeriesTable, fill_missing, make_series_table, resample_table
from .table import read_table
from .time_step import TimeStep, format_time

#: fraction of the rows that becomes the test split where none is given
TEST_FRACTION = 0.2
#: seasons, and rows, that the default lookback has at most
_LOOKBACK_SEASONS = 14
_MAX_LOOKBACK = 336
#: fraction of a training series that the default lookback has at most
_LOOKBACK_FRACTION = 1 / 3
#: rows of the default horizon where there is no season
_DEFAULT_HORIZON = 12


@dataclass(frozen=True)
class SeriesSettings:
    """How a table becomes windows; None where it is chosen by the data."""

    horizon: int | None = None
    lookback: int | None = None
    season: int | None = None
    target: Sequence[str] | None = None
    past_covariates: Sequence[str] = ()
    future_covariates: Sequence[str] = ()
    static_covariates: Sequence[str] = ()
    split_rows: Sequence[int] | None = None
    resample: str | None = None
    log: bool = False

    @property
    def covariates(self) -> tuple[str, ...]:
        """Names of all covariates."""
        return (*self.past_covariates, *self.future_covariates, *self.static_covariates)


@dataclass(frozen=True)
class SeriesSplit:
    """Windows of a split.

    Attributes:
        dataset_rows: Where the data is: that of all splits, shared.
        starts: First row of each window (N,) int64, in the joined rows of all series.
        series: Index of the series of each window (N,).
        rows: Rows of each series that belong to the split: first and one after the last, (S, 2) int64.
        calibration: The windows by whose errors intervals are calibrated; None where there are none.
    """

    data: SeriesData
    starts: np.ndarray
    series: np.ndarray
    rows: np.ndarray
    calibration: SeriesSplit | None = None

    def __len__(self) -> int:
        return len(self.starts)

    def names(self, rows: Sequence[int]) -> list[str]:
        """Return the time of the first forecast of each window, for messages."""
        names = []
        for row in rows:
            series = int(self.series[row])
            position = int(self.starts[row] - self.data.offsets[series]) + self.data.lookback
            names.append(self.data.table.time_name(self.data.table.series[series], position))
        return names

    def keys(self) -> None:
        """Return None: windows overlap, so none is the copy of another."""


@dataclass(frozen=True)
class SeriesData:
    """The joined rows of all series.

    Attributes:
        table: The series, filled.
        settings: What is forecast from what, with nothing left open.
        step: Distance of the rows.
        times: Time of each row (R,) int64.
        values: Values (R, K) float64 in the order of the table's columns.
        offsets: First row of each series (S,).
    """

    table: SeriesTable
    settings: SeriesSettings
    times: np.ndarray
    values: np.ndarray
    offsets: np.ndarray

    @property
    def lookback(self) -> int:
        """Rows that a forecast reads."""
        return _require_value(self.settings.lookback)

    @property
    def horizon(self) -> int:
        """Rows of a forecast."""
        return _require_value(self.settings.horizon)

    @property
    def season(self) -> int:
        """Rows after which values are usually alike."""
        return _require_value(self.settings.season)

    @property
    def target(self) -> tuple[str, ...]:
        """Columns that are forecast."""
        return tuple(self.settings.target or ())

    def columns(self, names: Sequence[str]) -> np.ndarray:
        """Return columns (R, len(names)) by name."""
        return self.values[:, [self.table.columns.index(name) for name in names]]


@dataclass(frozen=True)
class SeriesDataset(Dataset[SeriesSplit]):
    """Windows of time series, with the table that they come from: other options cut it anew."""

    table: SeriesTable | None = None
    settings: SeriesSettings = SeriesSettings()


def _require_value(value: int | None) -> int:
    if value is None:
        raise AssertionError("settings of a data set leave nothing open")
    return value


# --- reading ----------------------------------------------------------------------------------------------------------


def load_series(request: DataRequest, settings: SeriesSettings, spec_step: TimeStep | None = None) -> SeriesDataset:
    """Read series and cut them into windows.

    Args:
        request: Source and splits: a path, the name of a data set, a data frame, or a SeriesDataset.
        settings: What is forecast from what.
        spec_step: The step of a model that the rows must have; None: the most frequent one.

    Returns:
        The data set.

    Raises:
        DataError: For what cannot be forecast, by its row.
        OptionError: For settings that contradict each other.
        NotFoundError: For a file that is not there.
        ResourceError: For named data that is not on this machine, and for Parquet without a package that reads it.
    """
    source = request.source
    if isinstance(source, SeriesDataset):
        if source.table is None:
            raise DataError(f"{source.name} has no table.", "Read it anew.", value=source.name)
        table = source.table
        if settings.resample is not None:
            table = resample_table(table, settings.resample)
        return build_series_dataset(table, _inherit(settings, source.settings), request)
    table = read_series(source, settings, spec_step)
    return build_series_dataset(table, settings, request)


def _inherit(settings: SeriesSettings, defaults: SeriesSettings) -> SeriesSettings:
    """Return settings, with those of a data set in memory where they are left open."""
    values: dict[str, Any] = {}
    for name, value in vars(defaults).items():
        own = getattr(settings, name)
        values[name] = value if own in (None, (), False) else own
    return SeriesSettings(**values)


def read_series(source: Any, settings: SeriesSettings, step: TimeStep | None = None) -> SeriesTable:
    """Read and clean the table of a source; of a model's `step` where it is given. Raises as `load_series`."""
    columns = None
    if settings.target is not None:
        columns = list(dict.fromkeys([*settings.target, *settings.covariates]))
    if isinstance(source, str) and source in named.NAMES:
        table = named.read_named(source)
    else:
        table = read_table(source)
    return make_series_table(table, columns, settings.resample, step)


def build_series_dataset(table: SeriesTable, settings: SeriesSettings, request: DataRequest) -> SeriesDataset:
    """Settle what the settings leave open, split, fill, and cut into windows. Raises DataError and OptionError."""
    warnings = list(table.warnings)
    settings = choose_columns(table, settings)
    lengths = [len(series) for series in table.series]
    settings = _choose_lengths(table, settings, request)
    horizon = _require_value(settings.horizon)
    lookback = _require_value(settings.lookback)
    rows_by_split = {}
    for name in SPLITS:
        rows_by_split[name] = []
    for length in lengths:
        sizes = _split_sizes(length, settings, request)
        first = 0
        for name, size in zip(SPLITS, sizes, strict=True):
            rows_by_split[name].append((first, first + size))
            first += size
    if request.make_splits:
        warnings += _check_sizes(table, settings, rows_by_split)
    table, num_filled = _fill(table, settings, lookback)
    if num_filled:
        warnings.append(f"{pluralize(num_filled, 'missing value')} filled forward")
    warnings += _find_constant_columns(table, settings, rows_by_split["train"])
    data = join_series(table, settings)
    splits: dict[str, SeriesSplit] = {}
    for name in SPLITS:
        splits[name] = _cut(data, np.array(rows_by_split[name]), is_first=name == "train")
    if request.make_splits and not len(splits["train"]):
        longest = max(stop - start for start, stop in rows_by_split["train"])
        raise DataError(
            f"{table.path}: {longest:,} training rows; expected at least lookback + horizon, {lookback} + {horizon}.",
            "Give a smaller --lookback or --horizon, or more rows.",
            path=table.path,
            value=longest,
            allowed=[lookback + horizon],
        )
    if not request.make_splits and not len(splits["train"]):
        raise _too_few_rows(table, max(lengths), lookback + horizon)
    splits["test"] = replace(splits["test"], calibration=splits["val"])
    return SeriesDataset(
        name=table.name,
        format=table.format,
        path=table.path,
        splits=splits,
        fingerprint=_fingerprint(data, rows_by_split),
        summary=_summarize(table, settings),
        unit="window",
        official_splits=(),
        warnings=tuple(warnings),
        table=table,
        settings=settings,
    )


def _too_few_rows(table: SeriesTable, count: int, needed: int) -> DataError:
    return DataError(
        f"{table.path}: {pluralize(count, 'row')}; expected at least lookback + horizon, {needed}.",
        "Give more rows.",
        path=table.path,
        value=count,
        allowed=[needed],
    )


def choose_columns(table: SeriesTable, settings: SeriesSettings) -> SeriesSettings:
    """Return the settings with the target columns settled: `y` of a long table, else all that are no covariates.

    Raises DataError for a column that is not there, OptionError for one that is named for two purposes.
    """
    for name in settings.covariates:
        if name not in table.columns:
            raise DataError(
                f"{table.path}: no column '{name}' of numbers; expected one of {', '.join(table.columns[:12])}.",
                did_you_mean(name, table.columns),
                path=table.path,
                value=name,
                allowed=table.columns,
            )
    target = settings.target
    if target is None:
        target = [name for name in table.columns if name not in settings.covariates]
        if table.is_long and VALUE_COLUMN in target:
            target = [VALUE_COLUMN]
    missing = [name for name in target if name not in table.columns]
    if missing or not target:
        name = (missing or ["none"])[0]
        raise DataError(
            f"{table.path}: no target column '{name}'; expected one of {', '.join(table.columns[:12])}.",
            did_you_mean(name, table.columns),
            path=table.path,
            value=name,
            allowed=table.columns,
        )
    names = [*target, *settings.covariates]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise OptionError(
            f"--target and covariates: '{twice[0]}' is named twice; expected each column for one purpose.",
            "Name it once.",
            option="target",
            value=twice[0],
        )
    return replace(settings, target=tuple(target))


def _choose_lengths(table: SeriesTable, settings: SeriesSettings, request: DataRequest) -> SeriesSettings:
    """Return the settings with season, horizon and lookback settled."""
    season = settings.season or table.step.season
    horizon = settings.horizon or (season if season > 1 else _DEFAULT_HORIZON)
    lookback = settings.lookback
    if lookback is None:
        longest = max(len(series) for series in table.series)
        sizes = _split_sizes(longest, replace(settings, horizon=horizon), request)
        limit = max(season, int(sizes[0] * _LOOKBACK_FRACTION))
        lookback = max(2, min(_MAX_LOOKBACK, max(_LOOKBACK_SEASONS * season, 2 * horizon), limit))
        lookback -= lookback % season if lookback > season else 0
    return replace(settings, season=season, horizon=horizon, lookback=lookback)


def _split_sizes(count: int, settings: SeriesSettings, request: DataRequest) -> tuple[int, int, int]:
    """Return the rows of train, val and test of a series of `count` rows."""
    if not request.make_splits:
        return count, 0, 0
    if settings.split_rows is not None:
        sizes = tuple(settings.split_rows)
        if len(sizes) != 3:
            raise OptionError(
                f"--split-rows: {len(sizes)} numbers; expected three, the rows of train, val and test.",
                "For example: --split-rows 8640,2880,2880",
                option="split_rows",
                value=list(sizes),
            )
        return sizes
    horizon = _require_value(settings.horizon)
    test = max(int(count * TEST_FRACTION), horizon)
    val = max(int(count * request.val_fraction), horizon) if request.val_fraction else 0
    return count - val - test, val, test


def _check_sizes(
    table: SeriesTable, settings: SeriesSettings, rows_by_split: dict[str, list[tuple[int, int]]]
) -> list[str]:
    """Raise DataError where a split is shorter than the horizon; return a note where a split was made longer."""
    horizon = _require_value(settings.horizon)
    for index, series in enumerate(table.series):
        name = f" of series '{series.id}'" if table.is_long else ""
        last = rows_by_split["test"][index][1]
        if last > len(series):
            raise DataError(
                f"{table.path}: {len(series):,} rows{name}; expected at least {last:,}, the sum of --split-rows.",
                "Give smaller numbers.",
                path=table.path,
                value=len(series),
                allowed=[last],
            )
        for split in ("val", "test"):
            start, stop = rows_by_split[split][index]
            if 0 < stop - start < horizon:
                raise DataError(
                    f"{table.path}: the {split} part has {stop - start} rows{name}; expected at least the horizon, "
                    f"{horizon}.",
                    "Give a smaller --horizon, or other --split-rows.",
                    path=table.path,
                    value=stop - start,
                    allowed=[horizon],
                )
        if rows_by_split["train"][index][1] < 1:
            raise DataError(
                f"{table.path}: {len(series):,} rows{name} leave none to train on; expected more than twice the "
                f"horizon, {horizon}.",
                "Give a smaller --horizon, or more rows.",
                path=table.path,
                value=len(series),
                allowed=[2 * horizon + 1],
            )
    shortest = min(len(series) for series in table.series)
    if settings.split_rows is None and int(shortest * TEST_FRACTION) < horizon:
        return [f"the test part has {horizon} rows, one horizon, which is more than a fifth of the {shortest:,} rows"]
    return []


def _fill(table: SeriesTable, settings: SeriesSettings, lookback: int) -> tuple[SeriesTable, int]:
    names = [*(settings.target or ()), *settings.covariates]
    filled = []
    total = 0
    for series in table.series:
        item, count = fill_missing(table, series, names, lookback)
        filled.append(item)
        total += count
    return replace(table, series=tuple(filled)), total


def _find_constant_columns(table: SeriesTable, settings: SeriesSettings, rows: Sequence[tuple[int, int]]) -> list[str]:
    constant = []
    for name in settings.target or ():
        column = table.columns.index(name)
        for series, (start, stop) in zip(table.series, rows, strict=True):
            values_T = series.values_TK[start:stop, column]
            if len(values_T) and np.ptp(values_T) == 0:
                constant.append(f"'{name}' of series '{series.id}'" if table.is_long else f"'{name}'")
    if not constant:
        return []
    return [f"constant in the training rows: {', '.join(constant[:8])}; a forecast of it says little"]


def join_series(table: SeriesTable, settings: SeriesSettings) -> SeriesData:
    """Join the rows of all series."""
    lengths = [len(series) for series in table.series]
    offsets = np.cumsum([0, *lengths[:-1]])
    values_RK = np.concatenate([series.values_TK for series in table.series])
    times_R = np.concatenate([table.times(series) for series in table.series])
    return SeriesData(table, settings, times_R, values_RK, offsets)


def _cut(data: SeriesData, rows_S2: np.ndarray, is_first: bool) -> SeriesSplit:
    """Return the windows whose forecasts lie inside the given rows of each series."""
    starts = []
    series = []
    for index, (first, stop) in enumerate(rows_S2.tolist()):
        begin = first if is_first else max(0, first - data.lookback)
        count = max(0, stop - begin - data.lookback - data.horizon + 1)
        starts.append(data.offsets[index] + begin + np.arange(count))
        series.append(np.full(count, index))
    return SeriesSplit(data, np.concatenate(starts).astype(np.int64), np.concatenate(series), rows_S2)


def _fingerprint(data: SeriesData, rows_by_split: dict[str, list[tuple[int, int]]]) -> str:
    settings = data.settings
    sha = hashlib.sha256()
    names = (data.target, settings.past_covariates, settings.future_covariates, settings.static_covariates)
    sha.update(repr([[list(group) for group in names], rows_by_split]).encode())
    sha.update(data.columns([*data.target, *settings.covariates]).astype("<f8").tobytes())
    sha.update(data.times.astype("<i8").tobytes())
    return sha.hexdigest()


def _summarize(table: SeriesTable, settings: SeriesSettings) -> str:
    total = sum(len(series) for series in table.series)
    first = table.series[0]
    many = f"{len(table.series):,} series, " if table.is_long else ""
    start = format_time(first.start, table.are_dates)
    return (
        f"{many}{pluralize(total, 'row')} of {table.step} from {start} on, "
        f"{pluralize(len(settings.target or ()), 'column')}"
    )
