"""Examples per second in training the talk's LeNet at the same batch: how fast the whole loop is, data included."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from contenders import OURS, THROUGHPUT
from processes import Job, program_command

TITLE = "Training throughput, the talk's LeNet, Adam, 20,000 examples, two threads"
REPEATS = 3
BATCH_SIZES = (64, 256)
NOTES = ("From the second epoch on. Medians of the repeats, which are interleaved, every second one in reverse order.",)


def list_jobs(names: list[str], repeats: int, quick: bool) -> Iterator[Job]:
    """Yield contenders side by side within each repeat and batch."""
    for repeat in range(repeats):
        for batch_size in BATCH_SIZES:
            for name in names if repeat % 2 == 0 else reversed(names):
                more = ("--seed", repeat, "--batch-size", batch_size, "--samples", 1000 if quick else 20_000)
                yield Job(
                    {"name": name, "batch_size": batch_size, "repeat": repeat}, program_command(THROUGHPUT[name], *more)
                )


def describe(entry: dict) -> str:
    """Format the rate."""
    return f"batch {entry['batch_size']}: {entry['samples_per_second']:,.0f} samples/s"


def build_table(entries: list[dict]) -> list[list[str]]:
    """Return medians with their range, and how many times faster ours is (or else the fastest)."""
    named = OURS if any(e["name"] == OURS for e in entries) else "the fastest"
    rows = [["contender", "batch", "samples/s", "range", f"{named} is times faster"]]
    for batch_size in BATCH_SIZES:
        rates = rates_by_name([e for e in entries if e["batch_size"] == batch_size])
        middle = {name: statistics.median(some) for name, some in rates.items()}
        reference = middle.get(OURS, max(middle.values(), default=0.0))
        for name, some in rates.items():
            value_range = f"{min(some):,.0f} to {max(some):,.0f}"
            rows.append([name, str(batch_size), f"{middle[name]:,.0f}", value_range, f"{reference / middle[name]:.2f}"])
    return rows


def rates_by_name(entries: list[dict]) -> dict[str, list[float]]:
    """Return samples per second of each contender, one for each repeat."""
    names = dict.fromkeys(e["name"] for e in entries)
    return {name: [e["samples_per_second"] for e in entries if e["name"] == name] for name in names}
