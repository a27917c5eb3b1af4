"""What the terminal shows: results on standard output, progress and notices on standard error.

Nothing here is imported by the parts that compute. rich is imported only where a live bar is drawn.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TextIO

#: Unicode's control characters, lone surrogates, line and paragraph separators
CONTROL_CATEGORIES = {"Cc", "Cs", "Zl", "Zp"}
#: marks that change the reading direction: they can make "gpj.exe" out of "exe.jpg"
BIDI_CONTROLS = {chr(c) for c in (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))}


class ClosedOutput(io.TextIOWrapper):
    """Standard output that was closed before the program began: a result that nobody can read is an error."""

    def write(self, text: str) -> int:
        """Raise BrokenPipeError, as a pipe does whose reader has left."""
        raise BrokenPipeError


def configure_streams() -> None:
    """Make every text printable: files and pipes get UTF-8, what a terminal cannot show is escaped.

    Python has None for a stream that was closed before it began. Each gets the null device, so that no file that is
    opened later has the number of a standard stream: nothing is read, notices are lost, results are a broken pipe.
    """
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115 - open until the end
    if sys.stdout is None:
        sys.stdout = ClosedOutput(open(os.devnull, "wb"), encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors="backslashreplace")


def is_main_process() -> bool:
    """Whether this is the first of the processes that torchrun starts: only that one prints."""
    return os.environ.get("RANK", "0") == "0"


def escape_controls(text: object) -> str:
    """Escape control characters, so that file names cannot inject terminal sequences."""
    return "".join(
        _escape_character(c) if unicodedata.category(c) in CONTROL_CATEGORIES or c in BIDI_CONTROLS else c
        for c in str(text)
    )


def _escape_character(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def print_result(text: str = "") -> None:
    """Print a line of results."""
    if is_main_process():
        print(text, flush=True)


def print_text(text: str) -> None:
    """Print a piece of text without a line break after it; control characters but line breaks are escaped."""
    if is_main_process():
        print("\n".join(map(escape_controls, text.split("\n"))), end="", flush=True)


def print_notice(text: str = "") -> None:
    """Print a line of notices, with control characters escaped. A terminal that has gone does not stop the program."""
    if is_main_process():
        try:
            print(escape_controls(text), file=sys.stderr, flush=True)
        except OSError:
            pass


def to_json(value: Any, indent: int | None = None) -> str:
    """Format strict JSON in ASCII, the same bytes in every locale; NaN and infinities become null."""
    return json.dumps(_replace_non_finite(value), ensure_ascii=True, allow_nan=False, indent=indent)


def _replace_non_finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _replace_non_finite(v) for k, v in value.items()}
    if isinstance(value, str | bool | int) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "tolist"):
        return _replace_non_finite(value.tolist())
    if isinstance(value, Iterable):
        return [_replace_non_finite(v) for v in value]
    return str(value)


def format_csv_line(cells: Iterable[object]) -> str:
    """Format a line of CSV. A text that a spreadsheet would take for a formula gets an apostrophe in front."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow([_escape_formula(cell) for cell in cells])
    return line.getvalue()


def _escape_formula(cell: object) -> object:
    if not isinstance(cell, str):
        return cell
    return "'" + escape_controls(cell) if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else escape_controls(cell)


