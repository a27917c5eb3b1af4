"""Plot what the discriminator sees of the plane, where it pushes generated points, both losses, and modes covered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ...plots import style
from ...plots.decision_surface import label_plane
from .curves import TICK_STEPS, draw_losses, mark_step
from .players import find_snapshot

if TYPE_CHECKING:
    from .train_points import PointsResult, PointsSnapshot

_HEIGHT = 730
#: a map of the plane: distance from the top, side
_MAP_TOP = 62
_MAP_SIDE = 350
#: light enough for points in front of it: vermillion for generated, white for undecided, blue for real
MAP_COLORS = LinearSegmentedColormap.from_list("realness", ["#f0a070", "#ffffff", "#78b4dc"])
REAL_COLOR = style.BLUE
GENERATED_COLOR = style.VERMILLION
ARROW_COLOR = style.BLACK
#: characters that fit to the left of a map
_MAX_TICK_LENGTH = 5
#: the longest arrow, as a fraction of the window
_MAX_ARROW = 0.13


@style.as_image
def plot_points(numbers: dict[str, Any], step: int) -> Figure:
    """Plot the runs side by side after `step` steps; a single one has its curves on the right."""
    fig, _ = style.canvas(style.WIDTH, _figure_height(numbers))
    results = numbers["runs"]
    for column, result in enumerate(results):
        left = 62 + 450 * column
        _draw_map(style.add_axes(fig, left, _MAP_TOP, _MAP_SIDE, _MAP_SIDE), numbers, result, step)
        if len(results) > 1:
            losses = style.add_axes(fig, left, 480, _MAP_SIDE, 90)
            coverage = style.add_axes(fig, left, 616, _MAP_SIDE, 62)
        else:
            losses = style.add_axes(fig, 512, _MAP_TOP, _MAP_SIDE, 150)
            coverage = style.add_axes(fig, 512, 276, _MAP_SIDE, 136)
        draw_losses(losses, results, result, numbers["steps"])
        _draw_coverage(coverage, numbers, result)
        for axes in (losses, coverage):
            mark_step(axes, step)
    _draw_legend(fig)
    return fig


def _figure_height(numbers: dict[str, Any]) -> int:
    if len(numbers["runs"]) > 1:
        return _HEIGHT
    return 470


def _draw_legend(fig: Figure) -> None:
    handles = [
        Line2D([], [], color=REAL_COLOR, marker="o", markersize=4, linestyle=""),
        Line2D([], [], color=GENERATED_COLOR, marker="o", markersize=5, linestyle=""),
        Line2D([], [], color=ARROW_COLOR, marker=r"$\rightarrow$", markersize=14, linestyle=""),
        Line2D([], [], color=MAP_COLORS(1.0), marker="s", markersize=9, linestyle=""),
        Line2D([], [], color=MAP_COLORS(0.0), marker="s", markersize=9, linestyle=""),
    ]
    labels = ["real", "generated", "gradient of D", "D says real", "D says generated"]
    fig.legend(handles, labels, loc="upper left", bbox_to_anchor=(0.055, 0.998), ncols=5, columnspacing=1.6)


def _draw_map(axes: Axes, numbers: dict[str, Any], result: PointsResult, step: int) -> None:
    snapshot: PointsSnapshot = find_snapshot(result, step)
    left, right, bottom, top = numbers["window"]
    title = f"{result.run.label}, step {snapshot['step']}"
    axes.set_title(title[:1].upper() + title[1:])
    axes.grid(False)
    axes.imshow(
        np.array(snapshot["realness"]),
        extent=(left, right, bottom, top),
        origin="lower",
        cmap=MAP_COLORS,
        vmin=0,
        vmax=1,
        interpolation="bilinear",
        aspect="auto",
    )
    real_N2 = np.array(numbers["real"])
    axes.plot(real_N2[:, 0], real_N2[:, 1], ".", color=REAL_COLOR, markersize=3.2, alpha=0.8)
    fake_n2 = np.array(snapshot["generated"])
    axes.plot(fake_n2[:, 0], fake_n2[:, 1], "o", color=GENERATED_COLOR, markersize=3.6, markeredgewidth=0, alpha=0.75)
    _draw_arrows(axes, numbers, snapshot)
    label_plane(axes, numbers["window"], numbers["axes"], _MAX_TICK_LENGTH)


def _draw_arrows(axes: Axes, numbers: dict[str, Any], snapshot: PointsSnapshot) -> None:
    """Draw the direction of each gradient; lengths are by the square root, on one scale for all steps and runs."""
    left, right, bottom, top = numbers["window"]
    arrows_n4 = np.array(snapshot["arrows"])
    length_n = np.hypot(arrows_n4[:, 2], arrows_n4[:, 3])
    arrows_n4 = arrows_n4[length_n > 0]
    length_n = length_n[length_n > 0]
    # the direction on the page, whatever the units of both axes are
    direction_n2 = arrows_n4[:, 2:] * np.array([right - left, top - bottom])
    direction_n2 = direction_n2 / np.hypot(direction_n2[:, 0], direction_n2[:, 1])[:, None]
    fraction_n = np.sqrt(length_n / max(numbers["max_gradient"], 1e-30)).clip(0, 1)
    offset_n2 = _MAX_ARROW * fraction_n[:, None] * direction_n2 * np.array([right - left, top - bottom])
    axes.quiver(
        arrows_n4[:, 0],
        arrows_n4[:, 1],
        offset_n2[:, 0],
        offset_n2[:, 1],
        angles="xy",
        scale_units="xy",
        scale=1,
        color=ARROW_COLOR,
        width=0.004,
        headwidth=3.5,
        headlength=4,
        headaxislength=3.6,
        zorder=4,
    )


def _draw_coverage(axes: Axes, numbers: dict[str, Any], result: PointsResult) -> None:
    count = numbers["num_modes"]
    axes.set_title(f"{numbers['mode'].capitalize()}s covered, of {count}")
    axes.plot(
        result.coverage["step"], result.coverage["covered"], color=style.GREEN, drawstyle="steps-post", clip_on=False
    )
    axes.set(xlim=(0, numbers["steps"]), ylim=(0, 1.06 * count), xlabel="training step")
    axes.set_yticks([0, count // 2, count])
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=TICK_STEPS))
