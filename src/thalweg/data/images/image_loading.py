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

from ...errors import pluralize
from ...io.free_memory import require_memory
from ..base import UnreadableFile
from .image_decoding import RESIZE_NOTE, ImageHeader, ImageReadError, decode_image, read_header
from .raw_dataset import ReadOptions, short_hash

#: files of one size up to this many pixels keep it; all others are brought to USUAL unless a size is asked for
MAX_NATIVE_SIZE, DEFAULT_SIZE = 96, 64

#: how many items for each thread may be worked on or wait to be taken
PREFETCH_PER_THREAD = 8


@dataclass
class LoadedImages:
    """Read pictures: images (N, size, size, C) uint8, `rows` (N,) the places in the list of files they came from."""

    images: np.ndarray
    rows: np.ndarray
    files: np.ndarray
    unreadable: list[UnreadableFile] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    sizes: dict[tuple[int, int], int] = field(default_factory=dict)


def cpu_count() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prefetch_map(work: Callable[[Any], Any], items: Iterable[Any], workers: int | None = None) -> Iterator[Any]:
    """`work(item)` for each item, in order, while up to `workers` threads (None: 8, or the processors) are ahead.

    Holds a few results for each thread, however many items there are. What `work` raises is raised at its item.
    """
    workers = workers or min(8, cpu_count())
    items, waiting = iter(items), deque()
    first = list(islice(items, 2))
    if len(first) < 2:
        yield from map(work, first)  # threads would only cost time
        return
    items = chain(first, items)
    with ThreadPoolExecutor(workers) as pool:
        try:
            waiting.extend(pool.submit(work, item) for item in islice(items, PREFETCH_PER_THREAD * workers))
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(work, item) for item in islice(items, 1))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def decode_images(
    sources: Iterable[Path | str | bytes],
    channels: int | None,
    size: int,
    resize: int | None = None,
    workers: int | None = None,
) -> Iterator[np.ndarray | ImageReadError]:
    """The pixels (size, size, C) uint8 of each source as by `images.decode`, in order, or why it cannot be read."""

    def one(source: Path | str | bytes) -> np.ndarray | ImageReadError:
        try:
            return decode_image(source, channels, size, resize)
        except ImageReadError as why:
            return why

    return prefetch_map(one, sources, workers)


def load_images(files: Sequence[Path], options: ReadOptions) -> LoadedImages:
    """The pixels of all files that can be read. `files` of the result (N,) uint64 identifies the bytes of each.

    `resize` is that of `images.fit`, and counts only where `size` is given. Raises ResourceError if they would not fit
    into half of the free memory.
    """
    size, channels, resize = options.image_size, options.channels, options.resize
    facts = list(prefetch_map(_try_read_header, files))
    sizes = Counter((f.width, f.height) for f in facts if not isinstance(f, UnreadableFile))
    resize = resize if size else None
    size, notes = _choose_size(sizes, size)
    good = [row for row, f in enumerate(facts) if not isinstance(f, UnreadableFile)]
    require_memory(
        len(good) * size * size * (channels or 3),
        f"The set of {len(good):,} pictures at {size} x {size}",
        cure="Choose a smaller --image-size.",
    )
    bad = {row: f for row, f in enumerate(facts) if isinstance(f, UnreadableFile)}
    images, identities, kept = np.empty((len(good), size, size, channels or 1), np.uint8), [], []
    results = prefetch_map(lambda row: _try_decode(files[row], channels, size, resize), good)
    for row, result in zip(good, results, strict=True):
        if isinstance(result, UnreadableFile):
            bad[row] = result
            continue
        picture, identity = result
        if picture.shape[-1] > images.shape[-1]:
            images = np.repeat(images, 3, axis=-1)
        images[len(kept)] = picture
        identities.append(identity)
        kept.append(row)
    return LoadedImages(
        images[: len(kept)],
        np.array(kept, np.int64),
        np.array(identities, np.uint64),
        [bad[row] for row in sorted(bad)],
        notes + _format_warnings(files, facts),
        dict(sizes.most_common()),
    )


def _try_read_header(file: Path) -> ImageHeader | UnreadableFile:
    try:
        return read_header(file)
    except ImageReadError as why:
        return UnreadableFile(str(file), str(why))


def _try_decode(
    file: Path, channels: int | None, size: int, resize: int | None
) -> tuple[np.ndarray, int] | UnreadableFile:
    """The pixels and the identity of one file's bytes, or Bad."""
    try:
        return decode_image(file, channels, size, resize), short_hash(file.read_bytes())
    except (ImageReadError, OSError) as why:
        return UnreadableFile(str(file), str(why))


def _format_warnings(files: Sequence[Path], facts: list[ImageHeader | UnreadableFile]) -> list[str]:
    """What is unusual about files that are read all the same."""
    fine = [(file, f) for file, f in zip(files, facts, strict=True) if not isinstance(f, UnreadableFile)]
    animated, misnamed = [x for x in fine if x[1].animated], [x for x in fine if x[1].misnamed]
    notes = []
    if animated:
        notes.append(
            f"{pluralize(len(animated), 'animation')}, such as {animated[0][0]}: only the first frame is used."
        )
    if misnamed:
        file, f = misnamed[0]
        notes.append(f"{pluralize(len(misnamed), 'file')} of another format than the name says: {file} is {f.format}.")
    return notes


def _choose_size(sizes: Counter, asked: int | None) -> tuple[int, list[str]]:
    """The side that all pictures are brought to, and what the user is told about it."""
    if asked or not sizes:
        size = asked or DEFAULT_SIZE
    elif len(sizes) == 1 and min(next(iter(sizes))) <= MAX_NATIVE_SIZE:
        size = min(next(iter(sizes)))
    else:
        size = DEFAULT_SIZE
    if set(sizes) <= {(size, size)}:
        return size, []
    return size, [RESIZE_NOTE.format(size)]
