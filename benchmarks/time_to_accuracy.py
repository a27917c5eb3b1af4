"""Seconds from the start of the process to 99.2 % accuracy on MNIST's test set."""

from __future__ import annotations

from collections.abc import Iterator

from contenders import OURS, TIME
from processes import Job, program_command

TITLE = "Time to 99.2 % on the MNIST test set, from process start, two threads"
REPEATS = 1
NOTES = (
    "Each with its own example's settings, tested after every epoch; testing counts. '>': not reached by the last.",
    "Programs that use torchvision's MNIST have a stand-in that does the same for each example (programs/dataset.py).",
)


def list_jobs(names: list[str], repeats: int, quick: bool) -> Iterator[Job]:
    """Yield seeds 0, 1, ..., each for everyone before the next."""
    for seed in range(repeats):
        for name in names:
            small = ("--samples", 1000, "--epochs", 1, "--target", 0) if quick else ()
            yield Job({"name": name, "seed": seed}, program_command(TIME[name], "--seed", seed, *small))


def describe(entry: dict) -> str:
    """Format the time to the target, or that it is more than the whole run."""
    return f"{cost(entry):.1f} s" if is_reached(entry) else f"> {cost(entry):.1f} s"


def is_reached(entry: dict) -> bool:
    """Whether the target was reached."""
    return entry["seconds_to_target"] is not None


def cost(entry: dict) -> float:
    """Return the seconds to the target; where it was missed, those of the whole run."""
    return entry["seconds_to_target"] if is_reached(entry) else entry["process_seconds"]


def build_table(entries: list[dict]) -> list[list[str]]:
    """Return the median seed of each; a miss counts as later than all that reached, its ratio is a lower bound."""
    middles = {}
    for name in dict.fromkeys(e["name"] for e in entries):
        own = sorted((e for e in entries if e["name"] == name), key=lambda e: (not is_reached(e), cost(e)))
        middles[name] = {**own[len(own) // 2], "hits": f"{sum(map(is_reached, own))} of {len(own)}"}
    done = {name: cost(e) for name, e in middles.items() if is_reached(e)}
    reference = OURS if OURS in done else min(done, key=done.get, default=None)
    rows = [["contender", "time", "epochs", "accuracy", "reached", f"times {reference or '-'}"]]
    for name, e in middles.items():
        ratio = f"{'' if is_reached(e) else '> '}{cost(e) / done[reference]:.2f}" if reference else "-"
        rows.append([name, describe(e), str(e["epochs"]), f"{e['accuracy']:.2%}", e["hits"], ratio])
    return rows
