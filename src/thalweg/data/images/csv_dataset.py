"""Read tables of images: CSV, TSV or Parquet with the columns path and label and, optionally, split and group."""

from __future__ import annotations

import csv
import difflib
import io
import os
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from ...errors import DataError, did_you_mean, pluralize
from ...io.file_names import decode_file_name, encode_file_name
from ..base import SPLITS, UnreadableFile
from .dataset import ImageSplit
from .encoded import EncodedNames, ImageFiles
from .image_decoding import EXTENSIONS
from .image_loading import load_images, short_hash
from .parquet_files import parquet_to_csv
from .raw_dataset import SPLIT_ALIASES, RawDataset, ReadOptions, look_like_numbers
from .stored_images import ImageArray

TABLE_EXTENSIONS = (".csv", ".tsv", ".parquet")

#: accepted names of each column; those of the second row count only where the table has none of the first
_COLUMN_NAMES: dict[str, tuple[tuple[str, ...], ...]] = {
    "path": (("path", "file", "filename", "image"), ("img", "filepath")),
    "label": (("label", "class"), ("category", "target")),
    "split": (("split",),),
    "group": (("group",),),
}
_REQUIRED_COLUMNS = ("path", "label")


@dataclass(frozen=True)
class CsvRow:
    """One row of a table; `split` and `group` are empty where the table does not give them.

    Attributes:
        line: Line number in the file.
        path: Path as written.
        label: Name of the class.
        split: "train", "val", "test" or empty.
        group: Name of the group, or empty.
    """

    line: int
    path: str
    label: str
    split: str
    group: str


def find_table(folder: Path) -> Path | None:
    """Return the only table in a folder of images; None if there is none or several, or no images."""
    entries = sorted(folder.iterdir())
    tables = []
    for entry in entries:
        if entry.suffix.lower() in TABLE_EXTENSIONS and not entry.name.startswith("."):
            tables.append(entry)
    if len(tables) == 1 and any(map(_is_image, entries)):
        return tables[0]
    return None


def _is_image(entry: Path) -> bool:
    return entry.suffix.lower() in EXTENSIONS and entry.is_file()


def decode_text(content: bytes, name: str) -> tuple[str, str]:
    """Return the text of a table and its encoding: by byte order mark, else UTF-8, else Windows-1252."""
    encodings = ("utf-8-sig", "cp1252")
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encodings = ("utf-16",)
    for encoding in encodings:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" in text:
            line = text[: text.index("\0")].count("\n") + 1
            raise DataError(
                f"{name}, line {line}: a zero byte; expected text.",
                cure="Save the table as UTF-8.",
                path=name,
                line=line,
            )
        return text, encoding
    raise DataError(f"{name}: not UTF-8, UTF-16 or Windows-1252.", cure="Save the table as UTF-8.", path=name)


def parse_table(content: bytes, name: str) -> tuple[list[CsvRow], list[str]]:
    """Return the rows of a table, and warnings. Raises DataError with file and line."""
    text, encoding = decode_text(content, name)
    warnings = []
    if encoding == "cp1252":
        warnings.append(f"{name} is not UTF-8; read as Windows-1252.")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=detect_delimiter(text), strict=True)
    rows: list[CsvRow] = []
    header: list[str] = []
    columns: dict[str, int] = {}
    try:
        for cells in reader:
            cells = list(map(str.strip, cells))
            if not any(cells):
                continue
            if not header:
                header = cells
                columns = _find_columns(header, name, reader.line_num)
                continue
            _check_num_cells(cells, header, name, reader.line_num)
            rows.append(_parse_row(cells, columns, name, reader.line_num))
    except csv.Error as error:
        raise DataError(
            f"{name}, line {reader.line_num}: {error}.",
            cure="Check the quotes around this line.",
            path=name,
            line=reader.line_num,
        ) from None
    if not rows:
        raise DataError(f"{name}: no line below the header.", cure="Add one line per image: path,label.", path=name)
    return rows, warnings


def detect_delimiter(text: str) -> str:
    """Return the most frequent of comma, semicolon and tab in the header."""
    header = next(filter(str.strip, text.splitlines()), "")
    return max(",;\t", key=header.count)


def _find_columns(header: list[str], name: str, line: int) -> dict[str, int]:
    """Return the index of each column that is there."""
    columns = {}
    for column, ranks in _COLUMN_NAMES.items():
        for names in ranks:
            titles = [title for title in header if title.casefold() in names]
            if len(titles) > 1:
                raise DataError(
                    f"{name}, line {line}: '{titles[0]}' and '{titles[1]}' are both the {column} column.",
                    cure="Rename one of them.",
                    path=name,
                    line=line,
                    value=titles,
                )
            if titles:
                columns[column] = header.index(titles[0])
                break
    for column in _REQUIRED_COLUMNS:
        if column not in columns:
            raise _missing_column_error(column, header, name, line)
    return columns


