"""LeNet-5 (LeCun, Bottou, Bengio, Haffner 1998, doi:10.1109/5.726791), Figure 2, and the variant of the talk.

`variant="talk"` (default) is the LeNet that MXNet's tutorials made known: 20 and 50 filters of 5x5, max-pooling of 2x2,
500 hidden neurons; tanh there, ReLU by default here. The pooling stands before the activation: all activations on offer
never fall, so the result is the same and a quarter of the values pass through them.

`variant="1998"` is the paper's: pictures padded to 32x32, subsampling layers with one weight and one bias per map, the
connection table of layer C3 (Table I), 1.7159 tanh(2/3 x) throughout (Appendix A). Differs from the paper: the last
layer is a plain linear one in place of distances to hand-drawn 7x12 characters, so that any classes can be learned;
C3 holds all 2,416 weights, of which the table switches 900 off; weights begin as PyTorch's do.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import OptionError
from ...layers.activations import build_activation as activation_layer
from ...registry import register_model

# Table I: which of the six maps of S2 each of the sixteen maps of C3 is connected to.
C3_CONNECTIONS = [
    *[[i % 6, (i + 1) % 6, (i + 2) % 6] for i in range(6)],
    *[[i % 6, (i + 1) % 6, (i + 2) % 6, (i + 3) % 6] for i in range(6)],
    *[[0, 1, 3, 4], [1, 2, 4, 5], [0, 2, 3, 5]],
    [0, 1, 2, 3, 4, 5],
]


class ScaledTanh(nn.Module):
    """1.7159 tanh(2/3 x) (Appendix A of the paper): f(1) = 1 and f(-1) = -1."""

    def forward(self, x: Tensor) -> Tensor:
        """The activation of x, element by element."""
        return 1.7159 * torch.tanh(2 / 3 * x)


class Subsampling(nn.Module):
    """Mean over 2x2 windows, times four, times one weight and plus one bias per map (layers S2 and S4)."""

    def __init__(self, maps: int):
        super().__init__()
        self.weight = nn.Parameter(torch.full((maps,), 0.25))
        self.bias = nn.Parameter(torch.zeros(maps))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H/2, W/2)."""
        total = 4 * F.avg_pool2d(x_BCHW, 2)
        return total * self.weight[:, None, None] + self.bias[:, None, None]


class SparseConv2d(nn.Conv2d):
    """A 5x5 convolution in which each output map sees only the input maps of Table I (layer C3)."""

    def __init__(self):
        super().__init__(6, 16, 5)
        mask = torch.zeros(16, 6, 1, 1)
        for out, inputs in enumerate(C3_CONNECTIONS):
            mask[out, inputs] = 1
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, 6, H, W) -> (B, 16, H-4, W-4)."""
        return F.conv2d(x_BCHW, self.weight * self.mask, self.bias)


class LeNet(nn.Module):
    """(B, C, S, S) pixels -> (B, K) logits: `head(features(x))`."""

    def __init__(self, features: nn.Sequential, head: nn.Linear):
        super().__init__()
        self.features, self.head = features, head

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits (B, K) of pictures (B, C, H, W)."""
        return self.head(self.features(x_BCHW))


def lenet_modern(
    channels: int, classes: int, size: int, activation: str, filters: tuple[int, int], hidden: int
) -> LeNet:
    """The talk's variant. Pictures below 16 pixels are padded to 16 or 17, so that both filters and poolings fit."""
    pad = 0 if size >= 16 else (16 - size + 1) // 2
    side = ((size + 2 * pad - 4) // 2 - 4) // 2
    features = nn.Sequential(
        nn.Conv2d(channels, filters[0], 5, padding=pad),
        nn.MaxPool2d(2),
        activation_layer(activation),
        nn.Conv2d(filters[0], filters[1], 5),
        nn.MaxPool2d(2),
        activation_layer(activation),
        nn.Flatten(),
        nn.Linear(filters[1] * side * side, hidden),
        activation_layer(activation),
    )
    return LeNet(features, nn.Linear(hidden, classes))


def lenet5(channels: int, classes: int, size: int) -> LeNet:
    """The paper's network. Raises OptionError for pictures that are not 28 or 32 pixels."""
    if size not in (28, 32):
        raise OptionError(
            f"LeNet-5 of 1998 reads pictures of 28 or 32 pixels, not {size}.",
            cure="Give --size 28, or use variant=talk.",
        )
    features = nn.Sequential(
        nn.Conv2d(channels, 6, 5, padding=(32 - size) // 2),
        ScaledTanh(),
        Subsampling(6),
        ScaledTanh(),
        SparseConv2d(),
        ScaledTanh(),
        Subsampling(16),
        ScaledTanh(),
        nn.Conv2d(16, 120, 5),
        ScaledTanh(),
        nn.Flatten(),
        nn.Linear(120, 84),
        ScaledTanh(),
    )
    return LeNet(features, nn.Linear(84, classes))


@register_model(task="classify", paper="LeCun et al. 1998, doi:10.1109/5.726791")
def lenet(
    channels: int,
    classes: int,
    size: int = 28,
    variant: str = "talk",
    activation: str = "relu",
    filters: tuple[int, int] = (20, 50),
    hidden: int = 500,
) -> nn.Module:
    """LeNet: the talk's variant, or the paper's with variant=1998 (which ignores the other choices).

    Raises OptionError for an unknown variant, sizes that the network cannot read, and layers of no neurons.
    """
    if str(variant) == "1998":
        return lenet5(channels, classes, size)
    if variant != "talk":
        raise OptionError(f"variant={variant} is not a LeNet.", cure="Give talk or 1998.")
    if len(filters) != 2 or min(*filters, hidden) < 1:
        raise OptionError(
            f"lenet(filters={list(filters)}, hidden={hidden}) is no network.",
            cure="Give two numbers of filters and one of neurons, all at least 1.",
        )
    return lenet_modern(channels, classes, size, activation, tuple(filters), hidden)
