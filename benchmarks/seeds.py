"""Measure a recipe: the main metric of its test as the mean over seeds, each run tested once.

    python benchmarks/seeds.py mnist-lenet --seeds 5 --out runs/seeds

Needs thalweg in the Python that runs it. Finished runs in --out are not repeated, interrupted ones are resumed.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from thalweg import api


def train(recipe: str, seed: int, folder: Path, cpu_threads: int | None) -> api.Run:
    """Train a recipe with one seed, or resume it; return the finished run."""
    training = api.plan_training(
        recipe=recipe, seed=seed, out=folder, resume=folder.exists(), cpu_threads=cpu_threads, report=False
    )
    for _ in training:
        pass
    return api.Run(training.run_dir)


def main() -> None:
    """Train seed after seed and print each result, then their mean, standard deviation and range."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cpu-threads", type=int)
    parser.add_argument("--out", type=Path, default=Path("runs/seeds"))
    options = parser.parse_args()
    values = []
    for seed in range(options.seeds):
        run = train(options.recipe, seed, options.out / f"{options.recipe}-{seed}", options.cpu_threads)
        metric = run.task.metrics[0]
        value = run.results["test"][metric.name]
        values.append(value)
        print(f"{options.recipe} seed {seed}: {metric.format(value)} in {run.results['seconds']:.0f} s", flush=True)
    std = statistics.stdev(values) if len(values) > 1 else 0.0
    print(
        f"{options.recipe}: {metric.label} {metric.format(statistics.mean(values))}, std {metric.format(std)}, "
        f"{metric.format(min(values))} to {metric.format(max(values))} over {len(values)} seeds"
    )


if __name__ == "__main__":
    main()
