"""Initialization of weights (He, Zhang, Ren, Sun 2015, arXiv:1502.01852)."""

from __future__ import annotations

from typing import Literal, TypeVar

from torch import nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def he_normal_(model: ModuleT, mode: Literal["fan_in", "fan_out"] = "fan_out") -> ModuleT:
    """Initialize every convolution with variance 2 / fan, which ReLUs neither shrink nor amplify, and bias 0.

    `mode` says what keeps its variance: "fan_in" the activations of the forward pass (equation 10), "fan_out" the
    gradients of the backward pass (equation 14). Linear layers keep PyTorch's initialization. Works in place and
    returns the model.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode=mode, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return model
