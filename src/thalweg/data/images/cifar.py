"""Read the Python batches of CIFAR-10 (Krizhevsky 2009), which are pickles, without trusting them.

A pickle is a program. Here it runs on a reader that knows two operations, "make an array" and "decode a text", and
both are performed by classes of this file that only store their arguments. No function of NumPy or of any other
package can be reached; every other name is rejected before it is looked up.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError
from .idx import dataset_from_arrays
from .raw_dataset import RawDataset

TRAIN_FILES = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST_FILE = "test_batch"
META_FILE = "batches.meta"
#: the folder that the official archive unpacks to
BATCHES_FOLDER = "cifar-10-batches-py"

#: images are 32 x 32 pixels of three channels
IMAGE_SHAPE = (3, 32, 32)
IMAGE_BYTES = 3 * 32 * 32


class _PickledArray:
    """Takes the place of a pickled array and stores its state, which is checked before pixels are taken from it."""

    __slots__ = ("state",)

    def __init__(self, state: Any = None):
        self.state = state

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _PickledDtype:
    """Takes the place of a pickled number type and stores its code, such as 'u1'."""

    __slots__ = ("code",)

    def __init__(self, code: object = None, *_: object):
        self.code = code

    def __setstate__(self, state: object) -> None:
        """Ignore the byte order and other details: single bytes, the only accepted type, have none."""


class _AllowedGlobal:
    """A name that the reader knows. The pickle can call it, and cannot change it."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., object]):
        self._function = function

    def __call__(self, *arguments: object) -> object:
        return self._function(*arguments)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("it changes the reader")


def _encode_text(text: object, encoding: object = "latin1", *_: object) -> bytes:
    """Decode what Python 3 writes for bytes in an old pickle: a text and its encoding."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("it decodes something that is not text")
    return text.encode("latin1")


def _make_empty_array(*_: object) -> _PickledArray:
    return _PickledArray()


def _make_array(content: object, dtype: object, shape: object, order: object) -> _PickledArray:
    return _PickledArray((5, shape, dtype, order != "C", content))


_ALLOWED_GLOBALS: dict[tuple[str, str], Callable[..., object]] = {
    ("numpy.core.multiarray", "_reconstruct"): _make_empty_array,
    ("numpy._core.multiarray", "_reconstruct"): _make_empty_array,
    ("numpy._core.numeric", "_frombuffer"): _make_array,
    ("numpy", "ndarray"): _make_empty_array,
    ("numpy", "dtype"): _PickledDtype,
    ("_codecs", "encode"): _encode_text,
}


class _SafeUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> _AllowedGlobal:
        """Return the stand-in for a name. Raises UnpicklingError for every name that is not allowed."""
        if (module_name, global_name) not in _ALLOWED_GLOBALS:
            raise pickle.UnpicklingError(f"it imports {module_name}.{global_name}")
        return _AllowedGlobal(_ALLOWED_GLOBALS[module_name, global_name])


def safe_unpickle(content: bytes, name: str) -> dict[str, Any]:
    """Return the dictionary of a batch, with pixels as (N, bytes) uint8. Raises DataError for all but plain data."""
    try:
        table = _SafeUnpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a damaged pickle may raise anything
        raise _unpickle_error(name, str(error)) from None
    if not isinstance(table, dict):
        raise _unpickle_error(name, "it contains no dictionary")
    values: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, _PickledArray):
            value = _extract_pixels(value, name)
        if isinstance(key, bytes):
            values[key.decode("latin1")] = value
        else:
            values[str(key)] = value
    return values


def _extract_pixels(array: _PickledArray, name: str) -> np.ndarray | None:
    """Return the pixels (N, bytes) uint8 of an array; None if it is not a matrix of bytes."""
    try:
        _, shape, dtype, is_fortran_order, content = array.state
        is_bytes = dtype.code in ("u1", b"u1") and isinstance(content, (bytes, bytearray))
        if not is_bytes or is_fortran_order or len(shape) != 2:
            return None
        return np.frombuffer(content, np.uint8).reshape(shape)
    except (AttributeError, TypeError, ValueError):
        raise _unpickle_error(name, "its array is not one of bytes") from None


def _unpickle_error(name: str, reason: str) -> DataError:
    return DataError(
        f"{name}: not a CIFAR batch, or a damaged one: {reason}. Nothing of it was run.",
        cure="Download the official cifar-10-python.tar.gz again.",
        path=name,
    )


def is_cifar_batch(path: Path) -> bool:
    """Tell whether a file has the name of one of the files of CIFAR-10."""
    return path.name in (*TRAIN_FILES, TEST_FILE, META_FILE)


def is_cifar(path: Path) -> bool:
    """Tell whether a folder, or cifar-10-batches-py in it, contains batches."""
    return (_batches_dir(path) / TRAIN_FILES[0]).is_file()


def _batches_dir(path: Path) -> Path:
    inner = path / BATCHES_FOLDER
    if inner.is_dir():
        return inner
    return path


def read_cifar(path: Path) -> RawDataset:
    """Read a folder of Python batches, with as many of the five training batches as there are."""
    folder = _batches_dir(path)
    names = []
    for name in (*TRAIN_FILES, TEST_FILE, META_FILE):
        if (folder / name).is_file():
            names.append(name)
    if META_FILE not in names:
        raise DataError(
            f"{folder}: the file {META_FILE} with the class names is missing.",
            cure=f"Put {META_FILE} there.",
            path=folder,
            value=META_FILE,
        )
    return build_cifar_dataset(names, lambda name: (folder / name).read_bytes(), folder)


def build_cifar_dataset(files: Sequence[str], read_bytes: Callable[[str], bytes], path: Path) -> RawDataset:
    """Build a dataset from batches.

    Args:
        files: Names of the files.
        read_bytes: Returns the content of a file. Called once per file, one after the other, to save memory.
        path: Path of the dataset, for errors.

    Raises:
        DataError: A file is not a batch of CIFAR-10.
    """
    class_names = safe_unpickle(read_bytes(META_FILE), META_FILE).get("label_names")
    if not isinstance(class_names, list) or not all(isinstance(name, (bytes, str)) for name in class_names):
        raise _unpickle_error(META_FILE, "it contains no list label_names")
    classes = tuple(name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in class_names)
    images = {}
    labels = {}
    for split_name, batch_names in (("train", TRAIN_FILES), ("test", (TEST_FILE,))):
        batches = [_read_batch(read_bytes(name), name) for name in batch_names if name in files]
        if batches:
            source = TEST_FILE if split_name == "test" else "data_batch"
            images[split_name] = (source, np.concatenate([pixels for pixels, _ in batches]))
            labels[split_name] = np.concatenate([batch_labels for _, batch_labels in batches])
    return dataset_from_arrays("CIFAR python batches", path, images, labels, classes)


def _read_batch(content: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, 32, 32, 3) uint8 and labels (N,) int64 of a batch; its rows are planes of red, green, blue."""
    table = safe_unpickle(content, name)
    pixels = table.get("data")
    labels = table.get("labels")
    if not isinstance(pixels, np.ndarray) or pixels.shape[1] != IMAGE_BYTES:
        raise _unpickle_error(name, f"it contains no data of rows of {IMAGE_BYTES} bytes")
    if not isinstance(labels, list) or not all(isinstance(label, int) for label in labels):
        raise _unpickle_error(name, "it contains no list of labels")
    if len(labels) != len(pixels):
        raise _unpickle_error(name, f"it contains {len(pixels):,} images and {len(labels):,} labels")
    images = pixels.reshape(-1, *IMAGE_SHAPE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), np.array(labels, np.int64)
