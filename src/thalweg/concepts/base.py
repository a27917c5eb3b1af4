"""What a concept is made of: a page of text, and a lesson, which is numbers and frames computed from settings.

    @concept(PAGE, Neuron)
    def neuron(asked: Neuron) -> Lesson: ...

A concept computes and names its drawings; it draws nothing, reads nothing and writes nothing, so that a web page can
ask for it as often as a slider moves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

#: the chapters of the talk, in its order
CHAPTERS = (
    "One neuron",
    "Learning from examples",
    "Going downhill",
    "Networks that see",
    "What a network has learned",
)


@dataclass(frozen=True)
class ConceptText:
    """The text of a concept in plain words.

    `number` is its place in the order of the talk; `text` has paragraphs divided by empty lines; `formulas` are pairs
    (as a terminal shows it, as TeX's mathematics without dollar signs); `look` says what to look for, a sentence each;
    `source` is where it comes from.
    """

    number: float
    chapter: str
    title: str
    text: str
    formulas: Sequence[tuple[str, str]]
    look: Sequence[str]
    source: str

    @property
    def about(self) -> str:
        """The first sentence of the text."""
        return " ".join(self.text.split()).split(". ")[0].rstrip(".") + "."


@dataclass(frozen=True)
class Frame:
    """One picture of a lesson: what it shows in a sentence, the drawing of `thalweg.draw` that shows it, of what."""

    caption: str
    drawing: Callable[..., Image.Image]
    given: tuple[Any, ...] = field(default=(), repr=False)

    def draw(self) -> Image.Image:
        """The picture, RGB."""
        return self.drawing(*self.given)

    def svg(self) -> str:
        """The same as SVG."""
        from ..plots import style

        return style.render_svg(self.drawing, *self.given)


@dataclass(frozen=True)
class ConceptResult:
    """What came out: `numbers`, every number that is shown, as JSON values; `frames`, all of one size.

    `figures` are the few that matter, in words, for the terminal and the head of the page; `still` is the number of the
    frame that stands for all where only one can be shown; `notes` say what is not to be trusted or was left out.
    """

    numbers: dict[str, Any]
    frames: Sequence[Frame]
    figures: dict[str, str] = field(default_factory=dict)
    still: int = -1
    notes: Sequence[str] = ()
