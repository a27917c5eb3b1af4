"""Integrated gradients (Sundararajan, Taly, Yan 2017, arXiv:1703.01365): the share of every pixel in an answer.

The slope of the class's logit, averaged over the straight line from a baseline to the picture, times the difference of
the two (section 3). The shares add up to logit(picture) - logit(baseline): the paper's axiom of completeness. The mean
is taken at the nodes of Gauss and Legendre; how far the sum is off is part of the result.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import OptionError
from .hooks import class_logits, eval_mode, input_gradient, single_image


class IntegratedGradients(NamedTuple):
    """What every value of a picture contributed to an answer."""

    #: float32, in units of logit: positive speaks for the class, negative against it
    attributions_CHW: np.ndarray
    #: logit(picture) - logit(baseline)
    change: float
    #: sum of the attributions less `change`; 0 for the exact integral
    gap: float


def integrated_gradients(
    network: nn.Module,
    x_1CHW: Tensor,
    target: int,
    baseline_1CHW: Tensor | None = None,
    steps: int = 64,
    batch: int = 8,
) -> IntegratedGradients:
    """The share of every pixel in the logit of the class number `target`, against a baseline (default: all zeros).

    The gap falls with `steps`, of which `batch` are asked at once: with 64 and from black, SqueezeNet 1.1 was off by
    0.4 % of the change on a photograph of a dog. Raises OptionError for an unknown class, a baseline of another shape,
    no steps, and an answer without slope.
    """
    if steps < 1 or batch < 1:
        raise OptionError(f"steps={steps}, batch={batch}: both are at least 1.")
    with eval_mode(network):
        x_1CHW = single_image(x_1CHW)
        baseline_1CHW = torch.zeros_like(x_1CHW) if baseline_1CHW is None else single_image(baseline_1CHW).to(x_1CHW)
        if baseline_1CHW.shape != x_1CHW.shape:
            raise OptionError(
                f"The baseline is {tuple(baseline_1CHW.shape)}, the picture {tuple(x_1CHW.shape)}.",
                cure="Give a baseline of the picture's shape.",
            )
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        # the rule is for [-1, 1], the line goes from 0 to 1
        place_S111 = torch.from_numpy((nodes + 1) / 2).to(x_1CHW)[:, None, None, None]
        weight_S111 = torch.from_numpy(weights / 2)[:, None, None, None]
        mean_CHW = torch.zeros(x_1CHW.shape[1:], dtype=torch.float64)
        for start in range(0, steps, batch):
            some = slice(start, start + batch)
            point_BCHW = (baseline_1CHW + place_S111[some] * (x_1CHW - baseline_1CHW)).requires_grad_()
            slope_BCHW = input_gradient(class_logits(network, point_BCHW, target)[:, target], point_BCHW)
            mean_CHW += (weight_S111[some] * slope_BCHW.cpu().double()).sum(0)
        with torch.no_grad():
            last, first = class_logits(network, torch.cat([x_1CHW, baseline_1CHW]), target)[:, target].tolist()
        shares_CHW = (x_1CHW - baseline_1CHW)[0].cpu().double() * mean_CHW
    change = last - first
    return IntegratedGradients(shares_CHW.float().numpy(), change, float(shares_CHW.sum()) - change)
