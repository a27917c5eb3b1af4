"""Shared style of all plots: colors, sizes, and the decorator that renders a figure to an image.

The palette is the color-blind safe one of Okabe and Ito (2008). Figures are laid out on a width of 900 units and
rendered with two pixels per unit, sharp enough for high-density screens and print. The style ignores matplotlib's
settings files, windows and global state.
"""

from __future__ import annotations

import functools
import io
import math
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from PIL import Image

BLACK = "#222222"
GRAY = "#767676"
LIGHT_GRAY = "#dddddd"
WHITE = "#ffffff"
BLUE = "#0072b2"
VERMILLION = "#d55e00"
GREEN = "#009e73"
ORANGE = "#e69f00"
SKY = "#56b4e9"
PURPLE = "#cc79a7"
OKABE_ITO = (BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE)

TRAIN_COLOR = BLUE
VAL_COLOR = VERMILLION
CORRECT_COLOR = BLUE
WRONG_COLOR = VERMILLION

#: width of a full-width figure, in units
WIDTH = 900
PIXELS_PER_UNIT = 2
_UNITS_PER_INCH = 100
#: images up to this side are enlarged with visible pixels; larger images are smoothed
_PIXEL_ART_SIZE = 64
#: bidirectional classes of the control characters of Unicode's annex 9, such as U+202E
_BIDI_CONTROLS = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")

#: left, top, width, height
Box = tuple[float, float, float, float]

_RC_PARAMS = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.color": BLACK,
    # class and file names may contain dollar signs
    "text.parse_math": False,
    "axes.edgecolor": GRAY,
    "axes.labelcolor": BLACK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LIGHT_GRAY,
    "grid.linewidth": 0.7,
    "xtick.color": GRAY,
    "ytick.color": GRAY,
    "xtick.labelcolor": BLACK,
    "ytick.labelcolor": BLACK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "figure.facecolor": WHITE,
    "svg.hashsalt": "thalweg",
}


P = ParamSpec("P")


def as_image(draw: Callable[P, Figure]) -> Callable[P, Image.Image]:
    """Decorate a function that returns a Figure, so that it returns an RGB image with two pixels per unit.

    The undecorated function stays available as the attribute `figure`.
    """

    @functools.wraps(draw)
    def draw_image(*args: P.args, **kwargs: P.kwargs) -> Image.Image:
        with _use_style():
            figure_canvas = FigureCanvasAgg(draw(*args, **kwargs))
            figure_canvas.draw()
        size = figure_canvas.get_width_height()
        pixels = bytes(figure_canvas.buffer_rgba())
        return Image.frombuffer("RGBA", size, pixels, "raw", "RGBA", 0, 1).convert("RGB")

    vars(draw_image)["figure"] = draw
    return draw_image


def render_svg(plot: Callable[..., Image.Image], *args: object) -> str:
    """Return the plot of a function decorated with `as_image` as SVG: deterministic, with letters as outlines."""
    file = io.StringIO()
    with _use_style():
        fig = vars(plot)["figure"](*args)
        FigureCanvasSVG(fig).print_svg(file, metadata={"Date": None, "Creator": None})
    return file.getvalue()


@contextmanager
def _use_style() -> Iterator[None]:
    """Apply matplotlib's defaults and the settings above; ignore the user's settings."""
    settings: dict[Any, Any] = dict(matplotlib.rcParamsDefault)
    del settings["backend"]
    settings.update(_RC_PARAMS)
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # the font lacks some scripts; it draws a box for each missing letter, which needs no warning
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


def auto_figure(height: float, width: float = WIDTH) -> Figure:
    """Return an empty figure of this size in units whose constrained layout prevents overlaps and cut-off text."""
    fig = fixed_figure(height, width)
    fig.set_layout_engine("constrained")
    return fig


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure and axes that fill it, with coordinates in units from the upper left corner."""
    fig = fixed_figure(height, width)
    axes = add_axes(fig, 0, 0, width, height)
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    return fig, axes


def fixed_figure(height: float, width: float = WIDTH) -> Figure:
    """Return an empty figure of this size in units, for `add_axes`; it renders faster than `auto_figure`."""
    return Figure((width / _UNITS_PER_INCH, height / _UNITS_PER_INCH), dpi=_UNITS_PER_INCH * PIXELS_PER_UNIT)


def add_axes(fig: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Add axes to a figure.

    Args:
        fig: A figure from `fixed_figure` or `canvas`.
        left: Distance from the left edge of the figure, in units.
        top: Distance from the upper edge of the figure, in units.
        width: Width of the axes, in units.
        height: Height of the axes, in units.

    Returns:
        The new axes.
    """
    fig_width, fig_height = fig.get_size_inches() * _UNITS_PER_INCH
    bottom = 1 - (top + height) / fig_height
    return fig.add_axes((left / fig_width, bottom, width / fig_width, height / fig_height))


def axes_size(axes: Axes) -> tuple[float, float]:
    """Return width and height of axes in units."""
    dpi = axes.figure.dpi
    return axes.bbox.width / dpi * _UNITS_PER_INCH, axes.bbox.height / dpi * _UNITS_PER_INCH


