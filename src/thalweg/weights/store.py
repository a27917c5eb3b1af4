"""Find weights by name on this machine, or download and verify them.

Nothing is downloaded that was not requested by name. Downloads are kept in the cache folder below weights/
(THALWEG_CACHE); files below THALWEG_DATA/weights/ are used in place.
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
    """The meaning of `--weights`: a weights file or a run folder, and the catalog entry of published weights."""

    path: Path
    row: PretrainedWeights | None


def lookup(model: str, name: str = "imagenet") -> PretrainedWeights:
    """Return the published weights `name` of a model. Raises NotFoundError, with the nearest names."""
    if (model, name) in CATALOG:
        return CATALOG[model, name]
    names = _names_of(model)
    if not names:
        models = {model for model, _ in CATALOG}
        raise NotFoundError.for_unknown("model with published weights", model, models)
    raise NotFoundError(
        f"{model} has no weights named '{name}'.", did_you_mean(name, names), value=name, allowed=sorted(names)
    )


def _names_of(model: str) -> list[str]:
    return [name for other, name in CATALOG if other == model]


@cache
def class_names(name: str = "imagenet") -> tuple[str, ...]:
    """Return the class names of a list, in the order of the model's outputs. Raises NotFoundError."""
    files = {file.stem: file for file in Path(__file__).parent.glob("*.txt")}
    if name not in files:
        raise NotFoundError.for_unknown("list of classes", name, files)
    lines = files[name].read_text(encoding="utf-8").splitlines()
    names = []
    for line in lines:
        if line and not line.startswith("#"):
            names.append(line)
    return tuple(names)


def input_spec(row: PretrainedWeights) -> dict[str, Any]:
    """Return the classes and the preprocessing of a classifier with these weights."""
    return {
        "classes": list(class_names(row.classes)),
        "channels": 3,
        "size": [row.size, row.size],
        "resize": row.resize,
        "mean": list(row.mean),
        "std": list(row.std),
        "handwriting": False,
    }


def local_path(row: PretrainedWeights) -> Path:
    """Return the file on this machine, in THALWEG_DATA or the cache; if there is none, its future path in the cache."""
    roots = [cache_dir()]
    if os.environ.get("THALWEG_DATA"):
        roots.insert(0, Path(os.environ["THALWEG_DATA"]))
    for file in checksums(row):
        for root in roots:
            path = root / "weights" / file
            if os.path.isfile(path):
                return path
    return cache_dir() / "weights" / row.file


def checksums(row: PretrainedWeights) -> dict[str, str]:
    """Return the names of the files with these weights, the official one first, and their SHA-256 or its beginning."""
    sums = {row.file: row.sha256}
    for alternate in row.alternates:
        sums[alternate.file] = alternate.sha256
    return sums


def ensure_downloaded(
    row: PretrainedWeights, offline: bool = False, log: LogCallback = print, progress: ProgressCallback | None = None
) -> Path:
    """Download the weights if they are not on this machine, and verify the file.

    Args:
        row: The weights.
        offline: Never download.
        log: Receives messages.
        progress: Receives the bytes that are done and the total; by default, every tenth is logged.

    Returns:
        The file.

    Raises:
        ResourceError: If the network is not allowed or fails.
        ModelFileError: If the checksum is wrong.
    """
    path = local_path(row)
    if os.path.isfile(path):
        return _verify(path, row)
    if offline or is_offline():
        raise ResourceError(
            f"The weights '{row.weights}' of {row.model} are not on this machine, and the network is not allowed.",
            cure=f"Save {row.address} as {path.parent / row.file}, or allow the network.",
            path=path,
            value=row.address,
        )
    log(f"{row.model}, weights '{row.weights}': {format_bytes(row.bytes)} from {row.address}")
    log(f"license: {row.license}")
    try:
        return fetch(row.address, path, sha256=row.sha256, notice=log, progress=progress or DownloadProgress(row, log))
    except DataError as error:  # fetch() raises DataError; here the file is a model
        raise ModelFileError(error.message, error.cure, path=path, value=row.address) from None


class DownloadProgress:
    """Log a line for every tenth of a download."""

    def __init__(self, row: PretrainedWeights, log: LogCallback):
        self.row = row
        self.log = log
        self.tenth = -1

    def __call__(self, done: int, total: int | None) -> None:
        """Log `done` of `total` bytes, if another tenth is complete."""
        total = total or self.row.bytes
        tenth = 10 * done // total
        if tenth > self.tenth:
            self.tenth = tenth
            self.log(f"{self.row.file}: {format_bytes(done)} of {format_bytes(total)}")


