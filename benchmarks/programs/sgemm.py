"""What the machine can do: GFLOP/s of a product of two 2048 x 2048 matrices in single precision, the best of ten."""

from __future__ import annotations

import time

import torch
from contract import report

SIZE = 2048


def main() -> None:
    """Two to warm up, ten that count."""
    left, right = torch.randn(SIZE, SIZE), torch.randn(SIZE, SIZE)
    seconds = []
    for _ in range(12):
        began = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - began)
    report(gflops=2 * SIZE**3 / min(seconds[2:]) / 1e9, threads=torch.get_num_threads())


if __name__ == "__main__":
    main()
