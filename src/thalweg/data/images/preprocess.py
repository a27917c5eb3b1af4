"""Prepare images for a classifier, from a file to normalized floats, and average its logits over views.

A `spec` is the task's description of the input of a model: channels, size, resize, mean, std, ink, views.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ...errors import DataError
from ..base import UnreadableFile
from .dataset import ImageDataset, ImageSplit, summarize_images
from .image_loading import prefetch_map

InputSpec = dict[str, Any]

#: maximum number of images in a batch, and maximum number of their pixels, where nothing is trained. On a processor,
#: larger batches leave its cache: ResNet-50 is a fifth faster on 224x224 pixels with batches of 8 than of 32.
MAX_IMAGES = 500
MAX_PIXELS_CPU = 500_000
MAX_PIXELS_GPU = 20_000_000

#: images with a longer side are not padded to squares
MAX_PADDED_SIDE = 512

#: how far float images may exceed black and white, because resizing overshoots
_FLOAT_TOLERANCE = 1e-3


def eval_batch_size(spec: Mapping[str, Any], device: torch.device | str = "cpu") -> int:
    """Return the batch size for evaluation and prediction."""
    max_pixels = MAX_PIXELS_GPU
    if torch.device(device).type == "cpu":
        max_pixels = MAX_PIXELS_CPU
    height, width = spec["size"]
    return max(1, min(MAX_IMAGES, max_pixels // max(1, height * width)))


def preprocess_image(source: Any, spec: Mapping[str, Any], as_is: bool = False) -> np.ndarray:
    """Return an image as (H, W, C) uint8 of the model's size.

    Args:
        source: Path, content of a file, Pillow image or array.
        spec: Input of the model. If it was trained on handwriting, drawings become white on black and centered.
        as_is: Leave drawings as they are.

    Raises:
        DataError: The image cannot be read.
    """
    from .image_decoding import ImageReadError, describe_error

    try:
        if spec["ink"] and not as_is:
            return _preprocess_drawing(source, spec["size"][0])
        return _preprocess_photo(source, spec)
    except ImageReadError as error:
        raise DataError(str(error)) from error
    except MemoryError as error:  # of one image; it must not end the prediction for all others
        raise DataError(describe_error(error, b"")) from error


def _preprocess_drawing(source: Any, image_size: int) -> np.ndarray:
    from .handwriting import normalize_handwriting
    from .image_decoding import apply_exif_orientation, decode_image

    if _is_file(source):
        return normalize_handwriting(decode_image(source), image_size)[..., None]
    return normalize_handwriting(apply_exif_orientation(_to_pillow(source)), image_size)[..., None]


def _preprocess_photo(source: Any, spec: Mapping[str, Any]) -> np.ndarray:
    from .image_decoding import apply_exif_orientation, decode_image, resize_and_crop, to_array

    image_size = spec["size"][0]
    if _is_file(source):
        return decode_image(source, spec["channels"], image_size, spec.get("resize"))
    upright = apply_exif_orientation(_to_pillow(source), spec["channels"])
    return to_array(resize_and_crop(upright, image_size, spec.get("resize")), spec["channels"])


def _is_file(source: Any) -> bool:
    """Tell whether a source is a path or the content of a file."""
    return isinstance(source, (str, os.PathLike, bytes))


def _to_pillow(source: Image.Image | np.ndarray) -> Image.Image:
    if isinstance(source, np.ndarray):
        return Image.fromarray(to_uint8(source))
    return source


def predict_proba(model: nn.Module, x_BCHW: Tensor, views: str = "one") -> Tensor:
    """Return the probabilities (B, K), see `tta_logits` for `views`."""
    return tta_logits(model, x_BCHW, views).softmax(1)


def tta_logits(model: nn.Module, x_BCHW: Tensor, views: str) -> Tensor:
    """Return logits (B, K) averaged over views of each image (test-time augmentation).

    "one" is the image alone, "mirrored" adds its mirror image, "shifted" adds both moved by a pixel up-left and
    down-right, padded by reflection. Images in place have half the weight (Jordan 2024, arXiv:2404.00498, section 3.6).
    """
    logits_BK = model(x_BCHW).float()
    if views != "one":
        logits_BK = (logits_BK + model(x_BCHW.flip(3)).float()) / 2
    if views == "shifted":
        height, width = x_BCHW.shape[2:]
        padded = nn.functional.pad(x_BCHW, (1, 1, 1, 1), mode="reflect")
        shifted = [padded[:, :, y : y + height, x : x + width] for y, x in ((0, 0), (2, 2))]
        shifted_BK = sum(model(x).float() + model(x.flip(3)).float() for x in shifted) / 4
        logits_BK = (logits_BK + shifted_BK) / 2
    return logits_BK


class TTAModel(nn.Module):
    """A model whose logits are averaged over views of each image."""

    def __init__(self, model: nn.Module, views: str):
        super().__init__()
        self.model = model
        self.views = views

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits (B, K) of images (B, C, H, W)."""
        return tta_logits(self.model, x_BCHW, self.views)


