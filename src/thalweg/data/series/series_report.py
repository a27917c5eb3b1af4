"""Check a table before training: its step, its columns, what was filled, how regular its season is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...errors import ThalwegError
from ..base import SPLITS
from .cleaning import TIME_NAMES
from .dataset import SeriesDataset
from .table import TABLE_SUFFIXES, read_table
from .time_step import format_time, looks_like_times

#: rows of each series that the picture shows
MAX_DRAWN = 500
MAX_PANELS = 6


@dataclass(frozen=True)
class ColumnSummary:
    """A target column of a series. `seasonality` is the part of its variance that the season explains."""

    series: str
    column: str
    rows: int
    mean: float
    std: float
    low: float
    high: float
    seasonality: float


@dataclass(frozen=True)
class SeriesReport:
    """Findings about series."""

    dataset: SeriesDataset
    columns: tuple[ColumnSummary, ...]

    @property
    def ok(self) -> bool:
        """True if nothing was found that the user should know."""
        return not self.dataset.warnings

    def lines(self) -> list[str]:
        """Return the findings for a terminal."""
        dataset = self.dataset
        data = dataset.train.data
        sizes = ", ".join(f"{name} {len(dataset.splits[name]):,}" for name in SPLITS)
        lines = [
            f"{dataset.name}: {dataset.format}, {dataset.summary}",
            f"step {data.table.step}, season {data.season}, lookback {data.lookback}, horizon {data.horizon}",
            f"windows: {sizes}",
        ]
        for item in self.columns[:20]:
            name = f"{item.series} {item.column}".strip()
            lines.append(
                f"{name}: {item.rows:,} rows, {item.low:.6g} to {item.high:.6g}, mean {item.mean:.6g}, "
                f"std {item.std:.6g}, {100 * item.seasonality:.0f} % seasonal"
            )
        return [*lines, *dataset.messages()]

    def json(self) -> dict[str, Any]:
        """Return the findings as JSON values."""
        data = self.dataset.train.data
        first = data.table.series[0]
        return {
            "name": self.dataset.name,
            "format": self.dataset.format,
            "step": str(data.table.step),
            "season": data.season,
            "lookback": data.lookback,
            "horizon": data.horizon,
            "first": format_time(first.start, data.table.are_dates),
            "windows": {name: len(self.dataset.splits[name]) for name in SPLITS},
            "columns": [asdict(item) for item in self.columns],
            "warnings": list(self.dataset.warnings),
            "ok": self.ok,
        }

    def picture(self) -> Image.Image:
        """Draw the last rows."""
        from ...plots.forecast import plot_forecast

        data = self.dataset.train.data
        panels = []
        for series in data.table.series:
            for name in data.target:
                values_T = series.values_TK[-MAX_DRAWN:, data.table.columns.index(name)]
                half = len(values_T) // 2
                first = format_time(int(data.table.times(series)[-(len(values_T) - half)]), data.table.are_dates)
                label = f"{series.id} {name}".strip()
                panels.append((label, values_T[:half], values_T[half:], np.zeros((0, 0)), [first]))
        return plot_forecast(panels[:MAX_PANELS], (), self.dataset.name)


def check_series(dataset: SeriesDataset) -> SeriesReport:
    """Summarize every column of every series."""
    data = dataset.train.data
    columns = []
    for series in data.table.series:
        for name in data.target:
            values_T = series.values_TK[:, data.table.columns.index(name)]
            columns.append(
                ColumnSummary(
                    series.id,
                    name,
                    len(values_T),
                    float(values_T.mean()),
                    float(values_T.std()),
                    float(values_T.min()),
                    float(values_T.max()),
                    measure_seasonality(values_T, data.season),
                )
            )
    return SeriesReport(dataset, tuple(columns))


def measure_seasonality(values_T: np.ndarray, season: int) -> float:
    """Return the fraction of the variance that the mean of each step of the season explains, from 0 to 1."""
    count = len(values_T) // season
    if season < 2 or count < 2 or np.ptp(values_T) == 0:
        return 0.0
    seasons_NS = values_T[: count * season].reshape(count, season)
    return float(seasons_NS.mean(0).var() / seasons_NS.var())


def looks_like_series(path: Path) -> bool:
    """Whether a path is a table with a column of times."""
    if path.suffix.lower() not in TABLE_SUFFIXES or not path.is_file():
        return False
    try:
        columns = read_table(path).columns
    except ThalwegError:
        return False
    is_named = any(name.lower() in TIME_NAMES for name in columns)
    return is_named or any(map(looks_like_times, columns.values()))
