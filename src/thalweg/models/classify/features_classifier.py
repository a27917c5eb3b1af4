"""Models in two parts with torchvision's names: `features`, then `classifier`, which is the head."""

from __future__ import annotations

from torch import Tensor, nn


class FeaturesClassifier(nn.Module):
    """(B, C, H, W) pixels -> (B, K) logits: `head(features(x))`."""

    features: nn.Module
    classifier: nn.Sequential

    @property
    def head(self) -> nn.Sequential:
        """The classifier, which is trained anew for other classes."""
        return self.classifier

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits (B, K)."""
        return self.head(self.features(x_BCHW))
