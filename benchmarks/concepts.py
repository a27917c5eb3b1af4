"""Seconds from asking for a concept until its picture is written, torch being loaded, and the sizes of its files.

    python benchmarks/concepts.py --run runs/a [NAME ...]

Needs thalweg in the Python that runs it. Every repeat is a process of its own; without --run the concepts that are
about one are left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

#: what each process does: torch first, then the clock
PROGRAM = """
import json, sys, time
import torch
from pathlib import Path
name, folder, *words = sys.argv[1:]
begun = time.perf_counter()
import thalweg
shown = thalweg.concepts(name, *words)
shown.save(Path(folder) / "a.png")
seconds = time.perf_counter() - begun
begun = time.perf_counter()
page = shown.save(Path(folder) / "a.html")
print(json.dumps({"seconds": seconds, "page_seconds": time.perf_counter() - begun, "frames": len(shown.result.frames),
    "png": (Path(folder) / "a.png").stat().st_size, "html": page.stat().st_size}))
"""


def measured(name: str, words: list[str]) -> dict[str, float]:
    """One process: seconds to the picture and to the page after it, bytes of both."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, name, folder, *words], capture_output=True, text=True, check=True
        )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Prints a row per concept: medians over the repeats."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--run", help="a run's folder, for concepts that are about one")
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    from thalweg import api
    from thalweg.inference.inputs import RUN_REQUIRED

    rows = [row for row in api.list_concepts() if not asked.names or row["name"] in asked.names]
    print(f"{'concept':<12} {'picture':>9} {'page':>9} {'frames':>7} {'png':>9} {'html':>9}")
    for row in rows:
        about_a_run = row["subject"] in RUN_REQUIRED
        if about_a_run and not asked.run:
            continue
        words = [str(Path(asked.run).resolve())] if about_a_run else []
        found = [measured(row["name"], words) for _ in range(asked.repeats)]
        middle = {key: statistics.median(one[key] for one in found) for key in found[0]}
        print(
            f"{row['name']:<12} {middle['seconds']:>7.2f} s {middle['page_seconds']:>7.2f} s {middle['frames']:>7.0f} "
            f"{middle['png'] / 1000:>6.0f} kB {middle['html'] / 1000:>6.0f} kB",
            flush=True,
        )


if __name__ == "__main__":
    main()