def format_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return lines with aligned columns; columns that hold only numbers are right-aligned."""
    rows = [list(row) for row in rows]
    cells = [[format_cell(cell) for cell in row] for row in rows]
    widths = [max(map(display_width, column)) for column in zip(headings, *cells, strict=True)]
    right = [bool(rows) and all(isinstance(row[i], int | float) for row in rows) for i in range(len(headings))]
    return ["  ".join(map(_pad_cell, line, widths, right)).rstrip() for line in [list(headings), *cells]]


def format_cell(cell: object) -> str:
    """Format a cell: floats with four significant digits, lists and mappings as --set takes them, None as nothing."""
    if cell is None:
        return ""
    if isinstance(cell, float):
        return f"{cell:.4g}"
    if isinstance(cell, list | tuple):
        return ",".join(map(format_cell, cell))
    if isinstance(cell, Mapping):
        return " ".join(f"{name}={format_cell(value)}" for name, value in cell.items() if value is not None)
    return escape_controls(cell)


def display_width(text: str) -> int:
    """Return the columns that a text takes on a terminal: two for wide characters, none for combining ones."""
    width = 0
    for character in text:
        if not unicodedata.combining(character):
            width += 2 if unicodedata.east_asian_width(character) in "WF" else 1
    return width


def _pad_cell(text: str, columns: int, right: bool) -> str:
    space = " " * (columns - display_width(text))
    return space + text if right else text + space


def format_duration(seconds: float | None) -> str:
    """Format seconds as 0:07, 12:40 or 1:02:33; nothing if they are unknown."""
    if seconds is None or not math.isfinite(seconds):
        return ""
    minutes, rest = divmod(round(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


# --- progress --------------------------------------------------------------------------------------------------------


def progress_line(progress: Any) -> str:
    """Format progress in one line: time left, position, losses and metrics.

    A validation is shown by the metrics that the losses have too; if there are none, by its first three.
    """
    left = format_duration(progress.eta)
    parts = [f"{left} left"] if left else []
    parts.append(f"epoch {round(progress.epoch, 1):g}/{round(progress.epochs, 1):g}")
    parts += [f"{name} {value:.4f}" for name, value in progress.losses.items()]
    if progress.val is None:
        parts += [f"step {progress.step}/{progress.steps}", f"lr {progress.lr:.3g}"]
    else:
        numbers = {name: value for name, value in progress.val.items() if isinstance(value, float)}
        shared = [name for name in progress.losses if name in numbers] or list(numbers)[:3]
        parts += [f"val {name} {numbers[name]:.4f}" for name in shared]
    return "  ".join([*parts, format_duration(progress.elapsed)])


class PlainProgress:
    """Print plain lines: one per validation, and otherwise at most one in `every` seconds."""

    def __init__(self, every: float = 10.0, clock: Callable[[], float] = time.monotonic):
        self.every = every
        self.clock = clock
        self.last = clock()

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, progress: Any) -> None:
        """Show one progress."""
        for warning in progress.warnings:
            print_notice(warning)
        now = self.clock()
        if progress.val is not None or now - self.last >= self.every:
            self.last = now
            print_notice(progress_line(progress))


class ProgressBar:
    """Show a bar that stays in its line, with a line above it per validation."""

    def __init__(self, stream: TextIO | None = None, every: float = 0.2, clock: Callable[[], float] = time.monotonic):
        from rich import progress as rich_progress
        from rich.console import Console
        from rich.table import Column

        self.every = every
        self.clock = clock
        self.last = -math.inf
        # without a thread of its own the bar takes no time from the training
        self.bar = rich_progress.Progress(
            rich_progress.BarColumn(bar_width=20),
            rich_progress.TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
            console=Console(file=stream or sys.stderr, highlight=False),
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            transient=True,
        )
        self.row = self.bar.add_task("", total=None)

    def __enter__(self) -> ProgressBar:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def show(self, progress: Any) -> None:
        """Show one progress."""
        for warning in progress.warnings:
            self.bar.print(escape_controls(warning), markup=False)
        if progress.val is not None:
            self.bar.print(progress_line(progress), markup=False)
        now = self.clock()
        if now - self.last >= self.every:
            self.last = now
            self.bar.update(
                self.row, completed=progress.step, total=progress.steps, description=progress_line(progress)
            )
            self.bar.refresh()


class NoProgress:
    """Show nothing, in all processes of torchrun but the first."""

    def __enter__(self) -> NoProgress:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, progress: Any) -> None:
        """Show nothing."""


def make_progress() -> PlainProgress | ProgressBar | NoProgress:
    """Return a live bar if standard error is a terminal, else plain lines."""
    if not is_main_process():
        return NoProgress()
    live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    return ProgressBar() if live else PlainProgress()


class ReadingProgress:
    """Print a line after the first second of reading, and then every few seconds."""

    def __init__(self, first: float = 1.0, every: float = 2.0, clock: Callable[[], float] = time.monotonic):
        self.clock = clock
        self.next = clock() + first
        self.every = every

    def show(self, done: int, total: int) -> None:
        """Show how many of how many files are read."""
        now = self.clock()
        if now >= self.next:
            self.next = now + self.every
            print_notice(f"reading: {done:,} of {total:,}")
