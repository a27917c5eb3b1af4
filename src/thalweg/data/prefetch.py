"""Work ahead with threads, and hand out the results in order.

Threads rather than processes, because Pillow decodes and resizes without holding the interpreter's lock.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import Any, TypeVar

import numpy as np

#: items per thread that are being worked on or wait to be taken
PREFETCH_PER_THREAD = 8

#: bytes of results that wait to be taken, where these are large
MAX_BYTES_AHEAD = 64_000_000

#: `prefetch_map` uses at most this many threads
MAX_WORKERS = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


def cpu_count() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def prefetch_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int | None = None,
    ahead: int | None = None,
) -> Iterator[Result]:
    """Yield `function(item)` for each item, in order, while threads work ahead.

    Holds a few results per thread, however many items there are. An exception is raised at its item.

    Args:
        function: Called in the threads.
        items: May be endless.
        workers: Number of threads; None uses up to 8, at most one per processor.
        ahead: Number of items that are being worked on or wait to be taken; None for a few per thread.
    """
    workers = workers or min(MAX_WORKERS, cpu_count())
    ahead = ahead or PREFETCH_PER_THREAD * workers
    iterator = iter(items)
    first = list(islice(iterator, 2))
    if len(first) < 2:  # threads would only cost time
        yield from map(function, first)
        return
    iterator = chain(first, iterator)
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in islice(iterator, ahead):
                pending.append(pool.submit(function, item))
            while pending:
                yield pending.popleft().result()
                for item in islice(iterator, 1):
                    pending.append(pool.submit(function, item))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def prefetch_slices(array: Any, size: int) -> Iterator[Any]:
    """Yield `array[start : start + size]` in order; what is read from disk is read while the caller works."""
    slices = [slice(start, start + size) for start in range(0, len(array), size)]
    if isinstance(array, np.ndarray):
        yield from map(array.__getitem__, slices)
    else:
        yield from prefetch_map(array.__getitem__, slices, workers=1, ahead=1)
