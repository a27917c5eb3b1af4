"""The loss of a network as a function of one long vector, and its curvature: the ground that a training walks on.

D trained weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...objectives.base import Batch
from ...objectives.supervised import Supervised


class LossSurface:
    """The loss of `objective` on `batches`, always the same examples, over the weights `names` of its network.

    Dropout is off; batch normalisation uses the statistics of the batch, so that the loss depends on the weights alone.
    The network is changed: it holds the weights that were asked about last.
    """

    def __init__(self, objective: Supervised, batches: Sequence[Batch], names: Sequence[str]):
        self.objective, self.batches = objective, batches
        known = dict(objective.model.named_parameters())
        self.weights = [known[name] for name in names]
        objective.requires_grad_(False).eval()
        for part in objective.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.train().momentum = 0.0  # its running statistics stay what they are
        for weight in self.weights:
            weight.requires_grad_(True)

    def put(self, vector_D: Tensor) -> None:
        """Makes `vector_D` the weights of the network."""
        start = 0
        with torch.no_grad():
            for weight in self.weights:
                weight.copy_(vector_D[start : start + weight.numel()].view(weight.shape))
                start += weight.numel()

    def loss(self, vector_D: Tensor) -> tuple[float, float]:
        """Mean loss and accuracy."""
        self.put(vector_D)
        loss = right = items = 0.0
        with torch.no_grad():
            for batch in self.batches:
                found = self.objective.loss(batch)
                loss += float(found.mean) * found.items
                right += float(found.parts.get("accuracy", torch.nan)) * found.items
                items += found.items
        return loss / items, right / items

    def gradient(self, vector_D: Tensor) -> Tensor:
        """The gradient (D,) of the mean loss."""
        self.put(vector_D)
        return sum(flatten(found).detach() for found in map(self._gradients, self.batches))

    def _gradients(self, batch: Batch, create_graph: bool = False) -> tuple[Tensor, ...]:
        """Of each weight, this batch's share of the gradient of the mean over all batches."""
        items = sum(len(one["label"]) for one in self.batches)
        found = self.objective.loss(batch)
        share = found.mean * (len(batch["label"]) / items)
        return torch.autograd.grad(share, self.weights, create_graph=create_graph, materialize_grads=True)

    def curvature(self, vector_D: Tensor, iterations: int, seed: int) -> Spectrum:
        """The extreme eigenvalues of the Hessian of the mean loss, from products with it (Pearlmutter 1994)."""
        self.put(vector_D)
        kept = self._gradients(self.batches[0], create_graph=True) if len(self.batches) == 1 else None

        def product(direction_D: Tensor) -> Tensor:
            total = torch.zeros_like(direction_D)
            for batch in self.batches:
                gradients = kept or self._gradients(batch, create_graph=True)
                along = flatten(gradients) @ direction_D
                if along.requires_grad:  # a loss without curvature, as of a linear network, has no graph left
                    found = torch.autograd.grad(
                        along, self.weights, retain_graph=kept is not None, materialize_grads=True
                    )
                    total += flatten(found)
            return total

        return lanczos(product, len(vector_D), iterations, seed)


def flatten(tensors: Sequence[Tensor]) -> Tensor:
    """All their values in one vector."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


class Spectrum(NamedTuple):
    """The smallest and the largest eigenvalue that were found, and bounds of how far true ones are from them."""

    smallest: float
    largest: float
    smallest_error: float
    largest_error: float


def lanczos(product, size: int, iterations: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Spectrum:
    """The extreme eigenvalues of a symmetric matrix that is known by its `product` with a vector (size,).

    Lanczos 1950, doi:10.6028/jres.045.026, every vector made orthogonal to all before it, twice; the bounds are the
    residuals, beta times the last component of the eigenvector (Parlett 1998, section 13.2).
    """
    generator = torch.Generator().manual_seed(seed)
    vector_D = torch.randn(size, generator=generator, dtype=dtype)
    vectors = [vector_D / vector_D.norm()]
    diagonal: list[float] = []
    beside: list[float] = []
    for _ in range(min(iterations, size)):
        found = product(vectors[-1])
        diagonal.append(float(found @ vectors[-1]))
        for _ in range(2):
            basis = torch.stack(vectors)
            found = found - basis.T @ (basis @ found)
        length = float(found.norm())
        beside.append(length)
        if length <= 1e-7 * max(map(abs, diagonal)):  # the whole space that the start can reach
            break
        vectors.append(found / length)
    small = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    for place, value in enumerate(beside[: len(diagonal) - 1]):
        small[place, place + 1] = small[place + 1, place] = value
    values, inside = torch.linalg.eigh(small)
    errors = beside[len(diagonal) - 1] * inside[-1].abs()
    return Spectrum(float(values[0]), float(values[-1]), float(errors[0]), float(errors[-1]))
