"""Styles that a generator's latents have, with the attributes of their images, drawn by seed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import DataError
from ..base import SPLITS, DataRequest, Dataset

# N latents, W numbers in a style, A attributes

#: the name of the data that is drawn
SOURCE = "latents"
#: latents of validation and test
NUM_VAL = 48
NUM_TEST = 128
#: standard deviation, relative to the largest value, below which an attribute is the same everywhere
MIN_DEVIATION = 1e-5


@dataclass(frozen=True)
class GeneratorSource:
    """A trained generator, a module, and how it is built: the name and arguments of its model."""

    name: str
    model: str
    kwargs: dict[str, Any]
    generator: Any
    channels: int
    image_size: int


@dataclass(frozen=True)
class LatentSplit:
    """Styles (N, W) float32 and the values (N, A) of their images, with what made and what measured them."""

    style_NW: np.ndarray
    value_NA: np.ndarray
    source: GeneratorSource
    reader: Any

    def __len__(self) -> int:
        return len(self.style_NW)

    def names(self, rows: Sequence[int]) -> list[str]:
        """Return 'latent 12' for each row, counted from 1."""
        return [f"latent {row + 1:,}" for row in rows]

    def keys(self) -> None:
        """Return None: no latent is drawn twice."""


@dataclass(frozen=True)
class LatentDataset(Dataset[LatentSplit]):
    """Latents of one generator; `notes` are figures of the source of the attributes, such as a held-out R2."""

    notes: tuple[tuple[str, Any], ...] = ()

    @property
    def source(self) -> GeneratorSource:
        """The generator."""
        return self.train.source

    @property
    def attributes(self) -> tuple[str, ...]:
        """Names of the attributes."""
        return self.train.reader.names


def check_source(request: DataRequest) -> None:
    """Raise DataError for a source other than the name of what is drawn."""
    if str(request.source) != SOURCE:
        raise DataError(
            f"{request.source} is not read: the latents of the generator are the data; expected {SOURCE}.",
            "Leave DATA out, or give --attributes FILE.csv with it.",
            value=str(request.source),
            allowed=[SOURCE],
        )


def build_dataset(
    splits: dict[str, LatentSplit], digest: str, seed: int, notes: tuple[tuple[str, Any], ...]
) -> LatentDataset:
    """Build the dataset of drawn latents.

    Args:
        splits: The splits.
        digest: Stands for generator and reader.
        seed: Seed of the latents.
        notes: Figures of the reader.

    Returns:
        The dataset.

    Raises:
        DataError: For an attribute that is the same on all images, or not finite.
    """
    train = splits["train"]
    check_values(train)
    counts = sorted((name, len(split)) for name, split in splits.items())
    description = f"{digest} {train.reader.names} {counts} {seed}"
    color = "gray" if train.source.channels == 1 else "color"
    size = train.source.image_size
    return LatentDataset(
        name=train.source.name,
        format="latents of a generator",
        path=SOURCE,
        splits=splits,
        fingerprint=hashlib.sha256(description.encode()).hexdigest(),
        summary=f"{size}x{size} {color}, attributes {', '.join(train.reader.names)}",
        unit="latent",
        official_splits=SPLITS,
        notes=notes,
    )


def check_values(split: LatentSplit) -> None:
    """Raise DataError for an attribute that is the same on all images, or not finite."""
    for index, name in enumerate(split.reader.names):
        values_N = split.value_NA[:, index]
        if not np.isfinite(values_N).all():
            raise DataError(f"The attribute '{name}' is NaN or inf on some images.", "Leave it out.", value=name)
        if values_N.std() <= MIN_DEVIATION * max(1e-3, float(np.abs(values_N).max())):
            raise DataError(
                f"The attribute '{name}' is {values_N[0]:.4g} on all generated images; expected different values.",
                "Leave it out, or train the generator longer.",
                value=name,
                allowed=[other for other in split.reader.names if other != name],
            )
