"""Side by side with peers: python3 benchmarks/run.py [MEASUREMENT|all] [--quick]

Needs only Python; sets up `benchmarks/.venv` on first use. One process at a time, on two processors. The tables
go to stdout, progress to stderr, all measurements to `benchmarks/results/`. README.md here says what is compared.
"""

from __future__ import annotations

import argparse
import sys

import contenders
import decoding
import environment
import finetuning
import inference
import memory
import overhead
import processes
import start
import throughput
import time_to_accuracy

MEASUREMENTS = {
    "time": (time_to_accuracy, contenders.TIME),
    "throughput": (throughput, contenders.THROUGHPUT),
    "overhead": (overhead, contenders.OVERHEAD),
    "memory": (memory, contenders.MEMORY),
    "finetuning": (finetuning, contenders.FINETUNING),
    "decoding": (decoding, contenders.DECODING),
    "inference": (inference, contenders.INFERENCE),
    "start": (start, contenders.START),
}


def log(line: str) -> None:
    """Print progress, which is not a result."""
    print(line, file=sys.stderr, flush=True)


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="all", choices=[*MEASUREMENTS, "all"])
    parser.add_argument(
        "--quick", action="store_true", help="a thousand examples: shows that all of it runs, measures nothing"
    )
    parser.add_argument("--repeats", type=int, help="instead of each measurement's own number")
    parser.add_argument("--only", metavar="TEXT", default="", help="only contenders with TEXT in their name")
    options = parser.parse_args()
    options.plan = {
        what: choose_contenders(what, options.only) for what in MEASUREMENTS if options.what in (what, "all")
    }
    if not any(options.plan.values()):
        known = sorted({name for _, names in MEASUREMENTS.values() for name in names})
        parser.error(f"no contender of '{options.what}' has '{options.only}' in its name; known: {', '.join(known)}")
    return options


def choose_contenders(what: str, text: str) -> list[str]:
    """Return the contenders of a measurement that have `text` in their names."""
    return [name for name in MEASUREMENTS[what][1] if text.lower() in name.lower()]


def format_table(rows: list[list[str]]) -> str:
    """Format rows as text: names left, the rest right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *rest in rows:
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def measure(what: str, options: argparse.Namespace, machine: dict) -> list[str]:
    """Run one measurement, save after every process, print its table; return the contenders that failed."""
    module = MEASUREMENTS[what][0]
    names = options.plan[what]
    repeats = options.repeats or (1 if options.quick else module.REPEATS)
    title, file = (f"{module.TITLE} (QUICK)", f"{what}-quick") if options.quick else (module.TITLE, what)
    entries: list[dict] = []
    failed: list[str] = []
    path = None
    for job in module.list_jobs(names, repeats, options.quick):
        try:
            entries.append(processes.run(job))
        except processes.ContenderError as error:
            failed.append(job.facts["name"])
            log(f"  {what}: {error}")
            continue
        log(f"  {what}: {entries[-1]['name']}, {module.describe(entries[-1])}")
        result = {"title": title, "machine": machine, "entries": entries, "failed": failed}
        path = processes.save(file, {**result, "table": module.build_table(entries)})
    if path:
        print(f"\n{title}\n\n{format_table(module.build_table(entries))}\n", *module.NOTES, sep="\n")
        print(f"Everything measured: {path.relative_to(environment.HERE.parent)}")
    for name in dict.fromkeys(failed):
        print(f"FAILED: {name}", flush=True)
    return failed


def main() -> int:
    """Run the measurements one after the other; return 1 if a contender failed."""
    options = parse_arguments()
    environment.set_up()
    environment.pin(processes.THREADS)
    machine = environment.describe(processes.THREADS)
    if (machine["load_before"] or 0) > 0.5:
        log(f"Other work runs on this machine (load {machine['load_before']}); the results are not valid.")
    print(", ".join(f"{name} {version}" for name, version in machine["versions"].items()))
    failed = []
    for what in filter(options.plan.get, options.plan):
        machine["sgemm_gflops"] = round(processes.calibrate(), 1)
        print(
            f"{machine['processor']}, {processes.THREADS} threads, sgemm {machine['sgemm_gflops']} GFLOP/s", flush=True
        )
        failed += measure(what, options, machine)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
