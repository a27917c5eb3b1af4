"""The command line in processes of their own, to be killed, stopped and starved.

They are forked from a server that has loaded torch, so that each starts at once. A process can kill itself after so
many executed lines of the package: such moments are as good as random ones, and the same in every test.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import thalweg

if os.name != "posix":
    pytest.skip("needs processes that can be forked and killed", allow_module_level=True)

PACKAGE_DIR = str(Path(thalweg.__file__).parent)
FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(
    [
        "thalweg.api",
        "thalweg.cli.main",
        "thalweg.training.run",
        "thalweg.data.images.named_datasets",
        "sklearn.datasets",
        "torch._dynamo",
        "pytest",
    ]
)


@dataclass(frozen=True)
class CompletedProcess:
    """How a process ended: its exit code (minus the signal that ended it), its output, how many lines it executed."""

    code: int
    out: str
    err: str
    lines: int


@dataclass(frozen=True)
class ChildSettings:
    """What a child process does besides its command.

    `before` runs in it first. `die_after` is a number of lines of the package after which it kills itself; 0 only
    counts them. `variables` are added to its environment.
    """

    before: Callable[[], None] | None = None
    die_after: int | None = None
    variables: Mapping[str, str] = field(default_factory=dict)


class ThalwegProcess:
    """`thalweg WORDS` in a process of its own, whose output goes into files in `folder`."""

    def __init__(self, folder: Path, *words: Any, **settings: Any):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        arguments = (str(folder), [str(word) for word in words], ChildSettings(**settings))
        self.process = FORKSERVER.Process(target=_child_main, args=arguments)
        self.process.start()

    def send(self, number: int) -> None:
        """Send a signal."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def wait_for(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        """Wait until the condition holds; fail where the process ends or time runs out before."""
        end = time.monotonic() + seconds
        while not condition():
            assert self.process.exitcode is None, self.wait().err
            assert time.monotonic() < end, "it did not happen"
            time.sleep(0.002)

    def wait(self, seconds: float = 120.0) -> CompletedProcess:
        """Wait for its end."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, "the process did not end"
        out = (self.folder / "out").read_text(encoding="utf-8")
        err = (self.folder / "err").read_text(encoding="utf-8")
        lines = (self.folder / "lines").read_text(encoding="utf-8")
        return CompletedProcess(self.process.exitcode, out, err, int(lines or 0))


def run_thalweg(folder: Path, *words: Any, **settings: Any) -> CompletedProcess:
    """Run `thalweg WORDS` in a process of its own, to its end."""
    return ThalwegProcess(folder, *words, **settings).wait()


def _child_main(folder: str, words: list[str], settings: ChildSettings) -> None:
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(Path(folder) / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    (Path(folder) / "lines").write_text("", encoding="utf-8")
    os.environ.update(settings.variables)
    from thalweg.cli import main as cli

    if settings.before is not None:
        settings.before()
    count = 0

    def count_line(frame, event, argument):
        nonlocal count
        if event == "line":
            count += 1
            if count == settings.die_after:
                os.kill(os.getpid(), signal.SIGKILL)
        return count_line

    def trace(frame, event, argument):
        return count_line if frame.f_code.co_filename.startswith(PACKAGE_DIR) else None

    if settings.die_after is not None:
        sys.settrace(trace)
    code = cli.invoke(words)
    sys.settrace(None)
    (Path(folder) / "lines").write_text(str(count), encoding="utf-8")
    sys.exit(code)
