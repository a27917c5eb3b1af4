"""Plots of forecasts: what was known, what came, the mean with its bands; and errors by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import style

#: name, history (L,), mean (H,), quantiles (H, Q), times (H,) as text
Panel = tuple[str, np.ndarray, np.ndarray, np.ndarray, Sequence[str]]

_PANEL_HEIGHT = 190
#: rows of history that are drawn per step of the forecast, and in all at least
_HISTORY_FACTOR = 2
_MIN_HISTORY = 24
#: levels of the ends of the bands, from the wide pale one to the narrow one
_BANDS = ((0.025, 0.975, "95 %", 0.18), (0.1, 0.9, "80 %", 0.32))
_LINE_STYLES = ("--", ":", "-.")


@style.as_image
def plot_forecast(
    panels: Sequence[Panel],
    levels: Sequence[float],
    title: str = "",
    actual: Sequence[np.ndarray] = (),
    baselines: Sequence[Mapping[str, np.ndarray]] = (),
) -> Figure:
    """Plot forecasts, a panel each.

    Args:
        panels: Name, history, mean, quantiles and times of each forecast.
        levels: Levels of the quantiles.
        title: Title of the figure.
        actual: What came (H,), for each panel; empty where it is not known.
        baselines: Forecasts of simple methods (H,) by name, for each panel; may be empty.

    Returns:
        The figure.
    """
    if not panels:
        return style.empty_plot("No forecast.", title)
    fig = style.auto_figure(60 + _PANEL_HEIGHT * len(panels))
    style.add_title(fig, style.ellipsize(title, 100))
    grid = fig.subplots(len(panels), 1, squeeze=False)[:, 0]
    for index, (axes, panel) in enumerate(zip(grid, panels, strict=True)):
        came = actual[index] if index < len(actual) else None
        simple = baselines[index] if index < len(baselines) else {}
        _draw_panel(axes, panel, list(levels), came, simple)
    grid[0].legend(loc="upper left", ncols=6, fontsize=8)
    return fig


def _draw_panel(
    axes: Axes, panel: Panel, levels: list[float], actual: np.ndarray | None, baselines: Mapping[str, np.ndarray]
) -> None:
    name, history_L, mean_H, quantiles_HQ, times = panel
    horizon = len(mean_H)
    shown_L = history_L[-max(_MIN_HISTORY, _HISTORY_FACTOR * horizon) :]
    steps_H = np.arange(1, horizon + 1)
    axes.plot(np.arange(1 - len(shown_L), 1), shown_L, color=style.BLACK, linewidth=1.2, label="known")
    for low, high, label, alpha in _BANDS:
        if low in levels and high in levels:
            low_H = quantiles_HQ[:, levels.index(low)]
            high_H = quantiles_HQ[:, levels.index(high)]
            axes.fill_between(steps_H, low_H, high_H, color=style.BLUE, alpha=alpha, linewidth=0, label=label)
    axes.plot(steps_H, mean_H, color=style.BLUE, label="forecast")
    if actual is not None:
        axes.plot(steps_H, actual, color=style.BLACK, linewidth=1.2, linestyle="--", label="what came")
    colors = (style.VERMILLION, style.GREEN, style.ORANGE)
    for (label, values_H), color, line in zip(baselines.items(), colors, _LINE_STYLES, strict=False):
        axes.plot(steps_H, values_H, color=color, linewidth=1.1, linestyle=line, label=label)
    axes.axvline(0.5, color=style.GRAY, linewidth=0.8)
    axes.margins(x=0.01)
    axes.set_title(style.ellipsize(name, 60))
    axes.set_xlabel(f"steps from {times[0]} on" if len(times) else "steps")


@style.as_image
def plot_error_by_step(errors: Mapping[str, Sequence[float]], label: str, title: str = "") -> Figure:
    """Plot an error against the step of the forecast, a line per method; the first is drawn strongest.

    Args:
        errors: Errors (H,) by the name of the method.
        label: What the error is.
        title: Title of the figure.

    Returns:
        The figure.
    """
    fig = style.auto_figure(330)
    style.add_title(fig, title)
    axes = fig.subplots()
    for index, (name, values) in enumerate(errors.items()):
        color = style.OKABE_ITO[index % len(style.OKABE_ITO)]
        steps = np.arange(1, len(values) + 1)
        marker = "o" if len(values) < 3 else ""
        axes.plot(steps, values, color=color, linewidth=2.2 if not index else 1.2, marker=marker, label=name)
    axes.set(xlabel="steps ahead", ylabel=label, ylim=(0, None))
    axes.margins(x=0.01)
    axes.legend(ncols=5, fontsize=8)
    return fig
