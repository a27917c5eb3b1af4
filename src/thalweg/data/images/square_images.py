"""Images of one size: any folder of them, flat or nested, or whatever `load_dataset` reads; with classes if asked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...errors import DataError, OptionError, pluralize
from ...io.file_names import decode_file_name
from ..base import SPLITS, DataRequest, Dataset
from .catalog import NAMED_DATASETS
from .cifar import is_cifar
from .csv_dataset import find_table
from .dataset import ImageSplit, sha256_rows, summarize_images
from .encoded import ImageFiles
from .idx import is_idx
from .image_folder import list_images, list_subdirs
from .image_loading import load_images
from .load import read_raw
from .npz import resize_dataset
from .raw_dataset import SPLIT_ALIASES, RawDataset, ReadOptions, quote_names
from .splits import TEST_FRACTION, ImageGroups, assign_by_hash, duplicate_groups, hash_keys
from .stored_images import ImageArray

#: heights and widths that images can be brought to
SIZES = (8, 16, 32, 64, 128, 256, 512, 1024)
#: height and width by default; where the source has smaller images of one size, the next power of two
DEFAULT_SIZE = 32
MIN_DEFAULT_SIZE = 16
#: fewer images make no training and test split
MIN_IMAGES = 2
#: fewer classes are no condition
MIN_CLASSES = 2


@dataclass(frozen=True)
class SquareImages:
    """Images in memory.

    Attributes:
        images: (N, S, S, C) uint8; C is 1 (gray) or 3 (RGB).
        sources: Name of each image: its file, or its row in an array file.
        labels: (N,) int64, indices into the classes of the dataset; None where it was read without classes.
    """

    images: np.ndarray
    sources: Sequence[str]
    labels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.images)

    def names(self, rows: Sequence[int]) -> list[str]:
        """Return the sources of the images at `rows`."""
        return [self.sources[row] for row in rows]

    def keys(self) -> np.ndarray:
        """Return the first 64 bits of the SHA-256 of each image (N,) uint64."""
        return hash_keys(sha256_rows(self.images))

    def take(self, rows: np.ndarray) -> SquareImages:
        """Return the images at `rows` (n,) int64, in that order."""
        labels = None if self.labels is None else self.labels[rows]
        return SquareImages(self.images[rows], self.names(rows.tolist()), labels)

    def spread(self, count: int) -> SquareImages:
        """Return at most `count` images, evenly spaced."""
        if len(self) <= count:
            return self
        return self.take(spread_rows(len(self), count))


def spread_rows(total: int, count: int) -> np.ndarray:
    """Return `count` of `total` rows (count,) int64, evenly spaced: files are often in the order of what they show."""
    return np.linspace(0, total - 1, count).round().astype(np.int64)


@dataclass(frozen=True)
class SquareImageDataset(Dataset[SquareImages]):
    """Images, all square and of one size.

    Attributes:
        classes: Names of the classes, by label; empty where it was read without them.
    """

    classes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of every image."""
        height, width, channels = self.train.images.shape[1:]
        return height, width, channels

    @property
    def all(self) -> SquareImages:
        """All images of all splits."""
        splits = list(self.splits.values())
        sources: list[str] = []
        for split in splits:
            sources += split.sources
        labels = [split.labels for split in splits if split.labels is not None]
        images = np.concatenate([split.images for split in splits])
        return SquareImages(images, sources, np.concatenate(labels) if labels else None)


def check_format(dataset: SquareImageDataset, image_size: int, channels: int) -> SquareImageDataset:
    """Return the dataset. Raises DataError where its images are not of a model's size and channels."""
    expected = (image_size, image_size, channels)
    if dataset.shape != expected:
        raise DataError(
            f"{dataset.name} has images of {dataset.shape} (height, width, channels); expected {expected}.",
            "Resize them, or give a path: files are resized.",
            value=dataset.shape,
            allowed=[expected],
        )
    return dataset


def check_classes(dataset: SquareImageDataset, classes: Sequence[str]) -> SquareImageDataset:
    """Return the dataset. Raises DataError where its classes are not those of a model, which may have none."""
    if classes and list(dataset.classes) != list(classes):
        raise DataError(
            f"{dataset.name} has {_describe_classes(dataset.classes)}; the model expects {_describe_classes(classes)}.",
            "Give images of the same classes.",
            value=list(dataset.classes),
            allowed=list(classes),
        )
    return dataset


def require_classes(dataset: SquareImageDataset) -> list[str]:
    """Return the names of the classes. Raises DataError for fewer than two."""
    if len(dataset.classes) < MIN_CLASSES:
        raise DataError(
            f"{dataset.name} has {_describe_classes(dataset.classes)}; --conditional expects two or more.",
            "Put the images into one folder per class, or leave out --conditional.",
            path=dataset.path,
            option="conditional",
            value=list(dataset.classes),
        )
    return list(dataset.classes)


