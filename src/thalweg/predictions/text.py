"""A text: one that a model wrote, or one that it read, with the surprise of every character."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..io.log import escape_unprintable
from .base import DisplayedPrediction, encode_png

#: surprise in nats from which on a character gets a background, and the background's number among the 256 of terminals:
#: pale yellow for 2 nats (one of seven equally probable characters) to red for 6 (one of 400)
_BACKGROUNDS = ((6.0, 203), (4.0, 216), (3.0, 222), (2.0, 230))
_BLACK = 16
_RESET = "\x1b[0m"
#: characters that a picture shows
MAX_DRAWN = 4000


@dataclass(frozen=True, repr=False)
class TextPrediction(DisplayedPrediction):
    """A text that a model wrote (`nats` is None), or read: then `nats` (N,) has the surprise of each character."""

    source: str
    text: str
    nats: Sequence[float] | np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.nats is not None and len(self.nats) != len(self.text):
            raise ValueError(f"{len(self.nats)} figures for {len(self.text)} characters")

    def __repr__(self) -> str:
        if self.nats is None:
            return f"<{self.source}: {self.text[:40]!r}>"
        return f"<{self.source}: {self.nats_per_character:.3f} nats per character>"

    @property
    def nats_per_character(self) -> float:
        """Mean surprise; 0 for texts that were written, not read."""
        if self.nats is None or not len(self.nats):
            return 0.0
        return float(np.mean(np.asarray(self.nats, np.float64)))

    @property
    def bits_per_character(self) -> float:
        """Mean surprise in bits."""
        return self.nats_per_character / math.log(2)

    def brief(self) -> list[str]:
        """Return the lines of a written text; for a text that was read, a line with its mean surprise."""
        if self.nats is None:
            return self.text.split("\n")
        noun = "character" if len(self.text) == 1 else "characters"
        return [
            f"{self.nats_per_character:.3f} nats per character ({self.bits_per_character:.3f} bits), "
            f"{len(self.text):,} {noun}"
        ]

    def rows(self) -> list[dict[str, Any]]:
        """Return a row per character with its surprise; for a written text, one row."""
        if self.nats is None:
            return [{"source": self.source, "text": self.text}]
        rows = []
        for position, (character, nats) in enumerate(zip(self.text, self.nats, strict=True), 1):
            rows.append({"source": self.source, "position": position, "character": character, "nats": float(nats)})
        return rows

    def json(self) -> dict[str, Any]:
        """Return {"source", "text"}, and for a text that was read its mean surprise in nats and bits and its length."""
        result: dict[str, Any] = {"source": self.source, "text": self.text}
        if self.nats is not None:
            result["nats_per_character"] = self.nats_per_character
            result["bits_per_character"] = self.bits_per_character
            result["characters"] = len(self.text)
        return result

    def colored(self, color: bool) -> list[str]:
        r"""Return lines for a terminal: with `color`, also the text with a background behind surprising characters.

        Control characters are then escaped, such as \x1b: a text must not command the terminal.
        """
        if not color:
            return self.brief()
        lines = []
        if self.nats is not None:
            lines = self.brief()
        return lines + self._color_text().split("\n")

    def _color_text(self) -> str:
        pieces = []
        current = 0
        for index, character in enumerate(self.text):
            background = 0
            if self.nats is not None and character != "\n":
                background = _choose_background(float(self.nats[index]))
            if background != current:
                pieces.append(_switch_background(background))
                current = background
            pieces.append(_escape_control(character))
        if current:
            pieces.append(_RESET)
        return "".join(pieces)

    def draw(self) -> Image.Image:
        """Draw the first characters, with a color behind each by its surprise."""
        from ..plots.text_surprise import plot_text_surprise

        characters = self.text[:MAX_DRAWN]
        nats = [0.0] * len(characters)
        if self.nats is not None:
            nats = list(map(float, self.nats[:MAX_DRAWN]))
        return plot_text_surprise(characters, nats, self.source)

    def files(self) -> dict[str, bytes]:
        """Return the text, and the drawing."""
        return {".txt": self.text.encode("utf-8", "replace"), ".png": encode_png(self.draw())}


def _choose_background(nats: float) -> int:
    """Return the number of a terminal color, 0 for none."""
    for threshold, color in _BACKGROUNDS:
        if nats >= threshold:
            return color
    return 0


def _switch_background(color: int) -> str:
    if not color:
        return _RESET
    return f"\x1b[38;5;{_BLACK};48;5;{color}m"


def _escape_control(character: str) -> str:
    if character in "\n\t" or unicodedata.category(character) == "Zs":
        return character
    return escape_unprintable(character)
