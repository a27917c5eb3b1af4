"""The least that a training loop can be: bytes in memory, a shuffled index, forward, backward, a fused Adam."""

from __future__ import annotations

import time

import torch
from contract import arguments, report_throughput
from mnist import load
from networks import BY_NAME
from torch.nn.functional import cross_entropy


def main() -> None:
    """Times every epoch but the first; evaluates nothing, reports nothing, drops the last part of a batch."""
    parser = arguments(epochs=4, batch=256, samples=20_000)
    parser.add_argument("--network", choices=BY_NAME, default="lenet")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    images, labels, _, _ = load(options.samples)
    pictures, answers = torch.tensor(images)[:, None], torch.tensor(labels)
    network = BY_NAME[options.model]().to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    steps, seconds = len(answers) // options.batch, []
    for _ in range(options.epochs):
        began = time.perf_counter()
        order = torch.randperm(len(answers))
        for rows in order[: steps * options.batch].split(options.batch):
            batch = pictures[rows].float().mul_(1 / 255).sub_(0.1307).div_(0.3081)
            optimizer.zero_grad(set_to_none=True)
            cross_entropy(network(batch), answers[rows]).backward()
            optimizer.step()
        seconds.append(time.perf_counter() - began)
    report_throughput(steps * options.batch, seconds)


if __name__ == "__main__":
    main()
