"""Where the images of a classifier come from: memory, or files that threads decode while the model computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..data.base import DataRequest, UnreadableFile
from ..data.batches import BatchOrder, BatchStream, InMemoryBatches
from ..data.decoded_batches import DecodedBatches
from ..data.images.dataset import ImageSplit
from ..data.images.input_spec import InputSpec, eval_batch_size
from ..data.images.pack import PackedImages, pack_images, pack_side
from ..data.images.random_crop import split_crop
from ..data.images.stored_images import ImageArray, StoredImages, iter_image_batches
from ..data.images.training_decoder import TrainingDecoder
from ..errors import DataError, pluralize
from ..io.free_memory import format_bytes
from ..metrics.classification import MetricAccumulator
from .base import Context

#: stored images that are decoded where a sample of a split is enough, and the bytes that they may take
MAX_SAMPLE = 256
MAX_SAMPLE_BYTES = 128_000_000

#: images, and their pixels, that a model initializes itself from; a pixel needs a hundred bytes
MAX_INIT_IMAGES = 5000
MAX_INIT_PIXELS = MAX_INIT_IMAGES * 96 * 96

#: images (n, H, W, C) uint8 -> probabilities (n, K)
Predict = Callable[[np.ndarray], torch.Tensor]


@dataclass(frozen=True)
class TrainingBatches:
    """Batches, the augmentation that is left to do on them, and what run.json and the plan say of them."""

    stream: BatchStream
    augment: str
    record: dict[str, Any]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Evidence:
    """What a classifier predicted on a split. `rows` (n,) are those of the full split that could be read."""

    split: ImageSplit
    probabilities: np.ndarray
    scores: MetricAccumulator
    rows: np.ndarray


def choose_storage(request: DataRequest, options: Any, context: Context) -> str:
    """Return where images are kept: as in the run that is resumed or evaluated, else as the options say."""
    recorded = (context.setup_record or {}).get("storage")
    return recorded if recorded and request.for_training else options.storage


def storage_of(images: ImageArray) -> str:
    """Return where images are kept, as it is recorded."""
    return "disk" if isinstance(images, StoredImages) else "memory"


def build_batches(split: ImageSplit, options: Any, batch_size: int, context: Context) -> TrainingBatches:
    """Build the batches of training images.

    Args:
        split: The training split.
        options: The task's own options, with the augmentation that they stand for.
        batch_size: Images per step over all ranks.
        context: Where this runs.

    Returns:
        The batches. A random crop of stored images is cut while they are decoded, so it is left to do no more.

    Raises:
        ResourceError: If the disk is too small for a cache of images.
    """
    labels = torch.from_numpy(np.require(split.labels, requirements="W")).to(context.device)
    order = (batch_size, context.seed, context.rank, context.world_size)
    if not isinstance(split.images, StoredImages):
        if options.cache_images:
            context.log("--cache-images: the images fit into memory, which needs no cache")
        images = torch.from_numpy(np.require(split.images, requirements="W")).to(context.device)
        stream = InMemoryBatches({"image": images, "label": labels}, *order)
        return TrainingBatches(stream, options.augment, {"storage": storage_of(split.images)})
    min_area, augment = split_crop(options.augment)
    images = cache_images(split.images, options, context)
    strict = context.options is not None and context.options.strict
    decoder = TrainingDecoder(images, context.seed, min_area, strict, context.log)
    stream = DecodedBatches(
        decoder, images.shape[1:], {"label": labels}, BatchOrder(len(split), *order), options.decode_threads
    )
    notes = [f"images are decoded from disk by {pluralize(stream.threads, 'thread')}"]
    if isinstance(images.encoded, PackedImages):
        size = format_bytes(int(images.encoded.pack.offsets[-1]))
        notes.append(
            f"training images are read from {images.encoded.pack.path} ({size}); "
            "crops of them differ from those of the originals by about 3 of 255 levels on average"
        )
    return TrainingBatches(stream, augment, {"storage": storage_of(images)}, notes)


def cache_images(images: StoredImages, options: Any, context: Context) -> StoredImages:
    """Return training images as they are read: from a cache of small JPEGs, where that was asked for."""
    if not options.cache_images:
        return images
    return pack_images(images, pack_side(images.size, split_crop(options.augment)[0]), context.log)


def images_for_init(images: ImageArray) -> np.ndarray:
    """Return images from all over a split, as many as a model may initialize itself from."""
    return sample_images(images, min(MAX_INIT_IMAGES, max(8, MAX_INIT_PIXELS // (images.shape[1] * images.shape[2]))))


def sample_images(images: ImageArray, max_count: int) -> np.ndarray:
    """Return images from all over a split: about `max_count`, or fewer where they have to be decoded."""
    if not isinstance(images, StoredImages):
        return images[:: max(1, len(images) // max_count)]
    image_bytes = max(1, int(np.prod(images.shape[1:])))
    count = min(max_count, MAX_SAMPLE, max(8, MAX_SAMPLE_BYTES // image_bytes))
    sample = images.take(np.arange(0, len(images), max(1, -(-len(images) // count))))
    return next(iter_image_batches(sample, count)).images


def augmented_sample(images: ImageArray, rows: np.ndarray, augment: str) -> tuple[np.ndarray, np.ndarray, str]:
    """Return training images as the first epoch may show them.

    Args:
        images: The training images.
        rows: (n,) the rows to show; those that cannot be read are left out.
        augment: The augmentation.

    Returns:
        Images (m, H, W, C) uint8, their rows (m,), and the augmentation that is left to do.
    """
    if not isinstance(images, StoredImages):
        return images[rows], rows, augment
    min_area, rest = split_crop(augment)
    decoder = TrainingDecoder(images, 0, min_area)
    decoded = [decoder(row, 0) for row in rows.tolist()]
    return np.stack([image for image, _ in decoded]), np.array([row for _, row in decoded], np.int64), rest


def predict_split(split: ImageSplit, spec: InputSpec, predict: Predict, context: Context) -> Evidence:
    """Predict all images of a split; stored ones are decoded by threads while the model computes.

    Args:
        split: The split.
        spec: Classes and size.
        predict: The model.
        context: Where this runs; images that cannot be read any more are logged and left out.

    Returns:
        Predictions and scores.

    Raises:
        DataError: With `strict`, where an image cannot be read any more.
    """
    probabilities = [np.empty((0, len(spec.classes)), np.float32)]
    rows = [np.empty(0, np.int64)]
    unreadable: list[UnreadableFile] = []
    with torch.inference_mode():
        for batch in iter_image_batches(split.images, eval_batch_size(spec, context.device)):
            unreadable += batch.unreadable
            if len(batch.rows):
                rows.append(batch.rows)
                probabilities.append(predict(batch.images).float().cpu().numpy())
    row_n = np.concatenate(rows)
    if unreadable:
        _log_unreadable(unreadable, context)
        split = split.take(row_n)
    return collect_evidence(split, np.concatenate(probabilities), row_n)


def collect_evidence(split: ImageSplit, probabilities: np.ndarray, rows: np.ndarray) -> Evidence:
    """Score predictions (n, K) of the images of a split, which are at `rows` (n,) of the full one."""
    scores = MetricAccumulator(probabilities.shape[1])
    scores.add(probabilities, split.labels)
    return Evidence(split, probabilities, scores, rows)


def _log_unreadable(unreadable: Sequence[UnreadableFile], context: Context) -> None:
    first = unreadable[0]
    text = f"{pluralize(len(unreadable), 'image')} cannot be read any more, as {first.path}: {first.reason}"
    if context.options is not None and context.options.strict:
        raise DataError(f"{text}.", "Bring them back.", path=first.path, value=len(unreadable))
    context.log(f"{text}; left out of the figures")
