"""The perceptron (Rosenblatt 1958, doi:10.1037/h0042519): one layer of neurons, each a weighted sum of all pixels.

Differs from the paper: trained by gradient descent on the cross-entropy instead of the perceptron rule, and its outputs
are logits, so any activation is left to the loss.
"""

from __future__ import annotations

from torch import Tensor, nn

from ...registry import register_model


class Perceptron(nn.Module):
    """(B, C, H, W) pixels -> (B, K) logits, with one weight per pixel and class."""

    def __init__(self, inputs: int, classes: int):
        super().__init__()
        self.features = nn.Flatten()
        self.head = nn.Linear(inputs, classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits (B, K) of pictures (B, C, H, W)."""
        return self.head(self.features(x_BCHW))


@register_model(task="classify", paper="Rosenblatt 1958, doi:10.1037/h0042519")
def perceptron(channels: int, classes: int, size: int = 28) -> nn.Module:
    """One layer of neurons: a weighted sum of all pixels per class."""
    return Perceptron(channels * size * size, classes)
