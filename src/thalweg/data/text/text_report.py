"""Check a text before training: its length, its symbols, and lines of val and test that are in train as well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from PIL import Image

from ..base import SPLITS
from .text_dataset import TextDataset, TextSplit

#: shorter lines return by chance
MIN_LINE_LENGTH = 40
#: with a larger fraction of lines from train, val and test say little about new text
MAX_REPEATED_FRACTION = 0.05
MAX_LISTED = 20
#: characters of train that the picture shows
MAX_DRAWN = 1500


@dataclass(frozen=True)
class TextReport:
    """Findings about a text.

    Attributes:
        dataset: The text.
        counts: How often each character occurs in train, most frequent first.
        repeated_fraction: By split, the fraction of long lines that are in train as well.
    """

    dataset: TextDataset
    counts: Mapping[str, int]
    repeated_fraction: Mapping[str, float]

    @property
    def ok(self) -> bool:
        """True if nothing was found that will spoil the result."""
        return not self.dataset.unreadable and not self.dataset.warnings and not self._repeats()

    def _repeats(self) -> list[str]:
        lines = []
        for name, fraction in self.repeated_fraction.items():
            if fraction > MAX_REPEATED_FRACTION:
                lines.append(f"note: {100 * fraction:.1f} % of the long lines of {name} are in train as well")
        return lines

    def lines(self) -> list[str]:
        """Return the findings for a terminal."""
        dataset = self.dataset
        total = max(1, len(dataset.train))
        frequent = []
        for character, count in list(self.counts.items())[:MAX_LISTED]:
            frequent.append(f"{character!r} {100 * count / total:.1f} %")
        return [
            f"{dataset.name}: {dataset.format}, {dataset.summary}",
            f"characters: {dataset.format_sizes()}",
            f"most frequent: {', '.join(frequent)}",
            *dataset.messages(),
            *self._repeats(),
        ]

    def json(self) -> dict[str, Any]:
        """Return the findings as JSON values."""
        dataset = self.dataset
        characters = {}
        for name in SPLITS:
            characters[name] = len(dataset.splits[name])
        return {
            "name": dataset.name,
            "format": dataset.format,
            "characters": characters,
            "official_splits": list(dataset.official_splits),
            "symbols": len(dataset.alphabet) - 1,
            "counts": dict(self.counts),
            "repeated_fraction": dict(self.repeated_fraction),
            "warnings": list(dataset.warnings),
            "unreadable": list(map(asdict, dataset.unreadable)),
            "ok": self.ok,
        }

    def picture(self) -> Image.Image:
        """Draw the beginning of train."""
        from ...plots.text_surprise import plot_text_surprise

        text = self.dataset.train.text[:MAX_DRAWN]
        return plot_text_surprise(text, [0.0] * len(text), self.dataset.name)


def check_text_dataset(dataset: TextDataset) -> TextReport:
    """Count the characters of a text and the lines that its splits share."""
    counts = dict(Counter(dataset.train.text).most_common())
    train = _long_lines(dataset.train)
    repeated = {}
    for name in SPLITS[1:]:
        lines = _long_lines(dataset.splits[name])
        repeated[name] = len(lines & train) / max(1, len(lines))
    return TextReport(dataset, counts, repeated)


def _long_lines(split: TextSplit) -> set[str]:
    lines = set()
    for line in split.text.splitlines():
        if len(line.strip()) >= MIN_LINE_LENGTH:
            lines.add(line.strip())
    return lines
