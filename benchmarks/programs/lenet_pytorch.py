"""Throughput of the PyTorch example's loop on the talk's LeNet: a DataLoader that transforms one by one, Adam."""

from __future__ import annotations

import time

import torch
from contract import build_parser, report_throughput
from dataset import MNIST
from mnist import load
from networks import lenet
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader


def main() -> None:
    """Time every epoch but the first; evaluate nothing."""
    options = build_parser(epochs=2, samples=20_000).parse_args()
    torch.manual_seed(options.seed)
    images, labels, _, _ = load(options.samples)
    loader = DataLoader(MNIST(images, labels), batch_size=options.batch_size, shuffle=True)
    model = lenet().train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    seconds = []
    for _ in range(options.epochs):
        start = time.perf_counter()
        for step, (image, label) in enumerate(loader):
            optimizer.zero_grad()
            loss = cross_entropy(model(image), label)
            loss.backward()
            optimizer.step()
            if step % 10 == 0:
                print(f"{step}/{len(loader)} loss {loss.item():.6f}")
        seconds.append(time.perf_counter() - start)
    report_throughput(options.samples, seconds)


if __name__ == "__main__":
    main()
