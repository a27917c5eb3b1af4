"""Draw the losses of both players against the step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ...plots import style

DISCRIMINATOR_COLOR = style.PURPLE
GENERATOR_COLOR = style.VERMILLION
#: what ticks are multiples of, times powers of ten
TICK_STEPS = (1, 2, 5, 10)
#: points of a curve; each is the mean of the steps between
_NUM_BINS = 150
#: quantiles of all losses that the axis shows
_QUANTILES = (0.002, 0.998)


def draw_losses(axes: Axes, results: Sequence[Any], result: Any, steps: int) -> None:
    """Draw both losses of a run.

    Args:
        axes: Where to draw.
        results: All runs; their losses have one scale.
        result: The run.
        steps: The last step of the axis.
    """
    curves = (
        ("discriminator", result.discriminator_loss, DISCRIMINATOR_COLOR, "-"),
        ("generator", result.generator_loss, GENERATOR_COLOR, "--"),
    )
    axes.set_title("Losses")
    for label, losses, color, line_style in curves:
        step_P, mean_P = average_bins(np.array(losses))
        axes.plot(step_P, mean_P, color=color, linestyle=line_style, linewidth=1.4, label=label)
    values = [value for item in results for value in (*item.discriminator_loss, *item.generator_loss)]
    low, high = np.quantile(values, _QUANTILES) if values else (0.0, 1.0)
    margin = 0.06 * (high - low) or 1.0
    axes.set(xlim=(0, steps), ylim=(low - margin, high + margin))
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=TICK_STEPS))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=TICK_STEPS))
    add_top_legend(axes, 1.8)


def add_top_legend(axes: Axes, handle_length: float) -> None:
    """Add a legend of two columns above the right end of the axes."""
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.02, 0.98),
        ncols=2,
        fontsize=8.5,
        borderpad=0,
        handlelength=handle_length,
        columnspacing=1.2,
    )


def average_bins(value_S: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and means of at most 150 bins of equal size; the first value stays itself."""
    size = max(1, len(value_S) // _NUM_BINS)
    starts = np.arange(0, len(value_S), size)
    if not len(starts):
        return starts, value_S
    sums = np.add.reduceat(value_S, starts)
    counts = np.diff(np.append(starts, len(value_S)))
    mean_P = sums / counts
    mean_P[0] = value_S[0]
    return starts, mean_P


def mark_step(axes: Axes, step: int) -> None:
    """Draw a line at the current step."""
    axes.axvline(step, color=style.BLACK, linewidth=1.2, alpha=0.7, clip_on=False)
