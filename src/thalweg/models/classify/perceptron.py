"""The perceptron (Rosenblatt 1958, doi:10.1037/h0042519): one layer of neurons, each a weighted sum of all pixels.

Differs from the paper: it is trained by gradient descent on the cross-entropy instead of the perceptron rule, and its
outputs are logits, because the loss contains the activation.
"""

from __future__ import annotations

from torch import Tensor, nn

from ...config.size import PixelSize, to_height_width
from ...registry import register_model


class Perceptron(nn.Module):
    """(B, C, H, W) pixels -> (B, K) logits, with one weight per pixel and class."""

    def __init__(self, in_features: int, num_classes: int):
        super().__init__()
        self.features = nn.Flatten()
        self.head = nn.Linear(in_features, num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits (B, K)."""
        return self.head(self.features(x_BCHW))


@register_model(task="classify", paper="Rosenblatt 1958, doi:10.1037/h0042519")
def perceptron(in_channels: int, num_classes: int, image_size: PixelSize = 28) -> nn.Module:
    """One layer of neurons: a weighted sum of all pixels per class."""
    height, width = to_height_width(image_size)
    return Perceptron(in_channels * height * width, num_classes)
