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
from .dataset import Bad, Data, Split
from .image_loading import ahead

Facts = dict[str, Any]

#: most pictures, and most of their pixels together, in one batch where nothing is trained: on a processor, larger ones
#: leave its cache (ResNet-50 answers pictures of 224 x 224 pixels a fifth quicker by 8 than by 32)
PICTURES, PIXELS, PIXELS_ELSEWHERE = 500, 500_000, 20_000_000


def at_once(facts: Facts, device: torch.device | str = "cpu") -> int:
    """How many pictures a network is best asked about at a time, where nothing is trained."""
    most = PIXELS if torch.device(device).type == "cpu" else PIXELS_ELSEWHERE
    return max(1, min(PICTURES, most // max(1, facts["size"][0] * facts["size"][1])))


def seen(source: Any, facts: Facts, as_is: bool = False) -> np.ndarray:
    """A file, bytes, Pillow image or array as (H, W, C) uint8 of the network's size. Raises DataError.

    Drawings are brought to white on black, centred, where the network learned such; `as_is` leaves them.
    """
    from .handwriting import ink
    from .image_decoding import Unreadable, decode, fit, pixels, upright

    size, channels, resize = facts["size"][0], facts["channels"], facts.get("resize")
    is_file = isinstance(source, (str, os.PathLike, bytes))
    drawn = facts["ink"] and not as_is
    try:
        if not is_file:
            picture = Image.fromarray(bytes_of(source)) if isinstance(source, np.ndarray) else source
            source = upright(picture, None if drawn else channels)
        if drawn:
            return ink(decode(source) if is_file else source, size)[..., None]
        if is_file:
            return decode(source, channels, size, resize)
        return pixels(fit(source, size, resize), channels)
    except Unreadable as error:
        raise DataError(str(error)) from error


def probabilities(network: nn.Module, x_BCHW: Tensor, views: str = "one") -> Tensor:
    """(B, K): softmax of the logits, averaged over views."""
    return averaged(network, x_BCHW, views).softmax(1)


def averaged(network: nn.Module, x_BCHW: Tensor, views: str) -> Tensor:
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


class Averaged(nn.Module):
    """A network whose logits are averaged over views of each picture."""

    def __init__(self, network: nn.Module, views: str):
        super().__init__()
        self.network, self.views = network, views

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits (B, K) of pictures (B, C, H, W)."""
        return averaged(self.network, x_BCHW, self.views)


def bytes_of(array: np.ndarray) -> np.ndarray:
    """A picture (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) as uint8. Raises DataError.

    White is 255, True, 65535 in uint16, and 1 in floats.
    """
    from .image_decoding import scaled

    if not array.size or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        cure = "Give (H, W), or (H, W, C) with 1, 3 or 4 channels."
        raise DataError(f"An array of shape {array.shape} is no picture.", cure)
    array, kind = array[..., 0] if array.shape[2:] == (1,) else array, array.dtype.kind
    if kind == "b":
        return array.astype(np.uint8) * 255
    if kind == "u" and array.itemsize == 2:
        return scaled(array)
    most, slack = (1, 1e-3) if kind == "f" else (255, 0)  # resizing may go a little beyond black and white
    if kind not in "fiu" or not (array.min() >= -slack and array.max() <= most + slack):
        raise DataError(
            f"An array of {array.dtype} with such values is no picture.",
            cure="Give floats from 0 to 1, uint8, uint16 or bool.",
        )
    return np.ascontiguousarray(np.round(array.clip(0, 1) * 255) if kind == "f" else array).astype(np.uint8)


def normalised(image_BHWC: Tensor, facts: Facts) -> Tensor:
    """Bytes (B, H, W, C) to floats (B, C, H, W), channels last in memory, mean 0 and deviation 1 over training."""
    return centred(image_BHWC.permute(0, 3, 1, 2).to(torch.float32), facts, 255.0)


def centred(x_BCHW: Tensor, facts: Facts, white: float) -> Tensor:
    """(x / white - mean) / std per channel, in place; facts give mean and std on the scale of 0 to 1."""
    if len(facts["mean"]) == 1:
        mean, std = facts["mean"][0], facts["std"][0]
        return x_BCHW.mul_(1 / (white * std)).sub_(mean / std)
    factor_C11, less_C11 = levels(tuple(facts["mean"]), tuple(facts["std"]), white, x_BCHW.device)
    return x_BCHW.mul_(factor_C11).sub_(less_C11)


@lru_cache(maxsize=64)
def levels(
    mean: tuple[float, ...], std: tuple[float, ...], white: float, device: torch.device
) -> tuple[Tensor, Tensor]:
    """(C, 1, 1) factor and what is subtracted, made once: a recorded update cannot fetch them from the host."""
    with torch.inference_mode(False):  # what is made there could not take part in training later
        mean_C11 = torch.tensor(mean, device=device)[:, None, None]
        std_C11 = torch.tensor(std, device=device)[:, None, None]
        return 1 / (white * std_C11), mean_C11 / std_C11


def redrawn(data: Data, facts: Facts) -> Data:
    """Drawings as a network sees them that has learned MNIST's form: from their files, where they came from files.

    What no character is found in is left out, and named among the `bad`.
    """
    size, bad = facts["size"][0], list(data.bad)

    def look(drawing: tuple[str, np.ndarray]) -> np.ndarray | Bad:
        source, image = drawing
        try:
            return seen(source if os.path.isfile(source) else image, facts)
        except DataError as error:
            return Bad(source, error.message)

    def part(split: Split) -> Split:
        looked = list(ahead(look, zip(split.sources, split.images, strict=True)))
        bad.extend(one for one in looked if isinstance(one, Bad))
        kept = np.array([row for row, one in enumerate(looked) if not isinstance(one, Bad)], np.int64)
        images = np.array([looked[row] for row in kept], np.uint8).reshape(-1, size, size, 1)
        return replace(split.take(kept), images=images)

    parts = {name: part(split) for name, split in data.splits.items()}
    return replace(data, **parts, bad=tuple(bad), ink=True)


def squared(data: Data) -> Data:
    """Pictures that are wider than high, or the reverse, get a black border so that they are square."""
    height, width, _ = data.shape
    if height == width:
        return data
    side = max(height, width)
    if side > 512:
        raise DataError(f"{data.name}: pictures of {width}x{height} are too large to pad.", cure="Give --size.")
    top, left = (side - height) // 2, (side - width) // 2
    margins = ((0, 0), (top, side - height - top), (left, side - width - left), (0, 0))

    def pad(split: Split) -> Split:
        return Split(np.pad(split.images, margins), split.labels, split.sources)

    note = f"pictures of {width}x{height} were given a black border to {side}x{side}"
    return replace(data, train=pad(data.train), valid=pad(data.valid), test=pad(data.test), notes=(*data.notes, note))
