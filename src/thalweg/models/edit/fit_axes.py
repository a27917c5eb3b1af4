"""Axes in the space of styles in closed form: by regression, by principal components, by the weights of a generator.

S is the covariance of styles and R the linear read-out of the attributes. The columns of S R' (R S R')^-1 move one
read-out each and leave the others; where styles are spread evenly they are those of the pseudo-inverse of R. S keeps
them among directions in which styles vary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import OptionError
from ..generate.base import Generator

# N styles, W numbers in a style, A attributes, K axes

#: weight of the penalty of the regression, relative to the mean variance of a style's numbers
RIDGE = 1e-3
#: styles by which layers that read the style are found
NUM_PROBES = 3


@dataclass(frozen=True)
class Axes:
    """Directions of one standard deviation each, and the read-out of attributes that they were made of.

    Attributes:
        direction_KW: The directions.
        raw_KW: The same before they were orthogonalized.
        readout_AW: Linear prediction of standardized attributes from centered styles.
        center_W: The mean style.
    """

    direction_KW: Tensor
    raw_KW: Tensor
    readout_AW: Tensor
    center_W: Tensor


def fit_readout(style_NW: Tensor, value_NA: Tensor, ridge: float = RIDGE) -> tuple[Tensor, Tensor]:
    """Fit standardized attributes by ridge regression; return the read-out (A, W) and the mean style (W,)."""
    center_W = style_NW.double().mean(0)
    centered_NW = style_NW.double() - center_W
    value_NA = value_NA.double() - value_NA.double().mean(0)
    gram_WW = centered_NW.T @ centered_NW
    penalty = ridge * gram_WW.diagonal().mean()
    gram_WW += penalty * torch.eye(len(gram_WW), dtype=gram_WW.dtype, device=gram_WW.device)
    readout_WA = torch.linalg.solve(gram_WW, centered_NW.T @ value_NA)
    return readout_WA.T.float(), center_W.float()


def fit_axes(style_NW: Tensor, value_NA: Tensor, direction_KW: Tensor | None = None) -> Axes:
    """Fit an axis for each attribute of standardized values (N, A), so that it leaves the other read-outs alone.

    Directions that were found without attributes are taken as they are.
    """
    readout_AW, center_W = fit_readout(style_NW, value_NA)
    if direction_KW is not None:
        return Axes(direction_KW, direction_KW, readout_AW, center_W)
    covariance_WW = torch.cov(style_NW.double().T).reshape(len(center_W), -1)
    return Axes(*orthogonalize(readout_AW, covariance_WW), readout_AW, center_W)


def orthogonalize(readout_AW: Tensor, covariance_WW: Tensor) -> tuple[Tensor, Tensor]:
    """Return directions (A, W) that move one read-out by 1 each and no other, and those that regard no other."""
    readout_AW = readout_AW.double()
    spread_WA = covariance_WW.double() @ readout_AW.T
    gram_AA = readout_AW @ spread_WA
    raw_AW = (spread_WA / gram_AA.diagonal().clamp_min(1e-12)).T
    direction_AW = (spread_WA @ torch.linalg.pinv(gram_AA, hermitian=True)).T
    return direction_AW.float(), raw_AW.float()


def principal_directions(style_NW: Tensor, count: int) -> Tensor:
    """Return the first principal components (K, W) of styles, one standard deviation long (arXiv:2004.02546)."""
    centered_NW = (style_NW - style_NW.mean(0)).double()
    _, singular_R, component_RW = torch.linalg.svd(centered_NW, full_matrices=False)
    deviation_R1 = (singular_R / max(1, len(style_NW) - 1) ** 0.5)[:, None]
    return (component_RW * deviation_R1)[:count].float()


@torch.no_grad()
def factorized_directions(generator: Generator, style_NW: Tensor, count: int) -> Tensor:
    """Return the directions (K, W) that layers reading the style react to most (SeFa, arXiv:2007.06600).

    They are the first eigenvectors of A'A, where A stacks the weights of those layers, one standard deviation long.

    Raises:
        OptionError: Where no layer reads the style as it is.
    """
    weights = style_weights(generator, style_NW[:NUM_PROBES])
    if not weights:
        raise OptionError(
            f"--axes sefa: no layer of {type(generator).__name__} reads the style itself.",
            "Give --axes pca.",
            option="axes",
            value="sefa",
            allowed=["supervised", "pca"],
        )
    gram_WW = torch.stack([weight_WF.double() @ weight_WF.double().T for weight_WF in weights]).sum(0)
    vector_WW = torch.linalg.eigh(gram_WW)[1]
    direction_KW = vector_WW.flip(1).T[:count].float()
    deviation_K1 = (style_NW @ direction_KW.T).std(0)[:, None]
    return direction_KW * deviation_K1


def style_weights(generator: Generator, probe_NW: Tensor) -> list[Tensor]:
    """Return the weights (W, F) of every layer that reads styles, found by what layers read during a synthesis.

    A layer may normalize: inputs that are a multiple of the style count as the style.
    """
    found: list[tuple[nn.Module, torch.Size]] = []
    probe_NW = probe_NW.contiguous()

    def note_input(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        first = inputs[0] if inputs else None
        if not isinstance(first, Tensor) or next(layer.parameters(), None) is None:
            return
        if first.shape[:1] == probe_NW.shape[:1] and first.numel() == probe_NW.numel():
            flat_NW = F.normalize(first.reshape(len(first), -1), dim=1)
            if torch.allclose(flat_NW, F.normalize(probe_NW, dim=1), atol=1e-4):
                found.append((layer, first.shape[1:]))

    leaves = [layer for layer in generator.modules() if next(layer.children(), None) is None]
    hooks = [layer.register_forward_pre_hook(note_input) for layer in leaves]
    try:
        generator.eval().synthesize(generator.repeat_style(probe_NW))
    finally:
        for hook in hooks:
            hook.remove()
    return [_linear_part(layer, shape, probe_NW) for layer, shape in found]


def _linear_part(layer: nn.Module, shape: torch.Size, probe_NW: Tensor) -> Tensor:
    """Return how the output of an affine layer (W, F) follows each number of its input."""
    width = probe_NW.shape[1]
    units_WW = torch.eye(width, dtype=probe_NW.dtype, device=probe_NW.device)
    output = layer(units_WW.reshape(width, *shape)) - layer(torch.zeros_like(units_WW[:1]).reshape(1, *shape))
    return output.reshape(width, -1)
