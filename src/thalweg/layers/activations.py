"""The activation functions of the talk, by name. None ever falls, so a maximum may be taken before or after it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import NotFound


class Lambda(nn.Module):
    """A function of one tensor as a layer without weights."""

    def __init__(self, name: str, function):
        super().__init__()
        self.name, self.function = name, function

    def forward(self, x: Tensor) -> Tensor:
        """The function of x, element by element."""
        return self.function(x)

    def extra_repr(self) -> str:
        """The name in the printed network."""
        return self.name


def binary_step(x: Tensor) -> Tensor:
    """1 where x >= 0, else 0 (McCulloch and Pitts 1943). Its derivative is 0: nothing below it learns."""
    return (x >= 0).to(x.dtype)


def arctan(x: Tensor) -> Tensor:
    """The inverse tangent, range (-pi/2, pi/2)."""
    return torch.atan(x)


#: name -> builder of the layer
ACTIVATIONS = {
    "identity": nn.Identity,
    "step": lambda: Lambda("step", binary_step),
    "logistic": nn.Sigmoid,
    "tanh": nn.Tanh,
    "arctan": lambda: Lambda("arctan", arctan),
    "softsign": nn.Softsign,
    "relu": nn.ReLU,
}


def activation(name: str) -> nn.Module:
    """A layer that applies the named activation. Raises NotFound, with the nearest names."""
    if name not in ACTIVATIONS:
        raise NotFound.among("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]()
