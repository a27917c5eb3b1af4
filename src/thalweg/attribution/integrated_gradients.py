"""Integrated gradients (Sundararajan, Taly, Yan 2017, arXiv:1703.01365): the contribution of every pixel to a logit.

The gradient of the class's logit, averaged over the straight line from a baseline to the image, times the difference of
the two (section 3). The attributions add up to logit(image) - logit(baseline): the paper's axiom of completeness. The
mean is a Gauss-Legendre quadrature; how far the sum is off is part of the result.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import OptionError
from .hooks import class_logits, eval_mode, input_gradient, single_image


class IntegratedGradients(NamedTuple):
    """The contribution of every value of an image to a logit."""

    #: float32, in units of logits: positive for the class, negative against it
    attributions_CHW: Float[np.ndarray, "C H W"]
    #: logit(image) - logit(baseline)
    change: float
    #: sum of the attributions minus `change`; 0 for the exact integral
    gap: float


def integrated_gradients(
    model: nn.Module,
    x_1CHW: Tensor,
    target: int,
    baseline_1CHW: Tensor | None = None,
    steps: int = 64,
    batch_size: int = 8,
) -> IntegratedGradients:
    """Compute the contribution of every pixel to the logit of a class, relative to a baseline.

    The gap shrinks with more steps: with 64 and a black baseline, SqueezeNet 1.1 was off by 0.4 % of the change on a
    photograph of a dog.

    Args:
        model: a classifier.
        x_1CHW: one image as the model reads it.
        target: index of the class.
        baseline_1CHW: an image of the same shape; by default zeros.
        steps: points of the quadrature.
        batch_size: points per forward pass.

    Returns:
        The attributions, the change of the logit, and their difference.

    Raises:
        OptionError: an unknown class, a baseline of another shape, no steps, or an output without a gradient.
    """
    _check_positive("steps", steps)
    _check_positive("batch_size", batch_size)
    with eval_mode(model):
        x_1CHW = single_image(x_1CHW)
        if baseline_1CHW is None:
            baseline_1CHW = torch.zeros_like(x_1CHW)
        baseline_1CHW = single_image(baseline_1CHW).to(x_1CHW)
        if baseline_1CHW.shape != x_1CHW.shape:
            raise OptionError(
                f"baseline: shape {tuple(baseline_1CHW.shape)}; expected the image's {tuple(x_1CHW.shape)}.",
                cure="Use a baseline of the image's shape.",
                option="baseline_1CHW",
                value=tuple(baseline_1CHW.shape),
            )
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        # the quadrature is on [-1, 1], the line on [0, 1]
        position_S111 = torch.from_numpy((nodes + 1) / 2).to(x_1CHW)[:, None, None, None]
        weight_S111 = torch.from_numpy(weights / 2)[:, None, None, None]
        mean_CHW = torch.zeros(x_1CHW.shape[1:], dtype=torch.float64)
        for start in range(0, steps, batch_size):
            batch = slice(start, start + batch_size)
            point_BCHW = (baseline_1CHW + position_S111[batch] * (x_1CHW - baseline_1CHW)).requires_grad_()
            gradient_BCHW = input_gradient(class_logits(model, point_BCHW, target)[:, target], point_BCHW)
            mean_CHW += (weight_S111[batch] * gradient_BCHW.cpu().double()).sum(0)
        with torch.no_grad():
            last, first = class_logits(model, torch.cat([x_1CHW, baseline_1CHW]), target)[:, target].tolist()
        attributions_CHW = (x_1CHW - baseline_1CHW)[0].cpu().double() * mean_CHW
    change = last - first
    return IntegratedGradients(attributions_CHW.float().numpy(), change, float(attributions_CHW.sum()) - change)


def _check_positive(option: str, value: int) -> None:
    if value < 1:
        raise OptionError(f"{option}: {value}; expected at least 1.", "Use 1 or more.", option=option, value=value)
