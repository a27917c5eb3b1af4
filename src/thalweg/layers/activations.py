"""Activation functions by name: the seven of the talk, and five newer ones.

The seven are monotonic, so max pooling before them gives the same result as after them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import NotFoundError


class FunctionModule(nn.Module):
    """A function of one tensor as a layer without parameters."""

    def __init__(self, name: str, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.name = name
        self.function = function

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Apply the function elementwise."""
        return self.function(x)

    def extra_repr(self) -> str:
        """Return the name, which the printed model shows."""
        return self.name


def binary_step(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return 1 where x >= 0, else 0 (McCulloch and Pitts 1943). The derivative is 0, so no layer below it learns."""
    return (x >= 0).to(x.dtype)


def arctan(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return the inverse tangent, in (-pi/2, pi/2)."""
    return torch.atan(x)


#: name -> builder of the layer
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "identity": nn.Identity,
    "step": lambda: FunctionModule("step", binary_step),
    "logistic": nn.Sigmoid,
    "tanh": nn.Tanh,
    "arctan": lambda: FunctionModule("arctan", arctan),
    "softsign": nn.Softsign,
    "relu": nn.ReLU,
}

#: Maas et al. 2013; Clevert et al. 2016 (arXiv:1511.07289); Hendrycks and Gimpel 2016 (arXiv:1606.08415); Ramachandran
#: et al. 2017 (arXiv:1710.05941); Dugas et al. 2001. GELU and SiLU decrease on a short interval left of zero.
MODERN_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "leaky-relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
}


def build_activation(name: str) -> nn.Module:
    """Return a layer that applies the activation with that name. Raises NotFoundError with the nearest names."""
    builders = {**ACTIVATIONS, **MODERN_ACTIVATIONS}
    if name not in builders:
        raise NotFoundError.for_unknown("activation", name, builders)
    return builders[name]()
