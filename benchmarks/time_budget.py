"""Measure what a task reaches within a time budget: the metrics of its test as means over seeds, each run tested once.

    python benchmarks/time_budget.py write input.txt --budget 5m --seeds 1
    python benchmarks/time_budget.py generate mnist --budget 5m --seeds 3 --untrained

Trains from the command line, as a user does; nothing else should run meanwhile. With --untrained, a run of a single
step is measured beside them. Needs thalweg in the Python that runs it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def train(task: str, data: str, length: list[str], seed: int, out: Path) -> dict[str, float]:
    """Train one run; return the metrics of its test."""
    words = ["train", task, data, *length, "--seed", str(seed), "--no-report", "--out", str(out)]
    subprocess.run([sys.executable, "-m", "thalweg", *words], check=True, stdout=subprocess.DEVNULL)
    metrics = json.loads((out / "run.json").read_text(encoding="utf-8"))["results"]["test"]
    return {name: value for name, value in metrics.items() if value is not None}


def format_metrics(metrics: dict[str, float]) -> str:
    """Format metrics in one line."""
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())


def main() -> None:
    """Print the metrics of every seed, then their means, standard deviations and ranges."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task")
    parser.add_argument("data")
    parser.add_argument("--budget", default="5m")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--untrained", action="store_true", help="also measure a run of one step")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="passed on to thalweg train")
    options = parser.parse_args()
    settings = [word for pair in options.set for word in ("--set", pair)]
    with tempfile.TemporaryDirectory() as folder:
        if options.untrained:
            metrics = train(options.task, options.data, ["--steps", "1", *settings], 0, Path(folder) / "untrained")
            print(f"{options.task}, one step: {format_metrics(metrics)}", flush=True)
        results = []
        for seed in range(options.seeds):
            start = time.monotonic()
            length = ["--time-budget", options.budget, *settings]
            results.append(train(options.task, options.data, length, seed, Path(folder) / str(seed)))
            load = os.getloadavg()[1]
            seconds = time.monotonic() - start
            print(f"seed {seed}: {format_metrics(results[-1])}; {seconds:.0f} s, load {load:.1f}", flush=True)
    for name in results[0]:
        values = [metrics[name] for metrics in results]
        std = statistics.stdev(values) if len(values) > 1 else 0.0
        mean = statistics.mean(values)
        print(f"{name}: mean {mean:.4g}, std {std:.2g}, {min(values):.4g} to {max(values):.4g}, {len(values)} seeds")


if __name__ == "__main__":
    main()
