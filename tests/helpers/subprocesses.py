"""The command line in processes of their own, to be killed, stopped and starved.

They are forked from a server that has loaded torch, so that each starts at once. A process can be told to kill itself
when it has executed so many lines of the package: such moments are as good as random ones, and the same in every test.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import thalweg

if os.name != "posix":
    pytest.skip("needs processes that can be forked and killed", allow_module_level=True)

PACKAGE_DIR = str(Path(thalweg.__file__).parent)
FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(
    ["thalweg.api", "thalweg.cli", "thalweg.data.images.named_datasets", "sklearn.datasets", "torch._dynamo", "pytest"]
)


@dataclass
class CompletedProcess:
    """How a process ended: its exit code (minus the signal that ended it), what it printed, how many lines it ran."""

    code: int
    out: str
    err: str
    lines: int


class ThalwegProcess:
    """`thalweg WORDS` in a process of its own, whose files of output are beside `notes`.

    `before` runs in it first. `die_after` is a number of lines of the package after which it kills itself; 0 counts
    them only.
    """

    def __init__(
        self,
        notes: Path,
        *words: Any,
        before: Callable[[], None] | None = None,
        die_after: int | None = None,
        variables: Mapping[str, str] | None = None,
    ):
        notes.mkdir(parents=True, exist_ok=True)
        self.notes = notes
        settings = (str(notes), [str(word) for word in words], before, die_after, dict(variables or {}))
        self.process = FORKSERVER.Process(target=_child_main, args=settings)
        self.process.start()

    def send(self, number: int) -> None:
        """Sends it a signal."""
        os.kill(self.process.pid, number)

    def wait_for(self, happened: Callable[[], bool], seconds: float = 60.0) -> None:
        """Waits until something has happened that it is to do."""
        end = time.monotonic() + seconds
        while not happened():
            assert self.process.exitcode is None, self.ended().err
            assert time.monotonic() < end, "it did not happen"
            time.sleep(0.002)

    def ended(self, seconds: float = 120.0) -> CompletedProcess:
        """Waits for its end."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, "the process did not end"
        out, err, lines = ((self.notes / name).read_text(encoding="utf-8") for name in ("out", "err", "lines"))
        return CompletedProcess(self.process.exitcode, out, err, int(lines or 0))


def run_thalweg(notes: Path, *words: Any, **settings: Any) -> CompletedProcess:
    """Runs `thalweg WORDS` in a process of its own, to its end."""
    return ThalwegProcess(notes, *words, **settings).ended()


def _child_main(
    notes: str, words: list[str], before: Callable | None, die_after: int | None, variables: dict[str, str]
) -> None:
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(Path(notes) / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    (Path(notes) / "lines").write_text("", encoding="utf-8")
    os.environ.update(variables)
    from thalweg.cli import main as cli

    if before is not None:
        before()
    count = 0

    def line(frame, event, argument):
        nonlocal count
        if event == "line":
            count += 1
            if count == die_after:
                os.kill(os.getpid(), signal.SIGKILL)
        return line

    if die_after is not None:
        sys.settrace(lambda frame, event, argument: line if frame.f_code.co_filename.startswith(PACKAGE_DIR) else None)
    code = cli.invoke(words)
    sys.settrace(None)
    (Path(notes) / "lines").write_text(str(count), encoding="utf-8")
    sys.exit(code)
