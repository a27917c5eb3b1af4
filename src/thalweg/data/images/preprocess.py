"""What a classifier sees of a picture, from a file to normalised pixels, and what it answers.

`facts` are those of the task in run.json: channels, size, resize, mean, std, ink, views.
"""

from __future__ import annotations

import os
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

#: most pictures, and most of their pixels together, in one batch where nothing is trained: on a processor, larger ones
#: leave its cache (ResNet-50 answers pictures of 224 x 224 pixels a fifth quicker by 8 than by 32)
MAX_IMAGES, MAX_PIXELS_CPU, MAX_PIXELS_GPU = 500, 500_000, 20_000_000


def eval_batch_size(facts: InputSpec, device: torch.device | str = "cpu") -> int:
    """How many pictures a network is best asked about at a time, where nothing is trained."""
    most = MAX_PIXELS_CPU if torch.device(device).type == "cpu" else MAX_PIXELS_GPU
    return max(1, min(MAX_IMAGES, most // max(1, facts["size"][0] * facts["size"][1])))


def preprocess_image(source: Any, facts: InputSpec, as_is: bool = False) -> np.ndarray:
    """A file, bytes, Pillow image or array as (H, W, C) uint8 of the network's size. Raises DataError.

    Drawings are brought to white on black, centred, where the network learned such; `as_is` leaves them.
    """
    from .handwriting import normalize_handwriting
    from .image_decoding import ImageReadError, apply_exif_orientation, decode_image, resize_and_crop, to_array

    size, channels, resize = facts["size"][0], facts["channels"], facts.get("resize")
    is_file = isinstance(source, (str, os.PathLike, bytes))
    drawn = facts["ink"] and not as_is
    try:
        if not is_file:
            picture = Image.fromarray(to_uint8(source)) if isinstance(source, np.ndarray) else source
            source = apply_exif_orientation(picture, None if drawn else channels)
        if drawn:
            return normalize_handwriting(decode_image(source) if is_file else source, size)[..., None]
        if is_file:
            return decode_image(source, channels, size, resize)
        return to_array(resize_and_crop(source, size, resize), channels)
    except ImageReadError as error:
        raise DataError(str(error)) from error


def predict_proba(network: nn.Module, x_BCHW: Tensor, views: str = "one") -> Tensor:
    """(B, K): softmax of the logits, averaged over views."""
    return tta_logits(network, x_BCHW, views).softmax(1)


def tta_logits(network: nn.Module, x_BCHW: Tensor, views: str) -> Tensor:
    """Logits (B, K), averaged over views: the pictures, mirrored, moved a pixel up-left and down-right.

    Moved pictures are continued by reflection, and those in place have half the weight (Jordan 2024, arXiv:2404.00498,
    section 3.6).
    """
    logits_BK = network(x_BCHW).float()
    if views != "one":
        logits_BK = (logits_BK + network(x_BCHW.flip(3)).float()) / 2
    if views == "shifted":
        height, width = x_BCHW.shape[2:]
        padded = nn.functional.pad(x_BCHW, (1, 1, 1, 1), mode="reflect")
        moved = [padded[:, :, y : y + height, x : x + width] for y, x in ((0, 0), (2, 2))]
        shifted_BK = sum(network(x).float() + network(x.flip(3)).float() for x in moved) / 4
        logits_BK = (logits_BK + shifted_BK) / 2
    return logits_BK


class TTAModel(nn.Module):
    """A network whose logits are averaged over views of each picture."""

    def __init__(self, network: nn.Module, views: str):
        super().__init__()
        self.model, self.views = network, views

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits (B, K) of pictures (B, C, H, W)."""
        return tta_logits(self.model, x_BCHW, self.views)


def to_uint8(array: np.ndarray) -> np.ndarray:
    """A picture (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) as uint8. Raises DataError.

    White is 255, True, 65535 in uint16, and 1 in floats.
    """
    from .image_decoding import to_8bit

    if not array.size or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        cure = "Give (H, W), or (H, W, C) with 1, 3 or 4 channels."
        raise DataError(f"An array of shape {array.shape} is no picture.", cure)
    array, kind = array[..., 0] if array.shape[2:] == (1,) else array, array.dtype.kind
    if kind == "b":
        return array.astype(np.uint8) * 255
    if kind == "u" and array.itemsize == 2:
        return to_8bit(array)
    most, slack = (1, 1e-3) if kind == "f" else (255, 0)  # resizing may go a little beyond black and white
    if kind not in "fiu" or not (array.min() >= -slack and array.max() <= most + slack):
        raise DataError(
            f"An array of {array.dtype} with such values is no picture.",
            cure="Give floats from 0 to 1, uint8, uint16 or bool.",
        )
    return np.ascontiguousarray(np.round(array.clip(0, 1) * 255) if kind == "f" else array).astype(np.uint8)


def to_normalized_float(image_BHWC: Tensor, facts: InputSpec) -> Tensor:
    """Bytes (B, H, W, C) to floats (B, C, H, W), channels last in memory, mean 0 and deviation 1 over training."""
    return standardize_(image_BHWC.permute(0, 3, 1, 2).to(torch.float32), facts, 255.0)


def standardize_(x_BCHW: Tensor, facts: InputSpec, white: float) -> Tensor:
    """(x / white - mean) / std per channel, in place; facts give mean and std on the scale of 0 to 1."""
    if len(facts["mean"]) == 1:
        mean, std = facts["mean"][0], facts["std"][0]
        return x_BCHW.mul_(1 / (white * std)).sub_(mean / std)
    factor_C11, less_C11 = mean_std_tensors(tuple(facts["mean"]), tuple(facts["std"]), white, x_BCHW.device)
    return x_BCHW.mul_(factor_C11).sub_(less_C11)


@lru_cache(maxsize=64)
def mean_std_tensors(
    mean: tuple[float, ...], std: tuple[float, ...], white: float, device: torch.device
) -> tuple[Tensor, Tensor]:
    """(C, 1, 1) factor and what is subtracted, made once: a recorded update cannot fetch them from the host."""
    with torch.inference_mode(False):  # what is made there could not take part in training later
        mean_C11 = torch.tensor(mean, device=device)[:, None, None]
        std_C11 = torch.tensor(std, device=device)[:, None, None]
        return 1 / (white * std_C11), mean_C11 / std_C11


def normalize_drawings(data: ImageDataset, facts: InputSpec) -> ImageDataset:
    """Drawings as a network sees them that has learned MNIST's form: from their files, where they came from files.

    What no character is found in is left out, and named among the `bad`.
    """
    size, bad = facts["size"][0], list(data.unreadable)

    def look(drawing: tuple[str, np.ndarray]) -> np.ndarray | UnreadableFile:
        source, image = drawing
        try:
            return preprocess_image(source if os.path.isfile(source) else image, facts)
        except DataError as error:
            return UnreadableFile(source, error.message)

    def part(split: ImageSplit) -> ImageSplit:
        looked = list(prefetch_map(look, zip(split.sources, split.images, strict=True)))
        bad.extend(one for one in looked if isinstance(one, UnreadableFile))
        kept = np.array([row for row, one in enumerate(looked) if not isinstance(one, UnreadableFile)], np.int64)
        images = np.array([looked[row] for row in kept], np.uint8).reshape(-1, size, size, 1)
        return replace(split.take(kept), images=images)

    splits = {name: part(split) for name, split in data.splits.items()}
    summary = summarize_images(data.classes, splits["train"].images)
    return replace(data, splits=splits, summary=summary, unreadable=tuple(bad), is_handwriting=True)


def pad_to_square(data: ImageDataset) -> ImageDataset:
    """Pictures that are wider than high, or the reverse, get a black border so that they are square."""
    height, width, _ = data.shape
    if height == width:
        return data
    side = max(height, width)
    if side > 512:
        raise DataError(f"{data.name}: pictures of {width}x{height} are too large to pad.", cure="Use --image-size.")
    top, left = (side - height) // 2, (side - width) // 2
    margins = ((0, 0), (top, side - height - top), (left, side - width - left), (0, 0))

    def pad(split: ImageSplit) -> ImageSplit:
        return ImageSplit(np.pad(split.images, margins), split.labels, split.sources)

    note = f"pictures of {width}x{height} were given a black border to {side}x{side}"
    splits = {name: pad(split) for name, split in data.splits.items()}
    summary = summarize_images(data.classes, splits["train"].images)
    return replace(data, splits=splits, summary=summary, warnings=(*data.warnings, note))
