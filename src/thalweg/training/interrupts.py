"""Stop gracefully on Ctrl-C, SIGTERM or a closed terminal: finish the current step and save."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def on_interrupt(callback: Callable[[], None]) -> Iterator[None]:
    """Call `callback` on the first such signal; a second one ends the process."""
    signals = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP"):
        signals.append(signal.SIGHUP)
    before: dict[int, Any] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        for other in before:
            signal.signal(other, signal.default_int_handler if other == signal.SIGINT else signal.SIG_DFL)
        callback()

    try:
        for number in signals:
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup asks to be left alone
                before[number] = signal.signal(number, handle)
    except ValueError:  # not in the main thread, as in a notebook's worker: signals are not ours
        pass
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
