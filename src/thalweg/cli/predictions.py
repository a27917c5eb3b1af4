"""Predictions as a table, as CSV and as JSON; rows of any listing as a table."""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

from ..errors import DataError
from .console import as_json, csv_line, figure, out, say, table, visible, width

#: with so many classes or fewer, every class is shown in a column of its own
FEW = 10


def from_stdin(sources: Sequence[str], stdin: TextIO) -> list[Any]:
    """The sources, with '-' replaced by what standard input holds: a picture as bytes, or one path per line.

    The paths may also be divided by null characters, as `find -print0` does.
    Raises DataError where standard input is empty.
    """
    found: list[Any] = []
    for source in sources:
        found += _read(stdin) if source == "-" else [source]
    return found


def _read(stdin: TextIO) -> list[Any]:
    content = stdin.buffer.read()
    if not content.strip():
        raise DataError("-: standard input is empty.", cure="Send it a picture, or one path per line.")
    if _is_picture(content):
        return [content]
    lines = content.split(b"\0" if b"\0" in content else b"\n")
    return [os.fsdecode(line) for line in (line.removesuffix(b"\r") for line in lines) if line.strip()]


def _is_picture(content: bytes) -> bool:
    """Whether bytes are a picture, though perhaps a damaged one, and no list of paths, none of which is empty."""
    from ..data.images.image_decoding import Unreadable, probe

    if content.startswith(b"\xff\xd8\xff") or b"\0\0" in content:
        return True
    try:
        return bool(probe(content))
    except Unreadable:
        return False


def show(found: Iterable[Any], form: str, top: int | None) -> int:
    """Prints every prediction as it comes, in `form` (table, csv, json); names what was unreadable; the exit code.

    `top` is the number of classes shown; None: all of them where they are few, else five.
    """
    printer = {"table": Table, "csv": Csv, "json": Json}[form](top)
    unreadable = 0
    for one in found:
        if hasattr(one, "reason"):
            unreadable += 1
            say(f"unreadable: {visible(one.source)}: {visible(one.reason)}")
        else:
            printer.show(one)
    if unreadable:
        say(f"{unreadable} of the sources could not be read.")
    return DataError.exit_code if unreadable else 0


def compare(found: Mapping[str, Iterable[Any]], form: str, top: int | None) -> int:
    """Prints the answers of several models to the same sources, side by side in a table; the exit code.

    `found` has the predictions of each model by its name, in the same order of sources. What one model cannot read, as
    an empty page where it has learned drawings, is answered by the others.
    """
    count, unreadable, begun = top or 5, 0, False
    for row in zip(*found.values(), strict=True):
        answers = {name: one for name, one in zip(found, row, strict=True) if not hasattr(one, "reason")}
        if len(answers) < len(row):
            unreadable += 1
            _unread(dict(zip(found, row, strict=True)), alone=not answers)
        if form == "csv" and answers and not begun:
            ranked = [name for rank in range(1, count + 1) for name in (f"label_{rank}", f"probability_{rank}")]
            out(csv_line(["source", "model", "label", *ranked]))
            begun = True
        if form == "table" and answers:
            _beside(answers, count)
        for name, answer in answers.items() if form != "table" else ():
            line = csv_line([str(answer.source), name, answer.label, *_cells(answer.top(count), count)])
            out(line if form == "csv" else as_json({"model": name, **answer.json()}))
    if unreadable:
        say(f"{unreadable} of the sources could not be read.")
    return DataError.exit_code if unreadable else 0


def _unread(row: Mapping[str, Any], alone: bool) -> None:
    """Says why one source has no answer: in one line if all models say the same, else with the models' names."""
    reasons = {name: one.reason for name, one in row.items() if hasattr(one, "reason")}
    source = visible(next(iter(row.values())).source)
    if alone and len(set(reasons.values())) == 1:
        reasons = {"": next(iter(reasons.values()))}
    for name, reason in reasons.items():
        say(f"unreadable{' by ' if name else ''}{visible(name)}: {source}: {visible(reason)}")


def _beside(answers: Mapping[str, Any], top: int) -> None:
    """One source: a column for each model with its likeliest classes."""
    out(visible(next(iter(answers.values())).source))
    columns = [[f"{p:.3f}  {visible(label)}" for label, p in answer.top(top)] for answer in answers.values()]
    for line in table(
        list(map(visible, answers)), [list(row) for row in itertools.zip_longest(*columns, fillvalue="")]
    ):
        out("  " + line)


