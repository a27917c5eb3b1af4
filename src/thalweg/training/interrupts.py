"""Ctrl-C and SIGTERM as a wish to stop: what runs is finished and saved first."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def on_interrupt(wish: Callable[[], None]) -> Iterator[None]:
    """Inside, the first such signal calls `wish`; a second one ends the process."""
    before = {}

    def ask(number, frame):
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        wish()

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, ask)
    except ValueError:  # not in the main thread, as in a notebook's worker: signals are not ours
        pass
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
