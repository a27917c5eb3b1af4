"""Plot generated images, what the discriminator wants changed in them, its logits, and both losses."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...plots import style
from ...plots.feature_maps import colorize_maps
from .curves import add_top_legend, draw_losses, mark_step
from .players import find_snapshot

_HEIGHT = 470
#: left edge of the rows of images, side and distance of images
_LEFT = 24
_SIDE = 62
_PITCH = 66
_NUM_COLUMNS = 8
#: top of the first row, and distance of rows
_TOP = 46
_ROW_PITCH = 104
REAL_COLOR = style.BLUE
GENERATED_COLOR = style.VERMILLION


@style.as_image
def plot_images(numbers: dict[str, Any], step: int) -> Figure:
    """Plot the run after `step` steps."""
    (result,) = numbers["runs"]
    snapshot = find_snapshot(result, step)
    fig, canvas = style.canvas(style.WIDTH, _HEIGHT)
    wanted_BSS = np.array(snapshot["wanted"])
    wanted = colorize_maps(np.clip(wanted_BSS / style.color_limit(wanted_BSS), -1, 1))
    _draw_row(canvas, 0, f"Generated, step {snapshot['step']}", to_images(snapshot["generated"]))
    _draw_row(canvas, 1, "Gradient of D: blue is more real if brighter, orange if darker", list(wanted))
    _draw_row(canvas, 2, "Real", to_images(numbers["real"]))
    _draw_history(canvas, result, step)
    _draw_logits(style.add_axes(fig, 596, _TOP, 284, 150), result, snapshot)
    losses = style.add_axes(fig, 596, 280, 284, 130)
    draw_losses(losses, [result], result, numbers["steps"])
    losses.set_xlabel("training step")
    mark_step(losses, step)
    return fig


def to_images(pixels: Any) -> list[np.ndarray]:
    """Return images (S, S, C) uint8."""
    return list(np.array(pixels, np.uint8))


def _draw_row(axes: Axes, row: int, title: str, images: list[np.ndarray]) -> None:
    top = _TOP + row * _ROW_PITCH
    axes.text(_LEFT, top - 12, title, va="center", fontweight="bold", fontsize=10)
    for column, image_HWC in enumerate(images[:_NUM_COLUMNS]):
        style.show_image(axes, image_HWC, (_LEFT + column * _PITCH, top, _SIDE, _SIDE))


def _draw_history(axes: Axes, result: Any, step: int) -> None:
    """Draw the first image at every snapshot up to `step`."""
    top = _TOP + 3 * _ROW_PITCH
    axes.text(_LEFT, top - 12, "The first one, step by step", va="center", fontweight="bold", fontsize=10)
    pitch = (_NUM_COLUMNS * _PITCH) / len(result.snapshots)
    side = min(_SIDE, pitch - 4)
    for column, snapshot in enumerate(result.snapshots):
        left = _LEFT + column * pitch
        if snapshot["step"] <= step:
            style.show_image(axes, to_images(snapshot["generated"])[0], (left, top, side, side))
        axes.text(
            left + side / 2,
            top + side + 9,
            str(snapshot["step"]),
            ha="center",
            va="center",
            fontsize=8.5,
            color=style.GRAY,
        )


def _draw_logits(axes: Axes, result: Any, snapshot: Any) -> None:
    """Draw histograms of the logits of real and generated images, on one axis for all steps."""
    everything = np.concatenate([[*item["real_logits"], *item["fake_logits"]] for item in result.snapshots])
    low, high = np.quantile(everything, (0.005, 0.995))
    margin = 0.08 * (high - low) or 1.0
    edges = np.linspace(low - margin, high + margin, 25)
    rows = (("real", snapshot["real_logits"], REAL_COLOR), ("generated", snapshot["fake_logits"], GENERATED_COLOR))
    for label, logits, color in rows:
        counts, _ = np.histogram(np.clip(logits, edges[0], edges[-1]), edges)
        axes.stairs(counts / len(logits), edges, fill=True, color=color, alpha=0.55, label=label)
    axes.set_title("Logits of D")
    axes.set(xlim=(edges[0], edges[-1]), ylim=(0, 0.75), xlabel="logit: D says real to the right")
    axes.set_yticks([])
    add_top_legend(axes, 1.4)
