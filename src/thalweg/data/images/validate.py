"""Check a dataset before training: what it contains, how much of everything, and what will spoil the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...config.size import PixelSize
from ...errors import pluralize
from ...io.free_memory import format_bytes
from ...plots.contact_sheet import contact_sheet
from ..base import SPLITS, DataRequest, UnreadableFile
from .dataset import ImageDataset, ImageSplit
from .duplicates import DuplicatePair, NearSearch, find_exact_duplicates, search_near_duplicates
from .load import check_all_readable, load_dataset
from .raw_dataset import quote_names
from .stored_images import StoredImages
from .thumbnails import Thumbnails, make_thumbnails

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
#: number of the slowest and of the largest files that are named
NUM_EXTREMES = 3


@dataclass(frozen=True)
class FileStats:
    """What an image file costs.

    Attributes:
        example: (split, row).
        width: Width in pixels.
        height: Height in pixels.
        file_bytes: Bytes of the file.
        seconds: Processor time to decode it, as far as a thumbnail needs.
    """

    example: tuple[str, int]
    width: int
    height: int
    file_bytes: int
    seconds: float


@dataclass(frozen=True)
class FileExtremes:
    """The files that cost most, the worst first; empty for images that are not in files."""

    slowest: tuple[FileStats, ...] = ()
    most_pixels: tuple[FileStats, ...] = ()
    most_bytes: tuple[FileStats, ...] = ()


@dataclass(frozen=True)
class DatasetReport:
    """Findings about a dataset.

    Attributes:
        data: The dataset.
        counts: (classes, 3) number of examples per class in train, val and test.
        exact_duplicates: Pairs of identical images.
        near_duplicates: Pairs of nearly identical images in different splits.
        near_search: How they were searched for; None if they were not.
        extremes: The slowest and the largest files.
    """

    data: ImageDataset
    counts: np.ndarray
    exact_duplicates: tuple[DuplicatePair, ...]
    near_duplicates: tuple[DuplicatePair, ...]
    near_search: NearSearch | None = None
    extremes: FileExtremes = FileExtremes()

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
        lines += self._format_extremes()
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

    def _format_extremes(self) -> list[str]:
        most_pixels = [(file, f"{file.width}x{file.height}") for file in self.extremes.most_pixels]
        most_bytes = [(file, format_bytes(file.file_bytes)) for file in self.extremes.most_bytes]
        slowest = [(file, f"{1000 * file.seconds:.1f} ms") for file in self.extremes.slowest]
        lines = []
        for title, files in (("Most pixels", most_pixels), ("Largest files", most_bytes), ("Slowest files", slowest)):
            texts = [f"{self._source(file.example)} ({cost})" for file, cost in files]
            if texts and (files is not most_pixels or len(self.data.sizes) > 1):
                lines.append(f"{title}: {', '.join(texts)}")
        return lines

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
        if self.near_search and self.near_search.method != "exact":
            lines.append(self.near_search.describe())
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
            "slowest": list(map(self._file_json, self.extremes.slowest)),
            "largest": {
                "pixels": list(map(self._file_json, self.extremes.most_pixels)),
                "bytes": list(map(self._file_json, self.extremes.most_bytes)),
            },
            "unreadable": list(map(asdict, data.unreadable)),
            "warnings": list(data.warnings),
            "cross_split_duplicates": self._pairs_json(self.cross_split_duplicates),
            "near_duplicates": self._pairs_json(self.near_duplicates),
            "near_duplicate_search": asdict(self.near_search) if self.near_search else None,
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

    def _file_json(self, file: FileStats) -> dict[str, Any]:
        return {
            "split": file.example[0],
            "source": self._source(file.example),
            "width": file.width,
            "height": file.height,
            "bytes": file.file_bytes,
            "seconds": round(file.seconds, 6),
        }

    def picture(self) -> Image.Image:
        """Draw a contact sheet of labeled images from all over the training split."""
        train = self.data.train
        rows = np.unique(np.linspace(0, len(train) - 1, min(BATCH_SIZE, len(train))).astype(np.int64))
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
    storage: str = "disk",
) -> DatasetReport:
    """Load a dataset as `load_dataset` does and look for what will spoil the result.

    Image files are decoded one after the other, to thumbnails, so that they may be more than fit into memory.

    Args:
        request: What to read and how to split it.
        image_size: Height and width of the images; None keeps the size of the source where all images share it.
        channels: 1 (gray), 3 (RGB) or None (as in the source).
        near_duplicates: Also look for near duplicates across splits: about half a minute for 70,000 images.
        storage: See `load_dataset`. In memory, files are split by their pixels, and not timed.

    Returns:
        The report.

    Raises:
        DataError: The dataset cannot be used; also the other errors of `load_dataset`.
    """
    data = load_dataset(request, image_size=image_size, channels=channels, storage=storage)
    thumbnails = {}
    for name, split in data.splits.items():
        if near_duplicates or isinstance(split.images, StoredImages):
            done = sum(len(other.pixels) for other in thumbnails.values())
            thumbnails[name] = make_thumbnails(split.images, _shift(request.progress, done, data))
    data = _leave_out_unreadable(data, thumbnails)
    if request.strict:
        check_all_readable(data.path, data.unreadable)
    columns = [np.bincount(data.splits[name].labels, minlength=len(data.classes)) for name in SPLITS]
    exact = find_exact_duplicates(data.splits)
    report = DatasetReport(data, np.stack(columns, axis=1), tuple(exact), (), extremes=_find_extremes(data, thumbnails))
    if not near_duplicates:
        return report
    if sum(map(len, data.splits.values())) > SLOW_NEAR_DUPLICATES:
        request.log("Looking for near duplicates across the splits …")
    near = search_near_duplicates({name: value.pixels for name, value in thumbnails.items()}, exact)
    return replace(report, near_duplicates=tuple(near.pairs), near_search=near.search)


def _shift(
    progress: Callable[[int, int], None] | None, start: int, data: ImageDataset
) -> Callable[[int, int], None] | None:
    """Return a callback for the progress of one split, of which `start` examples come before."""
    if progress is None:
        return None
    total = sum(map(len, data.splits.values()))
    return lambda done, _: progress(start + done, total)


def _leave_out_unreadable(data: ImageDataset, thumbnails: dict[str, Thumbnails]) -> ImageDataset:
    """Return the dataset without the examples that have no thumbnail, and remove their thumbnails."""
    splits: dict[str, ImageSplit] = dict(data.splits)
    unreadable = list(data.unreadable)
    for name, value in thumbnails.items():
        if not value.unreadable:
            continue
        for row, reason in value.unreadable.items():
            unreadable.append(UnreadableFile(splits[name].sources[row], reason))
        rows = np.setdiff1d(np.arange(len(value.pixels)), list(value.unreadable))
        splits[name] = splits[name].take(rows)
        thumbnails[name] = value.take(rows)
    return replace(data, splits=splits, unreadable=tuple(unreadable))


def _find_extremes(data: ImageDataset, thumbnails: Mapping[str, Thumbnails]) -> FileExtremes:
    """Return the files of all splits that take most time, pixels and bytes."""
    files: list[FileStats] = []
    for name, value in thumbnails.items():
        images = data.splits[name].images
        if not isinstance(images, StoredImages):
            continue
        pixels_N = images.sizes.astype(np.int64).prod(axis=1)
        for cost_N in (value.seconds, pixels_N, value.file_bytes):
            for row in np.argsort(-cost_N, kind="stable")[:NUM_EXTREMES].tolist():
                height, width = images.sizes[row].tolist()
                seconds = float(value.seconds[row])
                files.append(FileStats((name, row), width, height, int(value.file_bytes[row]), seconds))
    files = list(dict.fromkeys(files))

    def take_worst(cost: Callable[[FileStats], float]) -> tuple[FileStats, ...]:
        return tuple(sorted(files, key=cost, reverse=True)[:NUM_EXTREMES])

    return FileExtremes(
        slowest=take_worst(lambda file: file.seconds),
        most_pixels=take_worst(lambda file: file.width * file.height),
        most_bytes=take_worst(lambda file: file.file_bytes),
    )
