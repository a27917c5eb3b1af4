"""Seconds to train the last layer of a frozen ResNet-18 on 1,000 photos for 10 epochs: features kept, or not."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from contenders import FINETUNING
from processes import Job, program

TITLE = "Frozen fine-tuning of ResNet-18, 1,000 photos of 224 x 224, 10 epochs"
REPEATS = 3
NOTES = (
    "From reading the JPEG files to the tested run, imports of Python not counted; same loop, same data, same epochs.",
    "The cache of features is empty at the start of each run.",
)


def jobs(names: list[str], repeats: int, quick: bool) -> Iterator[Job]:
    """Both in turn, as often as asked for."""
    small = ("--samples", 100, "--epochs", 2) if quick else ()
    for _ in range(repeats):
        for name in names:
            yield Job({"name": name}, program(FINETUNING[name], *small))


def told(entry: dict) -> str:
    """The time."""
    return f"{entry['seconds']:.1f} s"


def table(entries: list[dict]) -> list[list[str]]:
    """Medians of the seconds, and the ratio to the quickest."""
    names = dict.fromkeys(e["name"] for e in entries)
    seconds = {name: statistics.median(e["seconds"] for e in entries if e["name"] == name) for name in names}
    least = min(seconds.values())
    rows = [["contender", "seconds (median)", "times the quickest", "runs"]]
    for name, value in seconds.items():
        runs = sum(e["name"] == name for e in entries)
        rows.append([name, f"{value:.1f}", f"{value / least:.2f}", str(runs)])
    return rows
