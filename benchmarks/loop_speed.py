"""Compare the training loops of two source trees with each other and with a bare loop.

    git worktree add ../old ccb8cc9
    python benchmarks/loop_speed.py --old ../old

Runs `programs/bare_loop.py` and each tree's own `programs/thalweg_lenet.py`, interleaved, every second repeat in
reverse order, two threads each. The figure is the median of the repeats' own ratios. Needs the packages of thalweg in
the Python that runs it, and MNIST in THALWEG_DATA.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

NEW = Path(__file__).resolve().parent.parent
SAMPLES = {"mlp": 60_000, "lenet": 20_000}


def measure(tree: Path, program: list[str], model: str, seed: int) -> float:
    """Run a program of a source tree; return its examples per second."""
    path = tree / "benchmarks" / "programs" / program[0]
    flag = "--network" if '"--network"' in path.read_text(encoding="utf-8") else "--model"  # its name before 0.2
    words = [*program[1:], flag, model, "--samples", str(SAMPLES[model]), "--seed", str(seed)]
    environment = {**os.environ, "PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(path), *words]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(result.stdout.splitlines()[-1])["samples_per_second"]


def main() -> None:
    """Print the median rates, and the time of the new loop relative to the old and to the bare one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--old", type=Path, required=True, help="an older source tree")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    loop = ["thalweg_lenet.py", "--precision", "float32"]
    contenders = {"bare": (NEW, ["bare_loop.py"]), "old": (options.old, loop), "new": (NEW, loop)}
    for model in SAMPLES:
        rates: dict[str, list[float]] = {name: [] for name in contenders}
        for repeat in range(options.repeats):
            names = list(contenders) if repeat % 2 == 0 else list(reversed(contenders))
            for name in names:
                rates[name].append(measure(*contenders[name], model, repeat))
        for name, values in rates.items():
            print(f"{model}: {name} {statistics.median(values):,.0f} examples/s")
        for other in ("old", "bare"):
            ratios = [first / second for first, second in zip(rates[other], rates["new"], strict=True)]
            value_range = f"{min(ratios):.3f} to {max(ratios):.3f}"
            print(f"{model}: time of new / {other} {statistics.median(ratios):.3f} ({value_range})", flush=True)


if __name__ == "__main__":
    main()
