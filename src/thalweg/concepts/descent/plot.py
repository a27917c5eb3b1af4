"""Plots of optimizers on a loss surface: paths over contour lines, loss curves, and a legend."""

from __future__ import annotations

import math

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from ...plots import style
from ...plots.number_format import format_number
from .optimizer_paths import OptimizerPath
from .records import DescentRecord

_HEIGHT = 600
#: color, line style and marker of each optimizer; markers alone are unique, and so are colors with line styles
_STYLES = {
    "sgd": (style.BLACK, "-", "o"),
    "momentum": (style.BLUE, "-", "s"),
    "nesterov": (style.SKY, "--", "D"),
    "adagrad": (style.GREEN, "-", "^"),
    "adadelta": (style.PURPLE, "--", "v"),
    "rmsprop": (style.ORANGE, "-", "p"),
    "adam": (style.VERMILLION, "-", "X"),
    "adamw": (style.VERMILLION, ":", "P"),
    "muon": (style.BLACK, "-.", ">"),
}
#: shown instead of a loss after a path has stopped
STOP_LABELS = {"not finite": "not finite", "diverged": "diverged"}
_MINIMUM_COLOR = "#f0e442"
_ARROW_COLOR = "#b0b0b0"
_OUTLINE = [Stroke(linewidth=3.2, foreground="white", alpha=0.7), Normal()]
#: a logarithmic loss axis ends this many factors of ten below the first loss
_MAX_DECADES = 10
#: right edge of the learning rates in the legend, which is 10 wide
_LR_COLUMN_X = 6.1


@style.as_image
def plot_descent(record: DescentRecord, step: int) -> Figure:
    """Plot paths and losses up to `step`."""
    fig = style.auto_figure(_HEIGHT)
    grid = fig.add_gridspec(2, 2, width_ratios=(1.75, 1), height_ratios=(1.25, 1))
    _draw_surface(fig.add_subplot(grid[:, 0]), record, step)
    _draw_loss_curves(fig.add_subplot(grid[0, 1]), record, step)
    _draw_legend(fig.add_subplot(grid[1, 1]), record, step)
    return fig


# --- surface ----------------------------------------------------------------------------------------------------------


def _draw_surface(axes: Axes, record: DescentRecord, step: int) -> None:
    """Draw contour lines, arrows of steepest descent, minima, and the path of each optimizer."""
    axes.set_title(style.fit_text(record.surface, 500, 11.5))
    axes.grid(False)
    _draw_contours(axes, record)
    for x, y in record.minima:
        axes.plot(x, y, "*", markersize=19, color=_MINIMUM_COLOR, markeredgecolor=style.BLACK, zorder=4)
    for optimizer in reversed(record.optimizers):
        _draw_path(axes, optimizer, step)
    left, right, bottom, top = record.window
    legend = "arrows: steepest descent; dark lines: low loss, light lines: high loss"
    if record.minima:
        legend = f"star: minimum; {legend}"
    axes.set(xlim=(left, right), ylim=(bottom, top), xlabel=f"x\n{legend}", ylabel="y")
    if 0.4 < (top - bottom) / (right - left) < 1.6:
        axes.set_aspect("equal", anchor="N")


def _draw_contours(axes: Axes, record: DescentRecord) -> None:
    grid = record.grid
    x = np.array(grid.axis_x)
    y = np.array(grid.axis_y)
    loss = np.ma.masked_invalid(np.array(grid.loss, dtype=float))
    mask = np.ma.getmaskarray(loss)
    if mask.any():
        undefined = np.ma.masked_array(np.ones(loss.shape), ~mask)
        axes.pcolormesh(x, y, undefined, cmap="gray", vmin=0, vmax=1.16, rasterized=True)
    levels = grid.contour_levels
    if levels:
        colors = matplotlib.colormaps["cividis"](np.linspace(0, 0.9, len(levels)))
        axes.contour(x, y, loss, levels=levels, colors=list(colors), linewidths=0.9)
    if grid.arrows:
        arrow_x, arrow_y, direction_x, direction_y = np.array(grid.arrows, dtype=float).T
        axes.quiver(
            arrow_x,
            arrow_y,
            direction_x,
            direction_y,
            color=_ARROW_COLOR,
            pivot="mid",
            scale=28,
            width=0.0028,
            headwidth=4,
            zorder=1.5,
        )


