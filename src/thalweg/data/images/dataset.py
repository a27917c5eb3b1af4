"""The two values that every reader gives back: a split, and a whole data set with what was found while reading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class UnreadableFile:
    """A source that could not be used, and why, in words for the user."""

    source: str
    reason: str


@dataclass(frozen=True)
class Split:
    """Examples in memory.

    images (N, H, W, C) uint8, C is 1 (grey) or 3 (RGB); labels (N,) int64; sources name each example.
    """

    images: np.ndarray
    labels: np.ndarray
    sources: Sequence[str]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: np.ndarray) -> Split:
        """The examples at `rows` (N,) int64, in that order."""
        return Split(self.images[rows], self.labels[rows], [self.sources[r] for r in rows])


@dataclass(frozen=True)
class ImageDataset:
    """A classified data set, read and divided.

    `fingerprint` is the SHA-256 of everything that training will see; a resumed run compares it. `ink` says that the
    pictures are strokes, white on black, centred by mass, as in MNIST: `predict` then brings any drawing to that form.
    """

    name: str
    format: str
    where: str
    classes: tuple[str, ...]
    train: Split
    valid: Split
    test: Split
    bad: tuple[UnreadableFile, ...] = ()
    notes: tuple[str, ...] = ()
    ink: bool = False
    fingerprint: str = ""
    #: the parts that the source itself tells apart; the others were taken from its training part
    given: tuple[str, ...] = ()
    #: sizes (width, height) of the files before resizing, with counts; empty for array formats
    sizes: dict[tuple[int, int], int] = field(default_factory=dict)

    @property
    def splits(self) -> dict[str, Split]:
        """train, valid and test by name."""
        return {"train": self.train, "valid": self.valid, "test": self.test}

    def told(self) -> list[str]:
        """What was noticed while reading, and what was left out, in lines."""
        lines = [f"note: {note}" for note in self.notes]
        lines += [f"left out: {bad.source}: {bad.reason}" for bad in self.bad[:10]]
        return lines + ([f"left out: {len(self.bad) - 10} more files"] if len(self.bad) > 10 else [])

    @property
    def whole(self) -> Split:
        """All examples."""
        splits = list(self.splits.values())
        return Split(
            np.concatenate([split.images for split in splits]),
            np.concatenate([split.labels for split in splits]),
            [source for split in splits for source in split.sources],
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of every picture."""
        return tuple(self.train.images.shape[1:])
