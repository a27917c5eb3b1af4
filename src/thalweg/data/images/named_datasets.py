"""Reading the data sets known by name: found on this machine, or downloaded once, and proved by their sums."""

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
from ...io.download import cache_dir, fetch, is_offline
from ...io.free_memory import format_bytes
from .catalog import NAMED_DATASETS, NamedDataset, RemoteFile
from .cifar import build_cifar_dataset
from .dataset import ImageSplit
from .idx import LazyNames, build_idx_dataset
from .raw_dataset import RawDataset

LogFn = Callable[[str], None]


def find_local(known: NamedDataset) -> Path | None:
    """The folder on this machine that has all files of the set: below THALWEG_DATA first, then in the cache."""
    roots = [Path(os.environ["THALWEG_DATA"])] if os.environ.get("THALWEG_DATA") else []
    for root in [*roots, cache_dir() / "data"]:
        for folder in known.folders:
            if all((root / folder / file.name).is_file() for file in known.files):
                return root / folder
    return None


def ensure_downloaded(name: str, offline: bool = False, notice: LogFn = print) -> Path | None:
    """Brings the set to this machine and returns its folder; None for a set that came with the installation.

    Raises NotFound for another name and ResourceError, naming the files and the folder they belong in, where the
    network may not be used or fails.
    """
    if name not in NAMED_DATASETS:
        raise NotFoundError.for_unknown("data set", name, NAMED_DATASETS)
    known = NAMED_DATASETS[name]
    if not known.files:
        return None
    folder = find_local(known)
    if folder is None:
        folder = cache_dir() / "data" / known.folders[0]
        _download_files(known, folder, offline, notice)
    return folder


def _download_files(known: NamedDataset, folder: Path, offline: bool, notice: LogFn) -> None:
    missing = [file for file in known.files if not (folder / file.name).is_file()]
    if offline or is_offline():
        raise ResourceError(
            f"The data set '{known.name}' is not on this machine, and the network may not be used.",
            cure=f"Put {', '.join(f.name for f in missing)} into {folder}, or allow the network.",
        )
    wanted = [known.archive] if known.archive else missing
    for file in wanted:
        told = DownloadProgress(file, notice)
        fetch(
            known.address + file.name,
            folder / file.name,
            sha256=file.sha256,
            md5=file.md5,
            notice=notice,
            progress=told,
        )
    if known.archive:
        _extract(folder / known.archive.name, known, folder)


class DownloadProgress:
    """Turns the progress of a download into a line for every tenth of it."""

    def __init__(self, file: RemoteFile, notice: LogFn):
        self.file, self.notice, self.tenth = file, notice, -1

    def __call__(self, done: int, total: int | None) -> None:
        total = total or self.file.size
        if (tenth := 10 * done // total) > self.tenth:
            self.tenth = tenth
            self.notice(f"{self.file.name}: {format_bytes(done)} of {format_bytes(total)}")


def _extract(archive: Path, known: NamedDataset, folder: Path) -> None:
    """Takes the known files, and nothing else, out of the archive and removes it. Its paths are never used."""
    with tarfile.open(archive, "r:gz") as packed:
        for member in packed:
            wanted = next((f for f in known.files if member.isfile() and Path(member.name).name == f.name), None)
            if wanted is None or member.size != wanted.size:
                continue
            content = packed.extractfile(member).read(wanted.size)
            verify_content(content, wanted, archive)
            part = folder / (wanted.name + ".part")
            part.write_bytes(content)
            os.replace(part, folder / wanted.name)
    archive.unlink()


def verify_content(content: bytes, file: RemoteFile, where: Path) -> bytes:
    """`content`, if it is that of the official file. Raises DataError otherwise."""
    expected = file.sha256 or file.md5
    found = hashlib.new("sha256" if file.sha256 else "md5", content, usedforsecurity=False).hexdigest()
    if found != expected:
        raise DataError(
            f"{where / file.name}: not the official file; its sum is {found}, expected {expected}.",
            cure="Delete the file; it is then downloaded again.",
        )
    return content


def read_named(name: str, offline: bool, notice: LogFn) -> RawDataset:
    """The data set of that name. Raises what `get` raises, and DataError for a file with a wrong sum."""
    known, folder = NAMED_DATASETS[name], ensure_downloaded(name, offline, notice)
    if folder is None:
        found = read_digits()
    else:
        official = {file.name: file for file in known.files}

        def content(name: str) -> bytes:
            return verify_content((folder / name).read_bytes(), official[name], folder)

        paths = tuple(folder / name for name in official)
        if known.archive:
            found = build_cifar_dataset(list(official), content, folder)
        else:
            found = build_idx_dataset(
                {"train": paths[:2], "test": paths[2:]}, lambda path: content(path.name), folder, known.classes
            )
    found.is_handwriting = known.is_handwriting
    found.split_method = known.split_method
    return found


def read_digits() -> RawDataset:
    """scikit-learn's digits: 1,797 pictures (8, 8), 0 to 16 brought to 0 to 255.

    The table is read from the installed package without importing it, which would take a second.
    """
    package = importlib.util.find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise ResourceError("scikit-learn, which brings the digits, is not installed.", cure="pip install scikit-learn")
    path = Path(package.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
    with gzip.open(path, "rt", encoding="ascii") as file:
        table = np.loadtxt(file, delimiter=",")
    images = np.round(table[:, :64] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    split = ImageSplit(images, table[:, 64].astype(np.int64), LazyNames("digits", len(images)))
    return RawDataset("scikit-learn's digits", str(path), NAMED_DATASETS["digits"].classes, {"train": split})


def list_datasets() -> list[dict[str, object]]:
    """The data sets known by name: name, about, pictures, classes, bytes to download, licence, where it is or None."""
    listed = []
    for known in NAMED_DATASETS.values():
        size = known.archive.size if known.archive else sum(f.size for f in known.files)
        where = find_local(known) if known.files else "installed"
        listed.append(
            {
                "name": known.name,
                "about": known.about,
                "pictures": known.pictures,
                "classes": len(known.classes),
                "bytes": size,
                "licence": known.licence,
                "where": str(where) if where else None,
            }
        )
    return listed