def to_uint8(array: np.ndarray) -> np.ndarray:
    """Convert an image (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) to uint8. Raises DataError.

    White is 255, True, 65535 in uint16, and 1 in floats.
    """
    from .image_decoding import to_8bit

    if not array.size or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise DataError(
            f"An array of shape {array.shape} is not an image.",
            cure="Use (H, W), or (H, W, C) with 1, 3 or 4 channels.",
            value=array.shape,
        )
    if array.shape[2:] == (1,):
        array = array[..., 0]
    kind = array.dtype.kind
    if kind == "b":
        return array.astype(np.uint8) * 255
    if kind == "u" and array.itemsize == 2:
        return to_8bit(array)
    if kind not in "fiu" or not _is_in_range(array):
        raise DataError(
            f"An array of {array.dtype} with such values is not an image.",
            cure="Use floats from 0 to 1, uint8, uint16 or bool.",
            value=str(array.dtype),
        )
    if kind == "f":
        array = np.round(array.clip(0, 1) * 255)
    return np.ascontiguousarray(array).astype(np.uint8)


def _is_in_range(array: np.ndarray) -> bool:
    """Tell whether floats are in 0 to 1, and integers in 0 to 255."""
    if array.dtype.kind == "f":
        return bool(array.min() >= -_FLOAT_TOLERANCE and array.max() <= 1 + _FLOAT_TOLERANCE)
    return bool(array.min() >= 0 and array.max() <= 255)


def to_normalized_float(image_BHWC: Tensor, spec: Mapping[str, Any]) -> Tensor:
    """Convert bytes (B, H, W, C) to floats (B, C, H, W), channels last in memory, normalized by `spec`."""
    return standardize_(image_BHWC.permute(0, 3, 1, 2).to(torch.float32), spec, 255.0)


def standardize_(x_BCHW: Tensor, spec: Mapping[str, Any], white: float) -> Tensor:
    """Compute (x / white - mean) / std per channel, in place. Mean and std of `spec` are on the scale of 0 to 1."""
    if len(spec["mean"]) == 1:
        mean = spec["mean"][0]
        std = spec["std"][0]
        return x_BCHW.mul_(1 / (white * std)).sub_(mean / std)
    scale_C11, offset_C11 = mean_std_tensors(tuple(spec["mean"]), tuple(spec["std"]), white, x_BCHW.device)
    return x_BCHW.mul_(scale_C11).sub_(offset_C11)


@lru_cache(maxsize=64)
def mean_std_tensors(
    mean: tuple[float, ...], std: tuple[float, ...], white: float, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the scale and the offset (C, 1, 1) of `standardize_`.

    They are cached, because a recorded CUDA graph cannot copy them from the host.
    """
    with torch.inference_mode(False):  # inference tensors could not take part in training later
        mean_C11 = torch.tensor(mean, device=device)[:, None, None]
        std_C11 = torch.tensor(std, device=device)[:, None, None]
        return 1 / (white * std_C11), mean_C11 / std_C11


def normalize_drawings(data: ImageDataset, spec: Mapping[str, Any]) -> ImageDataset:
    """Return a dataset of drawings in the format of MNIST, read again from their files where there are files.

    Images without a stroke are skipped and added to `unreadable`.
    """
    unreadable = list(data.unreadable)
    splits = {}
    for name, split in data.splits.items():
        splits[name], skipped = _normalize_split(split, spec)
        unreadable += skipped
    return replace(
        data,
        splits=splits,
        summary=summarize_images(data.classes, splits["train"].images),
        unreadable=tuple(unreadable),
        is_handwriting=True,
    )


def _normalize_split(split: ImageSplit, spec: Mapping[str, Any]) -> tuple[ImageSplit, list[UnreadableFile]]:
    def normalize(example: tuple[str, np.ndarray]) -> np.ndarray | UnreadableFile:
        source, pixels = example
        try:
            return preprocess_image(source if os.path.isfile(source) else pixels, spec)
        except DataError as error:
            return UnreadableFile(source, error.message)

    image_size = spec["size"][0]
    rows = []
    images = []
    skipped = []
    for row, result in enumerate(prefetch_map(normalize, zip(split.sources, split.images, strict=True))):
        if isinstance(result, UnreadableFile):
            skipped.append(result)
        else:
            rows.append(row)
            images.append(result)
    pixels = np.array(images, np.uint8).reshape(-1, image_size, image_size, 1)
    return replace(split.take(np.array(rows, np.int64)), images=pixels), skipped


def pad_to_square(data: ImageDataset) -> ImageDataset:
    """Return a dataset with a black border around images that are not square. Raises DataError for large images."""
    height, width, _ = data.shape
    if height == width:
        return data
    side = max(height, width)
    if side > MAX_PADDED_SIDE:
        raise DataError(
            f"{data.name}: images of {width}x{height} pixels are too large to pad to squares.",
            cure="Use --image-size.",
            path=data.path,
            value=[width, height],
        )
    margins = ((0, 0), _split_margin(side - height), _split_margin(side - width), (0, 0))
    splits = {}
    for name, split in data.splits.items():
        splits[name] = replace(split, images=np.pad(split.images, margins))
    return replace(
        data,
        splits=splits,
        summary=summarize_images(data.classes, splits["train"].images),
        warnings=(*data.warnings, f"Images of {width}x{height} pixels were padded with black to {side}x{side}."),
    )


def _split_margin(margin: int) -> tuple[int, int]:
    """Divide a margin between both sides."""
    return margin // 2, margin - margin // 2
