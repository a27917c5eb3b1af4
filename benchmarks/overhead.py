"""What a trainer adds to the bare loop: the same network, optimiser, data in memory and batch, with and without it."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from contenders import BARE, OVERHEAD
from processes import Job, program
from throughput import by_name

TITLE = "Overhead over a bare loop on the same data in memory, fused Adam, batch 256, two threads"
REPEATS = 7
SAMPLES = {"lenet": 20_000, "mlp": 60_000}
NOTES = (
    "From the second epoch on. Interleaved, every second repeat in reverse order; the overhead is the median of the",
    "repeats' own ratios, beside their range. The MLP's step is so short that it shows every microsecond of a loop.",
)


def jobs(names: list[str], repeats: int, quick: bool) -> Iterator[Job]:
    """Contenders side by side within each repeat and network, the bare loop always among them."""
    names = list(dict.fromkeys([BARE, *names]))
    for repeat in range(repeats):
        for network, samples in SAMPLES.items():
            for name in names if repeat % 2 == 0 else reversed(names):
                more = ("--seed", repeat, "--network", network, "--samples", 1000 if quick else samples)
                yield Job({"name": name, "network": network, "repeat": repeat}, program(OVERHEAD[name], *more))


def told(entry: dict) -> str:
    """The rate."""
    return f"{entry['network']}: {entry['samples_per_second']:,.0f} samples/s"


def table(entries: list[dict]) -> list[list[str]]:
    """Medians, and the share of time added to the bare loop's."""
    rows = [["contender", "network", "samples/s", "overhead", "range"]]
    for network in SAMPLES:
        mine = [e for e in entries if e["network"] == network]
        for name, rates in by_name(mine).items():
            share = added(mine, name)
            spread = f"{min(share):+.1%} to {max(share):+.1%}"
            rows.append([name, network, f"{statistics.median(rates):,.0f}", f"{statistics.median(share):+.1%}", spread])
    return rows


def added(entries: list[dict], name: str) -> list[float]:
    """The share of time that `name` adds to the bare loop, in each repeat that has both."""
    rate = {(e["name"], e["repeat"]): e["samples_per_second"] for e in entries}
    repeats = [repeat for which, repeat in rate if which == name and (BARE, repeat) in rate]
    return [rate[BARE, repeat] / rate[name, repeat] - 1 for repeat in repeats]
