"""A multilayer perceptron trained on handwritten digits by a plain loop, without a training package.

    python examples/from_scratch/supervised.py

It computes what `thalweg train classify digits --model mlp --optimizer adagrad` computes; a test compares the weights.
The package adds everything around the loop: any data, any model, resuming, reports.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits as load_sklearn_digits
from torch import nn

SEED = 0
EPOCHS = 20
BATCH_SIZE = 32
LR = 0.05


def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """Return 1,797 handwritten digits: images (N, 8, 8) uint8, 0 black and 255 white, and labels (N,) int64."""
    digits = load_sklearn_digits()
    return np.round(digits.images * (255 / 16)).astype(np.uint8), digits.target.astype(np.int64)


def build_model(in_features: int = 64, num_classes: int = 10) -> nn.Sequential:
    """Build three layers; each neuron is a weighted sum of the layer below, and ReLU sets negative values to zero."""
    return nn.Sequential(
        nn.Linear(in_features, 128),
        nn.ReLU(),
        nn.Linear(128, 64),
        nn.ReLU(),
        nn.Linear(64, num_classes),
    )


def normalize(images: np.ndarray, mean: float, std: float) -> torch.Tensor:
    """Flatten and normalize images: (N, H, W) uint8 to (N, H * W) float32."""
    return (torch.from_numpy(images.copy()).flatten(1) / 255 - mean) / std


def train(model: nn.Module, x: torch.Tensor, labels: torch.Tensor, epochs: int = EPOCHS, seed: int = SEED) -> None:
    """Train with mini-batches, cross-entropy, backpropagation, and AdaGrad (Duchi et al. 2011) with cosine decay."""
    params = list(model.parameters())
    squares = [torch.zeros_like(param) for param in params]  # AdaGrad's state: the sum of all squared gradients
    steps_per_epoch = len(x) // BATCH_SIZE
    for epoch in range(epochs):
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed((seed << 20) + epoch))
        for step in range(steps_per_epoch):
            indices = order[step * BATCH_SIZE : (step + 1) * BATCH_SIZE]
            loss = F.cross_entropy(model(x[indices]), labels[indices])
            gradients = torch.autograd.grad(loss, params)
            progress = (epoch * steps_per_epoch + step) / (epochs * steps_per_epoch)
            lr = LR * 0.5 * (1 + math.cos(math.pi * progress))
            with torch.no_grad():
                for param, square, gradient in zip(params, squares, gradients, strict=True):
                    square += gradient**2
                    param -= lr * gradient / (square.sqrt() + 1e-7)
        print(f"epoch {epoch + 1:2}: loss of the last batch {loss.item():.4f}")


def accuracy(model: nn.Module, x: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the fraction of images whose most probable class is correct."""
    with torch.no_grad():
        return float((model(x).argmax(1) == labels).float().mean())


def main() -> None:
    """Train on nine tenths of the digits and test on the rest."""
    images, labels = load_digits()
    is_test = np.arange(len(images)) % 10 == 0
    train_images = images[~is_test]
    x = normalize(images, train_images.mean() / 255, train_images.std() / 255)
    y = torch.from_numpy(labels)
    torch.manual_seed(SEED)
    model = build_model()
    train(model, x[~is_test], y[~is_test])
    print(f"accuracy on {is_test.sum()} test digits: {100 * accuracy(model, x[is_test], y[is_test]):.1f} %")


if __name__ == "__main__":
    main()
