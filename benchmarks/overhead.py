"""What a trainer adds to the bare loop: the same model, optimizer, data in memory and batch, with and without it."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from contenders import BARE, OVERHEAD
from processes import Job, program_command
from throughput import rates_by_name

TITLE = "Overhead over a bare loop on the same data in memory, fused Adam, batch 256, two threads"
REPEATS = 7
SAMPLES = {"lenet": 20_000, "mlp": 60_000}
NOTES = (
    "From the second epoch on. Interleaved, every second repeat in reverse order; the overhead is the median of the",
    "repeats' own ratios, beside their range. The MLP's step is so short that it shows every microsecond of a loop.",
)


def list_jobs(names: list[str], repeats: int, quick: bool) -> Iterator[Job]:
    """Yield contenders side by side within each repeat and model, the bare loop always among them."""
    names = list(dict.fromkeys([BARE, *names]))
    for repeat in range(repeats):
        for model, samples in SAMPLES.items():
            for name in names if repeat % 2 == 0 else reversed(names):
                more = ("--seed", repeat, "--model", model, "--samples", 1000 if quick else samples)
                yield Job({"name": name, "model": model, "repeat": repeat}, program_command(OVERHEAD[name], *more))


def describe(entry: dict) -> str:
    """Format the rate."""
    return f"{entry['model']}: {entry['samples_per_second']:,.0f} samples/s"


def build_table(entries: list[dict]) -> list[list[str]]:
    """Return medians, and the fraction of time added to the bare loop's."""
    rows = [["contender", "model", "samples/s", "overhead", "range"]]
    for model in SAMPLES:
        own = [e for e in entries if e["model"] == model]
        for name, rates in rates_by_name(own).items():
            fractions = added_time(own, name)
            value_range = f"{min(fractions):+.1%} to {max(fractions):+.1%}"
            rows.append(
                [name, model, f"{statistics.median(rates):,.0f}", f"{statistics.median(fractions):+.1%}", value_range]
            )
    return rows


def added_time(entries: list[dict], name: str) -> list[float]:
    """Return the fraction of time that `name` adds to the bare loop, in each repeat that has both."""
    rate = {(e["name"], e["repeat"]): e["samples_per_second"] for e in entries}
    repeats = [repeat for which, repeat in rate if which == name and (BARE, repeat) in rate]
    return [rate[BARE, repeat] / rate[name, repeat] - 1 for repeat in repeats]
