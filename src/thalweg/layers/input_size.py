"""The smallest image that leaves a pixel after every convolution and pooling of a model."""

from __future__ import annotations

from ..config.size import PixelSize, format_size, to_height_width
from ..errors import OptionError


def check_min_size(min_size: int, image_size: PixelSize, model_name: str) -> None:
    """Raise OptionError if a side of `image_size` is below the `min_size` pixels that the model needs."""
    if min(to_height_width(image_size)) >= min_size:
        return
    cure = f"Give --image-size {min_size} or more."
    if min_size > 1:
        cure = f"Give --image-size {min_size} or more, or use resnet18, which reads every size."
    raise OptionError(
        f"image_size: {format_size(image_size)}; {model_name} needs at least {min_size} pixels.",
        cure=cure,
        option="image_size",
        value=image_size,
    )
