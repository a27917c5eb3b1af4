"""The levels of networks that make and judge images: maps of 4x4 pixels, then of twice the size, up to the image's."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from ...errors import OptionError
from ...layers.check_arguments import check_positive, check_whole_number

#: height and width of the maps of the first level
MIN_SIZE = 4
#: heights and widths of images
SIZES = (8, 16, 32, 64, 128, 256, 512, 1024)
#: slope of leaky ReLUs below 0
LEAKY_SLOPE = 0.2


@dataclass(frozen=True)
class Levels:
    """What the levels of both networks are built from.

    Attributes:
        channels: Channels of the images.
        image_size: Height and width of the images.
        widths: Channels of the maps of each level, from coarse to fine.
        num_classes: Classes of conditional networks; 0 for none.
    """

    channels: int
    image_size: int
    widths: tuple[int, ...]
    num_classes: int = 0

    def __len__(self) -> int:
        return len(self.widths)

    def size(self, level: int) -> int:
        """Return height and width of the maps of a level."""
        return MIN_SIZE * 2**level


def plan_levels(channels: int, image_size: int, width: int, max_width: int, num_classes: int) -> Levels:
    """Return levels with `width` channels at the size of the images, and twice as many at each coarser level.

    Raises OptionError for a size that is no power of two from 8 to 1024, or a number that is too small.
    """
    check_image_size(image_size)
    check_positive(in_channels=channels, width=width, max_width=max_width)
    check_whole_number("num_classes", num_classes, 0)
    return Levels(channels, image_size, level_widths(image_size, width, max_width), num_classes)


def level_widths(image_size: int, width: int, max_width: int) -> tuple[int, ...]:
    """Return the channels of each level up to `image_size`, from coarse to fine."""
    widths = []
    size = MIN_SIZE
    while size <= image_size:
        widths.append(min(max_width, width * image_size // size))
        size *= 2
    return tuple(widths)


def check_image_size(image_size: int) -> None:
    """Raise OptionError for a size that is no power of two from 8 to 1024."""
    if image_size not in SIZES:
        raise OptionError(
            f"image_size: {image_size}; expected a power of two: {', '.join(map(str, SIZES))}.",
            "Give --image-size 32.",
            option="image_size",
            value=image_size,
            allowed=SIZES,
        )


@dataclass(frozen=True)
class Growth:
    """How far a network has grown: it has the levels 0 to `level`, of which the last counts by the fraction `fade`."""

    level: int
    fade: float


def read_growth(growth: Tensor, num_levels: int) -> Growth:
    """Return the growth that a number says: 0.0 is the first level, 1.35 the third (2), which counts by 35 %."""
    value = min(max(0.0, float(growth)), num_levels - 1.0)
    level = math.ceil(value)
    if level == 0:
        return Growth(0, 1.0)
    return Growth(level, value - (level - 1))
