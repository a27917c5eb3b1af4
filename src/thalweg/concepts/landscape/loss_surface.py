"""The loss of a model as a function of one long weight vector, with its gradient and its curvature.

Shapes: D trained weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...objectives.base import Batch
from ...objectives.supervised import Supervised


class LossSurface:
    """The mean loss of `objective` on fixed `batches` as a function of the parameters `names` of its model.

    Dropout is off. Batch norm uses the statistics of the batch, so the loss depends on the weights alone. The model is
    modified: it has the weights of the last evaluation.
    """

    def __init__(self, objective: Supervised, batches: Sequence[Batch], names: Sequence[str]):
        self.objective = objective
        self.batches = batches
        named_params = dict(objective.model.named_parameters())
        self.params = [named_params[name] for name in names]
        objective.requires_grad_(False).eval()
        for module in objective.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.train()
                # running statistics stay unchanged
                module.momentum = 0.0
        for param in self.params:
            param.requires_grad_(True)

    @property
    def num_examples(self) -> int:
        """The number of examples of all batches."""
        return count_examples(self.batches)

    def set_weights(self, weights_D: Tensor) -> None:
        """Copy `weights_D` into the model."""
        start = 0
        with torch.no_grad():
            for param in self.params:
                param.copy_(weights_D[start : start + param.numel()].view(param.shape))
                start += param.numel()

    def evaluate(self, weights_D: Tensor) -> tuple[float, float]:
        """Return mean loss and accuracy."""
        self.set_weights(weights_D)
        total_loss = 0.0
        total_accuracy = 0.0
        total_items = 0.0
        with torch.no_grad():
            for batch in self.batches:
                loss = self.objective.loss(batch)
                items = float(loss.count)
                total_loss += float(loss.mean) * items
                total_accuracy += float(loss.metrics.get("accuracy", torch.nan)) * items
                total_items += items
        return total_loss / total_items, total_accuracy / total_items

    def compute_gradient(self, weights_D: Tensor) -> Tensor:
        """Return the gradient (D,) of the mean loss."""
        self.set_weights(weights_D)
        gradient_D = torch.zeros_like(weights_D)
        for batch in self.batches:
            gradient_D = gradient_D + flatten(self._batch_gradients(batch)).detach()
        return gradient_D

    def _batch_gradients(self, batch: Batch, create_graph: bool = False) -> tuple[Tensor, ...]:
        """Return the contribution of one batch to the gradient of the mean loss, per parameter."""
        loss = self.objective.loss(batch)
        contribution = loss.mean * (len(batch["label"]) / self.num_examples)
        return torch.autograd.grad(contribution, self.params, create_graph=create_graph, materialize_grads=True)

    def hessian_extremes(self, weights_D: Tensor, iterations: int, seed: int) -> Spectrum:
        """Estimate the extreme eigenvalues of the Hessian from Hessian-vector products (Pearlmutter 1994)."""
        self.set_weights(weights_D)
        cached = None
        if len(self.batches) == 1:
            cached = self._batch_gradients(self.batches[0], create_graph=True)

        def multiply_hessian(vector_D: Tensor) -> Tensor:
            product_D = torch.zeros_like(vector_D)
            for batch in self.batches:
                gradients = cached or self._batch_gradients(batch, create_graph=True)
                directional_derivative = flatten(gradients) @ vector_D
                # a loss without curvature, such as that of a linear model, has no graph left
                if directional_derivative.requires_grad:
                    products = torch.autograd.grad(
                        directional_derivative, self.params, retain_graph=cached is not None, materialize_grads=True
                    )
                    product_D += flatten(products)
            return product_D

        return lanczos(multiply_hessian, len(weights_D), iterations, seed)


def count_examples(batches: Sequence[Batch]) -> int:
    """Return the number of examples of all batches."""
    return sum(len(batch["label"]) for batch in batches)


def flatten(tensors: Sequence[Tensor]) -> Tensor:
    """Concatenate all values into one vector."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


class Spectrum(NamedTuple):
    """Estimates of the smallest and the largest eigenvalue, with error bounds."""

    smallest: float
    largest: float
    smallest_error: float
    largest_error: float


def lanczos(
    multiply: Callable[[Tensor], Tensor],
    size: int,
    iterations: int,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Spectrum:
    """Estimate the extreme eigenvalues of a symmetric matrix (Lanczos 1950, doi:10.6028/jres.045.026).

    Every new vector is orthogonalized twice against all previous ones. The error bounds are the residuals: beta times
    the last component of the eigenvector (Parlett 1998, section 13.2).

    Args:
        multiply: multiplies the matrix with a vector (size,).
        size: number of rows of the matrix.
        iterations: maximum number of products.
        seed: seed of the start vector.
        dtype: type of the vectors.

    Returns:
        The eigenvalues and their error bounds.
    """
    generator = torch.Generator().manual_seed(seed)
    start_D = torch.randn(size, generator=generator, dtype=dtype)
    basis = [start_D / start_D.norm()]
    alphas: list[float] = []
    betas: list[float] = []
    for _ in range(min(iterations, size)):
        vector_D = multiply(basis[-1])
        alphas.append(float(vector_D @ basis[-1]))
        for _ in range(2):
            basis_ND = torch.stack(basis)
            vector_D = vector_D - basis_ND.T @ (basis_ND @ vector_D)
        beta = float(vector_D.norm())
        betas.append(beta)
        # the Krylov space of the start vector is exhausted
        if beta <= 1e-7 * max(map(abs, alphas)):
            break
        basis.append(vector_D / beta)
    tridiagonal_NN = torch.diag(torch.tensor(alphas, dtype=torch.float64))
    for i, beta in enumerate(betas[: len(alphas) - 1]):
        tridiagonal_NN[i, i + 1] = beta
        tridiagonal_NN[i + 1, i] = beta
    eigenvalues, eigenvectors = torch.linalg.eigh(tridiagonal_NN)
    errors = betas[len(alphas) - 1] * eigenvectors[-1].abs()
    return Spectrum(float(eigenvalues[0]), float(eigenvalues[-1]), float(errors[0]), float(errors[-1]))
