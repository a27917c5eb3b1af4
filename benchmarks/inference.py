"""Images per second that a ResNet-50 predicts, at 224 x 224."""

from __future__ import annotations

from collections.abc import Iterator

from contenders import EAGER, INFERENCE
from processes import Job, program_command
from ratios import compare_with

TITLE = "Inference of ResNet-50, 224 x 224, float32, two threads"
REPEATS = 5
BATCH_SIZES = (1, 8, 32)
NOTES = (
    "Random weights; the first two batches are not counted. Interleaved, every second repeat in reverse order; the",
    "ratio is the median of the repeats' own. All give the same logits but for rounding.",
)


def list_jobs(names: list[str], repeats: int, quick: bool) -> Iterator[Job]:
    """Yield contenders side by side within each repeat and batch, the plain model always among them."""
    names = list(dict.fromkeys([EAGER, *names]))
    for repeat in range(repeats):
        for batch_size in BATCH_SIZES:
            for name in names if repeat % 2 == 0 else reversed(names):
                more = ("--batch-size", batch_size, *(("--seconds", 0) if quick else ()))
                yield Job(
                    {"name": name, "batch_size": batch_size, "repeat": repeat}, program_command(INFERENCE[name], *more)
                )


def describe(entry: dict) -> str:
    """Format the rate."""
    return f"batch {entry['batch_size']}: {entry['images_per_second']:.2f} images/s, logit {entry['logit']:.3f}"


def build_table(entries: list[dict]) -> list[list[str]]:
    """Return medians, and how many times faster than the plain model."""
    return compare_with(EAGER, entries, "batch_size", list(BATCH_SIZES), "images_per_second")
