"""Tables of attributes of images: a column of file names, and columns of numbers; and the regression from features."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import DataError, pluralize
from ...io.file_names import encode_file_name
from ..images.csv_dataset import decode_text, detect_delimiter
from ..images.image_decoding import ImageReadError, decode_image
from ..prefetch import prefetch_map

# N images, D features, A attributes

#: names of the column of files; without one of them it is the first column
FILE_COLUMNS = ("file", "filename", "file_name", "image", "image_id", "path")
#: rows that a table needs at least, and every so many rows one that the regression is judged by
MIN_ROWS = 20
HELD_OUT = 5
#: weight of the penalty of the regression, relative to the variance of a standardized feature; the best is chosen
RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)


@dataclass(frozen=True)
class AttributeTable:
    """Files (N) and the values (N, A) of the attributes `names`."""

    path: Path
    files: list[Path]
    lines: list[int]
    names: tuple[str, ...]
    value_NA: np.ndarray

    def load_images(self, channels: int, size: tuple[int, int]) -> np.ndarray:
        """Load the images (N, H, W, C) uint8. Raises DataError for a file that is missing or cannot be read."""

        def read(index: int) -> np.ndarray:
            file = self.files[index]
            if not file.is_file():
                raise _row_error(self.path, self.lines[index], f"there is no file '{file}'", str(file))
            try:
                return decode_image(file, channels, size[0])
            except ImageReadError as error:
                raise _row_error(self.path, self.lines[index], f"{file}: {error}", str(file)) from None

        return np.stack(list(prefetch_map(read, range(len(self.files)))))


@dataclass(frozen=True)
class FeatureRegression:
    """Linear prediction of attributes from features, with its R2 (A,) on rows that were held out."""

    weight_AD: np.ndarray
    bias_A: np.ndarray
    r2_A: list[float]


def read_attribute_table(path: Path, folder: Path) -> AttributeTable:
    """Read a table of attributes.

    Args:
        path: The table, CSV or TSV with a header.
        folder: The folder that its file names are relative to.

    Returns:
        The table; columns without any number are left out.

    Raises:
        DataError: For a missing or damaged table, with the line.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}).", "Give --attributes FILE.csv.", path=path, value=str(path)
        ) from None
    text, _ = decode_text(content, str(path))
    rows = _parse_rows(path, text)
    if len(rows) <= MIN_ROWS:
        raise DataError(
            f"{path} has {pluralize(max(0, len(rows) - 1), 'row')}; expected at least {MIN_ROWS} below a header.",
            "Add a row for each image: file,smile,glasses.",
            path=path,
            value=max(0, len(rows) - 1),
            allowed=[MIN_ROWS],
        )
    header = rows[0][1]
    for line, cells in rows[1:]:
        if len(cells) != len(header):
            raise _row_error(path, line, f"{len(cells)} columns, the header has {len(header)}", len(cells))
    file_column = next((index for index, name in enumerate(header) if name.lower() in FILE_COLUMNS), 0)
    columns = [index for index in range(len(header)) if index != file_column and _has_number(rows[1:], index)]
    if not columns:
        raise DataError(
            f"{path} has no column of numbers; expected one per attribute.",
            "Write 1 and 0 for yes and no.",
            path=path,
            value=header,
        )
    values = [[_parse_number(path, line, cells[index]) for index in columns] for line, cells in rows[1:]]
    files = [folder / encode_file_name(cells[file_column]) for _, cells in rows[1:]]
    names = tuple(header[index] for index in columns)
    return AttributeTable(path, files, [line for line, _ in rows[1:]], names, np.array(values))


def _parse_rows(path: Path, text: str) -> list[tuple[int, list[str]]]:
    """Return the line and the cells of each row that is not empty. Raises DataError for quotes that do not close."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=detect_delimiter(text), strict=True)
    rows = []
    try:
        for cells in reader:
            if any(map(str.strip, cells)):
                rows.append((reader.line_num, [cell.strip() for cell in cells]))
    except csv.Error as error:
        raise _row_error(path, reader.line_num, str(error), None) from None
    return rows


def fit_features(feature_ND: np.ndarray, value_NA: np.ndarray) -> FeatureRegression:
    """Fit attributes by ridge regression; the penalty with the best R2 on a fifth of the rows is taken.

    Rows that hold the same image are few in such tables, so that rows are held out by their hash alone.
    """
    is_held_N = np.array([_hash_row(row) % HELD_OUT == 0 for row in range(len(feature_ND))])
    fits = [_fit(feature_ND, value_NA, is_held_N, ridge) for ridge in RIDGES]
    return max(fits, key=lambda fit: np.mean(fit.r2_A))


def regress(
    extract: Callable[[np.ndarray], np.ndarray], table: AttributeTable, images: np.ndarray
) -> FeatureRegression:
    """Fit the attributes of a table from features of its images. Raises DataError for a constant attribute."""
    for index, name in enumerate(table.names):
        if np.ptp(table.value_NA[:, index]) == 0:
            raise DataError(
                f"{table.path}: the attribute '{name}' is {table.value_NA[0, index]:g} in all rows.",
                "Leave the column out.",
                path=table.path,
                value=name,
                allowed=[other for other in table.names if other != name],
            )
    return fit_features(extract(images), table.value_NA)


def _fit(feature_ND: np.ndarray, value_NA: np.ndarray, is_held_N: np.ndarray, ridge: float) -> FeatureRegression:
    train_ND = feature_ND[~is_held_N].astype(np.float64)
    mean_D = train_ND.mean(0)
    std_D = train_ND.std(0) + 1e-8
    scaled_ND = (train_ND - mean_D) / std_D
    mean_A = value_NA[~is_held_N].mean(0)
    gram_DD = scaled_ND.T @ scaled_ND + ridge * len(scaled_ND) * np.eye(scaled_ND.shape[1])
    weight_DA = np.linalg.solve(gram_DD, scaled_ND.T @ (value_NA[~is_held_N] - mean_A)) / std_D[:, None]
    bias_A = mean_A - mean_D @ weight_DA
    error_NA = feature_ND[is_held_N] @ weight_DA + bias_A - value_NA[is_held_N]
    spread_A = np.square(value_NA[is_held_N] - value_NA[is_held_N].mean(0)).mean(0)
    r2_A = 1 - np.square(error_NA).mean(0) / np.maximum(spread_A, 1e-12)
    return FeatureRegression(weight_DA.T.astype(np.float32), bias_A.astype(np.float32), r2_A.tolist())


def _hash_row(row: int) -> int:
    return int.from_bytes(hashlib.sha256(str(row).encode()).digest()[:4], "big")


def _has_number(rows: list[tuple[int, list[str]]], index: int) -> bool:
    """Whether a column has a number in any of its first rows, so that it is an attribute."""
    for _, cells in rows[:MIN_ROWS]:
        try:
            float(cells[index])
        except ValueError:
            continue
        return True
    return False


def _parse_number(path: Path, line: int, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise _row_error(path, line, f"'{text}' is no number", text)
    return value


def _row_error(path: Path, line: int, problem: str, value: object) -> DataError:
    return DataError(
        f"{path}, line {line}: {problem}.", "Correct this row, or leave it out.", path=path, line=line, value=value
    )
