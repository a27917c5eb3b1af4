"""Turn errors into one line on standard error and an exit code that scripts can rely on.

    0 fine · 2 usage · 3 data · 4 model file · 5 environment · 6 not finite · 7 export disagrees · 143 stopped and saved
    1 unexpected · 130 interrupted where nothing had to be saved · 141 nobody reads the output any more

The errors of errors.py carry their own code. Tracebacks are shown for unexpected errors only, with THALWEG_DEBUG=1.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from ..errors import InterruptedTrainingError, ResourceError, ThalwegError
from .console import is_main_process, print_notice

UNEXPECTED_ERROR, USAGE_ERROR, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141

_ENVIRONMENT_ERRORS = {
    errno.ENOSPC: "Make room, or write elsewhere with --out. A run that was interrupted goes on with --resume.",
    errno.EDQUOT: "The quota of this account is used up: make room, or write elsewhere with --out.",
    errno.EACCES: "Check who may read and write there, or write elsewhere with --out.",
    errno.EPERM: "Check who may read and write there, or write elsewhere with --out.",
    errno.EROFS: "This disk can only be read: write elsewhere with --out.",
    errno.EMFILE: "Too many files are open at once: raise the limit with `ulimit -n 4096`.",
    errno.ENAMETOOLONG: "Give a shorter name.",
    errno.EEXIST: "A file stands where a folder is needed: write elsewhere.",
    errno.ENOTDIR: "A file stands where a folder is needed: write elsewhere.",
    errno.EIO: "The disk or the terminal reported a fault.",
}


def report_exit(error: BaseException) -> int:
    """Return the exit code of what ended a command; an error is printed on standard error."""
    if isinstance(error, SystemExit):
        # typer turns a closed pipe into sys.exit(1).
        if isinstance(error.__context__, BrokenPipeError):
            return _broken_pipe()
        if error.code is None:
            return 0
        return error.code if isinstance(error.code, int) else UNEXPECTED_ERROR
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, Exception):
        return print_error_and_code(error)
    raise error


def print_error_and_code(error: Exception) -> int:
    """Print on standard error what went wrong; return the exit code."""
    if isinstance(error, BrokenPipeError):
        return _broken_pipe()
    if hasattr(error, "format_message"):
        return _usage_error(error)
    reported = error if isinstance(error, ThalwegError) else environment_error(error)
    if reported is None:
        return _print_unexpected_error(error)
    print_error(
        reported.message, reported.cure, lead="" if isinstance(reported, InterruptedTrainingError) else "error: "
    )
    return reported.exit_code


def print_error(message: str, cure: str = "", lead: str = "error: ") -> None:
    """Print what went wrong and its cure, in two lines."""
    for number, line in enumerate(message.splitlines()):
        print_notice(f"{lead}{line}" if number == 0 else f"  {line}")
    for line in cure.splitlines():
        print_notice(f"  {line}")


def environment_error(error: Exception) -> ResourceError | None:
    """Return the ResourceError for what the machine refused: memory, disk, permissions; None for anything else."""
    # torch raises its own errors: one for devices, and on the CPU a RuntimeError with these words
    is_torch_memory = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
    if isinstance(error, MemoryError) or is_torch_memory:
        return ResourceError(
            "There is not enough memory.", cure="Use a smaller --batch-size or --image-size, or --grad-accum 4."
        )
    if isinstance(error, OSError) and error.errno in _ENVIRONMENT_ERRORS:
        where = f"{error.filename}: " if error.filename else ""
        return ResourceError(f"{where}{error.strerror}.", cure=_ENVIRONMENT_ERRORS[error.errno])
    return None


def _usage_error(error: Any) -> int:
    """Print what typer found wrong with the command line."""
    print_error(error.format_message())
    context = getattr(error, "ctx", None)
    if context is not None:
        for line in context.get_usage().splitlines():
            print_notice(f"  {line}")
        print_notice(f"  Try '{context.command_path} --help'.")
    return getattr(error, "exit_code", USAGE_ERROR)


def _print_unexpected_error(error: Exception) -> int:
    """Print an error that nobody expected in one line that names the place."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno}, in {frames[-1].name})" if frames else ""
    text = " ".join(str(error).split())[:500]
    print_error(
        f"unexpected {type(error).__name__}: {text}{where}",
        cure="This is a fault of Thalweg. With THALWEG_DEBUG=1 it prints the traceback, which belongs into the report.",
    )
    if os.environ.get("THALWEG_DEBUG") == "1" and is_main_process():
        traceback.print_exception(error)
    return UNEXPECTED_ERROR


def _broken_pipe() -> int:
    """Return the exit code of a closed output; the interpreter must not complain about it at its end."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            try:
                os.dup2(quiet, stream.fileno())
            except (OSError, ValueError):
                pass
    return BROKEN_PIPE
