"""Many picture files: one after the other while threads work ahead, or all in one array with the unreadable named.

Threads, and not processes, because Pillow decodes and resizes without holding the interpreter's lock.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import counted
from ...io.free_memory import require
from .dataset import Bad
from .image_decoding import BROUGHT, Facts, Unreadable, decode, probe
from .raw_dataset import short_hash

#: files of one size up to this many pixels keep it; all others are brought to USUAL unless a size is asked for
KEPT, USUAL = 96, 64

#: how many items for each thread may be worked on or wait to be taken
AHEAD = 8


@dataclass
class Pixels:
    """Read pictures: images (N, size, size, C) uint8, `kept` (N,) the places in the list of files they came from."""

    images: np.ndarray
    kept: np.ndarray
    files: np.ndarray
    bad: list[Bad] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sizes: dict[tuple[int, int], int] = field(default_factory=dict)


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ahead(work: Callable[[Any], Any], items: Iterable[Any], workers: int | None = None) -> Iterator[Any]:
    """`work(item)` for each item, in order, while up to `workers` threads (None: 8, or the processors) are ahead.

    Holds a few results for each thread, however many items there are. What `work` raises is raised at its item.
    """
    workers = workers or min(8, processors())
    items, waiting = iter(items), deque()
    first = list(islice(items, 2))
    if len(first) < 2:
        yield from map(work, first)  # threads would only cost time
        return
    items = chain(first, items)
    with ThreadPoolExecutor(workers) as pool:
        try:
            waiting.extend(pool.submit(work, item) for item in islice(items, AHEAD * workers))
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(work, item) for item in islice(items, 1))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def decoded(
    sources: Iterable[Path | str | bytes],
    channels: int | None,
    size: int,
    resize: int | None = None,
    workers: int | None = None,
) -> Iterator[np.ndarray | Unreadable]:
    """The pixels (size, size, C) uint8 of each source as by `images.decode`, in order, or why it cannot be read."""

    def one(source: Path | str | bytes) -> np.ndarray | Unreadable:
        try:
            return decode(source, channels, size, resize)
        except Unreadable as why:
            return why

    return ahead(one, sources, workers)


def load(files: Sequence[Path], size: int | None, channels: int | None, resize: int | None = None) -> Pixels:
    """The pixels of all files that can be read. `files` of the result (N,) uint64 identifies the bytes of each.

    `resize` is that of `images.fit`, and counts only where `size` is given. Raises ResourceError if they would not fit
    into half of the free memory.
    """
    facts = list(ahead(_probed, files))
    sizes = Counter((f.width, f.height) for f in facts if not isinstance(f, Bad))
    resize = resize if size else None
    size, notes = _size(sizes, size)
    good = [row for row, f in enumerate(facts) if not isinstance(f, Bad)]
    require(
        len(good) * size * size * (channels or 3),
        f"The set of {len(good):,} pictures at {size} x {size}",
        cure="Choose a smaller --size.",
    )
    bad = {row: f for row, f in enumerate(facts) if isinstance(f, Bad)}
    images, identities, kept = np.empty((len(good), size, size, channels or 1), np.uint8), [], []
    results = ahead(lambda row: _decoded(files[row], channels, size, resize), good)
    for row, result in zip(good, results, strict=True):
        if isinstance(result, Bad):
            bad[row] = result
            continue
        picture, identity = result
        if picture.shape[-1] > images.shape[-1]:
            images = np.repeat(images, 3, axis=-1)
        images[len(kept)] = picture
        identities.append(identity)
        kept.append(row)
    return Pixels(
        images[: len(kept)],
        np.array(kept, np.int64),
        np.array(identities, np.uint64),
        [bad[row] for row in sorted(bad)],
        notes + _oddities(files, facts),
        dict(sizes.most_common()),
    )


def _probed(file: Path) -> Facts | Bad:
    try:
        return probe(file)
    except Unreadable as why:
        return Bad(str(file), str(why))


def _decoded(file: Path, channels: int | None, size: int, resize: int | None) -> tuple[np.ndarray, int] | Bad:
    """The pixels and the identity of one file's bytes, or Bad."""
    try:
        return decode(file, channels, size, resize), short_hash(file.read_bytes())
    except (Unreadable, OSError) as why:
        return Bad(str(file), str(why))


def _oddities(files: Sequence[Path], facts: list[Facts | Bad]) -> list[str]:
    """What is unusual about files that are read all the same."""
    fine = [(file, f) for file, f in zip(files, facts, strict=True) if not isinstance(f, Bad)]
    animated, misnamed = [x for x in fine if x[1].animated], [x for x in fine if x[1].misnamed]
    notes = []
    if animated:
        notes.append(f"{counted(len(animated), 'animation')}, such as {animated[0][0]}: only the first frame is used.")
    if misnamed:
        file, f = misnamed[0]
        notes.append(f"{counted(len(misnamed), 'file')} of another format than the name says: {file} is {f.format}.")
    return notes


def _size(sizes: Counter, asked: int | None) -> tuple[int, list[str]]:
    """The side that all pictures are brought to, and what the user is told about it."""
    if asked or not sizes:
        size = asked or USUAL
    elif len(sizes) == 1 and min(next(iter(sizes))) <= KEPT:
        size = min(next(iter(sizes)))
    else:
        size = USUAL
    if set(sizes) <= {(size, size)}:
        return size, []
    return size, [BROUGHT.format(size)]
