"""The multilayer perceptron (Rumelhart, Hinton, Williams 1986, doi:10.1038/323533a0).

The default is the network of the talk: 784 inputs, 128 and 64 hidden neurons with ReLU, 10 outputs.

Differs from the paper: any activation of `layers.activations` (the paper's is the logistic); outputs are logits, and
the softmax is part of the loss.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ...errors import OptionError
from ...layers.activations import build_activation as activation_layer
from ...registry import register_model


class MLP(nn.Module):
    """(B, C, H, W) pixels -> (B, K) logits through fully connected layers of the given widths."""

    def __init__(self, inputs: int, widths: Sequence[int], classes: int, activation: str, dropout: float):
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        for width in widths:
            layers += [nn.Linear(inputs, width), activation_layer(activation)]
            layers += [nn.Dropout(dropout)] if dropout else []
            inputs = width
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(inputs, classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits (B, K) of pictures (B, C, H, W)."""
        return self.head(self.features(x_BCHW))


@register_model(task="classify", paper="Rumelhart, Hinton, Williams 1986, doi:10.1038/323533a0")
def mlp(
    channels: int,
    classes: int,
    size: int = 28,
    widths: Sequence[int] | int = (128, 64),
    activation: str = "relu",
    dropout: float = 0.0,
) -> nn.Module:
    """Fully connected layers of any widths; by default the talk's 784/128/64/10.

    Raises OptionError for a width below 1 and a dropout outside 0 to 1.
    """
    widths = (widths,) if isinstance(widths, int) else tuple(widths)
    if any(not isinstance(w, int) or w < 1 for w in widths):
        raise OptionError(f"widths={list(widths)}: every width is a whole number of neurons, at least 1.")
    if not 0 <= dropout < 1:
        raise OptionError(f"dropout={dropout} is not a share of at least 0 and below 1.")
    return MLP(channels * size * size, widths, classes, activation, dropout)
