"""Photographs a second, from JPEG files to what networks for ImageNet read: the middle 224 of 256 pixels."""

from __future__ import annotations

from collections.abc import Iterator

from contenders import DECODING, PILLOW
from processes import Job, program
from ratios import against

TITLE = "Decoding a folder of JPEG files to 224 x 224, two threads"
REPEATS = 5
KINDS = {"camera": 12, "web": 150}
NOTES = (
    "camera: 3000 x 2000, about 1.5 MB; web: COCO's files, mostly 640 x 480. One pass over the folder comes before",
    "those that count. Interleaved, every second repeat in reverse order; the ratio is the median of the repeats' own.",
)


def jobs(names: list[str], repeats: int, quick: bool) -> Iterator[Job]:
    """Contenders side by side within each repeat and kind, the plain loop always among them."""
    names = list(dict.fromkeys([PILLOW, *names]))
    for repeat in range(repeats):
        for kind, count in KINDS.items():
            for name in names if repeat % 2 == 0 else reversed(names):
                more = ("--kind", kind, "--count", 4 if quick else count)
                yield Job({"name": name, "kind": kind, "repeat": repeat}, program(DECODING[name], *more))


def told(entry: dict) -> str:
    """The rate."""
    return f"{entry['kind']}: {entry['pictures_per_second']:,.1f} pictures/s, mean level {entry['level']:.2f}"


def table(entries: list[dict]) -> list[list[str]]:
    """Medians, and how many times quicker than the plain loop."""
    return against(PILLOW, entries, "kind", list(KINDS), "pictures_per_second")
