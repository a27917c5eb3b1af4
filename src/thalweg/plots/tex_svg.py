"""Render formulas as SVG outlines in the color of the surrounding text, so that a page needs no fonts."""

from __future__ import annotations

import html

import numpy as np
from matplotlib import rc_context
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from matplotlib.transforms import Bbox

#: units per em; outline points are rounded to whole units
_EM_SIZE = 100
#: SVG's commands for matplotlib's path codes, relative to the previous point
_COMMANDS = {Path.MOVETO: "m", Path.LINETO: "l", Path.CURVE3: "q", Path.CURVE4: "c"}


def render_formula_svg(tex: str, alternative: str) -> str:
    """Return an <svg> of a formula in matplotlib's TeX subset; screen readers read `alternative`.

    Raises ValueError if `tex` cannot be parsed.
    """
    with rc_context({"mathtext.fontset": "cm", "text.parse_math": True}):
        outline = TextPath((0, 0), f"${tex}$", size=_EM_SIZE, prop=FontProperties(size=_EM_SIZE))
    extents = Bbox.unit().extents
    if len(outline.vertices):
        extents = outline.get_extents().extents
    left, bottom, right, top = extents
    left = min(0.0, left) - 5
    right += 5
    bottom -= 10
    top += 10
    width = right - left
    label = html.escape(alternative)
    return (
        f'<svg role="img" aria-label="{label}" viewBox="{left:.0f} {-top:.0f} {width:.0f} {top - bottom:.0f}" '
        f'style="width:{width / _EM_SIZE:.2f}em;max-width:100%;height:auto">'
        f'<path fill="currentColor" d="{_svg_path(outline)}"/></svg>'
    )


def _svg_path(outline: Path) -> str:
    """Convert an outline to the `d` of an SVG path, y downwards; relative commands halve its length."""
    commands: list[str] = []
    start = np.zeros(2, int)
    position = np.zeros(2, int)
    for points, code in outline.iter_segments(curves=True, simplify=False):
        if code == Path.CLOSEPOLY:
            commands.append("z")
            position = start
            continue
        ends_N2 = np.rint(points.reshape(-1, 2) * (1, -1)).astype(int)
        steps = [f"{x} {y}" for x, y in (ends_N2 - position).tolist()]
        commands.append(_COMMANDS[code] + " ".join(steps).replace(" -", "-"))
        position = ends_N2[-1]
        if code == Path.MOVETO:
            start = position
    return "".join(commands)
