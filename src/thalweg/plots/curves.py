"""Learning curves: loss, accuracy and learning rate over the run, from the rows of metrics.jsonl."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from . import style

MetricRow = Mapping[str, Any]

#: from this many points on, a curve is drawn pale with its running mean over it
_MAX_MARKED_POINTS = 60


@style.as_image
def plot_curves(history: Sequence[MetricRow], title: str = "") -> Figure:
    """Draws rows as {"step": 50, "epoch": 0.1, "split": "train", "loss": 0.4, "accuracy": 0.9, "lr": 0.003}.

    Rows may be in any order; the splits drawn are train and valid. A panel each for loss, accuracy and learning rate,
    as far as rows have them; values that are missing, None or not finite are left out. Epochs are the axis if every row
    has one, else updates.
    """
    rows = [
        row for row in history if _is_number(row.get("step")) is not None and row.get("split") in ("train", "valid")
    ]
    axis = "epoch" if rows and all(_is_number(row.get("epoch")) is not None for row in rows) else "step"
    panels = [(key, draw) for key, draw in _PANELS.items() if any(_is_number(row.get(key)) is not None for row in rows)]
    if not panels:
        return style.empty_plot("No figures were recorded.", title)
    made = style.auto_figure(330 if len(panels) > 1 else 400)
    if title:
        made.suptitle(title, x=0.01, ha="left", fontweight="bold")
    widths = [0.7 if key == "lr" else 1 for key, _ in panels]
    grid = made.subplots(1, len(panels), squeeze=False, sharex=True, width_ratios=widths)[0]
    for axes, (key, draw) in zip(grid, panels, strict=True):
        axes.set_xlabel("epoch" if axis == "epoch" else "update")
        axes.margins(x=0.03)
        draw(axes, {split: _extract_series(rows, split, axis, key) for split in ("train", "valid")})
    return made


def _is_number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _extract_series(rows: Sequence[MetricRow], split: str, axis: str, key: str) -> np.ndarray:
    """Points (n, 2) of `key` over `axis`, sorted."""
    points = [
        (row[axis], row[key]) for row in rows if row.get("split") == split and _is_number(row.get(key)) is not None
    ]
    return np.array(sorted(points), np.float64).reshape(-1, 2)


def _draw_lines(axes: Axes, series: Mapping[str, np.ndarray]) -> None:
    train, valid = series["train"], series["valid"]
    if len(train) >= _MAX_MARKED_POINTS:
        axes.plot(*train.T, color=style.TRAIN_COLOR, alpha=0.35 if len(train) < 500 else 0.15, linewidth=0.8)
        width = len(train) // 50
        kernel = np.ones(2 * width + 1)
        weight = np.convolve(np.ones(len(train)), kernel, "same")
        axes.plot(
            train[:, 0], np.convolve(train[:, 1], kernel, "same") / weight, color=style.TRAIN_COLOR, label="training"
        )
    elif len(train):
        axes.plot(*train.T, color=style.TRAIN_COLOR, label="training")
    if len(valid):
        marker = "o" if len(valid) < _MAX_MARKED_POINTS else ""
        axes.plot(*valid.T, color=style.VAL_COLOR, marker=marker, markersize=4, label="validation")
    axes.legend(loc="best")


def _draw_loss(axes: Axes, series: Mapping[str, np.ndarray]) -> None:
    axes.set_title("Loss")
    _draw_lines(axes, series)
    values = np.concatenate(list(series.values()))[:, 1]
    if values.min() > 0 and values.max() > 10 * values.min():
        axes.set_yscale("log")
        wide = values.max() > 1000 * values.min()
        axes.yaxis.set_major_locator(LogLocator(subs=(1,) if wide else (1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axes.set_ylabel("mean per example")


def _draw_accuracy(axes: Axes, series: Mapping[str, np.ndarray]) -> None:
    """Above 90 % the axis is logarithmic in the error, so that 99.0 and 99.5 are as far apart as 90 and 95."""
    valid = series["valid"]
    judged = valid if len(valid) else series["train"]
    best = judged[judged[:, 1].argmax()]
    axes.set_title(f"Accuracy: best {style.format_percent(best[1], 2)}")
    axes.set_ylabel("of the examples")
    if best[1] <= 0.9:
        _draw_lines(axes, series)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:g} %"))
        return
    error = {split: np.column_stack([s[:, 0], 100 * (1 - s[:, 1])]) for split, s in series.items()}
    _draw_lines(axes, error)
    errors = np.concatenate(list(error.values()))[:, 1]
    # below the smallest error that was made the axis is linear, since no error has no logarithm
    smallest = 10 ** math.floor(math.log10(max(errors[errors > 1e-6].min(initial=1.0), 1e-3)))
    axes.set_yscale("symlog", linthresh=smallest)
    axes.set_ylim(
        max(errors.max() * 1.15, smallest), max(errors.min() * 0.85, 0) if errors.min() > smallest else -0.05 * smallest
    )
    steps = (1, 2, 5) if errors.max() < 1000 * smallest else (1,)
    ticks = [0.0] + [smallest * 10**n * m for n in range(6) for m in steps if smallest * 10**n * m <= 90]
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 - v:.6g} %"))


def _draw_lr(axes: Axes, series: Mapping[str, np.ndarray]) -> None:
    axes.set_title("Learning rate")
    axes.plot(*series["train"].T, color=style.BLACK)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axes.set_ylabel("per update")


_PANELS = {"loss": _draw_loss, "accuracy": _draw_accuracy, "lr": _draw_lr}
