"""Freezing: parts of a network that keep what they learned elsewhere."""

from __future__ import annotations

from torch import nn

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def freeze(module: nn.Module) -> None:
    """The weights of `module` get no gradient, and its batch statistics stay what they are, whatever the mode."""
    module.requires_grad_(False)
    for part in module.modules():
        if isinstance(part, _BATCH_NORMS):
            part.eval()
            part.train = lambda mode=True, part=part: part
