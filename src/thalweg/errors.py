"""Everything that Thalweg raises on purpose.

    ThalwegError                     the command line prints it without a traceback    exit code
    ├── OptionError                  a setting: its name, its value, what is allowed        2
    ├── NotFoundError                no such task, model, recipe, run; did you mean …?      2
    ├── RunLockedError               the run's folder is in use by another process          2
    ├── DataError                    your data: path, line, what was expected               3
    ├── ModelFileError               a run or weights file: broken, foreign, newer          4
    ├── ResourceError                disk, memory, network, a missing package               5
    ├── NonFiniteError               the loss is NaN or inf: step, examples                 6
    ├── ExportError                  the exported model disagrees                           7
    └── InterruptedTrainingError     stopped by Ctrl-C or SIGTERM; the state is saved     143

Messages read "problem: value; expected"; `cure` says what to try. The values themselves are attributes (`option`,
`value`, `path`, `line`, `allowed`), so that programs and tests need not parse prose.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Sequence
from typing import Any, TypedDict, Unpack


class ErrorData(TypedDict, total=False):
    """What an error is about."""

    option: str
    value: Any
    path: str | os.PathLike[str]
    line: int
    allowed: Sequence[Any]


class ThalwegError(Exception):
    """Base of all errors raised on purpose. `str()` gives the message and, on a line of its own, the cure."""

    exit_code = 1

    def __init__(self, message: str, cure: str = "", **data: Unpack[ErrorData]):
        super().__init__(message)
        self.message = message
        self.cure = cure
        self.option = data.get("option")
        self.value = data.get("value")
        self.path = data.get("path")
        self.line = data.get("line")
        self.allowed = data.get("allowed")

    def __str__(self) -> str:
        return f"{self.message}\n  {self.cure}" if self.cure else self.message


class OptionError(ThalwegError):
    """A setting that cannot be used."""

    exit_code = 2


class NotFoundError(ThalwegError):
    """An unknown name. Built with `NotFoundError.for_unknown`, it suggests the nearest names."""

    exit_code = 2

    @classmethod
    def for_unknown(cls, kind: str, name: str, names: Iterable[str]) -> NotFoundError:
        """Build the error for a `kind` ("model") whose `name` is not among `names`."""
        names = sorted(names)
        return cls(f"There is no {kind} named '{name}'.", did_you_mean(name, names), value=name, allowed=names)


class RunLockedError(ThalwegError):
    """A folder that belongs to another run."""

    exit_code = 2


class DataError(ThalwegError):
    """The user's data: which file, which line, what was expected."""

    exit_code = 3


class ModelFileError(ThalwegError):
    """A run folder or a weights file that is broken, foreign or newer than this version."""

    exit_code = 4


class ResourceError(ThalwegError):
    """Disk, memory, network, or a package that is not installed."""

    exit_code = 5


class NonFiniteError(ThalwegError):
    """The loss became NaN or inf. `step` counts from 0; `indices` are rows of the training set."""

    exit_code = 6

    def __init__(self, message: str, cure: str = "", step: int = 0, indices: tuple[int, ...] = ()):
        super().__init__(message, cure)
        self.step = step
        self.indices = indices


class ExportError(ThalwegError):
    """The exported model does not agree with the model."""

    exit_code = 7


class InterruptedTrainingError(ThalwegError):
    """Stopped on request; everything that `--resume` needs is on disk."""

    exit_code = 143


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Suggest the names nearest to `name`, or list all of them when none is near."""
    names = sorted(names)
    matches = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.6)
    if matches:
        return "Did you mean " + " or ".join(f"'{match}'" for match in matches) + "?"
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return f"Known: {', '.join(names[:12]) or 'none'}{more}."


def pluralize(number: int, singular: str, plural: str = "") -> str:
    """Format '1 image' or '2 images'; give `plural` where it is not the singular with an s."""
    return f"{number:,} {singular if number == 1 else plural or f'{singular}s'}"
