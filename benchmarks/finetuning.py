"""Seconds to train the head of a frozen ResNet-18 on 1,000 photos for 10 epochs: features cached, or not."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from contenders import FINETUNING
from processes import Job, program_command

TITLE = "Frozen fine-tuning of ResNet-18, 1,000 photos of 224 x 224, 10 epochs"
REPEATS = 3
NOTES = (
    "From reading the JPEG files to the tested run, imports of Python not counted; same loop, same data, same epochs.",
    "The cache of features is empty at the start of each run.",
)


def list_jobs(names: list[str], repeats: int, quick: bool) -> Iterator[Job]:
    """Yield both in turn."""
    small = ("--samples", 100, "--epochs", 2) if quick else ()
    for _ in range(repeats):
        for name in names:
            yield Job({"name": name}, program_command(FINETUNING[name], *small))


def describe(entry: dict) -> str:
    """Format the time."""
    return f"{entry['seconds']:.1f} s"


def build_table(entries: list[dict]) -> list[list[str]]:
    """Return medians of the seconds, and the ratio to the fastest."""
    names = dict.fromkeys(e["name"] for e in entries)
    seconds = {name: statistics.median(e["seconds"] for e in entries if e["name"] == name) for name in names}
    least = min(seconds.values())
    rows = [["contender", "seconds (median)", "times the fastest", "runs"]]
    for name, value in seconds.items():
        runs = sum(e["name"] == name for e in entries)
        rows.append([name, f"{value:.1f}", f"{value / least:.2f}", str(runs)])
    return rows
