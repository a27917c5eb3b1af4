"""How weights begin (He, Zhang, Ren, Sun 2015, arXiv:1502.01852)."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

ModuleT = TypeVar("Network", bound=nn.Module)


def he_normal_(network: ModuleT, mode: str = "fan_out") -> ModuleT:
    """Draws every convolution's weights with variance 2 / fan, which ReLUs neither shrink nor blow up; biases are 0.

    `mode` says what keeps its spread: "fan_in" the values on the way up (equation 10), "fan_out" the gradients on the
    way down (equation 14). Linear layers stay as PyTorch begins them. Changes the network in place and returns it.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode=mode, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return network
