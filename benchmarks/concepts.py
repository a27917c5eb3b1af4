"""Seconds until a concept's plot is written, torch being imported, and the sizes of its files.

    python benchmarks/concepts.py --run runs/a [NAME ...]

Needs thalweg in the Python that runs it. Every repeat is a process of its own. Without --run, concepts that need a run
are left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

#: what each process does: import torch first, then start the clock
PROGRAM = """
import json, sys, time
import torch
from pathlib import Path
name, folder, *inputs = sys.argv[1:]
start = time.perf_counter()
import thalweg
rendered = thalweg.explain(name, *inputs)
plot = rendered.save(Path(folder) / "a.png")
seconds = time.perf_counter() - start
start = time.perf_counter()
page = rendered.save(Path(folder) / "a.html")
print(json.dumps({"seconds": seconds, "page_seconds": time.perf_counter() - start,
    "frames": len(rendered.result.frames), "png": plot.stat().st_size, "html": page.stat().st_size}))
"""


def measure(name: str, inputs: list[str]) -> dict[str, float]:
    """Run one process; return the seconds to the plot and to the page after it, and the bytes of both."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", PROGRAM, name, folder, *inputs]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(result.stdout.splitlines()[-1])


def format_row(name: str, values: dict[str, float]) -> str:
    """Format one line of the table."""
    return (
        f"{name:<12} {values['seconds']:>7.2f} s {values['page_seconds']:>7.2f} s {values['frames']:>7.0f} "
        f"{values['png'] / 1000:>6.0f} kB {values['html'] / 1000:>6.0f} kB"
    )


def main() -> None:
    """Print a row per concept: medians over the repeats."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--run", help="a run's folder, for concepts that need one")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    from thalweg import api
    from thalweg.inference.inputs import RUN_REQUIRED

    print(f"{'concept':<12} {'plot':>9} {'page':>9} {'frames':>7} {'png':>9} {'html':>9}")
    for row in api.list_concepts():
        needs_run = row["input"] in RUN_REQUIRED
        if (options.names and row["name"] not in options.names) or (needs_run and not options.run):
            continue
        inputs = [str(Path(options.run).resolve())] if needs_run else []
        repeats = [measure(row["name"], inputs) for _ in range(options.repeats)]
        medians = {key: statistics.median(repeat[key] for repeat in repeats) for key in repeats[0]}
        print(format_row(row["name"], medians), flush=True)


if __name__ == "__main__":
    main()
