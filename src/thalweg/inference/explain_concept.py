"""A concept asked about: its settings read, the result computed, and written as picture, film, page or numbers."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from .. import registry
from ..concepts.base import CHAPTERS, ConceptResult
from ..config.json_record import to_json
from ..config.parsing import json_schema, non_default
from ..errors import NotFoundError, OptionError
from ..io.atomic_write import atomic_write
from ..pages.concept_page import render_html
from ..plots.animation import encode_gif, encode_mp4
from ..registry import ConceptEntry
from .inputs import load_input


class RenderedConcept:
    """A concept with what came out for these settings: look at it with draw(), keep it with save(), read json()."""

    def __init__(self, entry: ConceptEntry, asked: Any, result: ConceptResult, words: Sequence[str] = ()):
        self.name, self.page, self.asked, self.result = entry.name, entry.page, asked, result
        self.words = tuple(words)

    def __repr__(self) -> str:
        return f"<{self.name}: {len(self.result.frames)} frames>"

    @property
    def command(self) -> str:
        """What shows the same on the command line."""
        import shlex

        words = ["thalweg", "explain", self.name, *self.words]
        for key, value in non_default(self.asked).items():
            words += ["--set", f"{key}={format_setting(value)}"]
        return shlex.join(words)

    def draw(self, frame: int | None = None) -> Image.Image:
        """One frame, counted from 1; None: the one that says most. Raises OptionError for one that there is not."""
        return self._frame(frame).draw()

    def _frame(self, number: int | None):
        frames = self.result.frames
        if number is None:
            return frames[self.result.key_frame]
        if not 1 <= number <= len(frames):
            raise OptionError(f"There is no frame {number}.", cure=f"Give 1 to {len(frames)}.")
        return frames[number - 1]

    def json(self) -> dict[str, Any]:
        """Everything that is shown, as JSON values."""
        return to_json(
            {
                "concept": self.name,
                "title": self.page.title,
                "command": self.command,
                "settings": vars(self.asked),
                "figures": self.result.key_numbers,
                "numbers": self.result.numbers,
                "frames": [frame.caption for frame in self.result.frames],
                "notes": list(self.result.notes),
            }
        )

    def lines(self) -> list[str]:
        """The page for a terminal: text, formulas, figures, what to look for."""
        wrapped = [textwrap.fill(" ".join(p.split()), 100) for p in self.page.body.split("\n\n") if p.strip()]
        lines = [self.page.title, "", *"\n\n".join(wrapped).split("\n"), ""]
        lines += [f"    {plain}" for plain, _ in self.page.formulas] + ([""] if self.page.formulas else [])
        width = max((len(name) for name in self.result.key_numbers), default=0)
        lines += [f"  {name:<{width}}  {figure}" for name, figure in self.result.key_numbers.items()]
        lines += ["", "Look for:", *(f"- {' '.join(sentence.split())}" for sentence in self.page.look_for)]
        return [*lines, "", f"Source: {self.page.source}"]

    def save(self, path: Any, frame: int | None = None) -> Path:
        """Writes png, svg (one frame), gif, mp4 (all frames), html or json, by the ending of the name.

        Raises OptionError for another ending, ResourceError where it cannot be written.
        """
        path = Path(path)
        writers = {
            ".png": lambda: _encode_png(self.draw(frame)),
            ".svg": lambda: self._frame(frame).to_svg().encode(),
            ".gif": lambda: encode_gif([one.draw() for one in self.result.frames]),
            ".mp4": lambda: encode_mp4([one.draw() for one in self.result.frames]),
            ".html": lambda: render_html(self).encode(),
            ".json": lambda: json.dumps(self.json(), indent=1, allow_nan=False).encode(),
        }
        if path.suffix.lower() not in writers:
            raise OptionError(
                f"{path}: a file of that name cannot be written.", cure=f"End it in {', '.join(writers)}."
            )
        atomic_write(path, writers[path.suffix.lower()](), cure="Make room, or give another --save.")
        return path


def _encode_png(image: Image.Image) -> bytes:
    import io

    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def format_setting(value: Any) -> str:
    """A setting as --set takes it."""
    if isinstance(value, list | tuple):
        return (";" if value and isinstance(value[0], list | tuple) else ",").join(
            format_setting(inner) for inner in value
        )
    return f"{value:g}" if isinstance(value, float) else str(value)


def list_concepts() -> list[dict[str, Any]]:
    """A row per concept, in the order of the talk: name, chapter, about, subject, settings as a JSON schema."""
    return [
        {
            "name": name,
            "chapter": entry.page.chapter,
            "title": entry.page.title,
            "about": entry.page.summary,
            "subject": entry.subject,
            "settings": json_schema(entry.settings)["properties"],
        }
        for name, entry in registry.get_concepts().items()
    ]


def format_concepts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The concepts by chapter, a line each."""
    width, lines = max(len(row["name"]) for row in rows), []
    for chapter in CHAPTERS:
        inside = [row for row in rows if row["chapter"] == chapter]
        lines += ["", chapter, *(f"  {row['name']:<{width}}  {row['title']}" for row in inside)] if inside else []
    return lines[1:]


def settings_help(name: str) -> list[str]:
    """What can be set of a concept, a line each. Raises NotFound."""
    entry = find_concept(name)
    ranges = settings.option_ranges(entry.settings)
    lines = []
    for key, (kind, help_, default) in settings.option_fields(entry.settings).items():
        between = f", {ranges[key].low:g} to {ranges[key].high:g}" if key in ranges else ""
        lines.append(f"  --set {key}={format_setting(default)}   {help_} ({settings.describe_type(kind)}{between})")
    return lines


def find_concept(name: str) -> ConceptEntry:
    """The concept of that name. Raises NotFound, with the nearest names."""
    found = registry.get_concepts()
    if name not in found:
        raise NotFoundError.for_unknown("concept", name, found)
    return found[name]


def explain_concept(
    name: str, words: Sequence[Any], given: Mapping[str, Any], offline: bool = False
) -> RenderedConcept:
    """Asks the concept about the subject that `words` name, with these settings.

    Among those `weights` says, where the concept has no such setting, with which weights a model by name is loaded.
    Raises NotFound, OptionError for settings that it does not have or allow, and what the subject's reading raises.
    """
    entry, given = find_concept(name), dict(given)
    weights = None if "weights" in settings.option_fields(entry.settings) else given.pop("weights", None)
    try:
        asked = settings.parse_options(given, entry.settings)
    except OptionError as error:
        raise OptionError(f"{name}: {error.message}", error.cure) from None
    found = load_input(entry.subject, words, asked, weights, offline)
    result = entry.explain(asked, **found)
    return RenderedConcept(entry, asked, result, [str(word) for word in words if isinstance(word, str | Path)])
