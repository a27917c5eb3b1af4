"""The talk's two models as plain PyTorch modules. (B, 1, 28, 28) -> logits (B, 10)."""

from __future__ import annotations

from torch import nn


def lenet() -> nn.Sequential:
    """Build 20 and 50 filters 5x5 with ReLU and max-pooling, and 500 hidden neurons."""
    first = [nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2)]
    second = [nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10))


def mlp() -> nn.Sequential:
    """Build 784/128/64/10 with ReLU."""
    hidden = [nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(64, 10))


MODELS = {"lenet": lenet, "mlp": mlp}
