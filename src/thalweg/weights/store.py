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

from ..data.images.load import tell
from ..errors import DataError, ModelFileError, NotFound, ResourceError, did_you_mean
from ..io.download import Progress, cache_folder, fetch, is_offline
from ..io.free_memory import in_words
from .catalog import PUBLISHED, Published

Notice = Callable[[str], None]


class Resolved(NamedTuple):
    """What `--weights` meant: a weights file or a run's folder, and the row of the table if they are published ones."""

    path: Path
    row: Published | None


def find(model: str, name: str = "imagenet") -> Published:
    """The published weights of that name for that model. Raises NotFound, with the nearest names."""
    if (model, name) in PUBLISHED:
        return PUBLISHED[model, name]
    names = [weights for other, weights in PUBLISHED if other == model]
    if not names:
        raise NotFound.among("model with published weights", model, {model for model, _ in PUBLISHED})
    raise NotFound(f"There are no weights named '{name}' for {model}.", cure=did_you_mean(name, names))


@cache
def classes(name: str = "imagenet") -> tuple[str, ...]:
    """The names of the classes that weights know, in the order of the network's answers. Raises NotFound."""
    folder = Path(__file__).parent
    known = {file.stem: file for file in folder.glob("*.txt")}
    if name not in known:
        raise NotFound.among("list of classes", name, known)
    lines = known[name].read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if line and not line.startswith("#"))


def facts(row: Published) -> dict[str, Any]:
    """What run.json holds of a classifier with these weights: classes, channels, size, resize, mean, std, ink."""
    return {
        "classes": list(classes(row.classes)),
        "channels": 3,
        "size": [row.size, row.size],
        "resize": row.resize,
        "mean": list(row.mean),
        "std": list(row.std),
        "ink": False,
    }


def where(row: Published) -> Path:
    """The file on this machine: below THALWEG_DATA first, then in the cache, or where in the cache it would be."""
    data = [Path(os.environ["THALWEG_DATA"])] if os.environ.get("THALWEG_DATA") else []
    folders = [root / "weights" for root in (*data, cache_folder())]
    there = [folder / file for file in sums(row) for folder in folders if os.path.isfile(folder / file)]
    return there[0] if there else folders[-1] / row.file


def sums(row: Published) -> dict[str, str]:
    """The files that hold these weights, the official one first: name and SHA-256, or its beginning."""
    return {row.file: row.sha256} | {copy.file: copy.sha256 for copy in row.copies}


def pull(row: Published, offline: bool = False, notice: Notice = print, progress: Progress | None = None) -> Path:
    """Brings the weights to this machine, if they are not here yet, and returns their file, which is the right one.

    Raises ResourceError, with the file, its address and its place, where the network may not be used or fails;
    ModelFileError for a file, downloaded now or before, with a wrong sum.
    """
    path = where(row)
    if os.path.isfile(path):
        return _proved(path, row)
    if offline or is_offline():
        raise ResourceError(
            f"The weights '{row.weights}' of {row.model} are not on this machine, and the network may not be used.",
            cure=f"Put {row.file} from {row.address} into {path.parent}, or allow the network.",
        )
    notice(f"{row.model}, weights '{row.weights}': {in_words(row.bytes)} from {row.address}")
    notice(f"licence: {row.licence}")
    told = progress or Tenths(row, notice)
    try:
        return fetch(row.address, path, sha256=row.sha256, notice=notice, progress=told)
    except DataError as error:  # what is data to those who fetch is a model to those who asked
        raise ModelFileError(error.message, error.cure) from None


class Tenths:
    """Turns the progress of a download into a line for every tenth of it."""

    def __init__(self, row: Published, notice: Notice):
        self.row, self.notice, self.tenth = row, notice, -1

    def __call__(self, done: int, total: int | None) -> None:
        total = total or self.row.bytes
        if (tenth := 10 * done // total) > self.tenth:
            self.tenth = tenth
            self.notice(f"{self.row.file}: {in_words(done)} of {in_words(total)}")


def _proved(path: Path, row: Published) -> Path:
    """`path`, if its sum is the official one."""
    expected, found = sums(row)[path.name], _sum(path)
    if not found.startswith(expected):
        raise ModelFileError(
            f"{path}: not the official file; its SHA-256 is {found}, expected one that begins with {expected}.",
            cure="Delete the file; it is then downloaded again.",
        )
    return path


def _sum(path: Path) -> str:
    """The SHA-256 of a file. It is noted in the cache with the file's size and time, and read from there as long as
    these stay: half a gigabyte takes between half a second and two."""
    state = path.stat()
    known = [str(path.absolute()), state.st_size, state.st_mtime_ns]
    note = cache_folder() / "weights" / f"{path.name}.sum"
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


def check(model: str, weights: str) -> None:
    """Raises NotFound where `weights` mean nothing for `model`: no published name, no file, no run. Fetches nothing."""
    if (model, weights) in PUBLISHED or any(map(os.path.isfile, (weights, os.path.join(weights, "run.json")))):
        return
    if os.path.isdir(weights):
        raise NotFound(
            f"{weights} is not a run: there is no run.json in it.", cure="Give a run's folder or a weights file."
        )
    names = [name for other, name in PUBLISHED if other == model]
    published = did_you_mean(weights, names) if names else f"None are published for {model}."
    raise NotFound(
        f"There are no weights '{weights}' for {model}, and no such file or run.",
        cure=f"{published} A weights file or a run's folder can be given as well.",
    )


def resolve(
    model: str, weights: str, offline: bool = False, notice: Notice = print, progress: Progress | None = None
) -> Resolved:
    """What `weights` means for `model`: a published name (then it is pulled), a weights file, or a run's folder.

    Raises NotFound for anything else, and what `pull` raises.
    """
    check(model, weights)
    row = PUBLISHED.get((model, weights))
    if row is not None:
        return Resolved(pull(row, offline, notice, progress), row)
    path = Path(weights)
    if path.is_file():
        rows = (row for (other, _), row in PUBLISHED.items() if other == model and path.name in sums(row))
        row = next((row for row in rows if _sum(path).startswith(sums(row)[path.name])), None)
    return Resolved(path, row)


def rows() -> list[dict[str, Any]]:
    """All published weights: the columns of the table, and `where` they are on this machine, or None."""
    listed = []
    for row in PUBLISHED.values():
        path = where(row)
        listed.append({**asdict(row), "file": row.file, "where": str(path) if os.path.isfile(path) else None})
    return listed


# --- what the façade offers ------------------------------------------------------------------------------------------


def weights_list() -> list[dict[str, Any]]:
    """A row per set of published weights."""
    return rows()


def weights_pull(model: str, name: str = "imagenet", offline: bool = False, progress: Progress | None = None) -> Path:
    """Fetches published weights into the cache, if they are nowhere yet; their file. Raises what `pull` raises."""
    return pull(find(model, name), offline, tell, progress)


def weights_where(model: str, name: str = "imagenet") -> Path:
    """The file of published weights on this machine. Raises ResourceError, with its place, where it is not here."""
    row = find(model, name)
    path = where(row)
    if not os.path.isfile(path):
        raise ResourceError(
            f"The weights '{name}' of {model} are not on this machine; their place is {path}.",
            cure=f"Fetch them: thalweg weights pull {model}" + (f" {name}" if name != "imagenet" else ""),
        )
    return path
