"""The speed of the machine: GFLOP/s of a product of two 2048 x 2048 matrices in single precision, the best of ten."""

from __future__ import annotations

import time

import torch
from contract import report

SIZE = 2048


def main() -> None:
    """Time ten products after two for warm-up."""
    left = torch.randn(SIZE, SIZE)
    right = torch.randn(SIZE, SIZE)
    seconds = []
    for _ in range(12):
        start = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - start)
    report(gflops=2 * SIZE**3 / min(seconds[2:]) / 1e9, threads=torch.get_num_threads())


if __name__ == "__main__":
    main()
