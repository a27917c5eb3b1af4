"""Activation functions by name: the seven of the talk, and five that came later.

None of the seven ever falls, so a maximum may be taken before or after them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import NotFoundError


class FunctionModule(nn.Module):
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
    "step": lambda: FunctionModule("step", binary_step),
    "logistic": nn.Sigmoid,
    "tanh": nn.Tanh,
    "arctan": lambda: FunctionModule("arctan", arctan),
    "softsign": nn.Softsign,
    "relu": nn.ReLU,
}

#: Maas et al. 2013; Clevert et al. 2016 (arXiv:1511.07289); Hendrycks and Gimpel 2016 (arXiv:1606.08415); Ramachandran
#: et al. 2017 (arXiv:1710.05941); Dugas et al. 2001. GELU and SiLU fall a little left of zero.
MODERN_ACTIVATIONS = {
    "leaky-relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
}


def build_activation(name: str) -> nn.Module:
    """A layer that applies the named activation. Raises NotFound, with the nearest names."""
    known = {**ACTIVATIONS, **MODERN_ACTIVATIONS}
    if name not in known:
        raise NotFoundError.for_unknown("activation", name, known)
    return known[name]()
