"""The multilayer perceptron (Rumelhart, Hinton, Williams 1986, doi:10.1038/323533a0).

The default is the network of the talk: 784 inputs, 128 and 64 hidden neurons with ReLU, 10 outputs.

Differs from the paper: any activation of `layers.activations` (the paper uses the logistic function); the outputs are
logits, because the loss contains the softmax.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ...config.size import PixelSize, to_height_width
from ...errors import OptionError
from ...layers.activations import build_activation
from ...registry import register_model


class MLP(nn.Module):
    """(B, C, H, W) pixels -> (B, K) logits through fully connected layers of the given widths."""

    def __init__(self, in_features: int, widths: Sequence[int], num_classes: int, activation: str, dropout: float):
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        for width in widths:
            layers += [nn.Linear(in_features, width), build_activation(activation)]
            if dropout:
                layers.append(nn.Dropout(dropout))
            in_features = width
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(in_features, num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits (B, K)."""
        return self.head(self.features(x_BCHW))


@register_model(task="classify", paper="Rumelhart, Hinton, Williams 1986, doi:10.1038/323533a0")
def mlp(
    in_channels: int,
    num_classes: int,
    image_size: PixelSize = 28,
    widths: Sequence[int] | int = (128, 64),
    activation: str = "relu",
    dropout: float = 0.0,
) -> nn.Module:
    """Fully connected layers of any widths; by default the talk's 784/128/64/10.

    Args:
        in_channels: channels of the images.
        num_classes: number of logits.
        image_size: height and width of the images in pixels, one number for squares.
        widths: neurons of each hidden layer; none for a linear classifier.
        activation: a name in `layers.activations`.
        dropout: probability of dropping a hidden neuron during training, in [0, 1).

    Returns:
        A model from pixels (B, C, H, W) to logits (B, K).

    Raises:
        OptionError: a width below 1, or a dropout outside [0, 1).
    """
    widths = (widths,) if isinstance(widths, int) else tuple(widths)
    for width in widths:
        if not isinstance(width, int) or width < 1:
            raise OptionError(
                f"widths: {list(widths)}; expected whole numbers of at least 1.",
                "Give the number of neurons of each hidden layer.",
                option="widths",
                value=widths,
            )
    if not 0 <= dropout < 1:
        raise OptionError(
            f"dropout: {dropout}; expected a probability of at least 0 and below 1.",
            "Use e.g. 0.2.",
            option="dropout",
            value=dropout,
        )
    height, width = to_height_width(image_size)
    return MLP(in_channels * height * width, widths, num_classes, activation, dropout)
