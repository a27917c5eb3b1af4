"""Arrays in one file of the cache, written in one step; a damaged or foreign file counts as missing."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from ...errors import ResourceError
from ...io.atomic_write import atomic_write
from ...io.download import cache_dir


def cache_path(kind: str, subject: str) -> Path:
    """Return the file of the cache for what is known about `subject`, such as the path of a folder."""
    return cache_dir() / kind / f"{hashlib.sha256(_to_bytes(subject)).hexdigest()[:32]}.npz"


def save_arrays(path: Path, subject: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays by name. A cache that cannot be written only costs time, so failures are ignored."""
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, subject=pack_texts([subject]), **dict(arrays))
    with suppress(ResourceError, OSError):
        atomic_write(path, file.getvalue())


def load_arrays(path: Path, subject: str) -> dict[str, np.ndarray] | None:
    """Return the arrays that were saved for `subject`; None if there are none, or the file is damaged."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return arrays if unpack_texts(arrays.pop("subject")) == [subject] else None
    except Exception:  # noqa: BLE001 - a damaged file may raise anything
        return None


def pack_texts(texts: Sequence[str]) -> np.ndarray:
    """Return texts as one array of bytes (n,) uint8, with a zero byte between them."""
    return np.frombuffer(_to_bytes("\0".join(texts)), np.uint8)


def unpack_texts(joined: np.ndarray) -> list[str]:
    """Return the texts that `pack_texts` joined; no bytes are one empty text."""
    return joined.tobytes().decode("utf-8", "surrogateescape").split("\0")


def _to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