def _missing_column_error(column: str, header: list[str], name: str, line: int) -> DataError:
    lowercase = list(map(str.casefold, header))
    cure = "The first line names the columns: path,label (and optionally split,group)."
    similar = difflib.get_close_matches(column, lowercase, n=1, cutoff=0.6)
    if similar:
        cure = f"Rename '{header[lowercase.index(similar[0])]}' to '{column}'."
    return DataError(
        f"{name}, line {line}: no column '{column}'; found {', '.join(header)}.",
        cure=cure,
        path=name,
        line=line,
        value=column,
        allowed=list(chain(*_COLUMN_NAMES[column])),
    )


def _check_num_cells(cells: list[str], header: list[str], name: str, line: int) -> None:
    if len(cells) != len(header):
        raise DataError(
            f"{name}, line {line}: {pluralize(len(cells), 'column')}, the header has {len(header)}.",
            cure="Put quotes around a cell that contains the delimiter.",
            path=name,
            line=line,
            value=len(cells),
        )


def _parse_row(cells: list[str], columns: dict[str, int], name: str, line: int) -> CsvRow:
    """Return the row with these cells. Raises DataError for an empty cell or an unknown split."""
    values = {column: cells[index] for column, index in columns.items()}
    for column in _REQUIRED_COLUMNS:
        if not values[column]:
            raise DataError(
                f"{name}, line {line}: the {column} is empty.",
                cure="Fill it in, or remove the line.",
                path=name,
                line=line,
                value=column,
            )
    split = values.get("split", "")
    if split and split.lower() not in SPLIT_ALIASES:
        raise DataError(
            f"{name}, line {line}: the split '{split}' is not train, val or test.",
            cure=did_you_mean(split, SPLIT_ALIASES),
            path=name,
            line=line,
            value=split,
            allowed=list(SPLITS),
        )
    return CsvRow(line, values["path"], values["label"], SPLIT_ALIASES.get(split.lower(), ""), values.get("group", ""))


def read_table(path: Path, options: ReadOptions) -> RawDataset:
    """Read the images that a table lists. Paths are relative to the folder of the table and may not leave it.

    Missing and unreadable images are listed in `unreadable`. Raises DataError with file and line.
    """
    table_name = decode_file_name(path.name)
    if path.suffix.lower() == ".parquet":
        content = parquet_to_csv(path, list(chain(*chain(*_COLUMN_NAMES.values()))))
    else:
        content = path.read_bytes()
    rows, warnings = parse_table(content, table_name)
    files: list[str] = []
    existing_files: list[str] = []
    existing_rows: list[CsvRow] = []
    missing_rows: list[CsvRow] = []
    unreadable: list[UnreadableFile] = []
    for row in rows:
        file = _resolve_path(path, row)
        files.append(file)
        if os.path.isfile(path.parent / file):
            existing_files.append(file)
            existing_rows.append(row)
        else:
            missing_rows.append(row)
            reason = _missing_file_reason(path.parent / file)
            unreadable.append(UnreadableFile(f"{table_name}, line {row.line}: {row.path}", reason))
    _check_missing(path, existing_rows, missing_rows)
    parent = "" if str(path.parent) == "." else str(path.parent)
    encoded = ImageFiles(existing_files, parent, os.path.realpath(path))
    loaded = load_images(encoded, options)
    loaded_rows = [existing_rows[index] for index in loaded.rows.tolist()]
    names = EncodedNames(encoded.take(loaded.rows))
    classes, splits = _group_by_split(loaded.images, loaded_rows, names)
    if missing_rows:
        warnings.append(_format_missing(missing_rows))
    warnings += loaded.warnings
    warnings += _row_warnings(rows)
    warnings += _outside_warnings(path, files)
    train_rows = [index for index, row in enumerate(loaded_rows) if row.split in ("", "train")]
    groups = _group_hashes(loaded_rows)
    return RawDataset(
        format="table of images",
        path=str(path),
        classes=classes,
        splits=splits,
        groups=None if groups is None else groups[train_rows],
        files=loaded.files[train_rows],
        unreadable=unreadable + loaded.unreadable,
        warnings=warnings,
        sizes=loaded.sizes,
    )


def _group_by_split(
    images: ImageArray, rows: Sequence[CsvRow], sources: Sequence[str]
) -> tuple[tuple[str, ...], dict[str, ImageSplit]]:
    """Return the classes, and the images of each split that the table has; rows without a split are in train."""
    classes = tuple(sorted({row.label for row in rows}))
    label_of_class = dict(zip(classes, range(len(classes)), strict=True))
    label_N = np.empty(len(rows), np.int64)
    indices: dict[str, list[int]] = {split_name: [] for split_name in SPLITS}
    for index, row in enumerate(rows):
        label_N[index] = label_of_class[row.label]
        indices[row.split or "train"].append(index)
    all_rows = ImageSplit(images, label_N, sources)
    splits = {}
    for split_name in SPLITS:
        if indices[split_name] or split_name == "train":
            splits[split_name] = all_rows.take(np.array(indices[split_name], np.int64))
    return classes, splits


