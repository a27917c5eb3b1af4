"""Look into plots: the matplotlib figure behind an image, its texts and its colors."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from thalweg.plots import style

#: names of classes and files that broke plots elsewhere: TeX, control characters, surrogates, missing glyphs, HTML
HOSTILE_NAMES = [
    "$x^",
    "a\nb",
    "\udcff.png",
    "犬",
    "",
    "<img src=x onerror=alert(1)>" * 3,
    "\\frac{1}{0}",
    "W" * 40,
    "a",
    "b",
]
LONG_NAMES = [f"a rather long name, number {k}" for k in range(100)]
DIGITS = [str(digit) for digit in range(10)]


def use_plot_style():
    """Apply the plots' settings of matplotlib."""
    defaults = {key: value for key, value in matplotlib.rcParamsDefault.items() if key != "backend"}
    return matplotlib.rc_context({**defaults, **style._RC_PARAMS})


def layout_figure(plot: Callable[..., Any], *args: Any) -> Figure:
    """Return the figure behind a plot, not rendered yet."""
    with use_plot_style(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return plot.__wrapped__(*args)


def render_figure(plot: Callable[..., Any], *args: Any) -> FigureCanvasAgg:
    """Return the rendered canvas of the figure behind a plot."""
    canvas = FigureCanvasAgg(layout_figure(plot, *args))
    with use_plot_style(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        canvas.draw()
    return canvas


def figure_texts(plot: Callable[..., Any], *args: Any) -> list[str]:
    """Return all texts of a plot."""
    return [text.get_text() for text in layout_figure(plot, *args).findobj(Text) if text.get_text()]


def _visible_tick_labels(axis: Axis) -> list[Text]:
    low, high = sorted(axis.get_view_interval())
    labels = [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    return [label for label in labels if label.get_visible() and label.get_text()]


def visible_texts(figure: Figure) -> list[Text]:
    """Return the texts of a figure that are rendered."""
    hidden = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            for tick in axis.get_major_ticks() + axis.get_minor_ticks():
                hidden |= {tick.label1, tick.label2}
            if axes.axison:
                hidden -= set(_visible_tick_labels(axis))
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text() and text not in hidden]


def color_fraction(image: Image.Image, color: str) -> float:
    """Return the fraction of pixels with a color, within rounding."""
    expected = np.round(255 * np.array(to_rgb(color)))
    return float((np.abs(np.asarray(image).astype(float) - expected).max(2) <= 1).mean())
