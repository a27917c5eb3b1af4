"""Seconds from the start of a process until a photo is classified, with weights from a file."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator
from pathlib import Path

from contenders import PLAIN, START
from environment import HERE
from processes import Job, program_command

TITLE = "One photo classified by SqueezeNet 1.1, from the start of the process to its end"
REPEATS = 7
NOTES = ("Medians of the repeats, which are interleaved, every second one in reverse order; the first is not counted.",)


def list_jobs(names: list[str], repeats: int, quick: bool) -> Iterator[Job]:
    """Yield contenders in turn, the plain script always among them; once more than repeats, to warm the file cache."""
    data = Path(os.environ.get("THALWEG_DATA", HERE.parent.parent / "shared" / "data"))
    photo = data / "photos" / "samoyed.jpg"
    weights = data / "weights" / "squeezenet1_1-fp16.safetensors"
    names = list(dict.fromkeys([PLAIN, *names]))
    for repeat in range(repeats + 1):
        for name in names if repeat % 2 == 0 else reversed(names):
            yield Job({"name": name, "repeat": repeat}, program_command(START[name], photo, "--weights", weights))


def describe(entry: dict) -> str:
    """Format the time and the predicted label."""
    return f"{entry['process_seconds']:.2f} s: {entry['label']}"


def build_table(entries: list[dict]) -> list[list[str]]:
    """Return medians with their range, and the seconds more than the plain script takes."""
    rows = [["contender", "seconds", "range", f"over {PLAIN}"]]
    counted = [e for e in entries if e["repeat"] > 0]
    seconds = {e["name"]: [] for e in counted}
    for entry in counted:
        seconds[entry["name"]].append(entry["process_seconds"])
    for name, some in seconds.items():
        middle = statistics.median(some)
        more = middle - statistics.median(seconds.get(PLAIN, some))
        rows.append([name, f"{middle:.2f}", f"{min(some):.2f} to {max(some):.2f}", f"{more:+.2f}"])
    return rows