def _draw_path(axes: Axes, optimizer: OptimizerPath, step: int) -> None:
    color, linestyle, marker = _STYLES[optimizer.name]
    path = np.array(optimizer.path[: step + 1])
    axes.plot(*path.T, linestyle, color=color, linewidth=1.7, zorder=3, path_effects=_OUTLINE)
    axes.plot(*path[-1], marker, color=color, markersize=8, markeredgecolor="white", markeredgewidth=0.9, zorder=5)


# --- losses -----------------------------------------------------------------------------------------------------------


def _draw_loss_curves(axes: Axes, record: DescentRecord, step: int) -> None:
    """Draw the loss at every step, on a logarithmic axis if losses span magnitudes."""
    if record.log_scale:
        low, high = _log_limits(record)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=8))
        axes.yaxis.set_major_formatter(FuncFormatter(power_of_ten))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        low, high = _linear_limits(record)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    for optimizer in reversed(record.optimizers):
        color, linestyle, marker = _STYLES[optimizer.name]
        losses = np.clip(optimizer.losses[: step + 1], low, high)
        axes.plot(losses, linestyle, color=color, linewidth=1.5)
        axes.plot(
            len(losses) - 1, losses[-1], marker, color=color, markersize=6, markeredgecolor="white", clip_on=False
        )
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set(xlim=(0, record.steps * 1.03), ylim=(low, high), xlabel="step")
    axes.set_title("Loss at every step")


def _log_limits(record: DescentRecord) -> tuple[float, float]:
    first, min_loss, max_loss = _loss_range(record)
    low = max(10.0 ** math.floor(math.log10(max(min_loss, 1e-300))), first * 10.0**-_MAX_DECADES)
    return low, float(np.clip(max_loss, 2 * first, 1000 * first))


def _linear_limits(record: DescentRecord) -> tuple[float, float]:
    first, min_loss, max_loss = _loss_range(record)
    # at least so much that the tick labels differ where the surface is flat
    min_height = 1e-3 * abs(first)
    height = max(first - min_loss, min_height) or 1.0
    above = 0.3
    if first - min_loss < min_height < max_loss - first:  # all losses rise
        height = min(max_loss - first, abs(first))
        above = 1.08
    return first - 1.08 * height, first + above * height


def _loss_range(record: DescentRecord) -> tuple[float, float, float]:
    """Return the first, the lowest and the highest loss."""
    losses = np.concatenate([optimizer.losses for optimizer in record.optimizers])
    return record.optimizers[0].losses[0], losses.min(), losses.max()


def power_of_ten(value: float, _: int) -> str:
    """Format 0.001 as '10⁻³'."""
    return "10" + str(round(math.log10(value))).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


# --- legend -----------------------------------------------------------------------------------------------------------


def _draw_legend(axes: Axes, record: DescentRecord, step: int) -> None:
    """Draw the legend with line, marker, learning rate and current loss of each optimizer."""
    style.hide_axes(axes)
    axes.set(xlim=(0, 10), ylim=(10.2, 0))
    for x, header, side in (
        (1.6, "optimizer", "left"),
        (_LR_COLUMN_X, "lr", "right"),
        (9.9, f"loss, step {step}", "right"),
    ):
        axes.text(x, 0.5, header, ha=side, va="center", color=style.GRAY, fontsize=8.5)
    for row, optimizer in enumerate(record.optimizers, 1):
        y = 0.5 + row
        color, linestyle, marker = _STYLES[optimizer.name]
        axes.plot([0.1, 1.3], [y, y], linestyle, color=color, linewidth=1.7)
        axes.plot(0.7, y, marker, color=color, markersize=7, markeredgecolor="white")
        axes.text(1.6, y, optimizer.label, va="center", fontsize=9)
        axes.text(_LR_COLUMN_X, y, format_number(optimizer.lr, 2, 6), ha="right", va="center", fontsize=9)
        axes.text(9.9, y, _describe_state(optimizer, record, step), ha="right", va="center", fontsize=9)


def _describe_state(optimizer: OptimizerPath, record: DescentRecord, step: int) -> str:
    if step >= len(optimizer.losses):
        return STOP_LABELS[optimizer.stop_reason]
    x, y = optimizer.path[step]
    left, right, bottom, top = record.window
    loss = optimizer.losses[step]
    if left <= x <= right and bottom <= y <= top:
        return f"{loss:.3g}"
    return f"outside, {format_number(loss, 2, 7)}"
