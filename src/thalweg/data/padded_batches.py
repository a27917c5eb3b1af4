"""Batches of whole images of different shapes: grouped so that little is padded, with a mask of the real pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .batches import BatchOrder
from .decoded_batches import AheadBatches, DecodeFunction

#: batches that are grouped together: more of them pad less, fewer of them mix more from epoch to epoch
BATCHES_PER_GROUP = 64
#: batches of near aspect among which images are sorted by area
BATCHES_PER_ASPECT = 4


def group_by_shape(sizes_N2: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Divide images into batches of nearly equal shapes; every row is in one of them.

    Args:
        sizes_N2: Height and width of each image.
        batch_size: Images per batch.
        seed: Seeds the order, together with the epoch.
        epoch: The epoch.

    Returns:
        Rows (batch_size,) int64 of each batch, in random order; rows that do not fill a batch, at random, come last.
    """
    generator = np.random.default_rng([seed, epoch])
    row_N = generator.permutation(len(sizes_N2))
    num_full = len(row_N) // batch_size * batch_size
    batches: list[np.ndarray] = []
    for start in range(0, num_full, BATCHES_PER_GROUP * batch_size):
        group = row_N[start : min(num_full, start + BATCHES_PER_GROUP * batch_size)]
        batches += _sort_group(group, sizes_N2, batch_size)
    shuffled = [batches[index] for index in generator.permutation(len(batches)).tolist()]
    rest = row_N[num_full:]
    return [*shuffled, rest] if len(rest) else shuffled


def _sort_group(rows: np.ndarray, sizes_N2: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Sort rows by aspect, and those of near aspect by area; cut them into batches."""
    height, width = sizes_N2[rows].astype(np.float64).T
    by_aspect = np.argsort(height / width, kind="stable")
    batches: list[np.ndarray] = []
    for start in range(0, len(rows), BATCHES_PER_ASPECT * batch_size):
        near = by_aspect[start : start + BATCHES_PER_ASPECT * batch_size]
        by_area = rows[near[np.argsort((height * width)[near], kind="stable")]]
        batches += np.split(by_area, len(by_area) // batch_size)
    return batches


def pad_images(images: Sequence[np.ndarray], multiple: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Pad images (h, w, C) uint8 with black, at the right and at the bottom, to one shape.

    Args:
        images: The images.
        multiple: Height and width of the result are multiples of this.

    Returns:
        Images (B, H, W, C) uint8, and `real` (B, H, W) bool, True where a pixel is of the image.
    """
    height = max(image.shape[0] for image in images)
    width = max(image.shape[1] for image in images)
    shape = (len(images), -(-height // multiple) * multiple, -(-width // multiple) * multiple)
    image_BHWC = np.zeros((*shape, images[0].shape[2]), np.uint8)
    real_BHW = np.zeros(shape, bool)
    for index, image in enumerate(images):
        image_BHWC[index, : image.shape[0], : image.shape[1]] = image
        real_BHW[index, : image.shape[0], : image.shape[1]] = True
    return image_BHWC, real_BHW


class ShapeOrder(BatchOrder):
    """An order in which the images of a batch have nearly equal shapes, see `group_by_shape` and `BatchOrder`."""

    def __init__(self, sizes_N2: np.ndarray, batch_size: int, seed: int = 0, rank: int = 0, world_size: int = 1):
        super().__init__(len(sizes_N2), batch_size, seed, rank, world_size)
        self.sizes_N2 = sizes_N2

    def permutation(self, epoch: int) -> Tensor:
        """Return the order of the examples in an epoch."""
        return torch.from_numpy(np.concatenate(group_by_shape(self.sizes_N2, self.batch_size, self.seed, epoch)))


class PaddedBatches(AheadBatches):
    """Batches with `image` (B, H, W, C) uint8, padded, and `real` (B, H, W), where it shows an image.

    Args:
        decode: See `AheadBatches`. Images may have any shape.
        tensors: The other tensors by name, such as the row of each image, by which its targets are found.
        order: The order, which knows the shapes.
        threads: The number of threads; None uses as many as there are processors.
        multiple: Heights and widths are multiples of this.
    """

    def __init__(
        self,
        decode: DecodeFunction,
        tensors: dict[str, Tensor],
        order: ShapeOrder,
        threads: int | None = None,
        multiple: int = 32,
    ):
        mean_area = order.sizes_N2.astype(np.float64).prod(1).mean()
        super().__init__(decode, round(3 * mean_area * order.rank_size), tensors, order, threads)
        self.multiple = multiple

    def allocate(self, count: int) -> list[np.ndarray]:
        """Return a list that the threads fill."""
        return [np.empty(0, np.uint8)] * count

    def collate(self, images: list[np.ndarray]) -> dict[str, np.ndarray]:
        """Pad the images to one shape."""
        image_BHWC, real_BHW = pad_images(images, self.multiple)
        return {"image": image_BHWC, "real": real_BHW}
