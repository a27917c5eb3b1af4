"""The least size of picture that is left with a pixel after every convolution and pooling of a network."""

from __future__ import annotations

from ..errors import OptionError


def check_min_size(least: int, size: int, name: str) -> None:
    """Raises OptionError if the network `name`, which reads pictures of `least` pixels and up, is to read `size`."""
    if size < least:
        cure = f"Give --size {least} or more" + (", or take resnet18, which reads every size." if least > 1 else ".")
        raise OptionError(f"{name} reads pictures of at least {least} pixels, not {size}.", cure=cure)
