"""The figure of a recipe: its test accuracy as the mean over seeds, each run tested once.

    python benchmarks/seeds.py mnist-lenet --seeds 5 --out runs/seeds

Needs thalweg in the Python that runs it. Runs that are in --out already are not repeated, broken-off ones go on.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from thalweg import api


def accuracy(recipe: str, seed: int, folder: Path, threads: int | None) -> tuple[float, float]:
    """Test accuracy in per cent and seconds of one run."""
    training = api.plan_training(
        recipe=recipe, seed=seed, out=folder, resume=folder.exists(), threads=threads, report=False
    )
    for _ in training:
        pass
    results = training.run.results
    return 100 * results["test"]["accuracy"], results["seconds"]


def main() -> None:
    """Trains seed after seed and prints each figure, then their mean, deviation and range."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, default=Path("runs/seeds"))
    asked = parser.parse_args()
    found = []
    for seed in range(asked.seeds):
        percent, seconds = accuracy(asked.recipe, seed, asked.out / f"{asked.recipe}-{seed}", asked.threads)
        found.append(percent)
        print(f"{asked.recipe} seed {seed}: {percent:.2f} % in {seconds:.0f} s", flush=True)
    spread = statistics.stdev(found) if len(found) > 1 else 0.0
    print(
        f"{asked.recipe}: {statistics.mean(found):.3f} % +- {spread:.3f} "
        f"({min(found):.2f} to {max(found):.2f}) over {len(found)} seeds"
    )


if __name__ == "__main__":
    main()
