"""A look at a data set before training: what it is, how much there is of everything, and what will spoil the result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...errors import pluralize
from ...plots.contact_sheet import contact_sheet
from .dataset import ImageDataset
from .duplicates import DuplicatePair, find_exact_duplicates, find_near_duplicates
from .load import load_dataset, log_warning
from .raw_dataset import SPLITS, quote_names

#: a class with fewer training examples than FEW, or so many times smaller than the largest, is told
MIN_CLASS_SIZE, MAX_IMBALANCE = 10, 10
#: how many of a kind are listed on the terminal; `json` has them all
MAX_LISTED = 10
#: examples on the picture of one batch
BATCH_SIZE = 64


@dataclass(frozen=True)
class DatasetReport:
    """What was found in `data`.

    `counts` (classes, 3) are the examples of each class in train, valid and test. `copies` are pairs of exactly the
    same picture, `near` pairs of nearly the same in different sets.
    """

    data: ImageDataset
    counts: np.ndarray
    copies: tuple[DuplicatePair, ...]
    near: tuple[DuplicatePair, ...]

    @property
    def across(self) -> tuple[DuplicatePair, ...]:
        """Exactly the same picture in different sets."""
        return tuple(p for p in self.copies if p.one[0] != p.two[0])

    @property
    def torn(self) -> tuple[DuplicatePair, ...]:
        """Exactly the same picture with different labels."""
        return tuple(p for p in self.copies if self._label(p.one) != self._label(p.two))

    @property
    def few(self) -> tuple[str, ...]:
        """Classes with fewer than FEW training examples."""
        return tuple(c for c, count in zip(self.data.classes, self.counts[:, 0], strict=True) if count < MIN_CLASS_SIZE)

    @property
    def imbalance(self) -> float:
        """How many times larger the largest class is than the smallest, over all sets."""
        sizes = self.counts.sum(axis=1)
        return float(sizes.max() / max(sizes.min(), 1))

    @property
    def fine(self) -> bool:
        """Whether nothing was found that will spoil the result."""
        return not (
            self.data.bad or self.across or self.near or self.torn or self.few or self.imbalance > MAX_IMBALANCE
        )

    def _label(self, place: tuple[str, int]) -> str:
        return self.data.classes[self.data.splits[place[0]].labels[place[1]]]

    def _source(self, place: tuple[str, int]) -> str:
        """Where an example came from: its path within the data set if it is a file, else its name."""
        source = self.data.splits[place[0]].sources[place[1]]
        try:
            return str(Path(source).relative_to(self.data.where))
        except ValueError:
            return source

    def lines(self) -> list[str]:
        """What the terminal shows."""
        height, width, channels = self.data.shape
        kind = "grey" if channels == 1 else "RGB"
        told = [
            f"{self.data.name}: {self.data.format}, {len(self.data.classes)} classes, {width} x {height} {kind}",
            f"  {self.data.where}",
            "",
            *self._table(),
            "",
        ]
        if self.data.sizes:
            listed = [f"{w} x {h} ({count:,})" for (w, h), count in list(self.data.sizes.items())[:MAX_LISTED]]
            rest = len(self.data.sizes) - len(listed)
            told.append(f"Sizes of the files: {', '.join(listed)}{f' and {rest:,} more' if rest else ''}")
        told += self.data.notes
        told += self._listed("file that cannot be used", [f"{b.source}: {b.reason}" for b in self.data.bad])
        told += self._listed("picture in two sets, exactly the same", [self._pair(p) for p in self.across])
        told += self._listed("picture in two sets, nearly the same", [self._pair(p) for p in self.near])
        if self.across or self.near:
            told.append("  Scores will flatter. Keep what belongs together on one side: the column `group` of a table.")
        labelled = [f"{self._pair(p)}: {self._label(p.one)}, {self._label(p.two)}" for p in self.torn]
        told += self._listed("picture twice, with different labels", labelled)
        if self.few:
            told.append(f"Fewer than {MIN_CLASS_SIZE} training examples: {quote_names(self.few)}.")
        if self.imbalance > MAX_IMBALANCE:
            told.append(f"The largest class is {self.imbalance:.0f} times as large as the smallest.")
        return told + ["Nothing found that would spoil the result."] * self.fine

    def _pair(self, pair: DuplicatePair) -> str:
        one, two = (f"{self._source(place)} ({place[0]})" for place in (pair.one, pair.two))
        return f"{two} = {one}{' mirrored' if pair.mirrored else ''}"

    def _table(self) -> list[str]:
        """Examples per class and set, as aligned columns."""
        rows = [(c, *counts) for c, counts in zip(self.data.classes, self.counts.tolist(), strict=True)]
        cut = rows if len(rows) <= 40 else rows[:30]
        wide = max(len(str(row[0])) for row in [*cut, ("class",)])
        made = [f"{'class':<{wide}}" + "".join(f"{part:>9}" for part in SPLITS)]
        made += [f"{row[0]:<{wide}}" + "".join(f"{count:>9,}" for count in row[1:]) for row in cut]
        if len(cut) < len(rows):
            made.append(f"… and {len(rows) - len(cut)} more classes")
        return made + [f"{'all':<{wide}}" + "".join(f"{count:>9,}" for count in self.counts.sum(axis=0))]

    @staticmethod
    def _listed(what: str, entries: list[str]) -> list[str]:
        """A headline with the number of entries, and the first of them."""
        if not entries:
            return []
        first, _, rest = what.partition(" ")
        headline = f"{pluralize(len(entries), first)} {rest}:"
        more = [f"  … and {len(entries) - MAX_LISTED:,} more"] if len(entries) > MAX_LISTED else []
        return [headline, *(f"  {entry}" for entry in entries[:MAX_LISTED]), *more]

    def json(self) -> dict[str, Any]:
        """Everything as plain values."""
        data = self.data

        def pairs(found: tuple[DuplicatePair, ...]) -> list[dict[str, Any]]:
            return [
                {
                    "one": {"split": p.one[0], "source": self._source(p.one), "label": self._label(p.one)},
                    "two": {"split": p.two[0], "source": self._source(p.two), "label": self._label(p.two)},
                    "mirrored": p.mirrored,
                }
                for p in found
            ]

        return {
            "name": data.name,
            "format": data.format,
            "where": data.where,
            "classes": list(data.classes),
            "shape": list(data.shape),
            "counts": {part: self.counts[:, k].tolist() for k, part in enumerate(SPLITS)},
            "sizes": [{"width": w, "height": h, "files": count} for (w, h), count in data.sizes.items()],
            "bad": [{"source": b.source, "reason": b.reason} for b in data.bad],
            "notes": list(data.notes),
            "exact": pairs(self.across),
            "near": pairs(self.near),
            "torn": pairs(self.torn),
            "few": list(self.few),
            "imbalance": self.imbalance,
            "fingerprint": data.fingerprint,
            "fine": self.fine,
        }

    def picture(self) -> Image.Image:
        """Examples from all over the training set, with their labels."""
        train = self.data.train
        rows = np.unique(np.linspace(0, len(train) - 1, BATCH_SIZE).astype(np.int64))
        return contact_sheet(train.images[rows], [self.data.classes[label] for label in train.labels[rows]])


def check_dataset(
    source: str | Path,
    *,
    size: int | None = None,
    channels: int | None = None,
    valid: float = 0.1,
    strict: bool = False,
    offline: bool = False,
    near: bool = True,
    notice: Callable[[str], None] = log_warning,
) -> DatasetReport:
    """Reads the set as `load_dataset` does, with the same arguments and errors, and looks for what will spoil the result.

    `near` also looks for near copies across the sets, which takes about half a minute for 70,000 pictures.
    """
    data = load_dataset(
        source, size=size, channels=channels, valid=valid, strict=strict, offline=offline, notice=notice
    )
    number = len(data.classes)
    counts = np.stack([np.bincount(data.splits[part].labels, minlength=number) for part in SPLITS], axis=1)
    exact = find_exact_duplicates(data.splits)
    if near and sum(map(len, data.splits.values())) > 20_000:
        notice("Looking for near copies across the sets …")
    return DatasetReport(data, counts, tuple(exact), tuple(find_near_duplicates(data.splits, exact)) if near else ())
