"""Formulas as outlines of SVG in the colour of the text around them, so that a page needs no fonts of its own."""

from __future__ import annotations

import numpy as np
from matplotlib import rc_context
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.textpath import TextPath

#: units per em of the outlines, whose points are whole numbers
_EM_SIZE = 100


def render_formula_svg(tex: str, alternative: str) -> str:
    """An <svg> of TeX's mathematics, as matplotlib reads it, 1 em high letters; `alternative` is read aloud.

    Raises ValueError for what is no such formula.
    """
    with rc_context({"mathtext.fontset": "cm", "text.parse_math": True}):
        outline = TextPath((0, 0), f"${tex}$", size=_EM_SIZE, prop=FontProperties(size=_EM_SIZE))
    left, low, right, high = outline.get_extents().extents if len(outline.vertices) else (0, 0, 1, 1)
    left, right = min(0.0, left) - 5, right + 5
    low, high = low - 10, high + 10
    told = alternative.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    return (
        f'<svg role="img" aria-label="{told}" viewBox="{left:.0f} {-high:.0f} {right - left:.0f} {high - low:.0f}" '
        f'style="width:{(right - left) / _EM_SIZE:.2f}em;max-width:100%;height:auto">'
        f'<path fill="currentColor" d="{_svg_path(outline)}"/></svg>'
    )


def _svg_path(outline: Path) -> str:
    """The outline as the `d` of a path, y downwards, each part from where the one before ended: half as long."""
    letters = {Path.MOVETO: "m", Path.LINETO: "l", Path.CURVE3: "q", Path.CURVE4: "c"}
    told, start, now = [], np.zeros(2, int), np.zeros(2, int)
    for points, code in outline.iter_segments(curves=True, simplify=False):
        if code == Path.CLOSEPOLY:
            told.append("z")
            now = start
            continue
        ends = np.rint(points.reshape(-1, 2) * (1, -1)).astype(int)
        told.append(letters[code] + " ".join(f"{x} {y}" for x, y in (ends - now).tolist()).replace(" -", "-"))
        now = ends[-1]
        start = now if code == Path.MOVETO else start
    return "".join(told)
