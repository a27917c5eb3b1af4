"""Encoded images: the bytes of image files, wherever they are, read one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from ...io.file_names import decode_file_name
from .image_decoding import ImageSource


class EncodedImages(Protocol):
    """N encoded images. Safe to read from several threads."""

    def __len__(self) -> int: ...

    def read(self, row: int) -> ImageSource:
        """Return what `decode_image` takes: the path of a file, or its content. Raises OSError."""
        ...

    def names(self, rows: Sequence[int]) -> list[str]:
        """Return names of the images at `rows` for messages: paths, or an archive and a name inside it."""
        ...

    def take(self, rows: np.ndarray) -> EncodedImages:
        """Return the images at `rows` (n,) int64, in that order."""
        ...


class ImageFiles:
    """Image files by their paths."""

    def __init__(self, paths: Sequence[Path]):
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, row: int) -> ImageSource:
        """Return the path of an image."""
        return self.paths[row]

    def names(self, rows: Sequence[int]) -> list[str]:
        """Return the paths of the images at `rows`."""
        return [decode_file_name(str(self.paths[row])) for row in rows]

    def take(self, rows: np.ndarray) -> ImageFiles:
        """Return the images at `rows` (n,) int64, in that order."""
        return ImageFiles([self.paths[row] for row in rows.tolist()])
