"""Datasets as values that every task can fill. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from ..errors import DataError, OptionError
from ..io.log import log_warning

#: names of the splits, in the order in which they are listed
SPLITS = ("train", "val", "test")

#: `Dataset.messages` lists at most this many unreadable files
MAX_LISTED_FILES = 10


class Split(Protocol):
    """Examples of one split. Only the task that made them knows what is inside."""

    def __len__(self) -> int: ...

    def names(self, rows: Sequence[int]) -> list[str]:
        """Return names of the examples at `rows` for messages: file names, line numbers."""
        ...

    def keys(self) -> np.ndarray | None:
        """Return a 64-bit hash (N,) of the content of each example; None where examples cannot be told apart."""
        ...


S = TypeVar("S", bound=Split, covariant=True)
D = TypeVar("D", bound="Dataset[Any]")


@dataclass(frozen=True)
class UnreadableFile:
    """A file, or a line of a table, that was skipped, and the reason."""

    path: str
    reason: str


@dataclass(frozen=True)
class Dataset(Generic[S]):
    """A dataset with its splits.

    Attributes:
        name: Short name, such as "digits" or the name of the folder.
        format: Format that the reader recognized, such as "image folder".
        path: Where the dataset was read from.
        splits: "train", "val" and "test"; a split may be empty.
        fingerprint: SHA-256, in hex, of everything that training sees. A resumed run compares it.
        summary: What the examples are, such as "10 classes, 28x28 gray".
        unit: One example, such as "image".
        official_splits: Splits that come with the source. The others were taken from its training examples.
        unreadable: Files that were skipped.
        warnings: Findings that the user should know.
    """

    name: str
    format: str
    path: str
    splits: Mapping[str, S]
    fingerprint: str
    summary: str
    unit: str
    official_splits: tuple[str, ...] = ()
    unreadable: tuple[UnreadableFile, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def train(self) -> S:
        """The training split."""
        return self.splits["train"]

    @property
    def val(self) -> S:
        """The validation split."""
        return self.splits["val"]

    @property
    def test(self) -> S:
        """The test split."""
        return self.splits["test"]

    def format_sizes(self) -> str:
        """Format the number of examples of each split: "train 1,000, val 100, test 50 (the source's own)"."""
        sizes = []
        for name in SPLITS:
            size = f"{name} {len(self.splits[name]):,}"
            if name in self.official_splits:
                size += " (the source's own)"
            sizes.append(size)
        return ", ".join(sizes)

    def messages(self) -> list[str]:
        """Return one line per warning and per skipped file (at most ten files)."""
        lines = []
        for warning in self.warnings:
            lines.append(f"note: {warning}")
        for file in self.unreadable[:MAX_LISTED_FILES]:
            lines.append(f"skipped: {file.path}: {file.reason}")
        more = len(self.unreadable) - MAX_LISTED_FILES
        if more == 1:
            lines.append("skipped: 1 more file")
        elif more > 1:
            lines.append(f"skipped: {more:,} more files")
        return lines


@dataclass(frozen=True)
class DataRequest:
    """What to read, and how to split it.

    Attributes:
        source: Path, or the name of a dataset; tasks may accept arrays and datasets too.
        val_fraction: Fraction of the training examples that becomes the validation split, unless the source has one.
        fold: "2/5" uses the second of five equal parts as validation split instead.
        make_splits: False keeps all examples that have no official split in "train".
        strict: Raise DataError for an unreadable file instead of skipping it.
        offline: Never use the network.
        log: Called with notices for the user.
        for_training: The examples will be trained on: with a model's spec, only its form of inputs is applied, and
            labels may be others.
        progress: Called with (examples read, examples in total) while files are read.
    """

    source: Any
    val_fraction: float = 0.1
    fold: str | None = None
    make_splits: bool = True
    strict: bool = False
    offline: bool = False
    for_training: bool = False
    log: Callable[[str], None] = log_warning
    progress: Callable[[int, int], None] | None = None


def take_dataset(request: DataRequest, cls: type[D], options: Mapping[str, Any]) -> D | None:
    """Return the source where it is a dataset in memory, None where it has to be read.

    Args:
        request: The request.
        cls: The class of datasets that the task reads.
        options: Options by name that only apply while data is read; None for those that are not given.

    Returns:
        The dataset, or None.

    Raises:
        DataError: For a dataset of another class.
        OptionError: For one of the options, where the dataset is to be trained on.
    """
    source = request.source
    if not isinstance(source, Dataset):
        return None
    if not isinstance(source, cls):
        raise DataError(
            f"{source.name} is a {type(source).__name__}; expected a {cls.__name__}.",
            "Give a dataset of this task, or a path.",
            value=type(source).__name__,
            allowed=[cls.__name__],
        )
    for name, value in options.items():
        if value is not None and request.for_training:
            flag = name.replace("_", "-")
            raise OptionError(
                f"--{flag}: {value} applies while data is read; {source.name} is a dataset in memory.",
                f"Leave out --{flag}, or give a path.",
                option=name,
                value=value,
            )
    return source