def _verify(path: Path, row: PretrainedWeights) -> Path:
    """Return `path` if its checksum is the official one. Raises ModelFileError if not."""
    expected = checksums(row)[path.name]
    checksum = _sha256(path)
    if not checksum.startswith(expected):
        raise ModelFileError(
            f"{path} is not the official file: its SHA-256 is {checksum}; expected {expected}….",
            cure="Delete the file; it is then downloaded again.",
            path=path,
            value=checksum,
            allowed=[expected],
        )
    return path


def _sha256(path: Path) -> str:
    """Return the SHA-256 of a file.

    It is cached with the file's size and time, because hashing half a gigabyte takes between half a second and two.
    """
    status = path.stat()
    key = [str(path.absolute()), status.st_size, status.st_mtime_ns]
    cache_file = cache_dir() / "weights" / f"{path.name}.sum"
    with suppress(OSError, ValueError, TypeError, KeyError):  # a damaged cache file is replaced
        cached = json.loads(cache_file.read_text(encoding="utf-8"))
        if cached[:-1] == key:
            return str(cached[-1])
    with path.open("rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    with suppress(OSError):
        cache_file.parent.mkdir(parents=True, exist_ok=True)
        cache_file.write_text(json.dumps([*key, checksum]), encoding="utf-8")
    return checksum


def validate_name(model: str, weights: str) -> None:
    """Raise NotFoundError if `weights` is no published name, file or run for the model. Downloads nothing."""
    is_file = os.path.isfile(weights) or os.path.isfile(os.path.join(weights, "run.json"))
    if (model, weights) in CATALOG or is_file:
        return
    if os.path.isdir(weights):
        raise NotFoundError(
            f"{weights} is not a run: it has no run.json.",
            cure="Use a run folder or a weights file.",
            path=weights,
            value=weights,
        )
    names = _names_of(model)
    hint = f"No weights are published for {model}."
    if names:
        hint = did_you_mean(weights, names)
    raise NotFoundError(
        f"Unknown weights for {model}: '{weights}'; expected a published name, a weights file or a run folder.",
        cure=f"{hint} A weights file or a run folder works too.",
        value=weights,
        allowed=sorted(names),
    )


def resolve(
    model: str,
    weights: str,
    offline: bool = False,
    log: LogCallback = print,
    progress: ProgressCallback | None = None,
) -> ResolvedWeights:
    """Find out what `weights` means for a model.

    Args:
        model: The name of the model.
        weights: A published name, which is downloaded if needed, a weights file, or a run folder.
        offline: Never download.
        log: Receives messages.
        progress: Receives the progress of a download.

    Returns:
        The path, and the catalog entry if the weights are published ones.

    Raises:
        NotFoundError: If it means nothing; and what `ensure_downloaded` raises.
    """
    validate_name(model, weights)
    row = CATALOG.get((model, weights))
    if row is not None:
        return ResolvedWeights(ensure_downloaded(row, offline, log, progress), row)
    path = Path(weights)
    if path.is_file():
        return ResolvedWeights(path, _recognize(path, model))
    return ResolvedWeights(path, None)


def _recognize(path: Path, model: str) -> PretrainedWeights | None:
    """Return the published weights of `model` that a file holds, by its name and checksum."""
    for (other, _), row in CATALOG.items():
        expected = checksums(row).get(path.name)
        if other == model and expected is not None and _sha256(path).startswith(expected):
            return row
    return None


def catalog_rows() -> list[dict[str, Any]]:
    """Return all published weights as dicts; `where` is the file on this machine, or None."""
    rows = []
    for row in CATALOG.values():
        path = local_path(row)
        where = str(path) if os.path.isfile(path) else None
        rows.append({**asdict(row), "file": row.file, "where": where})
    return rows


# --- for thalweg.api -------------------------------------------------------------------------------------------------


def list_weights() -> list[dict[str, Any]]:
    """Return one row for each set of published weights."""
    return catalog_rows()


def download_weights(
    model: str, name: str = "imagenet", offline: bool = False, progress: ProgressCallback | None = None
) -> Path:
    """Download published weights to the cache, if they are not on this machine.

    Args:
        model: The name of the model.
        name: The name of the weights.
        offline: Never download.
        progress: Receives the progress of the download.

    Returns:
        The file.

    Raises:
        NotFoundError: If there are no such weights; and what `ensure_downloaded` raises.
    """
    return ensure_downloaded(lookup(model, name), offline, log_warning, progress)


def get_weights_path(model: str, name: str = "imagenet") -> Path:
    """Return the file of published weights on this machine. Raises ResourceError if it is not there."""
    row = lookup(model, name)
    path = local_path(row)
    if not os.path.isfile(path):
        words = ["thalweg weights download", model]
        if name != "imagenet":
            words.append(name)
        raise ResourceError(
            f"The weights '{name}' of {model} are not on this machine; expected {path}.",
            cure=f"Download them: {' '.join(words)}",
            path=path,
        )
    return path
