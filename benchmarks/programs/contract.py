"""What every program of a comparison shares: its arguments, its clock, and the one line that it prints."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time

#: Set by the measurement just before it starts the process; the clock is the same for all processes of a machine.
STARTED = float(os.environ.get("THALWEG_BENCH_STARTED", time.monotonic()))


def arguments(epochs: int = 8, batch: int = 64, samples: int = 60_000) -> argparse.ArgumentParser:
    """The arguments that every program takes; the values given are the program's usual ones."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=epochs, help="at most")
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--samples", type=int, default=samples, help="of training; fewer also shrink the test set")
    parser.add_argument("--target", type=float, default=0.992, help="accuracy on the test set at which to stop")
    return parser


class Race:
    """Notes the accuracy after each epoch and the moment at which the target was first reached."""

    def __init__(self, target: float):
        self.target, self.accuracies, self.seconds = target, [], None

    def over(self, accuracy: float) -> bool:
        """Enters an epoch's test accuracy in [0, 1]. True if the target is reached; the clock stops with it."""
        self.accuracies.append(float(accuracy))
        # float32 has no 0.992: 9,920 of 10,000 must count as reached
        if self.seconds is None and accuracy > self.target - 1e-6:
            self.seconds = time.monotonic() - STARTED
        return self.seconds is not None

    def report(self) -> None:
        """Prints the line of a program of TIME."""
        report(
            seconds_to_target=self.seconds,
            accuracy=max(self.accuracies),
            epochs=len(self.accuracies),
            accuracies=self.accuracies,
        )


def report_throughput(examples: int, seconds: list[float]) -> None:
    """Prints the line of THROUGHPUT and OVERHEAD: `examples` an epoch, `seconds` of each; the first is warm-up."""
    report(samples_per_second=examples / statistics.median(seconds[1:]), seconds=seconds)


def report(**figures: object) -> None:
    """Prints the figures as one line of JSON, the last thing that a program does."""
    print("\n" + json.dumps(figures, allow_nan=False), flush=True)
