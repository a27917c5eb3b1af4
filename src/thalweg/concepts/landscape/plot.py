"""Plots of the loss landscape of a training: straight line, path, two planes, curvature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ...plots import style
from .measurements import PlaneRecord
from .records import LandscapeRecord

_HEIGHT = 420
#: color scale of the planes, in factors of ten above the highest loss of the path
_DECADES_ABOVE_PATH = 0.7
_MIN_LOSS = 1e-8


@style.as_image
def plot_landscape(record: LandscapeRecord, part: str, title: str = "") -> Figure:
    """Plot one part of the numbers: line, path, plane, filter_plane or curvature."""
    fig = style.auto_figure(_HEIGHT)
    if title:
        fig.suptitle(style.fit_text(title, 0.9 * style.WIDTH), x=0.01, ha="left", fontsize=9.5, color=style.GRAY)
    if part == "line":
        _draw_line(fig, record)
    elif part == "path":
        _draw_path(fig, record)
    elif part == "plane":
        _draw_plane(fig, record, record.plane, "Plane of the principal directions")
    elif part == "filter_plane":
        _draw_plane(fig, record, record.filter_plane, "Filter-normalized plane")
    else:
        _draw_curvature(fig, record)
    return fig


# --- straight line and path -------------------------------------------------------------------------------------------


def _draw_line(fig: Figure, record: LandscapeRecord) -> None:
    line = record.line
    loss_axes, accuracy_axes = fig.subplots(1, 2)
    _draw_train_and_test(loss_axes, line.fraction, line.train_loss, line.test_loss)
    _draw_train_and_test(accuracy_axes, line.fraction, line.train_accuracy, line.test_accuracy)
    # where the curve is not: a loss is high at the start and low at the end, an accuracy the other way round
    _mark_ends(loss_axes, start_at_top=False)
    _mark_ends(accuracy_axes, start_at_top=True)
    loss_axes.set(title="Loss on the straight line", ylabel="mean loss per example")
    if min(line.train_loss + line.test_loss) > 0:
        _set_log_scale(loss_axes)
    accuracy_axes.set(title="Accuracy on the straight line", ylim=(-0.03, 1.03))
    accuracy_axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))


def _draw_train_and_test(axes: Axes, fractions: list[float], train: list[float], test: list[float]) -> None:
    axes.plot(fractions, train, color=style.TRAIN_COLOR, marker="o", markersize=3, label="training")
    axes.plot(fractions, test, color=style.VAL_COLOR, marker="s", markersize=3, linestyle="--", label="test")
    axes.set(xlabel="fraction of the way from initial to final weights")
    axes.legend(loc="center right")


def _mark_ends(axes: Axes, start_at_top: bool) -> None:
    """Mark start and end of the training with vertical lines."""
    for x, label, is_top in ((0, "start", start_at_top), (1, "end", not start_at_top)):
        axes.axvline(x, color=style.GRAY, linewidth=0.8)
        axes.annotate(
            label,
            (x, int(is_top)),
            (3, -3 if is_top else 3),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            va="top" if is_top else "bottom",
            fontsize=8.5,
            color=style.GRAY,
        )


def _set_log_scale(axes: Axes) -> None:
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=style.choose_tick_factors(high / low >= 1e3)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


@dataclass(frozen=True)
class _CurveStyle:
    color: str
    marker: str
    linestyle: str
    label: str


def _draw_curve(axes: Axes, steps: list[int], values: list[float], curve: _CurveStyle) -> None:
    axes.plot(
        steps,
        values,
        color=curve.color,
        marker=curve.marker,
        markersize=4,
        linestyle=curve.linestyle,
        label=curve.label,
    )


def _draw_path(fig: Figure, record: LandscapeRecord) -> None:
    path = record.path
    loss_axes, distance_axes = fig.subplots(1, 2)
    _draw_curve(loss_axes, path.step, path.loss, _CurveStyle(style.BLUE, "o", "-", "loss"))
    _draw_curve(loss_axes, path.step, path.gradient_norm, _CurveStyle(style.VERMILLION, "s", "--", "gradient norm"))
    if min(path.loss + path.gradient_norm) > 0:
        _set_log_scale(loss_axes)
    loss_axes.set(title="Loss and gradient along the path", xlabel="steps", ylabel="loss; gradient norm")
    loss_axes.legend()
    for values, curve in (
        (path.distance_from_start, _CurveStyle(style.BLUE, "o", "-", "from the initial weights")),
        (path.distance_from_end, _CurveStyle(style.GREEN, "^", "--", "from the final weights")),
        (path.distance_from_line, _CurveStyle(style.ORANGE, "s", ":", "from the straight line")),
    ):
        _draw_curve(distance_axes, path.step, values, curve)
    distance_axes.set(title="Distance of the weights", xlabel="steps", ylabel="Euclidean distance", ylim=(0, None))
    distance_axes.legend()


# --- planes -----------------------------------------------------------------------------------------------------------


def _draw_plane(fig: Figure, record: LandscapeRecord, plane: PlaneRecord, title: str) -> None:
    """Draw the loss as contours and as a 3D surface, on one logarithmic color scale."""
    path = np.array(plane.path)
    height = _log_loss(plane, max_path_loss=max(record.path.loss))
    grid = fig.add_gridspec(1, 2, width_ratios=(1.15, 1))
    axes = fig.add_subplot(grid[0])
    _draw_contours(fig, axes, plane, height)
    axes.plot(*path.T, color="white", linewidth=3, zorder=3, clip_on=True)
    axes.plot(*path.T, "o-", color=style.VERMILLION, markersize=4, linewidth=1.6, zorder=4)
    _label_plane_axes(axes, plane)
    for point, label in ((path[0], "start"), (path[-1], "end")):
        if _is_inside(plane, point[None])[0]:
            axes.annotate(
                label,
                point,
                (6, 6),
                textcoords="offset points",
                color="white",
                fontweight="bold",
                fontsize=9,
                zorder=5,
                path_effects=[withStroke(linewidth=2.5, foreground=style.BLACK)],
            )
    axes.set(title=title, xlim=(plane.first[0], plane.first[-1]), ylim=(plane.second[0], plane.second[-1]))
    axes.grid(False)
    _draw_surface_3d(fig.add_subplot(grid[1], projection="3d"), plane, height)


def _log_loss(plane: PlaneRecord, max_path_loss: float) -> np.ndarray:
    """Return log10 of the loss, cut off above the path, where the loss explodes and would hide all else."""
    loss = np.array(plane.loss)
    finite = np.nan_to_num(loss, nan=np.inf, posinf=loss[np.isfinite(loss)].max())
    height = np.log10(np.clip(finite, _MIN_LOSS, None))
    return np.minimum(height, np.log10(max(max_path_loss, _MIN_LOSS)) + _DECADES_ABOVE_PATH)


def _draw_contours(fig: Figure, axes: Axes, plane: PlaneRecord, height: np.ndarray) -> None:
    low = height.min()
    high = height.max()
    if not high > low:
        high = low + 1
    levels = np.linspace(low, high, 21)
    filled = axes.contourf(plane.first, plane.second, height, levels, cmap="cividis", extend="max")
    axes.contour(plane.first, plane.second, height, levels[::2], colors="white", linewidths=0.5, alpha=0.6)
    colorbar = fig.colorbar(filled, ax=axes, shrink=0.85)
    colorbar.outline.set_visible(False)
    colorbar.set_ticks(_decade_ticks(levels[0], levels[-1]))
    colorbar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{10**value:.2g}"))
    colorbar.set_label("loss")


def _label_plane_axes(axes: Axes, plane: PlaneRecord) -> None:
    labels = ["first direction", "second direction"]
    if plane.explained_variance is not None:
        for i, fraction in enumerate(plane.explained_variance):
            labels[i] += f", {style.format_percent(fraction)} of the path"
    axes.set(xlabel=labels[0], ylabel=labels[1])


def _is_inside(plane: PlaneRecord, points_N2: np.ndarray) -> np.ndarray:
    low = [plane.first[0], plane.second[0]]
    high = [plane.first[-1], plane.second[-1]]
    return np.asarray((points_N2 >= low).all(1) & (points_N2 <= high).all(1))


def _decade_ticks(low: float, high: float) -> list[float]:
    """Return log10 of round losses between `low` and `high`."""
    multiples: tuple[int, ...] = (1,)
    if high - low < 1.5:
        multiples = (1, 2, 5)
    elif high - low < 3:
        multiples = (1, 3)
    ticks = []
    for exponent in range(int(np.floor(low)), int(np.ceil(high)) + 1):
        for multiple in multiples:
            tick = float(np.log10(multiple * 10.0**exponent))
            if low <= tick <= high:
                ticks.append(tick)
    return ticks


def _draw_surface_3d(axes: Any, plane: PlaneRecord, height: np.ndarray) -> None:
    from scipy.interpolate import RegularGridInterpolator

    x, y = np.meshgrid(plane.first, plane.second)
    axes.plot_surface(x, y, height, cmap="cividis", linewidth=0, antialiased=True, alpha=0.9, rcount=40, ccount=40)
    path = np.array(plane.path)
    visible = path[_is_inside(plane, path)]
    if len(visible) > 1:
        interpolator = RegularGridInterpolator((plane.second, plane.first), height)
        z = interpolator(visible[:, ::-1]) + 0.02 * np.ptp(height)
        axes.plot(*visible.T, z, "o-", color=style.VERMILLION, markersize=3, linewidth=1.5, zorder=10)
    axes.set(xticks=[], yticks=[], zticks=_decade_ticks(height.min(), height.max()))
    axes.zaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{10**value:.2g}"))
    axes.view_init(elev=42, azim=-60)
    axes.set_box_aspect((1, 1, 0.62), zoom=1.05)
    axes.set_title("3D view")


# --- curvature --------------------------------------------------------------------------------------------------------


def _draw_curvature(fig: Figure, record: LandscapeRecord) -> None:
    curvature = record.curvature
    largest_axes, smallest_axes = fig.subplots(1, 2)
    for axes, values, errors, color, marker in (
        (largest_axes, curvature.largest, curvature.largest_error, style.BLUE, "o"),
        (smallest_axes, curvature.smallest, curvature.smallest_error, style.VERMILLION, "s"),
    ):
        axes.errorbar(curvature.step, values, errors, color=color, marker=marker, markersize=5, capsize=3)
        axes.axhline(0, color=style.GRAY, linewidth=0.8)
        axes.set(ylabel="eigenvalue of the Hessian")
        last_step = record.path.step[-1]
        axes.set_xlim(-0.03 * last_step, 1.03 * last_step)
    largest_axes.set(title="Largest eigenvalue", xlabel="steps\n(larger: a narrower valley)")
    smallest_axes.set(title="Smallest eigenvalue", xlabel="steps\n(below 0: a direction of negative curvature)")
    bottom = None
    if min(curvature.largest) >= 0:
        bottom = 0
    largest_axes.set_ylim(bottom=bottom)
