"""Read the named datasets: found on this machine, or downloaded once, and verified by checksum."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ...errors import DataError, NotFoundError, ResourceError
from ...io.download import DownloadOptions, DownloadProgress, cache_dir, data_roots, fetch, is_offline
from ..base import NamedData
from .catalog import NAMED_DATASETS, NamedDataset, RemoteFile
from .cifar import build_cifar_dataset
from .dataset import ImageSplit
from .idx import LazyNames, build_idx_dataset
from .raw_dataset import RawDataset

LogFn = Callable[[str], None]

#: the digits have levels from 0 to 16
_MAX_DIGITS_LEVEL = 16


def find_local(dataset: NamedDataset) -> Path | None:
    """Return the folder that has all files of a dataset, below THALWEG_DATA or in the cache; None if there is none."""
    for root in data_roots():
        for folder in dataset.folders:
            if all((root / folder / file.name).is_file() for file in dataset.files):
                return root / folder
    return None


def ensure_downloaded(name: str, offline: bool = False, notice: LogFn = print) -> Path | None:
    """Download a named dataset unless it is on this machine, and return its folder; None if a package contains it.

    Raises:
        NotFoundError: There is no dataset of this name.
        ResourceError: The network is not allowed or fails. The cure names the files and their folder.
    """
    if name not in NAMED_DATASETS:
        raise NotFoundError.for_unknown("dataset", name, NAMED_DATASETS)
    dataset = NAMED_DATASETS[name]
    if not dataset.files:
        return None
    folder = find_local(dataset)
    if folder is None:
        folder = cache_dir() / "data" / dataset.folders[0]
        _download_files(dataset, folder, offline, notice)
    return folder


def _download_files(dataset: NamedDataset, folder: Path, offline: bool, log: LogFn) -> None:
    missing = [file for file in dataset.files if not (folder / file.name).is_file()]
    if offline or is_offline():
        names = [file.name for file in missing]
        raise ResourceError(
            f"The dataset '{dataset.name}' is not on this machine, and the network is not allowed.",
            cure=f"Put {', '.join(names)} into {folder}, or allow the network.",
            path=folder,
            value=names,
        )
    if dataset.archive:
        _download_file(dataset, dataset.archive, folder, log)
        _extract(folder / dataset.archive.name, dataset, folder)
        return
    for file in missing:
        _download_file(dataset, file, folder, log)


def _download_file(dataset: NamedDataset, file: RemoteFile, folder: Path, log: LogFn) -> None:
    fetch(
        dataset.base_url + file.name,
        folder / file.name,
        sha256=file.sha256,
        notice=log,
        progress=DownloadProgress(file.name, file.size, log),
        options=DownloadOptions(md5=file.md5),
    )


def _extract(archive: Path, dataset: NamedDataset, folder: Path) -> None:
    """Extract the official files, and nothing else, and delete the archive. Paths in the archive are never used."""
    expected = {file.name: file for file in dataset.files}
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            file = expected.get(Path(member.name).name)
            stream = tar.extractfile(member) if member.isfile() else None
            if file is None or stream is None or member.size != file.size:
                continue
            content = verify_content(stream.read(file.size), file, archive)
            part = folder / (file.name + ".part")
            part.write_bytes(content)
            os.replace(part, folder / file.name)
    archive.unlink()


def verify_content(content: bytes, file: RemoteFile, folder: Path) -> bytes:
    """Return `content` if it is that of the official file. Raises DataError otherwise."""
    algorithm = "sha256" if file.sha256 else "md5"
    expected = file.sha256 or file.md5
    actual = hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()
    if actual != expected:
        raise DataError(
            f"{folder / file.name}: not the official file; its {algorithm} is {actual}, expected {expected}.",
            cure="Delete the file; it is then downloaded again.",
            path=folder / file.name,
            value=actual,
        )
    return content


def read_named(name: str, offline: bool, log: LogFn) -> RawDataset:
    """Read a named dataset. Raises the errors of `ensure_downloaded`, and DataError for a wrong checksum."""
    dataset = NAMED_DATASETS[name]
    folder = ensure_downloaded(name, offline, log)
    if folder is None:
        raw = read_digits()
    elif dataset.archive:
        raw = build_cifar_dataset([file.name for file in dataset.files], _verified_reader(dataset, folder), folder)
    else:
        raw = _read_mnist_files(dataset, folder)
    raw.is_handwriting = dataset.is_handwriting
    raw.split_method = dataset.split_method
    return raw


def _verified_reader(dataset: NamedDataset, folder: Path) -> Callable[[str], bytes]:
    """Return a function that reads an official file by name and verifies it."""
    files = {file.name: file for file in dataset.files}

    def read(name: str) -> bytes:
        return verify_content((folder / name).read_bytes(), files[name], folder)

    return read


def _read_mnist_files(dataset: NamedDataset, folder: Path) -> RawDataset:
    """Read four IDX files: images and labels of train and test."""
    read = _verified_reader(dataset, folder)
    train_images, train_labels, test_images, test_labels = (folder / file.name for file in dataset.files)
    files = {"train": (train_images, train_labels), "test": (test_images, test_labels)}
    return build_idx_dataset(files, lambda path: read(path.name), folder, dataset.classes)


def read_digits() -> RawDataset:
    """Read scikit-learn's digits: 1,797 images (8, 8) with levels 0 to 16, scaled to 0 to 255.

    The table is read from the installed package without importing it, which would take a second.
    """
    package = importlib.util.find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise ResourceError(
            "The digits are part of scikit-learn, which is not installed.", cure="pip install scikit-learn"
        )
    path = Path(package.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
    with gzip.open(path, "rt", encoding="ascii") as file:
        table = np.loadtxt(file, delimiter=",")
    images = np.round(table[:, :64] * (255 / _MAX_DIGITS_LEVEL)).astype(np.uint8).reshape(-1, 8, 8, 1)
    split = ImageSplit(images, table[:, 64].astype(np.int64), LazyNames("digits", len(images)))
    return RawDataset("scikit-learn's digits", str(path), NAMED_DATASETS["digits"].classes, {"train": split})


def list_named_images() -> list[NamedData]:
    """List the named datasets, with the bytes to download and where they are."""
    rows = []
    for dataset in NAMED_DATASETS.values():
        folder = find_local(dataset) if dataset.files else "installed"
        files = (dataset.archive,) if dataset.archive else dataset.files
        rows.append(
            NamedData(
                dataset.name,
                dataset.description,
                f"{dataset.num_images}; {len(dataset.classes)} classes",
                dataset.license,
                where=str(folder) if folder else None,
                bytes=sum(file.size for file in files),
                fetch=lambda offline, log, name=dataset.name: ensure_downloaded(name, offline, log),
                suffix=":.*",
                details={"images": dataset.num_images, "classes": len(dataset.classes)},
            )
        )
    return rows
