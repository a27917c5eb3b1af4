"""What every program of a comparison shares: its arguments, its clock, and the one line that it prints."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time

#: set by the measurement just before it starts the process; the clock is the same for all processes of a machine
STARTED = float(os.environ.get("THALWEG_BENCH_STARTED", time.monotonic()))


def build_parser(epochs: int = 8, batch_size: int = 64, samples: int = 60_000) -> argparse.ArgumentParser:
    """Return a parser of the arguments that every program takes, with the program's own defaults."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=epochs, help="at most")
    parser.add_argument("--batch-size", type=int, default=batch_size)
    parser.add_argument("--samples", type=int, default=samples, help="of training; fewer also shrink the test set")
    parser.add_argument("--target", type=float, default=0.992, help="accuracy on the test set at which to stop")
    return parser


class Race:
    """Records the accuracy after each epoch, and the time at which the target was first reached."""

    def __init__(self, target: float):
        self.target = target
        self.accuracies: list[float] = []
        self.seconds: float | None = None

    def add(self, accuracy: float) -> bool:
        """Add an epoch's test accuracy in [0, 1]; return whether the target is reached, which stops the clock."""
        self.accuracies.append(float(accuracy))
        # float32 has no 0.992: 9,920 of 10,000 must count as reached
        if self.seconds is None and accuracy > self.target - 1e-6:
            self.seconds = time.monotonic() - STARTED
        return self.seconds is not None

    def report(self) -> None:
        """Print the line of a program of TIME."""
        report(
            seconds_to_target=self.seconds,
            accuracy=max(self.accuracies),
            epochs=len(self.accuracies),
            accuracies=self.accuracies,
        )


def report_throughput(examples: int, seconds: list[float]) -> None:
    """Print the line of THROUGHPUT and OVERHEAD: `examples` per epoch, `seconds` of each; the first is a warm-up."""
    report(samples_per_second=examples / statistics.median(seconds[1:]), seconds=seconds)


def report(**numbers: object) -> None:
    """Print the numbers as one line of JSON, the last thing that a program does."""
    print("\n" + json.dumps(numbers, allow_nan=False), flush=True)
