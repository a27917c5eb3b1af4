"""Plots of a training: a map of the plane for every neuron, the decision surface and the curves; or three runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ...errors import pluralize
from ...plots import decision_surface, style
from ...plots.feature_maps import colorize_maps
from .toy_training import Snapshot, ToyResult, has_diverged

_HEIGHT = 630
_COMPARISON_HEIGHT = 600
#: the region of the network diagram
_LEFT = 14
_RIGHT = 408
_TOP = 56
_BOTTOM = 394
#: contour levels in the map of a neuron
_LEVELS = np.array([-1, -0.8, -0.6, -0.4, -0.2, -0.05, 0.05, 0.2, 0.4, 0.6, 0.8, 1])
#: (fraction of the largest weight, line width from there on); few levels, so that lines change rarely between frames
_LINE_WIDTHS = ((0.6, 2.4), (0.25, 0.9), (0.0, 0.0))

#: center x, center y and side of a square
Tile = tuple[float, float, float]


@style.as_image
def plot_training(numbers: dict[str, Any], epoch: int) -> Figure:
    """Plot one run after `epoch`: network, decision surface, loss and accuracy."""
    (run,) = numbers["runs"]
    snapshot = snapshot_at(run, epoch)
    fig, canvas = style.canvas(style.WIDTH, _HEIGHT)
    _draw_network(canvas, numbers, run, snapshot)
    surface_axes = style.add_axes(fig, 548, 36, 338, 338)
    surface_axes.set_title(f"Prediction, {_format_epoch(run, epoch)}")
    decision_surface.draw_surface(surface_axes, numbers, snapshot, 6.5, 5)
    loss_axes = style.add_axes(fig, 48, 456, 280, 126)
    loss_axes.set_title("Loss")
    max_loss = decision_surface.loss_axis_max([run.curves])
    decision_surface.draw_curve(loss_axes, run.curves, "loss", epoch, numbers["epochs"], max_loss)
    accuracy_axes = style.add_axes(fig, 392, 456, 280, 126)
    accuracy_axes.set_title("Accuracy")
    decision_surface.draw_curve(accuracy_axes, run.curves, "accuracy", epoch, numbers["epochs"], 1.0)
    legend = [*decision_surface.marker_legend(numbers), *decision_surface.curve_legend(run.curves)]
    decision_surface.draw_legend(style.add_axes(fig, 704, 440, 190, 150), legend)
    return fig


@style.as_image
def plot_compare_runs(numbers: dict[str, Any], epoch: int) -> Figure:
    """Plot several runs side by side after `epoch`: decision surface and loss."""
    runs = numbers["runs"]
    fig, _ = style.canvas(style.WIDTH, _COMPARISON_HEIGHT)
    max_loss = decision_surface.loss_axis_max([run.curves for run in runs])
    column_width = (style.WIDTH - 10) / len(runs)
    side = column_width - 60
    for column, run in enumerate(runs):
        left = 52 + column * column_width
        surface_axes = style.add_axes(fig, left, 46, side, side)
        surface_axes.set_title(style.fit_text(run.label, side, 12), pad=20)
        accuracy = _format_accuracies(run, epoch)
        surface_axes.text(0, 1.025, accuracy, transform=surface_axes.transAxes, fontsize=9, color=style.BLACK)
        decision_surface.draw_surface(surface_axes, numbers, snapshot_at(run, epoch), 4.5, 3)
        loss_axes = style.add_axes(fig, left, 350, side, 130)
        decision_surface.draw_curve(loss_axes, run.curves, "loss", epoch, numbers["epochs"], max_loss)
        loss_axes.set_title("Loss")
    legend = [
        *decision_surface.class_legend(numbers),
        *decision_surface.marker_legend(numbers),
        *decision_surface.curve_legend(runs[0].curves),
    ]
    legend_axes = style.add_axes(fig, 52, _COMPARISON_HEIGHT - 66, style.WIDTH - 60, 60)
    decision_surface.draw_legend(legend_axes, legend, rows=3)
    return fig


def snapshot_at(run: ToyResult, epoch: int) -> Snapshot:
    """Return the last snapshot of a run up to `epoch`."""
    return [snapshot for snapshot in run.snapshots if snapshot["epoch"] <= epoch][-1]


def _format_epoch(run: ToyResult, epoch: int) -> str:
    if has_diverged(run, epoch):
        return f"diverged at step {run.diverged_at}"
    if epoch == 0:
        return "before training"
    return f"epoch {epoch}"


def _format_accuracies(run: ToyResult, epoch: int) -> str:
    """Format training and validation accuracy."""
    if has_diverged(run, epoch):
        return f"diverged at step {run.diverged_at}"
    texts = []
    for split in ("train", "val"):
        if split in run.curves:
            label, _, _ = decision_surface.SPLIT_STYLES[split]
            texts.append(f"{label} {style.format_percent(run.curves[split]['accuracy'][epoch], 0)}")
    return ", ".join(texts)


# --- network diagram --------------------------------------------------------------------------------------------------


def _draw_network(axes: Axes, numbers: Mapping[str, Any], run: ToyResult, snapshot: Snapshot) -> None:
    """Draw inputs, hidden neurons and outputs as columns of tiles, each a map over the plane, and weights as lines."""
    visible = run.visible_neurons or []
    counts = [2, *map(len, visible), len(numbers["classes"])]
    centers = np.linspace(_LEFT + 22, _RIGHT - 20, len(counts))
    max_side = min(38.0, 0.6 * (centers[1] - centers[0]))
    columns = []
    for x, count in zip(centers, counts, strict=True):
        columns.append(_layout_column(x, count, max_side))
    _draw_weights(axes, columns, snapshot.get("weights", []))
    axes.text(_LEFT, 24, "Output of each neuron over the plane", va="center", fontweight="bold", fontsize=10.5)
    header_size = 8.5 if len(counts) < 8 else 7
    for x, header in zip(centers, _column_headers(run), strict=True):
        axes.text(x, 45, header, ha="center", va="center", color=style.GRAY, fontsize=header_size)
    _draw_maps(axes, columns[:-1], snapshot)
    _draw_class_tiles(axes, columns[-1], numbers["classes"])
    _draw_input_names(axes, columns[0], numbers["axes"])
    legend = "Blue is positive, orange negative; thick lines are large weights."
    axes.text(_LEFT, 411, legend, va="center", fontsize=8.5, color=style.GRAY)
    axes.set(xlim=(0, style.WIDTH), ylim=(_HEIGHT, 0), aspect="auto")


def _column_headers(run: ToyResult) -> list[str]:
    visible = run.visible_neurons or []
    is_short = len(visible) >= 5
    headers = ["inputs"]
    for size, neurons in zip(run.hidden, visible, strict=True):
        if size != len(neurons):
            headers.append(f"{len(neurons)} of {size}")
        elif is_short:
            headers.append(str(size))
        else:
            headers.append(pluralize(size, "neuron"))
    return [*headers, "outputs"]


def _layout_column(x: float, count: int, max_side: float) -> list[Tile]:
    """Return the tiles of a column."""
    max_pitch = 58.0 if count < 5 else 46.0
    pitch = min(max_pitch, (_BOTTOM - _TOP) / count)
    middle = (_TOP + _BOTTOM) / 2
    side = min(max_side, 0.84 * pitch)
    tiles = []
    for i in range(count):
        tiles.append((x, middle + (i - (count - 1) / 2) * pitch, side))
    return tiles


def _draw_maps(axes: Axes, columns: Sequence[list[Tile]], snapshot: Snapshot) -> None:
    """Draw the maps of inputs and hidden neurons, each layer relative to its largest output."""
    ramp = np.linspace(-1, 1, 25)
    layers = [np.stack(np.meshgrid(ramp, ramp))]
    for maps in snapshot.get("maps", []):
        layers.append(np.array(maps, float))
    for tiles, layer_JGG in zip(columns, layers, strict=True):
        max_output = np.quantile(np.abs(np.nan_to_num(layer_JGG)), 0.998) or 1.0
        for tile, map_GG in zip(tiles, layer_JGG, strict=True):
            _draw_neuron_map(axes, tile, map_GG / max_output)


def _draw_neuron_map(axes: Axes, tile: Tile, map_GG: np.ndarray) -> None:
    """Draw the output of a neuron, scaled to [-1, 1], in bands; the first row is at the bottom."""
    x, y, side = tile
    offsets = np.linspace(-side / 2, side / 2, len(map_GG))
    band_centers = (_LEVELS[1:] + _LEVELS[:-1]) / 2
    colors = colorize_maps(band_centers[:, None, None])[:, 0, 0]
    clipped_GG = np.clip(np.ma.masked_invalid(map_GG), -1, 1)
    if np.isfinite(map_GG).any():
        axes.contourf(x + offsets, y - offsets, clipped_GG, levels=_LEVELS, colors=list(colors), zorder=3)
    axes.add_patch(Rectangle((x - side / 2, y - side / 2), side, side, fill=False, linewidth=0.7, zorder=4))


def _draw_class_tiles(axes: Axes, tiles: Sequence[Tile], classes: Sequence[str]) -> None:
    for label, (x, y, side) in enumerate(tiles):
        color, marker = decision_surface.class_style(label)
        axes.add_patch(Rectangle((x - side / 2, y - side / 2), side, side, facecolor=color, zorder=3))
        axes.plot(x, y, marker, color="white", markersize=0.28 * side, zorder=4)
        axes.text(x + side / 2 + 6, y, style.fit_text(classes[label], 66, 9), va="center", fontsize=9)


def _draw_input_names(axes: Axes, tiles: Sequence[Tile], names: Sequence[str]) -> None:
    for (x, y, side), name in zip(tiles, names, strict=True):
        axes.text(
            x - side / 2,
            y + side / 2 + 9,
            style.fit_text(name, 74, 8.5),
            va="center",
            fontsize=8.5,
            zorder=5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )


def _draw_weights(axes: Axes, columns: Sequence[list[Tile]], weights: Sequence[Sequence[Sequence[float]]]) -> None:
    """Draw a line for every weight between visible neurons, on one scale for all layers."""
    layers = [np.nan_to_num(np.array(layer, float)) for layer in weights]
    max_weight = np.quantile(np.abs(np.concatenate(list(map(np.ravel, layers)))), 0.99) or 1
    segments = []
    widths = []
    colors = []
    for below, above, weight_OI in zip(columns, columns[1:], layers, strict=False):
        for (x1, y1, side1), row in zip(above, weight_OI, strict=True):
            for (x0, y0, side0), weight in zip(below, row, strict=True):
                segments.append([(x0 + side0 / 2, y0), (x1 - side1 / 2, y1)])
                widths.append(_line_width(abs(weight) / max_weight))
                colors.append(style.choose_sign_color(weight))
    axes.add_collection(LineCollection(segments, linewidths=widths, colors=colors, zorder=1))


def _line_width(fraction: float) -> float:
    for min_fraction, width in _LINE_WIDTHS:
        if fraction >= min_fraction:
            return width
    raise AssertionError("the smallest fraction of the table is 0")
