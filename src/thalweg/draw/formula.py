"""Formulas as outlines of SVG in the colour of the text around them, so that a page needs no fonts of its own."""

from __future__ import annotations

from matplotlib import rc_context
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.textpath import TextPath

#: units per em of the outlines
_EM = 20


def formula(tex: str, alternative: str) -> str:
    """An <svg> of TeX's mathematics, as matplotlib reads it, 1 em high letters; `alternative` is read aloud.

    Raises ValueError for what is no such formula.
    """
    with rc_context({"mathtext.fontset": "cm", "text.parse_math": True}):
        outline = TextPath((0, 0), f"${tex}$", size=_EM, prop=FontProperties(size=_EM))
    left, low, right, high = outline.get_extents().extents if len(outline.vertices) else (0, 0, 1, 1)
    left, right = min(0.0, left) - 1, right + 1
    low, high = low - 2, high + 2
    told = alternative.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    return (
        f'<svg role="img" aria-label="{told}" viewBox="{left:.1f} {-high:.1f} {right - left:.1f} {high - low:.1f}" '
        f'style="width:{(right - left) / _EM:.2f}em;max-width:100%;height:auto">'
        f'<path fill="currentColor" d="{_d(outline)}"/></svg>'
    )


def _d(outline: Path) -> str:
    """The outline as the `d` of a path, y downwards."""
    letters = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C", Path.CLOSEPOLY: "Z"}
    told = []
    for points, code in outline.iter_segments(curves=True, simplify=False):
        pairs = [] if code == Path.CLOSEPOLY else points.reshape(-1, 2).tolist()
        told.append(letters[code] + " ".join(f"{x:.1f},{-y:.1f}" for x, y in pairs))
    return "".join(told)
