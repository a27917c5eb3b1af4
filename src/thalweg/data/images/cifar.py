"""The python batches of CIFAR-10 (Krizhevsky 2009), which are pickles, read without trusting them.

A pickle is a program. Here it runs on a reader that knows two words of its language, "make an array" and "decode a
text", and both are answered by classes of this file that only keep what they are given: no function of NumPy or of any
other package can be reached, and any other name is refused before it is looked up.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ...errors import DataError
from .idx import dataset_from_arrays
from .raw_dataset import RawDataset

TRAIN_FILES = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST_FILE, META_FILE = "test_batch", "batches.meta"


class _PickledArray:
    """Stands for a pickled array; keeps its state, from which the pixels are taken after checks of our own."""

    __slots__ = ("state",)

    def __init__(self, state: object = None):
        self.state = state

    def __setstate__(self, state: object) -> None:
        self.state = state


class _PickledDtype:
    """Stands for a pickled number format; keeps its code, such as 'u1'."""

    __slots__ = ("code",)

    def __init__(self, code: object = None, *_: object):
        self.code = code

    def __setstate__(self, state: object) -> None:
        """The byte order and other details; single bytes, the only format accepted, have none."""


class _AllowedGlobal:
    """One of the words that the reader knows: can be called by the pickle, and not altered by it."""

    __slots__ = ("_answer",)

    def __init__(self, answer):
        self._answer = answer

    def __call__(self, *arguments: object) -> object:
        return self._answer(*arguments)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("it alters the reader")


def _encode_text(text: object, code: object = "latin1", *_: object) -> bytes:
    """What Python 3 writes for bytes in an old pickle: a text and the name of its code."""
    if not isinstance(text, str) or code not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("it decodes something that is no text")
    return text.encode("latin1")


_ALLOWED_GLOBALS = {
    ("numpy.core.multiarray", "_reconstruct"): lambda *_: _PickledArray(),
    ("numpy._core.multiarray", "_reconstruct"): lambda *_: _PickledArray(),
    ("numpy._core.numeric", "_frombuffer"): lambda content, kind, shape, order: _PickledArray(
        (5, shape, kind, order != "C", content)
    ),
    ("numpy", "ndarray"): lambda *_: _PickledArray(),
    ("numpy", "dtype"): _PickledDtype,
    ("_codecs", "encode"): _encode_text,
}


class _SafeUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> _AllowedGlobal:
        if (module, name) not in _ALLOWED_GLOBALS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _AllowedGlobal(_ALLOWED_GLOBALS[module, name])


def safe_unpickle(content: bytes, name: str) -> dict[str, object]:
    """The dictionary in a batch: texts as keys, pixels as (N, bytes) uint8. Raises DataError for all but plain data."""
    try:
        table = _SafeUnpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a damaged pickle may raise anything
        raise _unpickle_error(name, str(error)) from None
    if not isinstance(table, dict):
        raise _unpickle_error(name, "it holds no dictionary")
    named = {k.decode("latin1") if isinstance(k, bytes) else str(k): v for k, v in table.items()}
    return {k: _extract_pixels(v, name) if isinstance(v, _PickledArray) else v for k, v in named.items()}


def _extract_pixels(array: _PickledArray, name: str) -> np.ndarray:
    try:
        _, shape, kind, transposed, content = array.state
        fine = (
            kind.code in ("u1", b"u1")
            and not transposed
            and len(shape) == 2
            and isinstance(content, (bytes, bytearray))
        )
        return np.frombuffer(content, np.uint8).reshape(shape) if fine else None
    except (AttributeError, TypeError, ValueError):
        raise _unpickle_error(name, "its array is not one of bytes") from None


def _unpickle_error(name: str, why: str) -> DataError:
    return DataError(
        f"{name}: not a CIFAR batch, or a damaged one: {why}. Nothing of it was run.",
        cure="Download the official cifar-10-python.tar.gz again.",
    )


def is_cifar_batch(path: Path) -> bool:
    """Whether the name is that of one of the files of CIFAR-10."""
    return path.name in (*TRAIN_FILES, TEST_FILE, META_FILE)


def is_cifar(path: Path) -> bool:
    """Whether the folder, or cifar-10-batches-py in it, holds batches."""
    return (_batches_dir(path) / TRAIN_FILES[0]).is_file()


def _batches_dir(path: Path) -> Path:
    inner = path / "cifar-10-batches-py"
    return inner if inner.is_dir() else path


def read_cifar(path: Path) -> RawDataset:
    """The set in a folder of python batches; as many of the five training batches as are there."""
    folder = _batches_dir(path)
    names = [n for n in (*TRAIN_FILES, TEST_FILE, META_FILE) if (folder / n).is_file()]
    if META_FILE not in names:
        raise DataError(
            f"{folder}: the file {META_FILE} with the names of the classes is missing.", cure="Put it there."
        )
    return build_cifar_dataset(names, lambda name: (folder / name).read_bytes(), folder)


def build_cifar_dataset(files: Sequence[str], content: Callable[[str], bytes], path: Path) -> RawDataset:
    """The set from files by name; `content` gives the bytes of each, one at a time to spare memory."""
    meta = safe_unpickle(content(META_FILE), META_FILE)
    names = meta.get("label_names")
    if not isinstance(names, list) or not all(isinstance(n, (bytes, str)) for n in names):
        raise _unpickle_error(META_FILE, "it holds no list label_names")
    classes = tuple(n.decode("utf-8", "replace") if isinstance(n, bytes) else n for n in names)
    images, labels = {}, {}
    for part, batches in (("train", TRAIN_FILES), ("test", (TEST_FILE,))):
        read = [_read_batch(content(b), b) for b in batches if b in files]
        if read:
            images[part] = (TEST_FILE if part == "test" else "data_batch", np.concatenate([r[0] for r in read]))
            labels[part] = np.concatenate([r[1] for r in read])
    return dataset_from_arrays("CIFAR python batches", path, images, labels, classes)


def _read_batch(content: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (N, 32, 32, 3) uint8 and labels (N,) int64 of one batch, whose rows are 1,024 reds, greens and blues."""
    table = safe_unpickle(content, name)
    data, labels = table.get("data"), table.get("labels")
    if not isinstance(data, np.ndarray) or data.shape[1] != 3072:
        raise _unpickle_error(name, "it holds no data of rows of 3072 bytes")
    if not isinstance(labels, list) or not all(isinstance(v, int) for v in labels) or len(labels) != len(data):
        told = len(labels) if isinstance(labels, list) else "no"
        raise _unpickle_error(name, f"it holds {len(data):,} pictures and {told} labels")
    return np.ascontiguousarray(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), np.array(labels, np.int64)
