"""Write samples of an image data set as files."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from ...errors import ResourceError
from ..base import DataRequest
from .load import load_dataset


def export_samples(name: str, count: int, folder: Path) -> list[Path]:
    """Write images of a data set's test split as PNG files, one of each label in turn. Raises ResourceError."""
    dataset = load_dataset(DataRequest(name))
    test = dataset.test
    seen: dict[int, int] = {}
    order = []
    for row, label in enumerate(test.labels.tolist()):
        seen[label] = seen.get(label, 0) + 1
        order.append((seen[label], label, row))
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for index, (_, label, row) in enumerate(sorted(order)[:count]):
            image = test.images[row]
            path = folder / f"{dataset.name}-{index}-is-{dataset.classes[label]}.png".replace("/", "-")
            Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(path)
            written.append(path)
    except OSError as error:
        raise ResourceError(
            f"Cannot write into {folder}: {error.strerror}.", "Give another --out.", path=folder
        ) from error
    return written