def _group_hashes(rows: Sequence[CsvRow]) -> np.ndarray | None:
    """Return the hash (N,) uint64 of each row's group; None if the table has no groups.

    A row without a group is a group of its own.
    """
    if not any(row.group for row in rows):
        return None
    hashes = []
    for row in rows:
        line = "" if row.group else row.line
        hashes.append(short_hash(f"{row.group}\0{line}".encode()))
    return np.array(hashes, np.uint64)


def _check_missing(path: Path, existing: Sequence[CsvRow], missing: Sequence[CsvRow]) -> None:
    """Raise DataError if missing files leave fewer than two classes."""
    if not missing or len({row.label for row in existing}) > 1:
        return
    raise DataError(
        f"{path}, line {missing[0].line}: {_format_missing(missing)}",
        cure="Paths are relative to the folder of the table: move the table there, or correct the paths.",
        path=path,
        line=missing[0].line,
        value=missing[0].path,
    )


def _format_missing(missing: Sequence[CsvRow]) -> str:
    verb = "is" if len(missing) == 1 else "are"
    return f"{pluralize(len(missing), 'file')} of the table {verb} missing, e.g. {missing[0].path}."


def _resolve_path(table: Path, row: CsvRow) -> str:
    """Return the file of a row, relative to the table's folder.

    Raises DataError for a path that leaves the folder, with either slash.
    """
    slashed = row.path.replace("\\", "/")
    normalized = posixpath.normpath(slashed)
    is_absolute = "://" in row.path or normalized.startswith("/") or slashed[1:2] == ":"
    if is_absolute or normalized == ".." or normalized.startswith("../"):
        raise DataError(
            f"{table}, line {row.line}: '{row.path}' is outside of the folder of the table.",
            cure="Put the images below the folder of the table and use relative paths.",
            path=table,
            line=row.line,
            value=row.path,
        )
    exact = encode_file_name(os.path.normpath(row.path))
    if slashed == row.path or os.path.isfile(table.parent / exact):
        return exact
    return encode_file_name(normalized)


def _missing_file_reason(file: Path) -> str:
    """Describe a missing file, with the most similar name in its folder."""
    try:
        names = list(map(decode_file_name, os.listdir(file.parent)))
    except (OSError, ValueError):
        return "there is no such folder"
    similar = difflib.get_close_matches(decode_file_name(file.name), names, n=1)
    if similar:
        return f"there is no such file; did you mean '{similar[0]}'?"
    return "there is no such file"


def _row_warnings(rows: Sequence[CsvRow]) -> list[str]:
    """Return warnings about labels and groups that are probably not meant as they are written."""
    lines = []
    labels = {row.label for row in rows}
    if len(labels) > len(rows) / 2 and look_like_numbers(labels):
        lines.append(f"{len(labels):,} different labels look like numbers: classification expects classes.")
    multiple = [row.label for row in rows if _has_several_labels(row.label, labels)]
    if multiple:
        count = pluralize(len(multiple), "cell")
        lines.append(f"{count} with several labels, e.g. '{multiple[0]}': each combination is a class of its own.")
    splits_by_group: dict[str, set[str]] = {}
    for row in rows:
        if row.group and row.split:
            splits_by_group.setdefault(row.group, set()).add(row.split)
    divided = [group for group, splits in splits_by_group.items() if len(splits) > 1]
    if divided:
        lines.append(f"{pluralize(len(divided), 'group')} in more than one split, so scores are too high.")
    return lines


def _has_several_labels(label: str, labels: set[str]) -> bool:
    """Tell whether a cell holds several labels: 'deer;wild', 'deer|wild', or 'deer, wild' if 'deer' is a label."""
    for separator in (";", "|"):
        if len(list(filter(str.strip, label.split(separator)))) > 1:
            return True
    parts = set(map(str.strip, label.split(",")))
    return len(parts) > 1 and not parts.isdisjoint(labels)


def _outside_warnings(table: Path, files: Sequence[str]) -> list[str]:
    """Return a warning about files that are outside of the table's folder because of links."""
    root = os.path.realpath(table.parent).rstrip(os.sep)
    outside = []
    is_inside: dict[str, bool] = {}
    for file in files:
        folder = os.path.dirname(file)
        path = os.path.join(table.parent, file)
        if folder not in is_inside:
            real = os.path.realpath(os.path.join(table.parent, folder))
            is_inside[folder] = (real + os.sep).startswith(root + os.sep)
        if os.path.islink(path):
            inside = os.path.realpath(path).startswith(root + os.sep)
        else:
            inside = is_inside[folder]
        if not inside:
            outside.append(file)
    if not outside:
        return []
    verb = "is" if len(outside) == 1 else "are"
    count = pluralize(len(outside), "file")
    example = decode_file_name(outside[0])
    return [f"{count} of the table {verb} outside of its folder because of links, e.g. {example}."]
