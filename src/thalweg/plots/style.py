"""The look of every picture: colours, sizes, and the decorator that turns a figure into an image.

The palette is that of Okabe and Ito (2008), told apart by people with any of the common forms of colour blindness.
Figures are laid out for 900 units of width and drawn with two pixels per unit, so they are sharp on dense screens and
in print. matplotlib's settings files, its windows and its global state play no part.
"""

from __future__ import annotations

import functools
import io
import math
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from PIL import Image

BLACK, GRAY, LIGHT_GRAY, WHITE = "#222222", "#767676", "#dddddd", "#ffffff"
BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE = "#0072b2", "#d55e00", "#009e73", "#e69f00", "#56b4e9", "#cc79a7"
OKABE_ITO = (BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE)

#: what the colours stand for, the same in every picture
TRAIN_COLOR, VAL_COLOR, CORRECT_COLOR, WRONG_COLOR = BLUE, VERMILLION, BLUE, VERMILLION

#: units of a full width; pixels per unit
WIDTH, PIXELS_PER_UNIT = 900, 2
_UNITS_PER_INCH = 100
#: an image smaller than this keeps its pixels visible when enlarged; a larger one is smoothed
_PIXEL_ART_SIZE = 64

_RC_PARAMS = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.color": BLACK,
    # names of classes and files are text, even with dollar signs in them
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


def as_image(draw: Callable[..., Figure]) -> Callable[..., Image.Image]:
    """Decorates a function that returns a Figure: it then returns its pixels, an RGB image of twice the units."""

    @functools.wraps(draw)
    def drawn(*arguments, **named) -> Image.Image:
        with _use_style():
            canvas = FigureCanvasAgg(draw(*arguments, **named))
            canvas.draw()
        size = canvas.get_width_height()
        return Image.frombuffer("RGBA", size, bytes(canvas.buffer_rgba()), "raw", "RGBA", 0, 1).convert("RGB")

    drawn.figure = draw
    return drawn


def render_svg(drawn: Callable[..., Image.Image], *arguments: object) -> str:
    """What `as_image` decorated, as SVG: the same text for the same arguments, letters as outlines."""
    file = io.StringIO()
    with _use_style():
        made = drawn.figure(*arguments)
        FigureCanvasSVG(made).print_svg(file, metadata={"Date": None, "Creator": None})
    return file.getvalue()


@contextmanager
def _use_style() -> Iterator[None]:
    """matplotlib with our settings and none of the user's."""
    defaults = {k: v for k, v in matplotlib.rcParamsDefault.items() if k != "backend"}
    with matplotlib.rc_context({**defaults, **_RC_PARAMS}), warnings.catch_warnings():
        # a class named in a script that the font lacks is drawn as boxes; that is no reason to warn
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


def auto_figure(height: float, width: float = WIDTH) -> Figure:
    """An empty figure of that many units; its parts arrange themselves so that nothing overlaps or is cut off."""
    made = fixed_figure(height, width)
    made.set_layout_engine("constrained")
    return made


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure and axes that fill it, whose coordinates are units from its upper left corner."""
    made = fixed_figure(height, width)
    paper = add_axes(made, 0, 0, width, height)
    paper.set(xlim=(0, width), ylim=(height, 0))
    paper.axis("off")
    return made, paper


def fixed_figure(height: float, width: float = WIDTH) -> Figure:
    """An empty figure of that many units, for `add_axes` places of one's own; drawn quicker than `auto_figure`."""
    return Figure((width / _UNITS_PER_INCH, height / _UNITS_PER_INCH), dpi=_UNITS_PER_INCH * PIXELS_PER_UNIT)


def add_axes(made: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """New axes in such a figure, at a place in units from its upper left corner."""
    wide, high = made.get_size_inches() * _UNITS_PER_INCH
    return made.add_axes((left / wide, 1 - (top + height) / high, width / wide, height / high))


def show_image(axes: Axes, image_HWC: np.ndarray, box: tuple[float, float, float, float] | None = None) -> None:
    """Shows an image, uint8 or floats in [0, 1], C is 1 or 3, filling `axes` or its box (left, top, width, height)."""
    flat = image_HWC[..., 0] if image_HWC.shape[2] == 1 else image_HWC
    smooth = "nearest" if max(image_HWC.shape[:2]) <= _PIXEL_ART_SIZE else "antialiased"
    whole = 255 if image_HWC.dtype == np.uint8 else 1
    extent = (box[0], box[0] + box[2], box[1] + box[3], box[1]) if box else None
    limits = (axes.get_xlim(), axes.get_ylim())
    axes.imshow(flat, cmap="gray", vmin=0, vmax=whole, interpolation=smooth, extent=extent)
    if box:
        axes.set(xlim=limits[0], ylim=limits[1], aspect="auto")


def empty_plot(text: str, title: str = "") -> Figure:
    """A figure that says why there is nothing to draw."""
    made = auto_figure(160)
    if title:
        made.suptitle(title, x=0.01, ha="left", fontweight="bold")
    made.text(0.5, 0.5, text, ha="center", va="center", color=GRAY)
    return made


def hide_axes(axes: Axes) -> None:
    """Takes lines, ticks and grid off `axes`, for pictures."""
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(False)


def ellipsize(text: object, limit: int = 16, tail: bool = False) -> str:
    """`text` in one line of at most `limit` characters; '…' stands for what is left out in the middle.

    With `tail` it is left out at the front, as suits paths.

    Characters that cannot be drawn (controls, halves of surrogate pairs from undecodable file names) become '?'; those
    that turn the direction of writing are left out, because they would turn the words after them too.
    """
    line = "".join("?" if unicodedata.category(c) in ("Cc", "Cs") else c for c in str(text) if not _is_bidi_control(c))
    if len(line) <= limit:
        return line
    end = limit - 1 if tail else (limit - 1) // 3
    return line[: limit - 1 - end] + "…" + line[len(line) - end :]


def _is_bidi_control(character: str) -> bool:
    """Whether it is one of the controls of Unicode's annex 9, such as U+202E, and no letter of a script."""
    return unicodedata.bidirectional(character) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


def fit_text(text: object, units: float, size: float = 9.5, tail: bool = False) -> str:
    """`text` as `ellipsize` makes it, with as many characters as fit into that many units at a font size in points."""
    line = ellipsize(text, 400)
    limit = len(line)
    while limit > 1 and (wide := text_width(ellipsize(line, limit, tail), size)) > units:
        limit = min(limit - 1, math.ceil(limit * units / wide))
    return ellipsize(line, limit, tail)


def text_width(line: str, size: float = 9.5) -> float:
    """Width of a line of text in units at a font size in points, of which an inch has 72."""
    wide = text_to_path.get_text_width_height_descent(line, FontProperties(size=size), ismath=False)[0]
    return wide * _UNITS_PER_INCH / 72


def format_percent(share: float | None, digits: int = 1) -> str:
    """0.9876 -> '98.8 %', 0.99999 -> '> 99.9 %', 0.00001 -> '< 0.1 %': only 1 is 100 % and only 0 is 0 %.

    What is undefined, None or NaN, is a dash.
    """
    if share is None or math.isnan(share):
        return "–"
    smallest = 10**-digits
    if 0 < share and round(100 * share, digits) == 0:
        return f"< {smallest:.{digits}f} %"
    if share < 1 and round(100 * share, digits) == 100:
        return f"> {100 - smallest:.{digits}f} %"
    return f"{100 * share:.{digits}f} %"
