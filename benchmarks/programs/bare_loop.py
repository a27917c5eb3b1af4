"""The least that a training loop can be: bytes in memory, a shuffled index, forward, backward, a fused Adam."""

from __future__ import annotations

import time

import torch
from contract import build_parser, report_throughput
from mnist import load
from networks import MODELS
from torch.nn.functional import cross_entropy


def main() -> None:
    """Time every epoch but the first; evaluate nothing, report nothing, drop the last part of a batch."""
    parser = build_parser(epochs=4, batch_size=256, samples=20_000)
    parser.add_argument("--model", choices=MODELS, default="lenet")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    arrays = load(options.samples)
    images_N1HW = torch.tensor(arrays[0])[:, None]
    labels_N = torch.tensor(arrays[1])
    model = MODELS[options.model]().to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    steps = len(labels_N) // options.batch_size
    seconds = []
    for _ in range(options.epochs):
        start = time.perf_counter()
        order = torch.randperm(len(labels_N))
        for rows in order[: steps * options.batch_size].split(options.batch_size):
            x_B1HW = images_N1HW[rows].float().mul_(1 / 255).sub_(0.1307).div_(0.3081)
            optimizer.zero_grad(set_to_none=True)
            cross_entropy(model(x_B1HW), labels_N[rows]).backward()
            optimizer.step()
        seconds.append(time.perf_counter() - start)
    report_throughput(steps * options.batch_size, seconds)


if __name__ == "__main__":
    main()
