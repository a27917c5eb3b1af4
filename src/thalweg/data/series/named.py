"""Series by name: one that is made here, and published ones that are looked for on this machine, never downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import ResourceError
from ...io.download import data_roots, find_data_file
from ..base import NamedData
from .table import Table, read_table

DEFAULT_NAME = "hourly"
_DAYS = 150
_START = "2024-01-01"


@dataclass(frozen=True)
class NamedSeries:
    """A published series: its file below THALWEG_DATA, where it comes from, its size in words, and its license."""

    file: str
    source: str
    summary: str
    license: str


_ETT_HOURS, _ETT_QUARTERS = "17,420 hours of 7 columns", "69,680 quarters of an hour of 7 columns"

PUBLISHED = {
    "etth1": NamedSeries("ett/ETTh1.csv", "zhouhaoyi/ETDataset, ETT-small/ETTh1.csv", _ETT_HOURS, "CC BY-ND 4.0"),
    "etth2": NamedSeries("ett/ETTh2.csv", "zhouhaoyi/ETDataset, ETT-small/ETTh2.csv", _ETT_HOURS, "CC BY-ND 4.0"),
    "ettm1": NamedSeries("ett/ETTm1.csv", "zhouhaoyi/ETDataset, ETT-small/ETTm1.csv", _ETT_QUARTERS, "CC BY-ND 4.0"),
    "ettm2": NamedSeries("ett/ETTm2.csv", "zhouhaoyi/ETDataset, ETT-small/ETTm2.csv", _ETT_QUARTERS, "CC BY-ND 4.0"),
    "airline": NamedSeries(
        "airline/airline-passengers.csv",
        "jbrownlee/Datasets, airline-passengers.csv",
        "144 months of 1 column",
        "none stated",
    ),
}
NAMES = (DEFAULT_NAME, *PUBLISHED)


def read_named(name: str) -> Table:
    """Read a series by name. Raises ResourceError where its file is not on this machine."""
    if name == DEFAULT_NAME:
        return make_hourly()
    table = read_table(find_series(name))
    return Table(name, table.format, table.path, table.columns, table.lines)


def find_series(name: str) -> Path:
    """Return the file of a published series. Raises ResourceError where it is not on this machine."""
    series = PUBLISHED[name]
    path = find_data_file(series.file)
    if path is not None:
        return path
    roots = data_roots()
    raise ResourceError(
        f"The series '{name}' is not on this machine: {series.file} is in none of {', '.join(map(str, roots))}.",
        f"Put it there; it comes from {series.source} ({series.license}).",
        path=roots[0] / series.file,
        value=name,
    )


def list_named_series() -> list[NamedData]:
    """List the series that have a name."""
    default = NamedData(
        DEFAULT_NAME,
        "a load and a temperature with a day, a week, and noise that remembers",
        f"{24 * _DAYS:,} hours of 2 columns",
        "Apache-2.0",
    )
    rows = [default]
    for name, series in PUBLISHED.items():
        path = find_data_file(series.file)
        rows.append(
            NamedData(
                name,
                f"from {series.source}",
                series.summary,
                series.license,
                where=str(path) if path else None,
                bytes=path.stat().st_size if path else None,
                fetch=lambda offline, log, name=name: find_series(name),
            )
        )
    return rows


def make_hourly(days: int = _DAYS, seed: int = 1) -> Table:
    """Make 150 days of two hourly columns, with a day, a week, a slow drift, and noise that remembers."""
    rng = np.random.default_rng(seed)
    hours_T = np.arange(24 * days)
    day_T = 2 * np.pi * hours_T / 24
    is_weekend_T = hours_T // 24 % 7 >= 5
    noise_T2 = _smooth_noise(rng, len(hours_T), 2, memory=0.9)
    temperature_T = 12 + 5 * np.sin(day_T - 2.3) + 4 * np.sin(2 * np.pi * hours_T / (24 * 60)) + 1.5 * noise_T2[:, 0]
    load_T = 60 + 14 * np.sin(day_T - 1.9) + 5 * np.sin(2 * day_T) - 9 * is_weekend_T + hours_T / 400
    load_T = load_T - 0.8 * (temperature_T - 12) + 2 * noise_T2[:, 1]
    times_T = np.datetime64(_START, "us") + hours_T * np.timedelta64(3600, "s")
    columns = {"ds": times_T, "load": load_T.round(3), "temperature": temperature_T.round(3)}
    return Table(DEFAULT_NAME, "generated series", DEFAULT_NAME, columns)


def make_toy(rows: int = 240, seed: int = 1) -> Table:
    """Make a small long table: two daily series with a week, a temperature that moves them, and their size."""
    rng = np.random.default_rng(seed)
    days_T = np.arange(rows)
    parts: dict[str, list[np.ndarray]] = {"unique_id": [], "ds": [], "y": [], "temperature": [], "size": []}
    for index, name in enumerate(("north", "south")):
        noise_T2 = _smooth_noise(rng, rows, 2, memory=0.8)
        temperature_T = 10 + 3 * noise_T2[:, 0]
        y_T = 30 * (index + 1) + 6 * np.sin(2 * np.pi * days_T / 7) + temperature_T + 3 * noise_T2[:, 1]
        parts["unique_id"].append(np.full(rows, name, dtype=object))
        parts["ds"].append(np.datetime64(_START, "us") + days_T * np.timedelta64(86_400, "s"))
        parts["y"].append(y_T.round(3))
        parts["temperature"].append(temperature_T.round(3))
        parts["size"].append(np.full(rows, index + 1.0))
    columns = {name: np.concatenate(values) for name, values in parts.items()}
    return Table("toy", "generated series", "toy", columns)


def _smooth_noise(rng: np.random.Generator, rows: int, columns: int, memory: float) -> np.ndarray:
    """Return noise (rows, columns) of variance 1 of which each value is `memory` times the one before, plus new."""
    noise_TC = rng.standard_normal((rows, columns))
    for row in range(1, rows):
        noise_TC[row] = memory * noise_TC[row - 1] + (1 - memory**2) ** 0.5 * noise_TC[row]
    return noise_TC
