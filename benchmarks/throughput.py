"""Examples a second in training the talk's LeNet at the same batch: how fast the whole loop is, data included."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from contenders import OURS, THROUGHPUT
from processes import Job, program

TITLE = "Training throughput, the talk's LeNet, Adam, 20,000 examples, two threads"
REPEATS = 3
BATCHES = (64, 256)
NOTES = ("From the second epoch on. Medians of the repeats, which are interleaved, every second one in reverse order.",)


def jobs(names: list[str], repeats: int, quick: bool) -> Iterator[Job]:
    """Contenders side by side within each repeat and batch."""
    for repeat in range(repeats):
        for batch in BATCHES:
            for name in names if repeat % 2 == 0 else reversed(names):
                more = ("--seed", repeat, "--batch", batch, "--samples", 1000 if quick else 20_000)
                yield Job({"name": name, "batch": batch, "repeat": repeat}, program(THROUGHPUT[name], *more))


def told(entry: dict) -> str:
    """The rate."""
    return f"batch {entry['batch']}: {entry['samples_per_second']:,.0f} samples/s"


def table(entries: list[dict]) -> list[list[str]]:
    """Medians with their range, and how many times quicker ours is (or else the quickest)."""
    named = OURS if any(e["name"] == OURS for e in entries) else "the quickest"
    rows = [["contender", "batch", "samples/s", "range", f"{named} is times quicker"]]
    for batch in BATCHES:
        rates = by_name([e for e in entries if e["batch"] == batch])
        middle = {name: statistics.median(some) for name, some in rates.items()}
        reference = middle.get(OURS, max(middle.values(), default=0.0))
        for name, some in rates.items():
            spread = f"{min(some):,.0f} to {max(some):,.0f}"
            rows.append([name, str(batch), f"{middle[name]:,.0f}", spread, f"{reference / middle[name]:.2f}"])
    return rows


def by_name(entries: list[dict]) -> dict[str, list[float]]:
    """Samples a second of each contender, one for each repeat."""
    names = dict.fromkeys(e["name"] for e in entries)
    return {name: [e["samples_per_second"] for e in entries if e["name"] == name] for name in names}
