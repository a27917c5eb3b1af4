"""Images as a reader returns them, before they are split, and the checks that all formats share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...config.size import PixelSize
from ..base import UnreadableFile
from .dataset import ImageSplit

#: names of the splits in folders and in the split column of tables
SPLIT_ALIASES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}


#: where the images of files are kept: decoded in memory, or as they are on disk; "auto" chooses by their size
STORAGES = ("auto", "memory", "disk")


@dataclass(frozen=True)
class ReadOptions:
    """The format that a reader brings all images to.

    Attributes:
        image_size: Height and width in pixels, one number for squares; None keeps the size where all images share it.
        channels: 1 (gray), 3 (RGB) or None (as in the files).
        resize: With `image_size`: resize the shorter side to this before cropping the center.
        progress: Called with (files read, files in total).
        storage: One of STORAGES.
    """

    image_size: PixelSize | None = None
    channels: int | None = None
    resize: int | None = None
    progress: Callable[[int, int], None] | None = None
    storage: str = "auto"


@dataclass
class RawDataset:
    """A dataset as its source divides it: "train" always, "val" and "test" only where the source has them.

    Attributes:
        format: Format that the reader recognized.
        path: Where it was read from.
        classes: Names of the classes, by label.
        splits: The official splits.
        groups: (N,) uint64 group of each training row, given by the user; equal groups stay in one split.
        files: (N,) uint64 hash of the file of each training row; equal files stay in one split.
        unreadable: Files that were skipped.
        warnings: Findings that the user should know.
        sizes: (width, height) of the files before resizing, with their counts.
        is_handwriting: See `ImageDataset`.
        split_method: "stratified" or "hash", see `splits.py`.
    """

    format: str
    path: str
    classes: tuple[str, ...]
    splits: dict[str, ImageSplit]
    groups: np.ndarray | None = None
    files: np.ndarray | None = None
    unreadable: list[UnreadableFile] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    sizes: dict[tuple[int, int], int] = field(default_factory=dict)
    is_handwriting: bool = False
    split_method: str = "stratified"


def look_like_numbers(labels: Iterable[str]) -> bool:
    """Tell whether all labels are numbers, such as measurements."""
    try:
        for label in labels:
            float(label)
    except ValueError:
        return False
    return True


def quote_names(names: Sequence[str], max_names: int = 5) -> str:
    """Format names for a message: "'a', 'b' and 3 more"."""
    text = ", ".join(f"'{name}'" for name in names[:max_names])
    if len(names) > max_names:
        text += f" and {len(names) - max_names} more"
    return text
