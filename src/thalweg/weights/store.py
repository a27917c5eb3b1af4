"""Weights by name: found on this machine, or downloaded once, and proved by their sum; or a file, or another run.

Nothing is downloaded that was not asked for by name. Files are kept in the cache below weights/ (THALWEG_CACHE); those
below THALWEG_DATA/weights/ are used where they are.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DataError, ModelFileError, NotFoundError, ResourceError, did_you_mean
from ..io.download import ProgressCallback, cache_dir, fetch, is_offline
from ..io.free_memory import format_bytes
from ..io.log import log_warning
from .catalog import CATALOG, PretrainedWeights

LogCallback = Callable[[str], None]


class ResolvedWeights(NamedTuple):
    """What `--weights` meant: a weights file or a run's folder, and the row of the table if they are published ones."""

    path: Path
    row: PretrainedWeights | None


def lookup(model: str, name: str = "imagenet") -> PretrainedWeights:
    """The published weights of that name for that model. Raises NotFound, with the nearest names."""
    if (model, name) in CATALOG:
        return CATALOG[model, name]
    names = [weights for other, weights in CATALOG if other == model]
    if not names:
        raise NotFoundError.for_unknown("model with published weights", model, {model for model, _ in CATALOG})
    raise NotFoundError(f"There are no weights named '{name}' for {model}.", cure=did_you_mean(name, names))


@cache
def class_names(name: str = "imagenet") -> tuple[str, ...]:
    """The names of the classes that weights know, in the order of the network's answers. Raises NotFound."""
    folder = Path(__file__).parent
    known = {file.stem: file for file in folder.glob("*.txt")}
    if name not in known:
        raise NotFoundError.for_unknown("list of classes", name, known)
    lines = known[name].read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if line and not line.startswith("#"))


def input_spec(row: PretrainedWeights) -> dict[str, Any]:
    """What run.json holds of a classifier with these weights: classes, channels, size, resize, mean, std, ink."""
    return {
        "classes": list(class_names(row.classes)),
        "channels": 3,
        "size": [row.size, row.size],
        "resize": row.resize,
        "mean": list(row.mean),
        "std": list(row.std),
        "ink": False,
    }


def local_path(row: PretrainedWeights) -> Path:
    """The file on this machine: below THALWEG_DATA first, then in the cache, or where in the cache it would be."""
    data = [Path(os.environ["THALWEG_DATA"])] if os.environ.get("THALWEG_DATA") else []
    folders = [root / "weights" for root in (*data, cache_dir())]
    there = [folder / file for file in checksums(row) for folder in folders if os.path.isfile(folder / file)]
    return there[0] if there else folders[-1] / row.file


def checksums(row: PretrainedWeights) -> dict[str, str]:
    """The files that hold these weights, the official one first: name and SHA-256, or its beginning."""
    return {row.file: row.sha256} | {copy.file: copy.sha256 for copy in row.copies}


def ensure_downloaded(
    row: PretrainedWeights, offline: bool = False, notice: LogCallback = print, progress: ProgressCallback | None = None
) -> Path:
    """Brings the weights to this machine, if they are not here yet, and returns their file, which is the right one.

    Raises ResourceError, with the file, its address and its place, where the network may not be used or fails;
    ModelFileError for a file, downloaded now or before, with a wrong sum.
    """
    path = local_path(row)
    if os.path.isfile(path):
        return _verify(path, row)
    if offline or is_offline():
        raise ResourceError(
            f"The weights '{row.weights}' of {row.model} are not on this machine, and the network may not be used.",
            cure=f"Put {row.file} from {row.address} into {path.parent}, or allow the network.",
        )
    notice(f"{row.model}, weights '{row.weights}': {format_bytes(row.bytes)} from {row.address}")
    notice(f"licence: {row.licence}")
    told = progress or DownloadProgress(row, notice)
    try:
        return fetch(row.address, path, sha256=row.sha256, notice=notice, progress=told)
    except DataError as error:  # what is data to those who fetch is a model to those who asked
        raise ModelFileError(error.message, error.cure) from None


