"""Check a dataset before training: what it contains, how much of everything, and what will spoil the result."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...config.size import PixelSize
from ...errors import pluralize
from ...plots.contact_sheet import contact_sheet
from ..base import SPLITS, DataRequest
from .dataset import ImageDataset
from .duplicates import DuplicatePair, find_exact_duplicates, find_near_duplicates
from .load import load_dataset
from .raw_dataset import quote_names

#: a class with fewer training examples, or this many times smaller than the largest, is reported
MIN_CLASS_SIZE = 10
MAX_IMBALANCE = 10
#: at most this many entries of a kind are printed; `json` has all of them
MAX_LISTED = 10
#: with more classes, the table of counts is cut after MAX_TABLE_ROWS
MAX_FULL_TABLE = 40
MAX_TABLE_ROWS = 30
#: images on the contact sheet
BATCH_SIZE = 64
#: a set with more images takes long enough for a notice
SLOW_NEAR_DUPLICATES = 20_000


@dataclass(frozen=True)
class DatasetReport:
    """Findings about a dataset.

    Attributes:
        data: The dataset.
        counts: (classes, 3) number of examples per class in train, val and test.
        exact_duplicates: Pairs of identical images.
        near_duplicates: Pairs of nearly identical images in different splits.
    """

    data: ImageDataset
    counts: np.ndarray
    exact_duplicates: tuple[DuplicatePair, ...]
    near_duplicates: tuple[DuplicatePair, ...]

    @property
    def cross_split_duplicates(self) -> tuple[DuplicatePair, ...]:
        """Pairs of identical images in different splits."""
        return tuple(pair for pair in self.exact_duplicates if pair.first[0] != pair.second[0])

    @property
    def conflicting_labels(self) -> tuple[DuplicatePair, ...]:
        """Pairs of identical images with different labels."""
        return tuple(pair for pair in self.exact_duplicates if self._label(pair.first) != self._label(pair.second))

    @property
    def small_classes(self) -> tuple[str, ...]:
        """Classes with fewer than MIN_CLASS_SIZE training examples."""
        rows = np.flatnonzero(self.counts[:, 0] < MIN_CLASS_SIZE)
        return tuple(self.data.classes[row] for row in rows)

    @property
    def imbalance(self) -> float:
        """Size of the largest class divided by that of the smallest, over all splits."""
        sizes = self.counts.sum(axis=1)
        return float(sizes.max() / max(sizes.min(), 1))

    @property
    def ok(self) -> bool:
        """True if nothing was found that will spoil the result."""
        findings = (
            self.data.unreadable,
            self.cross_split_duplicates,
            self.near_duplicates,
            self.conflicting_labels,
            self.small_classes,
        )
        return not any(findings) and self.imbalance <= MAX_IMBALANCE

    def _label(self, example: tuple[str, int]) -> str:
        split_name, row = example
        return self.data.classes[self.data.splits[split_name].labels[row]]

    def _source(self, example: tuple[str, int]) -> str:
        """Return the path of an example within the dataset if it is a file, else its name."""
        split_name, row = example
        source = self.data.splits[split_name].sources[row]
        try:
            return str(Path(source).relative_to(self.data.path))
        except ValueError:
            return source

    def lines(self) -> list[str]:
        """Format the report for the terminal."""
        lines = [
            f"{self.data.name}: {self.data.format}, {self.data.summary}",
            f"  {self.data.path}",
            "",
            *self._format_counts(),
            "",
        ]
        if self.data.sizes:
            lines.append(self._format_sizes())
        lines += self.data.warnings
        lines += self._format_duplicates()
        if self.small_classes:
            lines.append(f"Fewer than {MIN_CLASS_SIZE} training examples: {quote_names(self.small_classes)}.")
        if self.imbalance > MAX_IMBALANCE:
            lines.append(f"The largest class is {self.imbalance:.0f} times as large as the smallest.")
        if self.ok:
            lines.append("No problems found.")
        return lines

    def _format_sizes(self) -> str:
        sizes = list(self.data.sizes.items())
        text = ", ".join(f"{width}x{height} ({count:,})" for (width, height), count in sizes[:MAX_LISTED])
        if len(sizes) > MAX_LISTED:
            text += f" and {len(sizes) - MAX_LISTED:,} more"
        return f"File sizes: {text}"

    def _format_duplicates(self) -> list[str]:
        across = list(map(self._format_pair, self.cross_split_duplicates))
        near = list(map(self._format_pair, self.near_duplicates))
        conflicts = []
        for pair in self.conflicting_labels:
            conflicts.append(f"{self._format_pair(pair)}: {self._label(pair.first)}, {self._label(pair.second)}")
        unreadable = [f"{file.path}: {file.reason}" for file in self.data.unreadable]
        lines = _format_list("unreadable file", "", unreadable)
        lines += _format_list("exact duplicate", " across splits", across)
        lines += _format_list("near duplicate", " across splits", near)
        if across or near:
            lines.append("  Scores are too high. Keep related images in one split: use the `group` column of a table.")
        return lines + _format_list("image", " with two different labels", conflicts)

    def _format_pair(self, pair: DuplicatePair) -> str:
        text = f"{self._format_example(pair.second)} = {self._format_example(pair.first)}"
        if pair.mirrored:
            text += " mirrored"
        return text

    def _format_example(self, example: tuple[str, int]) -> str:
        return f"{self._source(example)} ({example[0]})"

    def _format_counts(self) -> list[str]:
        """Format the examples per class and split as aligned columns."""
        classes = self.data.classes
        if len(classes) > MAX_FULL_TABLE:
            classes = classes[:MAX_TABLE_ROWS]
        width = max(map(len, [*classes, "class"]))
        lines = [f"{'class':<{width}}" + "".join(f"{name:>9}" for name in SPLITS)]
        for name, counts in zip(classes, self.counts.tolist(), strict=False):
            lines.append(f"{name:<{width}}" + "".join(f"{count:>9,}" for count in counts))
        if len(classes) < len(self.data.classes):
            lines.append(f"… and {len(self.data.classes) - len(classes)} more classes")
        lines.append(f"{'all':<{width}}" + "".join(f"{count:>9,}" for count in self.counts.sum(axis=0)))
        return lines

    def json(self) -> dict[str, Any]:
        """Return the whole report as JSON values."""
        data = self.data
        counts = dict(zip(SPLITS, self.counts.T.tolist(), strict=True))
        sizes = []
        for (width, height), count in data.sizes.items():
            sizes.append({"width": width, "height": height, "files": count})
        return {
            "name": data.name,
            "format": data.format,
            "path": data.path,
            "classes": list(data.classes),
            "shape": list(data.shape),
            "counts": counts,
            "sizes": sizes,
            "unreadable": list(map(asdict, data.unreadable)),
            "warnings": list(data.warnings),
            "cross_split_duplicates": self._pairs_json(self.cross_split_duplicates),
            "near_duplicates": self._pairs_json(self.near_duplicates),
            "conflicting_labels": self._pairs_json(self.conflicting_labels),
            "small_classes": list(self.small_classes),
            "imbalance": self.imbalance,
            "fingerprint": data.fingerprint,
            "ok": self.ok,
        }

    def _pairs_json(self, pairs: tuple[DuplicatePair, ...]) -> list[dict[str, Any]]:
        rows = []
        for pair in pairs:
            rows.append(
                {
                    "first": self._example_json(pair.first),
                    "second": self._example_json(pair.second),
                    "mirrored": pair.mirrored,
                }
            )
        return rows

    def _example_json(self, example: tuple[str, int]) -> dict[str, str]:
        return {"split": example[0], "source": self._source(example), "label": self._label(example)}

    def picture(self) -> Image.Image:
        """Draw a contact sheet of labeled images from all over the training split."""
        train = self.data.train
        rows = np.unique(np.linspace(0, len(train) - 1, BATCH_SIZE).astype(np.int64))
        return contact_sheet(train.images[rows], [self.data.classes[label] for label in train.labels[rows]])


def _format_list(noun: str, details: str, entries: list[str]) -> list[str]:
    """Format a headline with the number of entries ("2 near duplicates across splits:"), and the first of them."""
    if not entries:
        return []
    lines = [f"{pluralize(len(entries), noun)}{details}:"]
    lines += [f"  {entry}" for entry in entries[:MAX_LISTED]]
    if len(entries) > MAX_LISTED:
        lines.append(f"  … and {len(entries) - MAX_LISTED:,} more")
    return lines


def check_dataset(
    request: DataRequest,
    image_size: PixelSize | None = None,
    channels: int | None = None,
    near_duplicates: bool = True,
) -> DatasetReport:
    """Load a dataset as `load_dataset` does and look for what will spoil the result.

    Args:
        request: What to read and how to split it.
        image_size: Height and width of the images; None keeps the size of the source where all images share it.
        channels: 1 (gray), 3 (RGB) or None (as in the source).
        near_duplicates: Also look for near duplicates across splits: about half a minute for 70,000 images.

    Returns:
        The report.

    Raises:
        DataError: The dataset cannot be used; also the other errors of `load_dataset`.
    """
    data = load_dataset(request, image_size=image_size, channels=channels)
    columns = [np.bincount(data.splits[name].labels, minlength=len(data.classes)) for name in SPLITS]
    exact = find_exact_duplicates(data.splits)
    near = []
    if near_duplicates:
        if sum(map(len, data.splits.values())) > SLOW_NEAR_DUPLICATES:
            request.log("Looking for near duplicates across the splits …")
        near = find_near_duplicates(data.splits, exact)
    return DatasetReport(data, np.stack(columns, axis=1), tuple(exact), tuple(near))
