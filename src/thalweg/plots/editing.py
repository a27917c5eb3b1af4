"""Plots of edited images: what was requested against what was measured, and what each axis moves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from . import style

# T steps, K axes, A attributes

_PANEL_SIZE = 260
_MAX_PANELS = 12
_COLUMNS = 3
_MARGIN = 14
_CELL = 46
_FONT = 9
_TITLE_FONT = 10.5
_MAX_LABEL = 130
_GAP = 4
_MIN_TILE = 40
_MAX_TILE = 96


@style.as_image
def plot_requested_measured(
    step_T: np.ndarray, change_KTA: np.ndarray, targets: Sequence[int], axes_names: Sequence[str], title: str = ""
) -> Figure:
    """Plot the mean change of all attributes against the step of each axis, a panel per axis.

    Args:
        step_T: Requested changes, in standard deviations.
        change_KTA: Measured mean changes, in standard deviations.
        targets: The attribute that each axis is meant to move.
        axes_names: Names of the axes.
        title: Title of the figure.

    Returns:
        The figure, with at most 12 panels.
    """
    count = min(len(axes_names), _MAX_PANELS)
    columns = min(count, _COLUMNS)
    rows = -(-count // columns)
    fig = style.auto_figure(40 + _PANEL_SIZE * rows, width=style.WIDTH if columns == _COLUMNS else 320 * columns + 40)
    style.add_title(fig, title)
    grid = fig.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat
    for index, axes in enumerate(grid):
        if index >= count:
            axes.axis("off")
            continue
        axes.plot(step_T, step_T, color=style.GRAY, linewidth=0.9, linestyle="--", label="as requested")
        for attribute in range(change_KTA.shape[2]):
            if attribute != targets[index]:
                axes.plot(step_T, change_KTA[index, :, attribute], color=style.VERMILLION, linewidth=0.9, alpha=0.7)
        axes.plot([], [], color=style.VERMILLION, linewidth=0.9, label="the others")
        axes.plot(
            step_T, change_KTA[index, :, targets[index]], color=style.BLUE, marker="o", markersize=3, label="target"
        )
        axes.set_title(style.ellipsize(axes_names[index], 30))
        if index >= count - columns:
            axes.set_xlabel("requested change (sd)")
        if index % columns == 0:
            axes.set_ylabel("measured change (sd)")
    fig.axes[0].legend(fontsize=8)
    return fig


@style.as_image
def plot_effects(
    effects: Sequence[np.ndarray],
    titles: Sequence[str],
    row_names: Sequence[Sequence[str]],
    attribute_names: Sequence[str],
) -> Figure:
    """Plot tables of numbers from -1 to 1 and beyond side by side: rows against attributes.

    Args:
        effects: Tables (K, A).
        titles: A title for each table.
        row_names: Names of the rows of each table.
        attribute_names: Names of the columns.

    Returns:
        The figure.
    """
    labels = [style.fit_text(name, _MAX_LABEL, _FONT) for name in attribute_names]
    row_labels = [[style.fit_text(name, _MAX_LABEL, _FONT) for name in names] for names in row_names]
    left = _MARGIN + max(style.text_width(label, _FONT) for table in row_labels for label in table) + 8
    top = _MARGIN + 26 + max(style.text_width(label, _FONT) for label in labels) + 8
    title_width = max(style.text_width(title, _TITLE_FONT, bold=True) for title in titles)
    step = max(left + _CELL * len(labels), title_width + _MARGIN) + _MARGIN
    most_rows = max(len(table) for table in effects)
    fig, axes = style.canvas(step * len(effects), top + _CELL * most_rows + _MARGIN)
    for index, (table_KA, title) in enumerate(zip(effects, titles, strict=True)):
        x = index * step + left
        axes.text(index * step + _MARGIN, _MARGIN + 4, title, va="center", fontweight="bold", fontsize=_TITLE_FONT)
        _draw_table(axes, (x, top), table_KA)
        for column, label in enumerate(labels):
            axes.text(x + (column + 0.5) * _CELL, top - 5, label, rotation=90, ha="center", va="bottom", fontsize=_FONT)
        for row, label in enumerate(row_labels[index]):
            axes.text(x - 6, top + (row + 0.5) * _CELL, label, ha="right", va="center", fontsize=_FONT)
    return fig


def _draw_table(axes: Axes, corner: tuple[float, float], table_KA: np.ndarray) -> None:
    x = corner[0] + _CELL * np.arange(table_KA.shape[1] + 1)
    y = corner[1] + _CELL * np.arange(table_KA.shape[0] + 1)
    strength_KA1 = np.clip(np.abs(table_KA), 0, 1)[..., None]
    hue_KA3 = np.where(table_KA[..., None] > 0, np.array(to_rgb(style.BLUE)), np.array(to_rgb(style.ORANGE)))
    axes.pcolormesh(x, y, 1 - strength_KA1 * (1 - hue_KA3), edgecolors=style.LIGHT_GRAY, linewidth=0.5)
    for (row, column), value in np.ndenumerate(table_KA):
        color = style.choose_text_color(abs(value) > 0.6)
        center = (x[column] + _CELL / 2, y[row] + _CELL / 2)
        axes.text(*center, f"{value:.2f}", ha="center", va="center", fontsize=8, color=color)


@style.as_image
def plot_strips(images_RTHWC: np.ndarray, row_names: Sequence[str], column_names: Sequence[str]) -> Figure:
    """Plot rows of images, with names at the left and above.

    Args:
        images_RTHWC: Rows of images, uint8; C is 1 or 3.
        row_names: A name for each row.
        column_names: A name for each column.

    Returns:
        The figure.
    """
    rows, columns, height, width = images_RTHWC.shape[:4]
    labels = [style.fit_text(name, _MAX_LABEL, _FONT) for name in row_names]
    left = _MARGIN + max(style.text_width(label, _FONT) for label in labels) + 8
    tile_width = max(_MIN_TILE, min(_MAX_TILE, (style.WIDTH - left - _MARGIN) / columns - _GAP))
    tile_height = tile_width * height / width
    top = _MARGIN + 18
    fig, axes = style.canvas(
        left + columns * (tile_width + _GAP) + _MARGIN, top + rows * (tile_height + _GAP) + _MARGIN
    )
    for row, label in enumerate(labels):
        y = top + row * (tile_height + _GAP)
        axes.text(left - 8, y + tile_height / 2, label, ha="right", va="center", fontsize=_FONT)
        for column in range(columns):
            x = left + column * (tile_width + _GAP)
            style.show_image(axes, images_RTHWC[row, column], (x, y, tile_width, tile_height))
    for column, name in enumerate(column_names):
        x = left + column * (tile_width + _GAP) + tile_width / 2
        axes.text(x, top - 6, name, ha="center", va="bottom", fontsize=_FONT)
    return fig
