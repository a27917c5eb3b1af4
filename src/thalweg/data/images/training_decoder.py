"""Decode training images: random boxes or the center, and another image for one that cannot be read any more."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import numpy as np

from ...errors import DataError
from .image_decoding import ImageReadError, describe_error
from .random_crop import Box, ImageKey, decode_box, draw_box
from .stored_images import StoredImages

#: other images that are tried in the place of one that cannot be read
MAX_REPLACEMENTS = 100


class TrainingDecoder:
    """Decodes the image at a row for an epoch. Safe to call from several threads.

    Args:
        images: The training images.
        seed: What all random choices depend on besides epoch and row.
        min_area: The smallest area of a random resized crop, as a fraction; None takes the center, as in evaluation.
        strict: Raise DataError where an image cannot be read, instead of taking another.
        log: Called once for each image that cannot be read.
    """

    def __init__(
        self,
        images: StoredImages,
        seed: int,
        min_area: float | None = None,
        strict: bool = False,
        log: Callable[[str], None] = lambda message: None,
    ):
        self.images = images
        self.seed = seed
        self.min_area = min_area
        self.strict = strict
        self.log = log
        self._logged: set[int] = set()
        self._lock = threading.Lock()

    def __call__(self, row: int, epoch: int) -> tuple[np.ndarray, int]:
        """Return an image (H, W, C) uint8 and its row: another than `row` where that cannot be read. Raises DataError.

        The other row is drawn from (seed, epoch, row), so that it is the same with any number of threads.
        """
        try:
            return self._decode(row, epoch), row
        except (ImageReadError, OSError) as error:
            self._report(row, error)
        others = ImageKey(self.seed, epoch, row).generator(1).integers(0, len(self.images), MAX_REPLACEMENTS)
        for other in others.tolist():
            try:
                return self._decode(other, epoch), other
            except (ImageReadError, OSError) as error:
                self._report(other, error)
        raise DataError(
            f"{self._name(row)} and {MAX_REPLACEMENTS} random others cannot be read.",
            "Bring the images back, and continue with --resume.",
            path=self._name(row),
        )

    def _decode(self, row: int, epoch: int) -> np.ndarray:
        images = self.images
        if self.min_area is None:
            return images.decode(row)
        draw = partial(self._draw, ImageKey(self.seed, epoch, row))
        return decode_box(images.encoded.read(row), images.channels, images.size, draw)

    def _draw(self, key: ImageKey, height: int, width: int) -> Box:
        target_height, target_width = self.images.size
        return draw_box(key, (height, width), self.min_area or 0.0, target_width / target_height)

    def _report(self, row: int, error: Exception) -> None:
        """Log an image that cannot be read, the first time; with `strict`, raise DataError."""
        reason = describe_error(error, b"")
        if self.strict:
            raise DataError(
                f"{self._name(row)} cannot be read any more: {reason}.",
                "Bring it back and continue with --resume.",
                path=self._name(row),
                value=reason,
            ) from None
        with self._lock:
            is_new = row not in self._logged
            self._logged.add(row)
        if is_new:
            self.log(f"{self._name(row)} cannot be read any more: {reason}; other images take its place")

    def _name(self, row: int) -> str:
        return self.images.encoded.names([row])[0]
