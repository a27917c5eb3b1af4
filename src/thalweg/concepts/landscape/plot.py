"""The way of a training over its loss: the straight line, the path, two planes, the curvature."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ...plots import style

_HEIGHT = 420


@style.as_image
def plot_landscape(numbers: dict[str, Any], part: str, told: str = "") -> Figure:
    """Draws one part of the numbers of the concept: line, path, plane, filter_plane or curvature."""
    made = style.auto_figure(_HEIGHT)
    if told:
        made.suptitle(style.fit_text(told, 0.9 * style.WIDTH), x=0.01, ha="left", fontsize=9.5, color=style.GRAY)
    {
        "line": _draw_interpolation,
        "path": _draw_path,
        "plane": lambda figure, them: _draw_plane(figure, them, "plane", "The plane that holds most of the path"),
        "filter_plane": lambda figure, them: _draw_plane(figure, them, "filter_plane", "The same, filter by filter"),
        "curvature": _draw_curvature,
    }[part](made, numbers)
    return made


def _draw_interpolation(made: Figure, numbers: dict[str, Any]) -> None:
    line = numbers["line"]
    left, right = made.subplots(1, 2)
    for axes, what in ((left, "loss"), (right, "accuracy")):
        share, seen, unseen = line["share"], line[f"train_{what}"], line[f"test_{what}"]
        axes.plot(share, seen, color=style.TRAIN_COLOR, marker="o", markersize=3, label="training")
        axes.plot(share, unseen, color=style.VAL_COLOR, marker="s", markersize=3, linestyle="--", label="test")
        for place, name in ((0, "start"), (1, "end")):
            axes.axvline(place, color=style.GRAY, linewidth=0.8)
            # where the curve is not: a loss is high at the start and low at the end, an accuracy the other way
            top = (what == "loss") == (name == "end")
            axes.annotate(
                name, (place, int(top)), (3, -3 if top else 3), xycoords=("data", "axes fraction"),
                textcoords="offset points", va="top" if top else "bottom", fontsize=8.5, color=style.GRAY,
            )  # fmt: skip
        axes.set(xlabel="share of the way from the start to the end")
        axes.legend(loc="center right")
    left.set(title="Loss on the straight line", ylabel="mean loss per example")
    if min(line["train_loss"] + line["test_loss"]) > 0:
        _set_log_scale(left)
    right.set(title="Accuracy on it", ylim=(-0.03, 1.03))
    right.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))


def _set_log_scale(axes: Axes) -> None:
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 1e3 else (1,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _draw_path(made: Figure, numbers: dict[str, Any]) -> None:
    path = numbers["path"]
    left, right = made.subplots(1, 2)
    left.plot(path["step"], path["loss"], color=style.BLUE, marker="o", markersize=4, label="loss")
    left.plot(
        path["step"], path["gradient_norm"], color=style.VERMILLION, marker="s", markersize=4, linestyle="--",
        label="length of the gradient",
    )  # fmt: skip
    if min(path["loss"] + path["gradient_norm"]) > 0:
        _set_log_scale(left)
    left.set(title="Loss and slope along the path", xlabel="updates", ylabel="loss; length of the gradient")
    left.legend()
    right.plot(path["step"], path["from_start"], color=style.BLUE, marker="o", markersize=4, label="from the start")
    right.plot(
        path["step"],
        path["from_end"],
        color=style.GREEN,
        marker="^",
        markersize=4,
        linestyle="--",
        label="from the end",
    )
    right.plot(
        path["step"], path["beside_line"], color=style.ORANGE, marker="s", markersize=4, linestyle=":",
        label="from the straight line",
    )  # fmt: skip
    right.set(title="How far the weights are", xlabel="updates", ylabel="distance between weights", ylim=(0, None))
    right.legend()


def _draw_plane(made: Figure, numbers: dict[str, Any], name: str, title: str) -> None:
    """The ground from above, and as a relief; both on one scale of colours, logarithmic in the loss."""
    plane = numbers[name]
    first, second = np.array(plane["first"]), np.array(plane["second"])
    loss, path = np.array(plane["loss"]), np.array(plane["path"])
    height = np.log10(np.clip(np.nan_to_num(loss, nan=np.inf, posinf=loss[np.isfinite(loss)].max()), 1e-8, None))
    # far above the path the loss explodes, and nothing else could be told apart
    low, high = height.min(), min(height.max(), np.log10(max(*numbers["path"]["loss"], 1e-8)) + 0.7)
    height = np.minimum(height, high)
    levels = np.linspace(low, high if high > low else low + 1, 21)
    grid = made.add_gridspec(1, 2, width_ratios=(1.15, 1))
    above = made.add_subplot(grid[0])
    shown = above.contourf(first, second, height, levels, cmap="cividis", extend="max")
    above.contour(first, second, height, levels[::2], colors="white", linewidths=0.5, alpha=0.6)
    bar = made.colorbar(shown, ax=above, shrink=0.85)
    bar.outline.set_visible(False)
    bar.set_ticks(_decade_ticks(levels[0], levels[-1]))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{10**value:.2g}"))
    bar.set_label("loss")
    above.plot(*path.T, color="white", linewidth=3, zorder=3, clip_on=True)
    above.plot(*path.T, "o-", color=style.VERMILLION, markersize=4, linewidth=1.6, zorder=4)
    names = plane["shares"] or [None, None]
    for axis, share, number in ((above.xaxis, names[0], "first"), (above.yaxis, names[1], "second")):
        held = "" if share is None else f", {style.format_percent(share)} of the path"
        axis.set_label_text(f"{number} direction{held}")
    for point, name in ((path[0], "start"), (path[-1], "end")):
        if first[0] <= point[0] <= first[-1] and second[0] <= point[1] <= second[-1]:
            above.annotate(
                name, point, (6, 6), textcoords="offset points", color="white", fontweight="bold", fontsize=9, zorder=5,
                path_effects=[withStroke(linewidth=2.5, foreground=style.BLACK)],
            )  # fmt: skip
    above.set(title=title, xlim=first[[0, -1]], ylim=second[[0, -1]])
    above.grid(False)
    _draw_surface_3d(made.add_subplot(grid[1], projection="3d"), first, second, height, path)


def _decade_ticks(low: float, high: float) -> list[float]:
    """Places of round losses on a logarithmic scale."""
    subs = (1, 2, 5) if high - low < 1.5 else (1, 3) if high - low < 3 else (1,)
    found = [np.log10(sub * 10.0**whole) for whole in range(int(np.floor(low)), int(np.ceil(high)) + 1) for sub in subs]
    return [float(place) for place in found if low <= place <= high]


def _draw_surface_3d(axes: Any, first: np.ndarray, second: np.ndarray, height: np.ndarray, path: np.ndarray) -> None:
    from scipy.interpolate import RegularGridInterpolator

    x, y = np.meshgrid(first, second)
    axes.plot_surface(x, y, height, cmap="cividis", linewidth=0, antialiased=True, alpha=0.9, rcount=40, ccount=40)
    inside = (path >= [first[0], second[0]]).all(1) & (path <= [first[-1], second[-1]]).all(1)
    if inside.sum() > 1:
        over = RegularGridInterpolator((second, first), height)(path[inside][:, ::-1]) + 0.02 * np.ptp(height)
        axes.plot(*path[inside].T, over, "o-", color=style.VERMILLION, markersize=3, linewidth=1.5, zorder=10)
    axes.set(xticks=[], yticks=[], zticks=_decade_ticks(height.min(), height.max()))
    axes.zaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{10**value:.2g}"))
    axes.view_init(elev=42, azim=-60)
    axes.set_box_aspect((1, 1, 0.62), zoom=1.05)
    axes.set_title("As a relief")


def _draw_curvature(made: Figure, numbers: dict[str, Any]) -> None:
    curve, path = numbers["curvature"], numbers["path"]
    left, right = made.subplots(1, 2)
    step = np.array(curve["step"])
    for axes, key, colour, mark, title in (
        (left, "largest", style.BLUE, "o", "Steepest bend upwards"),
        (right, "smallest", style.VERMILLION, "s", "Steepest bend downwards"),
    ):
        axes.errorbar(step, curve[key], curve[f"{key}_error"], color=colour, marker=mark, markersize=5, capsize=3)
        axes.axhline(0, color=style.GRAY, linewidth=0.8)
        axes.set(title=title, xlabel="updates", ylabel=f"{key} eigenvalue of the Hessian")
        axes.set_xlim(-0.03 * path["step"][-1], 1.03 * path["step"][-1])
    left.set_ylim(bottom=0 if min(curve["largest"]) >= 0 else None)
    right.set_xlabel("updates\n(below 0 a direction leads further down)")
    left.set_xlabel("updates\n(the higher, the narrower the ravine)")
