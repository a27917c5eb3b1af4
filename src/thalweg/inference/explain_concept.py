"""Explain a concept: parse settings, compute the result, and write it as image, film, page or numbers."""

from __future__ import annotations

import json
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from .. import registry
from ..concepts.base import CHAPTERS, ConceptResult, ConceptText, Frame
from ..config.json_record import to_json
from ..config.parsing import describe_type, format_setting, json_schema, non_default, option_fields, parse_options
from ..errors import NotFoundError, OptionError
from ..io.atomic_write import atomic_write
from ..pages.concept_page import render_html
from ..plots.animation import encode_gif, encode_mp4
from ..predictions.base import encode_png
from ..registry import ConceptEntry
from .inputs import load_input


@dataclass(frozen=True, repr=False)
class RenderedConcept:
    """A concept with its result for these settings: look at it with draw(), keep it with save(), read json()."""

    name: str
    text: ConceptText
    settings: Any
    result: ConceptResult
    inputs: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<{self.name}: {len(self.result.frames)} frames>"

    @property
    def command(self) -> str:
        """The command that shows the same."""
        words = ["thalweg", "explain", self.name, *self.inputs]
        for key, value in non_default(self.settings).items():
            words += ["--set", f"{key}={format_setting(value)}"]
        return shlex.join(words)

    def draw(self, step: int | None = None) -> Image.Image:
        """Draw one step, counted from 1; None: the key step. Raises OptionError for one that there is not."""
        return self._frame(step).draw()

    def _frame(self, step: int | None) -> Frame:
        frames = self.result.frames
        if step is None:
            return frames[self.result.key_frame]
        if not 1 <= step <= len(frames):
            raise OptionError(
                f"--step: {step} is out of range; expected 1 to {len(frames)}.",
                option="step",
                value=step,
                allowed=[1, len(frames)],
            )
        return frames[step - 1]

    def json(self) -> dict[str, Any]:
        """Return everything that is shown, as JSON values."""
        return to_json(
            {
                "concept": self.name,
                "title": self.text.title,
                "command": self.command,
                "settings": vars(self.settings),
                "key_numbers": self.result.key_numbers,
                "numbers": self.result.numbers,
                "frames": [frame.caption for frame in self.result.frames],
                "notes": list(self.result.notes),
            }
        )

    def lines(self) -> list[str]:
        """Return the page for a terminal: text, formulas, key numbers, what to look for."""
        lines = [self.text.title, ""]
        for paragraph in self.text.body.split("\n\n"):
            if paragraph.strip():
                lines += [*textwrap.wrap(" ".join(paragraph.split()), 100), ""]
        for plain, _ in self.text.formulas:
            lines.append(f"    {plain}")
        width = max((len(name) for name in self.result.key_numbers), default=0)
        if self.text.formulas:
            lines.append("")
        for name, value in self.result.key_numbers.items():
            lines.append(f"  {name:<{width}}  {value}")
        lines += ["", "Look for:", *(f"- {sentence}" for sentence in self.text.look_for)]
        return [*lines, "", f"Source: {self.text.source}"]

    def save(self, path: str | Path, step: int | None = None) -> Path:
        """Write png, svg (one step), gif, mp4 (all steps), html or json, by the ending of the name.

        Raises OptionError for another ending, ResourceError where it cannot be written.
        """
        path = Path(path)
        writers = {
            ".png": lambda: encode_png(self.draw(step)),
            ".svg": lambda: self._frame(step).to_svg().encode(),
            ".gif": lambda: encode_gif([frame.draw() for frame in self.result.frames]),
            ".mp4": lambda: encode_mp4([frame.draw() for frame in self.result.frames]),
            ".html": lambda: render_html(self).encode(),
            ".json": lambda: json.dumps(self.json(), indent=1, allow_nan=False).encode(),
        }
        writer = writers.get(path.suffix.lower())
        if writer is None:
            raise OptionError(
                f"--save: {path} has an unknown ending; expected {', '.join(writers)}.",
                option="save",
                value=str(path),
                allowed=list(writers),
            )
        atomic_write(path, writer(), cure="Give another --save.")
        return path

    def _repr_png_(self) -> bytes:
        return encode_png(self.draw())


def list_concepts() -> list[dict[str, Any]]:
    """Return a row per concept, in the order of the talk: name, chapter, title, summary, input, settings as schema."""
    rows = []
    for name, entry in registry.get_concepts().items():
        rows.append(
            {
                "name": name,
                "chapter": entry.text.chapter,
                "title": entry.text.title,
                "summary": entry.text.summary,
                "input": entry.input_kind,
                "settings": json_schema(entry.settings)["properties"],
            }
        )
    return rows


def format_concepts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Format the concepts by chapter, a line each."""
    width = max(len(row["name"]) for row in rows)
    lines: list[str] = []
    for chapter in CHAPTERS:
        inside = [row for row in rows if row["chapter"] == chapter]
        if not inside:
            continue
        lines += ["", chapter]
        for row in inside:
            needs = "  (needs a run)" if row["input"] in ("weight_path", "test_predictions") else ""
            lines.append(f"  {row['name']:<{width}}  {row['title']}{needs}")
    return lines[1:]


def settings_help(name: str) -> list[str]:
    """Return what can be set of a concept, a line each. Raises NotFoundError."""
    lines = []
    for field in option_fields(find_concept(name).settings).values():
        allowed = describe_type(field.kind) + (f", {field.range}" if field.range is not None else "")
        lines.append(f"  --set {field.name}={format_setting(field.default)}   {field.help} ({allowed})")
    return lines


def find_concept(name: str) -> ConceptEntry:
    """Return the concept of that name. Raises NotFoundError, with the nearest names."""
    concepts = registry.get_concepts()
    if name not in concepts:
        raise NotFoundError.for_unknown("concept", name, concepts)
    return concepts[name]


def explain_concept(
    name: str, inputs: Sequence[Any], settings: Mapping[str, Any], offline: bool = False
) -> RenderedConcept:
    """Compute a concept.

    Args:
        name: The concept.
        inputs: What it is about: an image, a table, a run.
        settings: Its settings; `weights` says, where the concept has no such setting, which weights a model gets.
        offline: Never use the network.

    Returns:
        The concept with its result.

    Raises:
        NotFoundError: For an unknown concept.
        OptionError: For settings that it does not have or allow.
    """
    entry = find_concept(name)
    values = dict(settings)
    weights = None if "weights" in option_fields(entry.settings) else values.pop("weights", None)
    try:
        parsed = parse_options(values, entry.settings)
    except OptionError as error:
        raise OptionError(
            f"{name}: {error.message}",
            error.cure,
            option=error.option or "",
            value=error.value,
            allowed=error.allowed or [],
        ) from None
    result = entry.explain(parsed, **load_input(entry.input_kind, inputs, parsed, weights, offline))
    words = tuple(str(word) for word in inputs if isinstance(word, str | Path))
    return RenderedConcept(name, entry.text, parsed, result, words)
