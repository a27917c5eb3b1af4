"""Styles that a generator's latents have, with the attributes of their images, drawn by seed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import DataError
from ...models.generate.base import Generator
from ..base import SPLITS, DataRequest, Dataset
from .readers import AttributeReader

# N latents, W numbers in a style, A attributes

#: the name of the data that is drawn
SOURCE = "latents"
#: latents of validation and test
NUM_VAL = 48
NUM_TEST = 128
#: images at a time
BATCH_SIZE = 100
#: standard deviation, relative to the largest value, below which an attribute is the same everywhere
MIN_DEVIATION = 1e-5


@dataclass(frozen=True)
class GeneratorSource:
    """A trained generator, and how it is built: the model's name and arguments."""

    name: str
    model: str
    kwargs: dict[str, Any]
    generator: Generator
    channels: int
    image_size: int

    def digest(self) -> str:
        """Return a SHA-256, in hex, of all weights."""
        return hash_weights(self.generator)


@dataclass(frozen=True)
class LatentSplit:
    """Styles (N, W) float32 and the values (N, A) of their images, with what made and what measured them."""

    style_NW: np.ndarray
    value_NA: np.ndarray
    source: GeneratorSource
    reader: AttributeReader

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


def hash_weights(module: nn.Module) -> str:
    """Return the SHA-256, in hex, of the state of a module."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def check_source(request: DataRequest) -> None:
    """Raise DataError for a source other than the name of what is drawn."""
    if str(request.source) != SOURCE:
        raise DataError(
            f"{request.source} is not read: the latents of the generator are the data; expected {SOURCE}.",
            "Leave DATA out, or give --attributes FILE.csv with it.",
            value=str(request.source),
            allowed=[SOURCE],
        )


def draw_dataset(
    source: GeneratorSource,
    reader: AttributeReader,
    counts: dict[str, int],
    seed: int,
    notes: tuple[tuple[str, Any], ...] = (),
    progress: Callable[[int, int], None] | None = None,
) -> LatentDataset:
    """Draw latents and measure their images.

    Args:
        source: The generator.
        reader: What measures.
        counts: Latents of each split.
        seed: Seeds the latents; those of val and test depend on it too.
        notes: Figures of the reader.
        progress: Called with the latents drawn and their number.

    Returns:
        The dataset.

    Raises:
        DataError: For an attribute that is the same on all images, or not finite.
    """
    total = sum(counts.values())
    splits = {}
    done = 0
    for index, split in enumerate(SPLITS):
        stream = torch.Generator().manual_seed((seed << 2) + index)
        styles: list[Tensor] = []
        values: list[Tensor] = []
        while sum(map(len, styles)) < counts[split]:
            size = min(BATCH_SIZE, counts[split] - sum(map(len, styles)))
            style_BW, value_BA = measure_latents(source.generator, reader, stream, size)
            styles.append(style_BW)
            values.append(value_BA)
            done += size
            if progress is not None:
                progress(done, total)
        splits[split] = LatentSplit(torch.cat(styles).numpy(), torch.cat(values).numpy(), source, reader)
    check_values(splits["train"])
    description = f"{source.digest()} {hash_weights(reader)} {reader.names} {sorted(counts.items())} {seed}"
    return LatentDataset(
        name=source.name,
        format="latents of a generator",
        path=SOURCE,
        splits=splits,
        fingerprint=hashlib.sha256(description.encode()).hexdigest(),
        summary=f"{source.image_size}x{source.image_size} {'gray' if source.channels == 1 else 'color'}, "
        f"attributes {', '.join(reader.names)}",
        unit="latent",
        official_splits=SPLITS,
        notes=notes,
    )


def draw_style(generator: Generator, stream: torch.Generator, count: int) -> Tensor:
    """Draw the styles (count, W) of normally distributed latents, and of random classes of a conditional generator."""
    device = next(generator.parameters()).device
    latent_BL = torch.randn(count, generator.latent_dim, generator=stream).to(device)
    label_B = None
    if generator.num_classes:
        label_B = torch.randint(generator.num_classes, (count,), generator=stream).to(device)
    return generator.map_latent(latent_BL, label_B)


@torch.no_grad()
def measure_latents(
    generator: Generator, reader: nn.Module, stream: torch.Generator, count: int
) -> tuple[Tensor, Tensor]:
    """Draw styles (count, W), and measure their images: values (count, A)."""
    generator.eval()
    style_BW = draw_style(generator, stream, count)
    value_BA = reader(generator.synthesize(generator.repeat_style(style_BW)))
    return style_BW.float().cpu(), value_BA.float().cpu()


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


def measure_images(
    synthesize: Callable[..., Tensor], reader: Callable[[Tensor], Tensor], style_NW: Tensor, *arguments: Tensor
) -> np.ndarray:
    """Return the values (N, A) of the images that are made of styles and further arguments, in batches."""
    rows = []
    with torch.no_grad():
        for start in range(0, len(style_NW), BATCH_SIZE):
            part = slice(start, start + BATCH_SIZE)
            image_BCHW = synthesize(style_NW[part], *(value[part] for value in arguments))
            rows.append(reader(image_BCHW).float().cpu().numpy())
    return np.concatenate(rows)
