"""The talk's multilayer perceptron, trained on handwritten digits by a plain loop, with nothing hidden in a package.

    python examples/from_scratch/supervised.py

This is the arithmetic of `thalweg train classify digits --model mlp --optimizer adagrad`: a test holds the two to the
same weights. What the package adds is the story around it: any data, any model, resuming, reports.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

SEED, EPOCHS, BATCH, RATE = 0, 20, 32, 0.05


def digits() -> tuple[np.ndarray, np.ndarray]:
    """1,797 handwritten digits: pictures (N, 8, 8) uint8, 0 is black and 255 white, and labels (N,) int64."""
    bunch = load_digits()
    return np.round(bunch.images * (255 / 16)).astype(np.uint8), bunch.target.astype(np.int64)


def network(inputs: int = 64, classes: int = 10) -> nn.Sequential:
    """Three layers of neurons: each is a weighted sum of all outputs of the layer below, cut off at zero."""
    return nn.Sequential(
        nn.Linear(inputs, 128),
        nn.ReLU(),
        nn.Linear(128, 64),
        nn.ReLU(),
        nn.Linear(64, classes),
    )


def prepared(images: np.ndarray, mean: float, std: float) -> torch.Tensor:
    """Pictures as rows of numbers around zero: (N, H, W) uint8 to (N, H * W) floats."""
    return (torch.from_numpy(images.copy()).flatten(1) / 255 - mean) / std


def train(model: nn.Module, x: torch.Tensor, labels: torch.Tensor, epochs: int = EPOCHS, seed: int = SEED) -> None:
    """Mini-batches, cross-entropy, back-propagation, and AdaGrad (Duchi et al. 2011) with a rate that falls to zero."""
    weights = list(model.parameters())
    squares = [torch.zeros_like(w) for w in weights]  # AdaGrad's memory: the sum of all squared gradients so far
    per_epoch = len(x) // BATCH
    for epoch in range(epochs):
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed((seed << 20) + epoch))
        for position in range(per_epoch):
            rows = order[position * BATCH : (position + 1) * BATCH]
            loss = F.cross_entropy(model(x[rows]), labels[rows])
            gradients = torch.autograd.grad(loss, weights)
            rate = RATE * 0.5 * (1 + math.cos(math.pi * (epoch * per_epoch + position) / (epochs * per_epoch)))
            with torch.no_grad():
                for weight, square, gradient in zip(weights, squares, gradients, strict=True):
                    square += gradient**2
                    weight -= rate * gradient / (square.sqrt() + 1e-7)
        print(f"epoch {epoch + 1:2}: loss of the last batch {loss.item():.4f}")


def accuracy(model: nn.Module, x: torch.Tensor, labels: torch.Tensor) -> float:
    """The share of pictures whose most probable class is the right one."""
    with torch.no_grad():
        return float((model(x).argmax(1) == labels).float().mean())


def main() -> None:
    """Trains on nine tenths of the digits and tests on the others."""
    images, labels = digits()
    test = np.arange(len(images)) % 10 == 0
    mean, std = images[~test].mean() / 255, images[~test].std() / 255
    x, answers = prepared(images, mean, std), torch.from_numpy(labels)
    torch.manual_seed(SEED)
    model = network()
    train(model, x[~test], answers[~test])
    print(f"accuracy on {test.sum()} digits that it never saw: {100 * accuracy(model, x[test], answers[test]):.1f} %")


if __name__ == "__main__":
    main()
