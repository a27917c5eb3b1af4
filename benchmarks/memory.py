"""The largest resident memory of one epoch of MNIST training, over that of an interpreter that has imported torch."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from contenders import MEMORY, OURS
from environment import PYTHON
from processes import Job, program_command

TITLE = "Peak memory of MNIST training over an interpreter with torch imported"
REPEATS = 1
BASE = "import torch"
NOTES = (
    "One epoch on all 60,000 examples and one test, as the system accounts it for the process. Of worker processes it",
    "tells only the largest, so they are not added. The same base for all, also for Keras, which imports no torch.",
)


def list_jobs(names: list[str], repeats: int, quick: bool) -> Iterator[Job]:
    """Yield the base first, in each repeat."""
    small = ("--samples", 1000) if quick else ()
    for _ in range(repeats):
        yield Job({"name": BASE}, [str(PYTHON), "-c", "import torch; print('{}')"])
        for name in names:
            yield Job({"name": name}, program_command(MEMORY[name], "--epochs", 1, *small))


def describe(entry: dict) -> str:
    """Format the peak."""
    return f"{entry['peak_bytes'] / 1e6:,.0f} MB"


def build_table(entries: list[dict]) -> list[list[str]]:
    """Return medians in megabytes (a million bytes), and the ratio to ours (or else to the least)."""
    names = dict.fromkeys(e["name"] for e in entries)
    peak = {name: statistics.median(e["peak_bytes"] for e in entries if e["name"] == name) / 1e6 for name in names}
    over = {name: value - peak[BASE] for name, value in peak.items() if name != BASE}
    reference = OURS if OURS in over else min(over, key=over.get, default=None)
    rows = [
        ["contender", "peak MB", "over the base", f"times {reference or '-'}"],
        [BASE, f"{peak[BASE]:,.0f}", "", ""],
    ]
    return rows + [[n, f"{peak[n]:,.0f}", f"{more:,.0f}", f"{more / over[reference]:.2f}"] for n, more in over.items()]
