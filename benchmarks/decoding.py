"""Photos per second, from JPEG files to what ImageNet models read: the center 224 of 256 pixels."""

from __future__ import annotations

from collections.abc import Iterator

from contenders import DECODING, PILLOW
from processes import Job, program_command
from ratios import compare_with

TITLE = "Decoding a folder of JPEG files to 224 x 224, two threads"
REPEATS = 5
KINDS = {"camera": 12, "web": 150}
NOTES = (
    "camera: 3000 x 2000, about 1.5 MB; web: COCO's files, mostly 640 x 480. One pass over the folder comes before",
    "those that count. Interleaved, every second repeat in reverse order; the ratio is the median of the repeats' own.",
)


def list_jobs(names: list[str], repeats: int, quick: bool) -> Iterator[Job]:
    """Yield contenders side by side within each repeat and kind, the plain loop always among them."""
    names = list(dict.fromkeys([PILLOW, *names]))
    for repeat in range(repeats):
        for kind, count in KINDS.items():
            for name in names if repeat % 2 == 0 else reversed(names):
                more = ("--kind", kind, "--count", 4 if quick else count)
                yield Job({"name": name, "kind": kind, "repeat": repeat}, program_command(DECODING[name], *more))


def describe(entry: dict) -> str:
    """Format the rate."""
    return f"{entry['kind']}: {entry['images_per_second']:,.1f} images/s, mean level {entry['level']:.2f}"


def build_table(entries: list[dict]) -> list[list[str]]:
    """Return medians, and how many times faster than the plain loop."""
    return compare_with(PILLOW, entries, "kind", list(KINDS), "images_per_second")
