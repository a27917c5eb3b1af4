"""Parquet files, read by polars, an extra: their columns, their rows in pieces, and what Hugging Face writes beside."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...errors import DataError, ResourceError

#: columns of images are read in pieces of about so many bytes; a piece is at least one group of rows of the file
PIECE_BYTES = 64_000_000


def import_polars(path: Path) -> Any:
    """Return the module polars. Raises ResourceError where it is not installed."""
    if importlib.util.find_spec("polars") is None:
        raise ResourceError(
            f"{path}: polars, which reads Parquet files, is not installed.", 'pip install "thalweg[table]"', path=path
        )
    import polars

    return polars


@contextmanager
def explain_errors(path: Path) -> Iterator[None]:
    """Raise DataError for a file that polars cannot read."""
    try:
        yield
    except (DataError, ResourceError, MemoryError):
        raise
    except Exception as error:  # polars has many kinds of errors, and panics
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(
            f"{path}: not a complete Parquet file ({reason}).", "Write or download it again.", path=path
        ) from error


def read_schema(path: Path) -> dict[str, Any]:
    """Return the type of each column by name. Raises DataError and ResourceError."""
    polars = import_polars(path)
    with explain_errors(path):
        return dict(polars.read_parquet_schema(path))


def read_features(path: Path) -> dict[str, Any]:
    """Return what Hugging Face's `datasets` wrote about each column, such as the names of classes; else {}."""
    polars = import_polars(path)
    if not hasattr(polars, "read_parquet_metadata"):  # before polars 1.21
        return {}
    with explain_errors(path):
        text = polars.read_parquet_metadata(path).get("huggingface", "{}")
    try:
        features = json.loads(text)["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def count_rows(path: Path) -> int:
    """Return the number of rows."""
    polars = import_polars(path)
    with explain_errors(path):
        return int(polars.scan_parquet(path).select(polars.len()).collect().item())


def iterate_pieces(path: Path, columns: Sequence[str]) -> Iterator[Any]:
    """Yield the rows of a few columns, piece by piece, as data frames of polars."""
    polars = import_polars(path)
    count = count_rows(path)
    step = max(1, PIECE_BYTES * count // max(1, path.stat().st_size))
    for start in range(0, count, step):
        with explain_errors(path):
            piece = polars.scan_parquet(path).select(list(columns)).slice(start, step).collect()
        yield piece


def parquet_to_csv(path: Path, names: Sequence[str]) -> bytes:
    """Return those columns of a Parquet file whose name is among `names` as a CSV file in memory.

    Row k is in line k + 1. If there is none, all columns are returned, so that an error can list them.
    """
    polars = import_polars(path)
    schema = read_schema(path)
    columns = [name for name in schema if name.casefold() in names] or list(schema)
    with explain_errors(path):
        frame = polars.scan_parquet(path).select(columns).collect()
        cells = frame.with_columns(polars.all().cast(polars.String).str.replace_all(r"[\r\n]+", " "))
        return cells.write_csv().encode()