class Json:
    """One JSON object per line."""

    def __init__(self, top: int | None):
        pass

    def show(self, prediction: Any) -> None:
        """Prints one prediction."""
        out(as_json(prediction.json()))


class Columns:
    """What table and CSV share: the first prediction decides whether every class has a column of its own."""

    def __init__(self, top: int | None):
        self.top = top
        self.classes: Sequence[str] | None = None

    def show(self, prediction: Any) -> None:
        """Prints one prediction, and the headings before the first one."""
        if self.classes is None:
            few = self.top is None and len(prediction.classes) <= FEW
            self.classes = list(prediction.classes) if few else []
            self.headings()
        if self.classes:
            probability = dict(prediction.top(FEW))
            self.every(prediction, [probability[label] for label in self.classes])
        else:
            self.best(prediction, prediction.top(self.top or 5))


class Table(Columns):
    """The table of the talk: a row per source, a column per class. With many classes, the best of them in lines."""

    def headings(self) -> None:
        """The names of the classes, over their columns."""
        if self.classes:
            self.widths = [max(5, width(visible(label))) for label in self.classes]
            named = (" " * (w - width(visible(c))) + visible(c) for c, w in zip(self.classes, self.widths, strict=True))
            out("  ".join([*named, "answer", "source"]))

    def every(self, prediction: Any, probabilities: list[float]) -> None:
        """The probability of every class."""
        cells = [f"{p:{w}.3f}" for p, w in zip(probabilities, self.widths, strict=True)]
        longest = max(len("answer"), *(width(visible(c)) for c in self.classes))
        label = visible(prediction.label)
        out("  ".join([*cells, label + " " * (longest - width(label)), visible(prediction.source)]))

    def best(self, prediction: Any, ranked: list[tuple[str, float]]) -> None:
        """The likeliest classes."""
        out(visible(prediction.source))
        for label, probability in ranked:
            out(f"  {probability:.3f}  {visible(label)}")


class Csv(Columns):
    """Comma-separated values with one line of headings."""

    def headings(self) -> None:
        """Columns per class, or the best classes by rank."""
        ranks = range(1, (self.top or 5) + 1)
        last = self.classes or [name for rank in ranks for name in (f"label_{rank}", f"probability_{rank}")]
        out(csv_line(["source", "label", *last]))

    def every(self, prediction: Any, probabilities: list[float]) -> None:
        """The probability of every class."""
        out(csv_line([str(prediction.source), prediction.label, *probabilities]))

    def best(self, prediction: Any, ranked: list[tuple[str, float]]) -> None:
        """The likeliest classes."""
        out(csv_line([str(prediction.source), prediction.label, *_cells(ranked, self.top or 5)]))


def _cells(ranked: list[tuple[str, float]], count: int) -> list[Any]:
    """Labels and probabilities in one row, with empty cells where there are fewer than `count` classes."""
    cells = [cell for pair in ranked for cell in pair]
    return cells + [""] * (2 * count - len(cells))


def listing(rows: Iterable[Any], json: bool) -> list[str]:
    """Rows as one JSON list, as a table where it is not wider than the terminal, else as a block of lines per row.

    A row is a mapping, a dataclass or a named tuple.
    """
    plain = [_mapping(row) for row in rows]
    if json:
        return [as_json(plain, indent=2)]
    if not plain:
        return ["none"]
    lines = table(list(plain[0]), [list(row.values()) for row in plain])
    columns = shutil.get_terminal_size((120, 24)).columns
    if max(map(width, lines)) <= columns:
        return lines
    return [line for row in plain for line in _block(row, columns)]


def _block(row: dict[str, Any], columns: int) -> list[str]:
    """The first value as a heading; the others below it, each with its name."""
    (_, heading), *rest = row.items()
    lines, indent = [figure(heading)], max(len(name) for name in row) + 4
    for name, value in rest:
        if text := figure(value):
            lead = f"  {name}".ljust(indent)
            lines += textwrap.wrap(text, columns, initial_indent=lead, subsequent_indent=" " * indent)
    return lines


def _mapping(row: Any) -> dict[str, Any]:
    if isinstance(row, Mapping):
        return dict(row)
    return dataclasses.asdict(row) if dataclasses.is_dataclass(row) else row._asdict()
