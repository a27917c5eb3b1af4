"""The MNIST example of pytorch/examples, with its usual settings: batch 64, Adadelta at learning rate 1."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from contract import Race, build_parser
from dataset import MNIST
from mnist import load
from torch import Tensor, nn
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader


class Net(nn.Module):
    """3x3 convolutions of 32 and 64 filters, pooling, 128 hidden units, dropout. (B, 1, 28, 28) -> log p (B, 10)."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.dropout1 = nn.Dropout(0.25)
        self.dropout2 = nn.Dropout(0.5)
        self.fc1 = nn.Linear(9216, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return log-probabilities (B, 10)."""
        x = F.relu(self.conv2(F.relu(self.conv1(x))))
        x = self.dropout1(F.max_pool2d(x, 2)).flatten(1)
        x = self.dropout2(F.relu(self.fc1(x)))
        return F.log_softmax(self.fc2(x), dim=1)


def train(model: nn.Module, loader: DataLoader, optimizer: torch.optim.Optimizer) -> None:
    """Train one epoch; print the loss every ten batches, as the example does."""
    model.train()
    for step, (images, labels) in enumerate(loader):
        optimizer.zero_grad()
        loss = F.nll_loss(model(images), labels)
        loss.backward()
        optimizer.step()
        if step % 10 == 0:
            print(f"{step}/{len(loader)} loss {loss.item():.6f}")


def accuracy(model: nn.Module, loader: DataLoader) -> float:
    """Return the fraction of the test set that is classified correctly."""
    model.eval()
    correct = 0
    loss = 0.0
    with torch.no_grad():
        for images, labels in loader:
            output = model(images)
            loss += F.nll_loss(output, labels, reduction="sum").item()
            correct += output.argmax(dim=1).eq(labels).sum().item()
    print(f"test loss {loss / len(loader.dataset):.4f}, {correct}/{len(loader.dataset)}")
    return correct / len(loader.dataset)


def main() -> None:
    """Train until the target or the last epoch."""
    options = build_parser().parse_args()
    torch.manual_seed(options.seed)
    images, labels, test_images, test_labels = load(options.samples)
    loader = DataLoader(MNIST(images, labels), batch_size=options.batch_size, shuffle=True)
    test_loader = DataLoader(MNIST(test_images, test_labels), batch_size=1000)
    model = Net()
    optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0)
    schedule = StepLR(optimizer, step_size=1, gamma=0.7)
    race = Race(options.target)
    for _ in range(options.epochs):
        train(model, loader, optimizer)
        if race.add(accuracy(model, test_loader)):
            break
        schedule.step()
    race.report()


if __name__ == "__main__":
    main()
