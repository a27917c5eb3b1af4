"""What a concept is made of: its text, and a result, which is numbers and frames computed from settings.

    @register_concept(TEXT, NeuronSettings)
    def neuron(settings: NeuronSettings) -> ConceptResult: ...

A concept computes and names its plots; it draws nothing and writes nothing, so that a web page can ask for it as often
as a slider moves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from PIL import Image

#: the chapters of the talk, in its order
CHAPTERS = (
    "One neuron",
    "Learning from examples",
    "Going downhill",
    "Networks that see",
    "What a network has learned",
    "Networks that remember",
    "Networks that create",
)


@dataclass(frozen=True)
class ConceptText:
    """The text of a concept.

    `order` is its position in the talk; `body` has paragraphs separated by empty lines; `formulas` are pairs (as a
    terminal shows it, as TeX without dollar signs); `look_for` and `exercises` are a sentence or two each.
    """

    order: float
    chapter: str
    title: str
    body: str
    formulas: Sequence[tuple[str, str]]
    look_for: Sequence[str]
    exercises: Sequence[str]
    source: str

    @property
    def summary(self) -> str:
        """The first sentence of the text."""
        return " ".join(self.body.split()).split(". ")[0].rstrip(".") + "."


def load_text(package: str | None) -> ConceptText:
    """Read text.md of a concept's folder."""
    return parse_text((resources.files(package or "") / "text.md").read_text(encoding="utf-8"))


def parse_text(markdown: str) -> ConceptText:
    """Parse a concept's text: a header, paragraphs, and the sections Formulas, What to look for and Exercises."""
    _, header, rest = markdown.split("---\n", 2)
    fields = dict(line.split(": ", 1) for line in header.strip().splitlines())
    body, *sections = re.split(r"^## ", rest, flags=re.MULTILINE)
    by_title = dict(section.split("\n", 1) for section in sections)
    lines = list(filter(None, map(str.strip, by_title["Formulas"].splitlines())))
    return ConceptText(
        order=float(fields["order"]),
        chapter=fields["chapter"],
        title=fields["title"],
        body=body.strip(),
        formulas=list(zip(lines[::2], lines[1::2], strict=True)),
        look_for=_list_items(by_title["What to look for"]),
        exercises=_list_items(by_title["Exercises"]),
        source=fields["source"],
    )


def _list_items(markdown: str) -> list[str]:
    """The items of a Markdown list, each on one line."""
    items = re.split(r"^(?:-|\d+\.) ", markdown, flags=re.MULTILINE)[1:]
    return [" ".join(item.split()) for item in items]


@dataclass(frozen=True)
class Frame:
    """One step of a result: a caption, the plot function that shows it, and the arguments of that function."""

    caption: str
    plot: Callable[..., Image.Image]
    args: tuple[Any, ...] = field(default=(), repr=False)

    def draw(self) -> Image.Image:
        """Return the image, RGB."""
        return self.plot(*self.args)

    def to_svg(self) -> str:
        """Return the same as SVG."""
        from ..plots import style

        return style.render_svg(self.plot, *self.args)


@dataclass(frozen=True)
class ConceptResult:
    """What a concept computed.

    `numbers` holds every number that is shown, as JSON values; `frames` are all of one size. `key_numbers` are the few
    that matter, as text, for the terminal and the head of the page; `key_frame` is the index of the frame that stands
    for all where only one can be shown; `notes` say what is not to be trusted or was left out.
    """

    numbers: dict[str, Any]
    frames: Sequence[Frame]
    key_numbers: dict[str, str] = field(default_factory=dict)
    key_frame: int = -1
    notes: Sequence[str] = ()