def color_limit(values: np.ndarray) -> float:
    """Return the magnitude that gets the strongest color: a quantile, so that outliers do not make the rest pale."""
    if not values.size:
        return 1.0
    return max(float(np.quantile(np.abs(values), 0.998)), 1e-12)


def add_title(fig: Figure, title: str) -> None:
    """Write a bold title at the upper left of a figure; do nothing if `title` is empty."""
    if title:
        fig.suptitle(title, x=0.01, ha="left", fontweight="bold")


def show_image(axes: Axes, image_HWC: np.ndarray, box: Box | None = None) -> None:
    """Show an image in axes.

    Args:
        axes: The axes to draw into.
        image_HWC: uint8, or floats in [0, 1]; C is 1 or 3.
        box: The (left, top, width, height) to fill, in the coordinates of `axes`; None fills `axes`.
    """
    pixels = image_HWC
    if image_HWC.shape[2] == 1:
        pixels = image_HWC[..., 0]
    interpolation = "antialiased"
    if max(image_HWC.shape[:2]) <= _PIXEL_ART_SIZE:
        interpolation = "nearest"
    white = 255 if image_HWC.dtype == np.uint8 else 1
    if box is None:
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=white, interpolation=interpolation)
        return
    left, top, width, height = box
    extent = (left, left + width, top + height, top)
    xlim = axes.get_xlim()
    ylim = axes.get_ylim()
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=white, interpolation=interpolation, extent=extent)
    axes.set(xlim=xlim, ylim=ylim, aspect="auto")


def empty_plot(text: str, title: str = "") -> Figure:
    """Return a figure with a text that says why there is no plot."""
    fig = auto_figure(160)
    add_title(fig, title)
    fig.text(0.5, 0.5, text, ha="center", va="center", color=GRAY)
    return fig


def choose_text_color(is_dark: bool | np.bool_) -> str:
    """Choose the color of a text by whether its background is dark."""
    if is_dark:
        return WHITE
    return BLACK


def choose_sign_color(value: float) -> str:
    """Choose blue for a number from zero on, vermillion for a negative one."""
    if value >= 0:
        return BLUE
    return VERMILLION


def choose_tick_factors(is_wide: bool | np.bool_) -> tuple[int, ...]:
    """Choose the factors of powers of ten with a tick: over a small range, 1 alone would give only one or two."""
    if is_wide:
        return (1,)
    return (1, 2, 5)


def hide_axes(axes: Axes) -> None:
    """Remove spines, ticks and grid from `axes`, for images."""
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(False)


def ellipsize(text: object, limit: int = 16, tail: bool = False) -> str:
    """Shorten a text to one line by replacing its middle with '…'.

    Characters without a glyph (controls, and surrogates from undecodable file names) become '?'. Bidirectional
    controls are removed, because they would reverse the text that follows.

    Args:
        text: The text, or an object whose `str` is shortened.
        limit: Maximum number of characters.
        tail: Cut the front instead of the middle, which suits paths.

    Returns:
        A line of at most `limit` characters.
    """
    line = ""
    for character in str(text):
        if unicodedata.category(character) in ("Cc", "Cs"):
            line += "?"
        elif unicodedata.bidirectional(character) not in _BIDI_CONTROLS:
            line += character
    if len(line) <= limit:
        return line
    end = limit - 1 if tail else (limit - 1) // 3
    return line[: limit - 1 - end] + "…" + line[len(line) - end :]


def fit_text(text: object, max_width: float, font_size: float = 9.5, tail: bool = False, bold: bool = False) -> str:
    """Shorten a text with `ellipsize` until it fits a width.

    Args:
        text: The text, or an object whose `str` is shortened.
        max_width: Maximum width, in units.
        font_size: Font size, in points.
        tail: Cut the front instead of the middle.
        bold: Whether it is drawn bold, as titles are.

    Returns:
        One line with as many characters as fit.
    """
    line = ellipsize(text, 400)
    limit = len(line)
    while limit > 1:
        width = text_width(ellipsize(line, limit, tail), font_size, bold)
        if width <= max_width:
            break
        limit = min(limit - 1, math.ceil(limit * max_width / width))
    return ellipsize(line, limit, tail)


def text_width(line: str, font_size: float = 9.5, bold: bool = False) -> float:
    """Return the width in units of a line of text at a font size in points (72 points are an inch)."""
    font = FontProperties(size=font_size, weight="bold" if bold else "normal")
    points = text_to_path.get_text_width_height_descent(line, font, ismath=False)[0]
    return points * _UNITS_PER_INCH / 72


def format_percent(fraction: float | None, digits: int = 1) -> str:
    """Format 0.9876 as '98.8 %', 0.99999 as '> 99.9 %', 0.00001 as '< 0.1 %', None and NaN as a dash.

    Only 1 is formatted as 100 % and only 0 as 0 %.
    """
    if fraction is None or math.isnan(fraction):
        return "–"
    smallest = 10**-digits
    percent = 100 * fraction
    if 0 < fraction and round(percent, digits) == 0:
        return f"< {smallest:.{digits}f} %"
    if fraction < 1 and round(percent, digits) == 100:
        return f"> {100 - smallest:.{digits}f} %"
    return f"{percent:.{digits}f} %"
