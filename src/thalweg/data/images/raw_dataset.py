"""What a reader hands on before the examples are divided, and the few checks that every format shares."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ...errors import DataError
from .dataset import Split, UnreadableFile

SPLITS = ("train", "valid", "test")

#: how folders and split columns name the three parts
SPLIT_ALIASES = {
    "train": "train",
    "training": "train",
    "val": "valid",
    "valid": "valid",
    "validation": "valid",
    "dev": "valid",
    "test": "test",
    "testing": "test",
}


@dataclass
class RawDataset:
    """Examples as they were given: 'train' always, 'valid' and 'test' only where the source itself names them.

    `groups` and `files` (N,) uint64 belong to the rows of 'train': equal numbers stay on one side of a division.
    `groups` comes from the user, `files` from the bytes of each file.
    """

    format: str
    where: str
    classes: tuple[str, ...]
    parts: dict[str, Split]
    groups: np.ndarray | None = None
    files: np.ndarray | None = None
    bad: list[UnreadableFile] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sizes: dict[tuple[int, int], int] = field(default_factory=dict)
    ink: bool = False


def short_hash(content: bytes) -> int:
    """The first 64 bits of SHA-256: an identity that is the same on every machine."""
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big")


def check_classes(found: RawDataset) -> None:
    """Raises DataError unless there are two classes or more and each has a picture to train on."""
    if len(found.classes) < 2:
        told = f"only one class, '{found.classes[0]}'" if found.classes else "no class"
        raise DataError(
            f"{found.where}: there is {told}; a classifier needs two or more.",
            cure="Give every class a folder, or a name in the label column, of its own.",
        )
    counts = np.bincount(found.parts["train"].labels, minlength=len(found.classes))
    if not counts.all():
        empty = [found.classes[c] for c in np.flatnonzero(counts == 0)]
        raise DataError(
            f"{found.where}: no readable picture to train on for {quote_names(empty)}.{_first_unreadable(found.bad)}",
            cure="Add pictures of it to the training part, or remove the class everywhere.",
        )


def _first_unreadable(bad: Sequence[UnreadableFile]) -> str:
    """The first file that could not be read, if any, and why."""
    return f" {bad[0].source}: {bad[0].reason}." if bad else ""


def quote_names(names: Sequence[str], most: int = 5) -> str:
    """'a', 'b' and 3 more."""
    told = ", ".join(f"'{n}'" for n in names[:most])
    return told if len(names) <= most else f"{told} and {len(names) - most} more"
