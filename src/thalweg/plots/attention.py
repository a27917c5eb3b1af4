"""Plot where a translator looked: a heat map of target tokens (rows) against source tokens (columns)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from . import style

#: tokens of a side that are drawn
_MAX_TOKENS = 40
#: lengths are units
_MARGIN = 14
_CELL = 30
_MIN_CELL = 18
_FONT = 9.5
_ROW_HEIGHT = 20
_MAX_LABEL = 170
#: pairs of sentences that are listed
_MAX_SENTENCES = 24


@style.as_image
def plot_attention(
    attention_TS: np.ndarray, source_tokens: Sequence[str], target_tokens: Sequence[str], title: str = ""
) -> Figure:
    """Plot the attention with which each target token was written.

    Args:
        attention_TS: Attention; rows sum to 1.
        source_tokens: What was read, from left to right.
        target_tokens: What was written, from top to bottom.
        title: Title of the figure.

    Returns:
        The figure, with at most 40 tokens of each side.
    """
    columns = [style.fit_text(_label(token), _MAX_LABEL, _FONT) for token in source_tokens[:_MAX_TOKENS]]
    rows = [style.fit_text(_label(token), _MAX_LABEL, _FONT) for token in target_tokens[:_MAX_TOKENS]]
    if not columns or not rows:
        return style.empty_plot("No text.", title)
    left = _MARGIN + max(style.text_width(label, _FONT) for label in rows) + 8
    top = _MARGIN + max(style.text_width(label, _FONT) for label in columns) + 8
    if title:
        top += 26
    cell = max(_MIN_CELL, min(_CELL, (style.WIDTH - left - _MARGIN) / len(columns)))
    width = max(left + cell * len(columns) + _MARGIN, _MARGIN * 2 + style.text_width(title, 11.5))
    fig, axes = style.canvas(width, top + cell * len(rows) + _MARGIN)
    if title:
        axes.text(_MARGIN, _MARGIN + 6, title, va="center", fontweight="bold", fontsize=11.5)
    fraction_TS1 = np.clip(attention_TS[: len(rows), : len(columns)], 0, 1)[..., None]
    colors_TS3 = 1 - fraction_TS1 * (1 - np.array(to_rgb(style.BLUE)))
    x = left + cell * np.arange(len(columns) + 1)
    y = top + cell * np.arange(len(rows) + 1)
    axes.pcolormesh(x, y, colors_TS3, edgecolors=style.LIGHT_GRAY, linewidth=0.5)
    for index, label in enumerate(columns):
        axes.text(left + (index + 0.5) * cell, top - 5, label, rotation=90, ha="center", va="bottom", fontsize=_FONT)
    for index, label in enumerate(rows):
        axes.text(left - 6, top + (index + 0.5) * cell, label, ha="right", va="center", fontsize=_FONT)
    return fig


def _label(token: str) -> str:
    """Return a token as it is shown, without the mark that begins a word."""
    return token.replace("▁", "") or "▁"


@style.as_image
def plot_sentences(pairs: Sequence[tuple[str, str]], title: str = "") -> Figure:
    """Plot sentences, each with its translation below.

    Args:
        pairs: Sentences and translations.
        title: Title of the figure.

    Returns:
        The figure, with at most 24 pairs.
    """
    drawn_pairs = pairs[:_MAX_SENTENCES]
    if not drawn_pairs:
        return style.empty_plot("No text.", title)
    top = _MARGIN
    if title:
        top += 26
    height = top + len(drawn_pairs) * (2 * _ROW_HEIGHT + 6) + _MARGIN
    fig, axes = style.canvas(style.WIDTH, height)
    if title:
        axes.text(_MARGIN, _MARGIN + 6, title, va="center", fontweight="bold", fontsize=11.5)
    for index, (source, text) in enumerate(drawn_pairs):
        y = top + index * (2 * _ROW_HEIGHT + 6) + _ROW_HEIGHT / 2
        width = style.WIDTH - 2 * _MARGIN
        axes.text(_MARGIN, y, style.fit_text(source, width, _FONT), va="center", fontsize=_FONT, color=style.GRAY)
        axes.text(_MARGIN, y + _ROW_HEIGHT, style.fit_text(text, width, _FONT), va="center", fontsize=_FONT)
    return fig