class DownloadProgress:
    """Turns the progress of a download into a line for every tenth of it."""

    def __init__(self, row: PretrainedWeights, notice: LogCallback):
        self.row, self.notice, self.tenth = row, notice, -1

    def __call__(self, done: int, total: int | None) -> None:
        total = total or self.row.bytes
        if (tenth := 10 * done // total) > self.tenth:
            self.tenth = tenth
            self.notice(f"{self.row.file}: {format_bytes(done)} of {format_bytes(total)}")


def _verify(path: Path, row: PretrainedWeights) -> Path:
    """`path`, if its sum is the official one."""
    expected, found = checksums(row)[path.name], _sha256(path)
    if not found.startswith(expected):
        raise ModelFileError(
            f"{path}: not the official file; its SHA-256 is {found}, expected one that begins with {expected}.",
            cure="Delete the file; it is then downloaded again.",
        )
    return path


def _sha256(path: Path) -> str:
    """The SHA-256 of a file. It is noted in the cache with the file's size and time, and read from there as long as
    these stay: half a gigabyte takes between half a second and two."""
    state = path.stat()
    known = [str(path.absolute()), state.st_size, state.st_mtime_ns]
    note = cache_dir() / "weights" / f"{path.name}.sum"
    with suppress(OSError, ValueError, TypeError, KeyError):  # a note that holds anything else is no note
        noted = json.loads(note.read_text(encoding="utf-8"))
        if noted[:-1] == known:
            return str(noted[-1])
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    with suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps([*known, found]), encoding="utf-8")
    return found


def validate_name(model: str, weights: str) -> None:
    """Raises NotFound where `weights` mean nothing for `model`: no published name, no file, no run. Fetches nothing."""
    if (model, weights) in CATALOG or any(map(os.path.isfile, (weights, os.path.join(weights, "run.json")))):
        return
    if os.path.isdir(weights):
        raise NotFoundError(
            f"{weights} is not a run: there is no run.json in it.", cure="Give a run's folder or a weights file."
        )
    names = [name for other, name in CATALOG if other == model]
    published = did_you_mean(weights, names) if names else f"None are published for {model}."
    raise NotFoundError(
        f"There are no weights '{weights}' for {model}, and no such file or run.",
        cure=f"{published} A weights file or a run's folder can be given as well.",
    )


def resolve(
    model: str,
    weights: str,
    offline: bool = False,
    notice: LogCallback = print,
    progress: ProgressCallback | None = None,
) -> ResolvedWeights:
    """What `weights` means for `model`: a published name (then it is pulled), a weights file, or a run's folder.

    Raises NotFound for anything else, and what `ensure_downloaded` raises.
    """
    validate_name(model, weights)
    row = CATALOG.get((model, weights))
    if row is not None:
        return ResolvedWeights(ensure_downloaded(row, offline, notice, progress), row)
    path = Path(weights)
    if path.is_file():
        rows = (row for (other, _), row in CATALOG.items() if other == model and path.name in checksums(row))
        row = next((row for row in rows if _sha256(path).startswith(checksums(row)[path.name])), None)
    return ResolvedWeights(path, row)


def catalog_rows() -> list[dict[str, Any]]:
    """All published weights: the columns of the table, and `local_path` they are on this machine, or None."""
    listed = []
    for row in CATALOG.values():
        path = local_path(row)
        listed.append({**asdict(row), "file": row.file, "where": str(path) if os.path.isfile(path) else None})
    return listed


# --- what the façade offers ------------------------------------------------------------------------------------------


def list_weights() -> list[dict[str, Any]]:
    """A row per set of published weights."""
    return catalog_rows()


def download_weights(
    model: str, name: str = "imagenet", offline: bool = False, progress: ProgressCallback | None = None
) -> Path:
    """Fetches published weights into the cache, if they are nowhere yet; their file. Raises what `ensure_downloaded` raises."""
    return ensure_downloaded(lookup(model, name), offline, log_warning, progress)


def get_weights_path(model: str, name: str = "imagenet") -> Path:
    """The file of published weights on this machine. Raises ResourceError, with its place, where it is not here."""
    row = lookup(model, name)
    path = local_path(row)
    if not os.path.isfile(path):
        raise ResourceError(
            f"The weights '{name}' of {model} are not on this machine; their place is {path}.",
            cure=f"Fetch them: thalweg weights pull {model}" + (f" {name}" if name != "imagenet" else ""),
        )
    return path
