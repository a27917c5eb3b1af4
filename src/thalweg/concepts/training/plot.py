"""The training of a network on points of the plane: the map of every neuron, the surface, the curves; or three runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ...plots import decision_surface as plane
from ...plots import style
from ...plots.feature_maps import colorize_maps

#: units: the whole picture; the network's part, from the left edge and from above
_HEIGHT, _COMPARISON_HEIGHT = 630, 600
#: what is told apart in the map of a neuron
_LEVELS = np.array([-1, -0.8, -0.6, -0.4, -0.2, -0.05, 0.05, 0.2, 0.4, 0.6, 0.8, 1])
#: of the largest weight a share, and how wide a line is from there on; steps, so that lines stay the same for a while
_LINE_WIDTHS = ((0.6, 2.4), (0.25, 0.9), (0.0, 0.0))
_LEFT, _RIGHT, _TOP, _BOTTOM = 14, 408, 56, 394


@style.as_image
def plot_training(numbers: dict[str, Any], epoch: int) -> Figure:
    """Draws the numbers of the concept `plot_training`, one run, after an epoch."""
    (run,) = numbers["runs"]
    snapshot = snapshot_at(run, epoch)
    made, paper = style.canvas(style.WIDTH, _HEIGHT)
    _draw_network(paper, numbers, run, snapshot)
    output = style.add_axes(made, 548, 36, 338, 338)
    output.set_title(f"The output, {_format_epoch(run, epoch)}")
    plane.draw_surface(output, numbers, snapshot, 6.5, 5)
    loss, accuracy = style.add_axes(made, 48, 456, 280, 126), style.add_axes(made, 392, 456, 280, 126)
    loss.set_title("Loss")
    plane.draw_curve(loss, run, "loss", epoch, numbers["epochs"], plane.loss_axis_max([run]))
    accuracy.set_title("Accuracy")
    plane.draw_curve(accuracy, run, "accuracy", epoch, numbers["epochs"], 1.0)
    plane.draw_legend(
        style.add_axes(made, 704, 440, 190, 150), [*plane.marker_legend(numbers), *plane.curve_legend(run)]
    )
    return made


@style.as_image
def plot_compare_runs(numbers: dict[str, Any], epoch: int) -> Figure:
    """Draws the numbers of the concept `plot_training`, several runs side by side, after an epoch."""
    runs = numbers["runs"]
    made, _ = style.canvas(style.WIDTH, _COMPARISON_HEIGHT)
    top, each = plane.loss_axis_max(runs), (style.WIDTH - 10) / len(runs)
    for place, run in enumerate(runs):
        left = 52 + place * each
        above = style.add_axes(made, left, 46, each - 60, each - 60)
        above.set_title(style.fit_text(run["label"], each - 60, 12), pad=20)
        above.text(0, 1.025, _describe_accuracy(run, epoch), transform=above.transAxes, fontsize=9, color=style.BLACK)
        plane.draw_surface(above, numbers, snapshot_at(run, epoch), 4.5, 3)
        below = style.add_axes(made, left, 350, each - 60, 130)
        plane.draw_curve(below, run, "loss", epoch, numbers["epochs"], top)
        below.set_title("Loss")
    keys = [*plane.class_legend(numbers), *plane.marker_legend(numbers), *plane.curve_legend(runs[0])]
    plane.draw_legend(style.add_axes(made, 52, _COMPARISON_HEIGHT - 66, style.WIDTH - 60, 60), keys, rows=3)
    return made


def snapshot_at(run: Mapping[str, Any], epoch: int) -> Mapping[str, Any]:
    """The last snapshot of a run that is not later."""
    return [snapshot for snapshot in run["snapshots"] if snapshot["epoch"] <= epoch][-1]


def _has_diverged(run: Mapping[str, Any], epoch: int) -> bool:
    return run["ended"] is not None and epoch >= run["snapshots"][-1]["epoch"]


def _format_epoch(run: Mapping[str, Any], epoch: int) -> str:
    if _has_diverged(run, epoch):
        return f"diverged at update {run['ended']}"
    return f"epoch {epoch}" if epoch else "before training"


def _describe_accuracy(run: Mapping[str, Any], epoch: int) -> str:
    """How many are right, of the training points and of those held out for validation."""
    if _has_diverged(run, epoch):
        return f"diverged at update {run['ended']}"
    shares = [
        f"{plane.SPLIT_STYLES[part][0]} {style.format_percent(run['curves'][part]['accuracy'][epoch], 0)}"
        for part in ("train", "valid")
        if part in run["curves"]
    ]
    return ", ".join(shares)


# --- the network -----------------------------------------------------------------------------------------------------


def _draw_network(axes: Axes, numbers: dict[str, Any], run: Mapping[str, Any], snapshot: Mapping[str, Any]) -> None:
    """Inputs, hidden neurons and outputs as columns of tiles, the map of each over the plane; lines are weights."""
    counts = [2, *map(len, run["shown"]), len(numbers["classes"])]
    centres = np.linspace(_LEFT + 22, _RIGHT - 20, len(counts))
    side = min(38.0, 0.6 * (centres[1] - centres[0]))
    columns = [_layout_column(x, count, side) for x, count in zip(centres, counts, strict=True)]
    _draw_weights(axes, columns, snapshot["weights"])
    axes.text(_LEFT, 24, "What every neuron answers over the plane", va="center", fontweight="bold", fontsize=10.5)
    told = " neurons" if len(counts) < 7 else ""
    hidden = [_draw_header(size, len(shown), told) for size, shown in zip(run["hidden"], run["shown"], strict=True)]
    for x, head in zip(centres, ["inputs", *hidden, "outputs"], strict=True):
        size = 8.5 if len(counts) < 8 else 7
        axes.text(x, 45, head, ha="center", va="center", color=style.GRAY, fontsize=size)
    ramp = np.linspace(-1, 1, 25)
    maps = [np.stack(np.meshgrid(ramp, ramp)), *(np.array(layer, float) for layer in snapshot["maps"])]
    for tiles, layer in zip(columns, maps, strict=False):
        largest = np.quantile(np.abs(np.nan_to_num(layer)), 0.998) or 1.0
        for tile, values_GG in zip(tiles, layer, strict=True):
            _draw_neuron_map(axes, tile, values_GG / largest)
    for label, (x, y, size) in enumerate(columns[-1]):
        colour, marker = plane.class_style(label)
        axes.add_patch(Rectangle((x - size / 2, y - size / 2), size, size, facecolor=colour, zorder=3))
        axes.plot(x, y, marker, color="white", markersize=0.28 * size, zorder=4)
        name = style.fit_text(numbers["classes"][label], 66, 9)
        axes.text(x + size / 2 + 6, y, name, va="center", fontsize=9)
    for place, name in enumerate(numbers["axes"]):
        x, y, size = columns[0][place]
        axes.text(
            x - size / 2, y + size / 2 + 9, style.fit_text(name, 74, 8.5), va="center", fontsize=8.5, zorder=5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )  # fmt: skip
    told = "Blue is positive, orange negative; thick lines are large weights."
    axes.text(_LEFT, 411, told, va="center", fontsize=8.5, color=style.GRAY)
    axes.set(xlim=(0, style.WIDTH), ylim=(_HEIGHT, 0), aspect="auto")


def _draw_neuron_map(axes: Axes, tile: tuple[float, float, float], values_GG: np.ndarray) -> None:
    """What a neuron answers, where 1 is the largest of its layer, in bands; the first row is below."""
    x, y, size = tile
    along = np.linspace(-size / 2, size / 2, len(values_GG))
    colours = colorize_maps(((_LEVELS[1:] + _LEVELS[:-1]) / 2)[:, None, None])[:, 0, 0]
    shown_GG = np.clip(np.ma.masked_invalid(values_GG), -1, 1)
    if shown_GG.count():
        axes.contourf(x + along, y - along, shown_GG, levels=_LEVELS, colors=list(colours), zorder=3)
    axes.add_patch(Rectangle((x - size / 2, y - size / 2), size, size, fill=False, linewidth=0.7, zorder=4))


def _draw_header(size: int, shown: int, told: str) -> str:
    told = told.removesuffix("s") if size == 1 else told
    return f"{size}{told}" if size == shown else f"{shown} of {size}"


def _layout_column(x: float, count: int, side: float) -> list[tuple[float, float, float]]:
    """Centre and side of every tile of a column."""
    pitch = min(58.0 if count < 5 else 46.0, (_BOTTOM - _TOP) / count)
    middle = (_TOP + _BOTTOM) / 2
    return [(x, middle + (place - (count - 1) / 2) * pitch, min(side, 0.84 * pitch)) for place in range(count)]


def _draw_weights(axes: Axes, columns: Sequence[list], weights: Sequence[Sequence[Sequence[float]]]) -> None:
    """A line for every weight between tiles that are shown, on one scale for all layers."""
    every = np.concatenate([np.nan_to_num(np.array(layer, float)).ravel() for layer in weights])
    largest = np.quantile(np.abs(every), 0.99) or 1
    segments, widths, colours = [], [], []
    for before, after, layer in zip(columns, columns[1:], weights, strict=False):
        for (x1, y1, size1), row in zip(after, np.nan_to_num(np.array(layer, float)), strict=True):
            for (x0, y0, size0), weight in zip(before, row, strict=True):
                width = next(width for share, width in _LINE_WIDTHS if abs(weight) >= share * largest)
                segments.append([(x0 + size0 / 2, y0), (x1 - size1 / 2, y1)])
                widths.append(width)
                colours.append(style.BLUE if weight >= 0 else style.VERMILLION)
    axes.add_collection(LineCollection(segments, linewidths=widths, colors=colours, zorder=1))
