"""Datasets of the memory problems: val and test are fixed, training sequences are new in every step."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...errors import DataError, OptionError, did_you_mean
from ..base import SPLITS, DataRequest, Dataset, NamedData
from .sequences import (
    DEFAULT_SYMBOLS,
    MIN_LENGTHS,
    ORDER_POSITIONS,
    PROBLEMS,
    Problem,
    ProblemName,
    Sequences,
    generate_sequences,
)

DEFAULT_LENGTH = 100
MAX_LENGTH = 100_000
MAX_SYMBOLS = 1000
#: sequences of a training epoch (all new), of val, and of test (2,560 as in 1997)
NUM_SEQUENCES = {"train": 8000, "val": 512, "test": 2560}
NUM_TOY_SEQUENCES = {"train": 160, "val": 64, "test": 64}


@dataclass(frozen=True)
class SequenceSplit:
    """Sequences of one split, made when they are needed. Of train, `count` is that of an epoch."""

    problem: Problem
    split: str
    count: int

    def __len__(self) -> int:
        return self.count

    def names(self, rows: Sequence[int]) -> list[str]:
        """Return 'sequence 12' for each row, counted from 1."""
        return [f"sequence {row + 1:,}" for row in rows]

    def keys(self) -> None:
        """Return None: no sequence is trained on twice."""

    @property
    def stream(self) -> int:
        """First seed of the split's random numbers, so that no two splits share any."""
        return SPLITS.index(self.split)

    @cached_property
    def sequences(self) -> Sequences:
        """The sequences of val or test, always the same."""
        return generate_sequences(self.problem, self.count, (self.stream,))


@dataclass(frozen=True)
class SequenceDataset(Dataset[SequenceSplit]):
    """Sequences of one problem."""

    @property
    def problem(self) -> Problem:
        """The problem."""
        return self.train.problem


def build_dataset(problem: Problem, counts: dict[str, int], name: str | None = None) -> SequenceDataset:
    """Build the dataset of a problem with so many sequences in each split."""
    splits = {}
    for split, count in counts.items():
        splits[split] = SequenceSplit(problem, split, count)
    description = f"{problem} {sorted(counts.items())} numpy {np.random.PCG64.__name__}"
    return SequenceDataset(
        name=name or problem.title,
        format="made sequences",
        path=problem.name,
        splits=splits,
        fingerprint=hashlib.sha256(description.encode()).hexdigest(),
        summary=(
            f"{problem.steps:,} steps, loss {problem.memoryless_loss:.4g} without memory, "
            f"solved below {problem.solved_loss:.3g}"
        ),
        unit="sequence",
        official_splits=SPLITS,
    )


def list_named_sequences() -> list[NamedData]:
    """List the memory problems; a length may follow their names, as in adding-600."""
    descriptions = {
        "adding": "add the two numbers that are marked (Hochreiter, Schmidhuber 1997)",
        "copy": "repeat ten symbols after a long blank (Hochreiter, Schmidhuber 1997)",
        "temporal-order": "say in which order two symbols came (Hochreiter, Schmidhuber 1997)",
    }
    rows = []
    for name in PROBLEMS:
        summary = f"{DEFAULT_LENGTH} steps, or as many as follow the name: {name}-600"
        rows.append(NamedData(name, descriptions[name], summary, "Apache-2.0", suffix=r"-\d{1,6}"))
    return rows


def load_sequences(request: DataRequest, length: int | None, symbols: int | None) -> SequenceDataset:
    """Return the dataset that a name means: adding, copy or temporal-order, with a length behind it or not.

    Args:
        request: The name is its source.
        length: Length; None for the one in the name, or the default.
        symbols: What is to be remembered; None for the default.

    Returns:
        The dataset.

    Raises:
        DataError: For any other source.
        OptionError: For two lengths, one that is too short, or a number of symbols that the problem does not have.
    """
    name, length_in_name = _parse_name(request.source)
    if length is not None and length_in_name not in (None, length) and request.for_training:
        raise OptionError(
            f"--length: {length} and {request.source} are two lengths; expected one.",
            f"Leave --length out, or give {name}.",
            option="length",
            value=length,
        )
    problem = Problem(name, length_in_name or length or DEFAULT_LENGTH, symbols or DEFAULT_SYMBOLS[name])
    check_problem(problem)
    return build_dataset(problem, NUM_SEQUENCES)


def check_same_problem(dataset: SequenceDataset, expected: Problem) -> SequenceDataset:
    """Return a dataset of a model's problem, at any length. Raises DataError for another problem."""
    problem = dataset.problem
    if (problem.name, problem.symbols) != (expected.name, expected.symbols):
        raise DataError(
            f"{dataset.name} has {problem.symbols} things to remember; the model knows {expected.name} with "
            f"{expected.symbols}.",
            f"Give {expected.title}, or {expected.name} at another length.",
            value=dataset.name,
            allowed=[expected.title],
        )
    return dataset


def _parse_name(source: object) -> tuple[ProblemName, int | None]:
    """Return problem and length of a name such as adding-600; the length may be None. Raises DataError."""
    match = re.fullmatch(rf"({'|'.join(PROBLEMS)})(?:-(\d{{1,6}}))?", str(source))
    if match is None:
        raise DataError(
            f"{source} is no memory problem; expected one of {', '.join(PROBLEMS)}, such as adding-600.",
            did_you_mean(str(source), PROBLEMS),
            value=str(source),
            allowed=PROBLEMS,
        )
    index = [str(problem) for problem in PROBLEMS].index(match[1])
    return PROBLEMS[index], int(match[2]) if match[2] else None


def check_problem(problem: Problem) -> None:
    """Raise OptionError for a length or a number of symbols that a problem cannot have."""
    low = MIN_LENGTHS[problem.name]
    if not low <= problem.length <= MAX_LENGTH:
        raise OptionError(
            f"--length: {problem.length}; expected {low} to {MAX_LENGTH:,} for {problem.name}.",
            f"Try --length {DEFAULT_LENGTH}.",
            option="length",
            value=problem.length,
            allowed=[low, MAX_LENGTH],
        )
    allowed: Sequence[int] = {"adding": (2,), "temporal-order": tuple(ORDER_POSITIONS)}.get(
        problem.name, range(1, MAX_SYMBOLS + 1)
    )
    if problem.symbols not in allowed:
        expected = f"1 to {MAX_SYMBOLS:,}" if problem.name == "copy" else " or ".join(map(str, allowed))
        raise OptionError(
            f"--symbols: {problem.symbols}; expected {expected} for {problem.name}.",
            "Leave it out.",
            option="symbols",
            value=problem.symbols,
            allowed=[allowed[0], allowed[-1]],
        )