def _describe_classes(classes: Sequence[str]) -> str:
    if not classes:
        return "no classes"
    return f"{pluralize(len(classes), 'class', 'classes')}, {quote_names(classes)}"


def load_square_images(
    request: DataRequest, image_size: int | None = None, channels: int | None = None, has_classes: bool = False
) -> SquareImageDataset:
    """Load images, cropped to the center square and resized, with training, validation and test splits.

    Official splits stay; the others are taken from the training images by the hash of their content.

    Args:
        request: What to read and how to split it.
        image_size: Height and width, a power of two from 8 to 1024; None: 32, or 16 for sets of smaller images.
        channels: 1 (gray), 3 (RGB) or None (as in the source).
        has_classes: Read the classes too: folders are classes then, as for a classifier.

    Returns:
        The dataset. Unreadable files are skipped and listed in `unreadable`.

    Raises:
        NotFoundError: The source does not exist.
        DataError: There are fewer than two images, no classes where they are read, or `request.strict` and a file is
            unreadable.
        OptionError: The size is no power of two.
    """
    if image_size is not None and image_size not in SIZES:
        raise OptionError(
            f"--image-size: {image_size}; expected a power of two: {', '.join(map(str, SIZES))}.",
            option="image_size",
            value=image_size,
            allowed=SIZES,
        )
    path = Path(str(request.source)).expanduser()
    raw = _read(request, path, ReadOptions(image_size, channels, None, request.progress, "memory"), has_classes)
    if request.strict and raw.unreadable:
        file = raw.unreadable[0]
        raise DataError(
            f"{raw.path}: {pluralize(len(raw.unreadable), 'unreadable file')}: {file.path}: {file.reason}.",
            "Repair or remove them, or leave out --strict to skip them.",
            path=raw.path,
            value=[file.path for file in raw.unreadable],
        )
    if not has_classes:
        raw = replace(raw, classes=())
    return split_square_images(raw, _name_source(request, path), request)


def _read(request: DataRequest, path: Path, options: ReadOptions, has_classes: bool) -> RawDataset:
    """Read images, and bring them to the default size where none is given."""
    if _is_plain_folder(path):
        options = replace(options, image_size=options.image_size or DEFAULT_SIZE)
        return read_raw(request, options) if has_classes else _read_folder(path, options)
    raw = read_raw(request, options)
    if options.image_size is None:
        side = min(raw.splits["train"].images.shape[1:3])
        raw = resize_dataset(raw, ReadOptions(_choose_size(side), options.channels))
    return raw


def _choose_size(side: int) -> int:
    """Return the default size for images of one size: the next power of two, from 16 to 32."""
    return MIN_DEFAULT_SIZE if side <= MIN_DEFAULT_SIZE else DEFAULT_SIZE


def _name_source(request: DataRequest, path: Path) -> str:
    if str(request.source).partition(":")[0] in NAMED_DATASETS:
        return str(request.source)
    return decode_file_name(path.resolve().name)


def _is_plain_folder(path: Path) -> bool:
    """Whether a path is a folder of image files, and not of a format of its own. A table beside images is ignored."""
    if str(path) in NAMED_DATASETS or not path.is_dir() or is_cifar(path):
        return False
    if any(is_idx(entry) for entry in path.iterdir()):
        return False
    return find_table(path) is None or bool(list_images(path))


def _read_folder(path: Path, options: ReadOptions) -> RawDataset:
    """Read all images in a folder and below. Folders train, val and test side by side are official splits."""
    split_dirs = {"train": path}
    named = {SPLIT_ALIASES.get(folder.name.lower(), ""): folder for folder in list_subdirs(path)}
    if {"train", "test"} <= set(named):
        split_dirs = {name: named[name] for name in SPLITS if name in named}
    files: list[str] = []
    split_names: list[str] = []
    for name, folder in split_dirs.items():
        images = list_images(folder)
        files += images
        split_names += [name] * len(images)
    loaded = load_images(ImageFiles(files), options)
    split_N = np.array(split_names, object)[loaded.rows]
    splits = {}
    for name in split_dirs:
        rows = np.flatnonzero(split_N == name)
        sources = [files[loaded.rows[row]] for row in rows]
        splits[name] = ImageSplit(loaded.images[rows], np.zeros(len(rows), np.int64), sources)
    return RawDataset(
        format="folder of images",
        path=str(path),
        classes=(),
        splits=splits,
        files=loaded.files[split_N == "train"],
        unreadable=loaded.unreadable,
        warnings=loaded.warnings,
        sizes=loaded.sizes,
    )


