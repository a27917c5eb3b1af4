"""Images a second that a ResNet-50 answers, at 224 x 224."""

from __future__ import annotations

from collections.abc import Iterator

from contenders import EAGER, INFERENCE
from processes import Job, program
from ratios import against

TITLE = "Inference of ResNet-50, 224 x 224, float32, two threads"
REPEATS = 5
BATCHES = (1, 8, 32)
NOTES = (
    "Random weights; the first two answers are not counted. Interleaved, every second repeat in reverse order; the",
    "ratio is the median of the repeats' own. All give the same logits but for rounding.",
)


def jobs(names: list[str], repeats: int, quick: bool) -> Iterator[Job]:
    """Contenders side by side within each repeat and batch, the plain network always among them."""
    names = list(dict.fromkeys([EAGER, *names]))
    for repeat in range(repeats):
        for batch in BATCHES:
            for name in names if repeat % 2 == 0 else reversed(names):
                more = ("--batch", batch, *(("--seconds", 0) if quick else ()))
                yield Job({"name": name, "batch": batch, "repeat": repeat}, program(INFERENCE[name], *more))


def told(entry: dict) -> str:
    """The rate."""
    return f"batch {entry['batch']}: {entry['images_per_second']:.2f} images/s, logit {entry['logit']:.3f}"


def table(entries: list[dict]) -> list[list[str]]:
    """Medians, and how many times quicker than the plain network."""
    return against(EAGER, entries, "batch", list(BATCHES), "images_per_second")
