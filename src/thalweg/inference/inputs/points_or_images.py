"""Examples to imitate, without labels: points of the plane from a table or an array, or images from a folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ...data.base import DataRequest
from ...data.images.square_images import load_square_images
from ...errors import OptionError, pluralize
from . import check_max_words
from .points import load_unlabeled_points

#: height and width that images are brought to
IMAGE_SIZE = 16
#: of more images, so many are drawn
MAX_IMAGES = 5000
TABLE_EXTENSIONS = (".csv", ".tsv")


def load_input(words: list[Any], settings: Any, weights: str | None, offline: bool) -> dict[str, Any]:
    """Load [TABLE | IMAGES]: `points` (N, 2) and `axes`, or `images` (N, 16, 16, C) uint8; `title`, `notes`.

    A table is a .csv or .tsv file, in Python also an array (N, 2). Images are a folder, or the name of a data set.
    Without words nothing is loaded. `settings.columns` names the columns of a table, `settings.seed` draws some of many
    examples. Raises NotFoundError for what does not exist, DataError for what cannot be used.
    """
    check_max_words(words, 1, "a table of points, or a folder of images")
    if weights is not None:
        raise OptionError("This concept trains models of its own.", "Leave --weights out.", option="weights")
    if not words:
        return {}
    word = words[0]
    if isinstance(word, np.ndarray | tuple) or _is_table(word):
        return load_unlabeled_points(word, settings)
    return _load_images(word, settings.seed, offline)


def _is_table(word: Any) -> bool:
    return isinstance(word, str | os.PathLike) and Path(word).suffix.lower() in TABLE_EXTENSIONS


def _load_images(word: Any, seed: int, offline: bool) -> dict[str, Any]:
    if not isinstance(word, str | os.PathLike):
        raise OptionError(
            f"{type(word).__name__} is neither a table nor a folder.",
            "Give a path, a data set's name, or an array of points (N, 2).",
            value=type(word).__name__,
        )
    dataset = load_square_images(DataRequest(os.fspath(word), offline=offline), IMAGE_SIZE)
    images = dataset.all.images
    notes = [f"Images are cropped to squares and resized to {IMAGE_SIZE} x {IMAGE_SIZE} pixels."]
    if dataset.unreadable:
        file = dataset.unreadable[0]
        unreadable = pluralize(len(dataset.unreadable), "unreadable file")
        notes.append(f"Left out: {unreadable}, {file.path}: {file.reason}.")
    if len(images) > MAX_IMAGES:
        rows = np.sort(np.random.default_rng(seed).permutation(len(images))[:MAX_IMAGES])
        notes.append(f"{MAX_IMAGES} of {len(images)} images are used, drawn by the seed.")
        images = images[rows]
    return {"images": images, "title": dataset.name, "notes": notes}