def split_square_images(raw: RawDataset, name: str, request: DataRequest) -> SquareImageDataset:
    """Return images with all three splits; labels only if there are classes. Raises DataError for less than two."""
    official = {}
    for split_name, split in raw.splits.items():
        if len(split) or split_name == "train":
            labels = split.labels if raw.classes else None
            official[split_name] = SquareImages(split.images[:], split.sources, labels)
    train = official["train"]
    if len(train) < MIN_IMAGES:
        raise _too_few_error(raw, len(train))
    split_N = _assign_rows(official, raw, request)
    splits: dict[str, SquareImages] = {}
    for number, split_name in enumerate(SPLITS):
        if split_name in official and split_name != "train":
            splits[split_name] = official[split_name]
        else:
            splits[split_name] = train.take(np.flatnonzero(split_N == number))
    if request.make_splits and not len(splits["test"]):
        raise _too_few_error(raw, len(np.unique(train.keys())))
    return SquareImageDataset(
        name=name,
        format=raw.format,
        path=raw.path,
        splits=splits,
        fingerprint=_compute_fingerprint(raw.classes, splits),
        summary=_summarize(raw.classes, train.images),
        unit="image",
        official_splits=tuple(official),
        unreadable=tuple(raw.unreadable),
        warnings=tuple(raw.warnings),
        classes=raw.classes,
    )


def _summarize(classes: Sequence[str], images: ImageArray) -> str:
    if classes:
        return summarize_images(classes, images)
    height, width, channels = images.shape[1:]
    return f"{width}x{height} {'gray' if channels == 1 else 'RGB'}"


def _too_few_error(raw: RawDataset, count: int) -> DataError:
    reason = ""
    if raw.unreadable:
        reason = f" {raw.unreadable[0].path}: {raw.unreadable[0].reason}."
    return DataError(
        f"{raw.path}: {pluralize(count, 'image')}; expected at least {MIN_IMAGES} that differ.{reason}",
        "Give a folder with more images.",
        path=raw.path,
        value=count,
    )


def _assign_rows(official: Mapping[str, SquareImages], raw: RawDataset, request: DataRequest) -> np.ndarray:
    """Return the split (N,) int8 of each training image of the source; copies of an image stay together."""
    keys = official["train"].keys()
    identities = [keys]
    if raw.files is not None:
        identities.append(raw.files)
    group_N, key_G = duplicate_groups(*identities)
    labels = official["train"].labels
    groups = ImageGroups(group_N, key_G, np.zeros(len(keys), np.int64) if labels is None else labels)
    test_fraction = 0.0
    val_fraction = 0.0
    if request.make_splits and "test" not in official:
        test_fraction = TEST_FRACTION
    if request.make_splits and "val" not in official:
        val_fraction = request.val_fraction
    return assign_by_hash(groups, test_fraction, val_fraction)[group_N]


def _compute_fingerprint(classes: Sequence[str], splits: Mapping[str, SquareImages]) -> str:
    """Return the SHA-256, in hex, of the images of all splits, in order; with classes also of them and the labels."""
    sha = hashlib.sha256(repr(splits["train"].images.shape[1:]).encode())
    if classes:
        sha.update(repr(tuple(classes)).encode())
    for split_name in SPLITS:
        split = splits[split_name]
        sha.update(f"{split_name} {len(split)} ".encode())
        sha.update(np.ascontiguousarray(split.images).tobytes())
        if split.labels is not None:
            sha.update(split.labels.astype("<i8").tobytes())
    return sha.hexdigest()


def make_shapes(count: int = 240, image_size: int = 16, seed: int = 0) -> SquareImageDataset:
    """Draw white discs and squares of random sizes and places on black: a data set of two classes without any file."""
    rng = np.random.default_rng(seed)
    y_SS, x_SS = np.mgrid[:image_size, :image_size]
    images = np.zeros((count, image_size, image_size, 1), np.uint8)
    for index in range(count):
        radius = rng.uniform(0.15, 0.3) * image_size
        center_y, center_x = rng.uniform(radius, image_size - radius, 2)
        distance_y = np.abs(y_SS + 0.5 - center_y)
        distance_x = np.abs(x_SS + 0.5 - center_x)
        distance_SS = np.hypot(distance_y, distance_x)
        if index % 2:
            distance_SS = np.maximum(distance_y, distance_x)
        images[index, ..., 0] = (255 * (radius + 0.5 - distance_SS).clip(0, 1)).round()
    sources = [f"shape {index}" for index in range(count)]
    split = ImageSplit(images, np.arange(count, dtype=np.int64) % 2, sources)
    raw = RawDataset("drawn", "shapes", ("disc", "square"), {"train": split})
    return split_square_images(raw, "shapes", DataRequest("shapes"))
