"""A forecast of one or more series: the mean and quantiles of every coming step, after the rows that were read."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from .base import DisplayedPrediction, encode_png

#: levels that are shown as columns and in JSON, of all that a model has
SHOWN_LEVELS = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)
#: series that one drawing shows, and lines of a terminal per series
MAX_DRAWN = 6
MAX_LINES = 6


@dataclass(frozen=True)
class SeriesForecast:
    """The forecast of one series.

    Attributes:
        id: Its name.
        times: Times of the forecast (H,), as text.
        mean: The point forecast (H,).
        quantiles: Quantiles (H, Q), rising.
        history: The rows that were read (L,).
    """

    id: str
    times: Sequence[str]
    mean: np.ndarray
    quantiles: np.ndarray
    history: np.ndarray


@dataclass(frozen=True, repr=False)
class SeriesPrediction(DisplayedPrediction):
    """The forecasts of all series of a source; `levels` are those of the quantiles."""

    source: str
    series: tuple[SeriesForecast, ...]
    levels: tuple[float, ...]
    frame_package: str | None = None

    def __repr__(self) -> str:
        return f"<{self.source}: {len(self.series)} series, {len(self.series[0].times)} steps>"

    def _shown(self) -> dict[str, int]:
        """Return the index of each quantile that is shown, by the name of its column."""
        return {f"q{level:g}": self.levels.index(level) for level in SHOWN_LEVELS if level in self.levels}

    def brief(self) -> list[str]:
        """Return a line per step, at first and at last; the interval of 80 % in brackets."""
        low = self.levels.index(0.1)
        high = self.levels.index(0.9)
        lines = []
        for item in self.series:
            lines.append(item.id)
            for step in _thin(len(item.times), MAX_LINES):
                ends = f"{item.quantiles[step, low]:.6g} to {item.quantiles[step, high]:.6g}"
                lines.append(f"  {item.times[step]}  {item.mean[step]:.6g}  ({ends})")
        return lines

    def rows(self) -> list[dict[str, Any]]:
        """Return a row per series and step: unique_id, ds, mean, and the quantiles."""
        shown = self._shown()
        rows = []
        for item in self.series:
            for step, time in enumerate(item.times):
                row: dict[str, Any] = {"unique_id": item.id, "ds": time, "mean": float(item.mean[step])}
                for name, index in shown.items():
                    row[name] = float(item.quantiles[step, index])
                rows.append(row)
        return rows

    def json(self) -> dict[str, Any]:
        """Return {"source", "series": [{"unique_id", "ds", "mean", "quantiles"}]}."""
        shown = self._shown()
        series = []
        for item in self.series:
            quantiles = {name: item.quantiles[:, index].tolist() for name, index in shown.items()}
            values = {"unique_id": item.id, "ds": list(item.times), "mean": item.mean.tolist(), "quantiles": quantiles}
            series.append(values)
        return {"source": self.source, "series": series}

    def to_frame(self) -> Any:
        """Return the rows as a data frame of the package of the source; else of polars or pandas."""
        for package in (self.frame_package, "polars", "pandas"):
            if package is not None and importlib.util.find_spec(package) is not None:
                return importlib.import_module(package).DataFrame(self.rows())
        raise TypeError("a data frame needs pandas or polars; rows() has the same without them")

    def draw(self) -> Image.Image:
        """Draw what was read and the forecast, with bands of 80 and 95 %."""
        from ..plots.forecast import plot_forecast

        panels = []
        for item in self.series[:MAX_DRAWN]:
            panels.append((item.id, item.history, item.mean, item.quantiles, item.times))
        return plot_forecast(panels, self.levels, self.source)

    def files(self) -> dict[str, bytes]:
        """Return the rows as CSV, and the drawing."""
        rows = self.rows()
        lines = [",".join(rows[0])]
        for row in rows:
            lines.append(",".join(_format_cell(value) for value in row.values()))
        text = "\n".join(lines) + "\n"
        return {".csv": text.encode("utf-8", "replace"), ".png": encode_png(self.draw())}


def _format_cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.10g}"
    text = str(value)
    if any(character in text for character in ',"\n'):
        text = '"' + text.replace('"', '""') + '"'
    return text


def _thin(count: int, limit: int) -> list[int]:
    """Return at most `limit` indices from first to last, evenly."""
    if count <= limit:
        return list(range(count))
    return [round(index * (count - 1) / (limit - 1)) for index in range(limit)]
