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
from .idx import from_labels
from .raw_dataset import Found

TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST, META = "test_batch", "batches.meta"


class _Array:
    """Stands for a pickled array; keeps its state, from which the pixels are taken after checks of our own."""

    __slots__ = ("state",)

    def __init__(self, state: object = None):
        self.state = state

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Kind:
    """Stands for a pickled number format; keeps its code, such as 'u1'."""

    __slots__ = ("code",)

    def __init__(self, code: object = None, *_: object):
        self.code = code

    def __setstate__(self, state: object) -> None:
        """The byte order and other details; single bytes, the only format accepted, have none."""


class _Word:
    """One of the words that the reader knows: can be called by the pickle, and not altered by it."""

    __slots__ = ("_answer",)

    def __init__(self, answer):
        self._answer = answer

    def __call__(self, *arguments: object) -> object:
        return self._answer(*arguments)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("it alters the reader")


def _text(text: object, code: object = "latin1", *_: object) -> bytes:
    """What Python 3 writes for bytes in an old pickle: a text and the name of its code."""
    if not isinstance(text, str) or code not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("it decodes something that is no text")
    return text.encode("latin1")


_WORDS = {
    ("numpy.core.multiarray", "_reconstruct"): lambda *_: _Array(),
    ("numpy._core.multiarray", "_reconstruct"): lambda *_: _Array(),
    ("numpy._core.numeric", "_frombuffer"): lambda content, kind, shape, order: _Array(
        (5, shape, kind, order != "C", content)
    ),
    ("numpy", "ndarray"): lambda *_: _Array(),
    ("numpy", "dtype"): _Kind,
    ("_codecs", "encode"): _text,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> _Word:
        if (module, name) not in _WORDS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _Word(_WORDS[module, name])


def unpack(content: bytes, name: str) -> dict[str, object]:
    """The dictionary in a batch: texts as keys, pixels as (N, bytes) uint8. Raises DataError for all but plain data."""
    try:
        table = _Reader(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a damaged pickle may raise anything
        raise _refused(name, str(error)) from None
    if not isinstance(table, dict):
        raise _refused(name, "it holds no dictionary")
    named = {k.decode("latin1") if isinstance(k, bytes) else str(k): v for k, v in table.items()}
    return {k: _pixels(v, name) if isinstance(v, _Array) else v for k, v in named.items()}


def _pixels(array: _Array, name: str) -> np.ndarray:
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
        raise _refused(name, "its array is not one of bytes") from None


def _refused(name: str, why: str) -> DataError:
    return DataError(
        f"{name}: not a CIFAR batch, or a damaged one: {why}. Nothing of it was run.",
        cure="Download the official cifar-10-python.tar.gz again.",
    )


def is_batch(path: Path) -> bool:
    """Whether the name is that of one of the files of CIFAR-10."""
    return path.name in (*TRAIN, TEST, META)


def is_cifar(path: Path) -> bool:
    """Whether the folder, or cifar-10-batches-py in it, holds batches."""
    return (_inner(path) / TRAIN[0]).is_file()


def _inner(path: Path) -> Path:
    inner = path / "cifar-10-batches-py"
    return inner if inner.is_dir() else path


def read_cifar(path: Path) -> Found:
    """The set in a folder of python batches; as many of the five training batches as are there."""
    folder = _inner(path)
    names = [n for n in (*TRAIN, TEST, META) if (folder / n).is_file()]
    if META not in names:
        raise DataError(f"{folder}: the file {META} with the names of the classes is missing.", cure="Put it there.")
    return assemble_cifar(names, lambda name: (folder / name).read_bytes(), folder)


def assemble_cifar(files: Sequence[str], content: Callable[[str], bytes], path: Path) -> Found:
    """The set from files by name; `content` gives the bytes of each, one at a time to spare memory."""
    meta = unpack(content(META), META)
    names = meta.get("label_names")
    if not isinstance(names, list) or not all(isinstance(n, (bytes, str)) for n in names):
        raise _refused(META, "it holds no list label_names")
    classes = tuple(n.decode("utf-8", "replace") if isinstance(n, bytes) else n for n in names)
    images, labels = {}, {}
    for part, batches in (("train", TRAIN), ("test", (TEST,))):
        read = [_batch(content(b), b) for b in batches if b in files]
        if read:
            images[part] = (TEST if part == "test" else "data_batch", np.concatenate([r[0] for r in read]))
            labels[part] = np.concatenate([r[1] for r in read])
    return from_labels("CIFAR python batches", path, images, labels, classes)


def _batch(content: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (N, 32, 32, 3) uint8 and labels (N,) int64 of one batch, whose rows are 1,024 reds, greens and blues."""
    table = unpack(content, name)
    data, labels = table.get("data"), table.get("labels")
    if not isinstance(data, np.ndarray) or data.shape[1] != 3072:
        raise _refused(name, "it holds no data of rows of 3072 bytes")
    if not isinstance(labels, list) or not all(isinstance(v, int) for v in labels) or len(labels) != len(data):
        told = len(labels) if isinstance(labels, list) else "no"
        raise _refused(name, f"it holds {len(data):,} pictures and {told} labels")
    return np.ascontiguousarray(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), np.array(labels, np.int64)
