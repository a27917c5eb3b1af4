"""Plot learning curves from the rows of metrics.jsonl: training losses, validation metrics and the learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from . import style
from .number_format import format_number

MetricRow = Mapping[str, Any]
#: points (n, 2) of a curve by split
Series = dict[str, np.ndarray]

#: longer curves are drawn pale with their running mean on top
_MAX_MARKED_POINTS = 60
_MAX_PANELS = 6
#: a legend of more lines would hide the curves, and is drawn below the panel
_MAX_LEGEND_INSIDE = 4
#: points
_TITLE_FONT = 10.5
#: fractions above this are drawn on an axis that is logarithmic in the error
_ERROR_AXIS_START = 0.9
#: columns of a row that are neither a loss nor a metric
_POSITION_COLUMNS = ("step", "epoch", "lr")
#: colors of the training losses; the color of validation is not among them
_LOSS_COLORS = (style.TRAIN_COLOR, style.GREEN, style.ORANGE, style.PURPLE, style.SKY, style.BLACK)
_LINE_STYLES = ("-", "--", ":")
_NUMBER_FORMAT = FuncFormatter(lambda value, _: f"{value:g}")
_PERCENT_FORMAT = FuncFormatter(lambda value, _: f"{100 * value:g} %")
_ERROR_FORMAT = FuncFormatter(lambda value, _: f"{100 - value:.6g} %")


@dataclass(frozen=True)
class MetricStyle:
    """How to plot a metric: its column, label, direction and unit."""

    name: str
    label: str
    higher_is_better: bool
    unit: Literal["fraction", "number", "nats", "bits", "pixels"]


@dataclass(frozen=True)
class _Panel:
    """One panel: the columns of the rows that it shows, and the style of a metric that has one."""

    kind: Literal["losses", "metric", "lr"]
    columns: tuple[str, ...]
    metric: MetricStyle | None = None


@style.as_image
def plot_curves(history: Sequence[MetricRow], metrics: Sequence[MetricStyle] = (), title: str = "") -> Figure:
    """Plot the metrics in `metrics`, the training losses, the other metrics and the learning rate, a panel each.

    The training losses are the numeric columns of rows of split "train" that rows of split "val" lack. All columns of
    rows of split "val" are metrics. Other splits, and values that are missing, None, NaN or inf, are left out. The x
    axis shows epochs if every row has one, else steps.

    Args:
        history: Rows such as {"step": 50, "epoch": 0.1, "split": "train", "loss": 0.4, "lr": 0.003}, in any order.
        metrics: Styles of metrics; their panels come first. Columns without a style get a plain panel.
        title: Title of the figure.

    Returns:
        The figure, with at most 6 panels.
    """
    rows = []
    for row in history:
        if row.get("split") in ("train", "val") and _is_number(row.get("step")):
            rows.append(row)
    panels = _select_panels(rows, metrics)
    if not panels:
        return style.empty_plot("No metrics were recorded.", title)
    x_column = "step"
    if all(_is_number(row.get("epoch")) for row in rows):
        x_column = "epoch"
    fig, grid = _add_panels(panels)
    style.add_title(fig, title)
    for axes, panel in zip(grid, panels, strict=True):
        axes.set_xlabel(x_column)
        axes.margins(x=0.03)
        _draw_panel(axes, panel, rows, x_column)
    return fig


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _select_panels(rows: Sequence[MetricRow], metrics: Sequence[MetricStyle]) -> list[_Panel]:
    """Choose at most 6 panels; metrics without a style give way to the others."""
    train_columns = _numeric_columns(rows, "train")
    val_columns = _numeric_columns(rows, "val")
    styled = []
    for metric in metrics:
        if metric.name in train_columns or metric.name in val_columns:
            styled.append(_Panel("metric", (metric.name,), metric))
    styled_names = {metric.name for metric in metrics}
    losses = []
    for name in train_columns:
        if name not in styled_names and name not in val_columns:
            losses.append(name)
    middle = []
    if losses:
        middle.append(_Panel("losses", tuple(losses)))
    end = []
    if "lr" in _columns_with_numbers(rows, "train"):
        end.append(_Panel("lr", ("lr",)))
    free = max(0, _MAX_PANELS - len(styled) - len(middle) - len(end))
    plain = []
    for name in val_columns:
        if name not in styled_names:
            plain.append(_Panel("metric", (name,)))
    panels = styled + middle + plain[:free] + end
    return panels[:_MAX_PANELS]


def _numeric_columns(rows: Iterable[MetricRow], split: str) -> list[str]:
    """Return the columns of a split with at least one number, in the order of their names."""
    return sorted(_columns_with_numbers(rows, split) - set(_POSITION_COLUMNS))


def _columns_with_numbers(rows: Iterable[MetricRow], split: str) -> set[str]:
    names = set()
    for row in rows:
        if row["split"] != split:
            continue
        for name, value in row.items():
            if _is_number(value):
                names.add(name)
    return names


def _add_panels(panels: Sequence[_Panel]) -> tuple[Figure, list[Axes]]:
    """Return a figure with axes for each panel: up to three in a row."""
    count = len(panels)
    rows = math.ceil(count / 3)
    columns = math.ceil(count / rows)
    widths = [1.0] * columns
    if rows == 1 and count > 1 and panels[-1].kind == "lr":
        widths[-1] = 0.7
    fig = style.auto_figure(400 if count == 1 else 330 * rows)
    grid = fig.subplots(rows, columns, squeeze=False, sharex=True, width_ratios=widths).ravel()
    for axes in grid[:count]:
        axes.tick_params(labelbottom=True)
    for axes in grid[count:]:
        axes.remove()
    return fig, list(grid[:count])


def _draw_panel(axes: Axes, panel: _Panel, rows: Sequence[MetricRow], x_column: str) -> None:
    if panel.kind == "lr":
        _draw_lr(axes, _extract_series(rows, x_column, "lr"))
        return
    if panel.kind == "losses":
        losses = {}
        for name in panel.columns:
            losses[name] = _extract_series(rows, x_column, name)["train"]
        _draw_losses(axes, losses)
        return
    name = panel.columns[0]
    series = _extract_series(rows, x_column, name)
    if panel.metric is None:
        _set_title(axes, name)
        _draw_splits(axes, series)
        _scale_to_values(axes, list(series.values()))
        return
    _draw_metric(axes, panel.metric, series)


def _set_title(axes: Axes, name: str, ending: str = "") -> None:
    """Set a title; shorten the name so that the title fits its panel."""
    grid = axes.get_gridspec()
    columns = grid.ncols if grid else 1
    max_width = style.WIDTH / columns - 54 - style.text_width(ending, _TITLE_FONT, bold=True)
    axes.set_title(style.fit_text(name, max_width, _TITLE_FONT, bold=True) + ending)


def _extract_series(rows: Sequence[MetricRow], x_column: str, name: str) -> Series:
    """Return the points (n, 2) of a column by split, sorted by x."""
    series = {}
    for split in ("train", "val"):
        points = []
        for row in rows:
            if row["split"] == split and _is_number(row.get(name)):
                points.append((row[x_column], row[name]))
        series[split] = np.array(sorted(points), np.float64).reshape(-1, 2)
    return series


def _draw_splits(axes: Axes, series: Series) -> None:
    """Draw the curves of training and validation."""
    if len(series["train"]):
        _draw_line(axes, series["train"], "training", style.TRAIN_COLOR)
    val_N2 = series["val"]
    if len(val_N2):
        marker = "o" if len(val_N2) < _MAX_MARKED_POINTS else ""
        axes.plot(*val_N2.T, color=style.VAL_COLOR, marker=marker, markersize=4, label="validation")
    axes.legend(loc="best")


def _draw_line(axes: Axes, points_N2: np.ndarray, label: str, color: str, line_style: str = "-") -> None:
    """Draw a curve; a long one is pale with its running mean on top."""
    x_N, y_N = points_N2.T
    if len(x_N) >= _MAX_MARKED_POINTS:
        alpha = 0.35 if len(x_N) < 500 else 0.15
        axes.plot(x_N, y_N, line_style, color=color, alpha=alpha, linewidth=0.8)
        half_width = len(x_N) // 50
        kernel = np.ones(2 * half_width + 1)
        weight_N = np.convolve(np.ones(len(x_N)), kernel, "same")
        y_N = np.convolve(y_N, kernel, "same") / weight_N
    axes.plot(x_N, y_N, line_style, color=color, label=label)


def _draw_losses(axes: Axes, points: Mapping[str, np.ndarray]) -> None:
    """Draw the training losses, a line each."""
    _set_title(axes, "Training losses")
    for index, (name, points_N2) in enumerate(points.items()):
        color = _LOSS_COLORS[index % len(_LOSS_COLORS)]
        line_style = _LINE_STYLES[index // len(_LOSS_COLORS) % len(_LINE_STYLES)]
        _draw_line(axes, points_N2, style.ellipsize(name, 24), color, line_style)
    if len(points) > _MAX_LEGEND_INSIDE:
        axes.legend(loc="upper left", bbox_to_anchor=(-0.1, -0.18), ncols=2, fontsize=8, columnspacing=1)
    else:
        axes.legend(loc="best")
    _scale_to_values(axes, list(points.values()))


def _scale_to_values(axes: Axes, curves: Sequence[np.ndarray]) -> None:
    """Use a logarithmic axis if all values are positive and span more than a factor of 10."""
    values = np.concatenate(curves)[:, 1]
    if values.min() <= 0 or values.max() <= 10 * values.min():
        return
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=_tick_factors(values.min(), values.max())))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(_NUMBER_FORMAT)


def _tick_factors(smallest: float, largest: float) -> tuple[int, ...]:
    """Return the factors of powers of ten that get a tick on a logarithmic axis."""
    return style.choose_tick_factors(largest > 1000 * smallest)


def _draw_metric(axes: Axes, metric: MetricStyle, series: Series) -> None:
    """Draw a metric with its unit; the title has the best value, of validation if there is any."""
    best = _find_best(metric, series)
    is_fraction = metric.unit == "fraction"
    text = format_number(best, 4)
    if is_fraction:
        text = style.format_percent(best, 2)
    _set_title(axes, metric.label, f": best {text}")
    if is_fraction and metric.higher_is_better and best > _ERROR_AXIS_START:
        _draw_error_axis(axes, series)
        return
    _draw_splits(axes, series)
    if is_fraction and metric.higher_is_better:
        axes.yaxis.set_major_formatter(_PERCENT_FORMAT)
        return
    _scale_to_values(axes, list(series.values()))
    if is_fraction:
        axes.yaxis.set_major_formatter(_PERCENT_FORMAT)
    elif metric.unit != "number":
        axes.set_ylabel(metric.unit)


def _find_best(metric: MetricStyle, series: Series) -> float:
    points_N2 = series["train"]
    if len(series["val"]):
        points_N2 = series["val"]
    values_N = points_N2[:, 1]
    if metric.higher_is_better:
        return float(values_N.max())
    return float(values_N.min())


def _draw_error_axis(axes: Axes, series: Series) -> None:
    """Draw fractions on an axis that is logarithmic in the error: 99.0 to 99.5 % is as far as 90 to 95 %."""
    error_series = {}
    for split, points_N2 in series.items():
        error_series[split] = np.column_stack([points_N2[:, 0], 100 * (1 - points_N2[:, 1])])
    _draw_splits(axes, error_series)
    errors = np.concatenate(list(error_series.values()))[:, 1]
    # zero has no logarithm: the axis is linear below the smallest positive error
    smallest = 10 ** math.floor(math.log10(max(errors[errors > 1e-6].min(initial=1.0), 1e-3)))
    axes.set_yscale("symlog", linthresh=smallest)
    bottom = max(errors.max() * 1.15, smallest)
    top = -0.05 * smallest
    if errors.min() > smallest:
        top = max(errors.min() * 0.85, 0)
    axes.set_ylim(bottom, top)
    ticks = [0.0]
    for exponent in range(6):
        for factor in _tick_factors(smallest, errors.max()):
            tick = smallest * 10**exponent * factor
            if tick <= 90:
                ticks.append(tick)
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(_ERROR_FORMAT)


def _draw_lr(axes: Axes, series: Series) -> None:
    _set_title(axes, "Learning rate")
    axes.plot(*series["train"].T, color=style.BLACK)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(_NUMBER_FORMAT)
