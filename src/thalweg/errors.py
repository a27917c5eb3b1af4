"""Everything that Thalweg raises on purpose.

    ThalwegError         the command line prints it without a traceback      exit code
    ├── OptionError      a setting: its name, its value, what is allowed          2
    ├── NotFound         no such task, model, recipe, run; did you mean …?        2
    ├── Busy             the run's folder is another run's                        2
    ├── DataError        your data: path, line, what was expected                 3
    ├── ModelFileError   a run or weights file: broken, foreign, newer            4
    ├── ResourceError    disk, memory, network, a missing package                 5
    ├── NonFinite        the loss is no number any more: step, samples            6
    ├── ExportError      the exported model answers differently                   7
    └── Stopped          asked to stop (Ctrl-C, SIGTERM); the state is saved    143

Every message says what is wrong and where; `cure` says what to do about it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ThalwegError(Exception):
    """Base of all errors raised on purpose. `str()` gives the message and, on a line of its own, the cure."""

    exit_code = 1

    def __init__(self, message: str, cure: str = ""):
        super().__init__(message)
        self.message, self.cure = message, cure

    def __str__(self) -> str:
        return f"{self.message}\n  {self.cure}" if self.cure else self.message


class OptionError(ThalwegError):
    """A setting that cannot be used."""

    exit_code = 2


class NotFoundError(ThalwegError):
    """A name that nothing has. Built with `NotFound.among`, it suggests the nearest names."""

    exit_code = 2

    @classmethod
    def among(cls, kind: str, name: str, names: Iterable[str]) -> NotFoundError:
        """`kind` is what was looked for ("model"), `names` what there is."""
        return cls(f"There is no {kind} named '{name}'.", cure=did_you_mean(name, names))


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
    """The surroundings: disk, memory, network, a package that is not installed."""

    exit_code = 5


class NonFiniteError(ThalwegError):
    """The loss became infinite or not a number. `step` counts from 0; `rows` are those of the training set."""

    exit_code = 6

    def __init__(self, message: str, cure: str = "", step: int = 0, rows: tuple[int, ...] = ()):
        super().__init__(message, cure)
        self.step, self.rows = step, rows


class ExportError(ThalwegError):
    """The exported model does not give the answers of the model."""

    exit_code = 7


class InterruptedTrainingError(ThalwegError):
    """Asked to stop; everything that `--resume` needs is on disk."""

    exit_code = 143


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """A sentence that suggests the names nearest to `name`, or lists all of them when none is near."""
    names = sorted(names)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if near:
        return "Did you mean " + " or ".join(f"'{n}'" for n in near) + "?"
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return f"There is: {', '.join(names[:12]) or 'none'}{more}."


def pluralize(number: int, thing: str, things: str = "") -> str:
    """'1 picture', '2 pictures'; `things` are several where they are not named by an s: '2 classes'."""
    return f"{number:,} {thing if number == 1 else things or f'{thing}s'}"
