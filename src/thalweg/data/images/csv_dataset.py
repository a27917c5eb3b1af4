"""Read tables of images: CSV or TSV with the columns path and label and, optionally, split and group."""

from __future__ import annotations

import csv
import difflib
import io
import os
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import DataError, did_you_mean, pluralize
from ...io.file_names import decode_file_name, encode_file_name
from ..base import SPLITS, UnreadableFile
from .dataset import ImageSplit
from .image_decoding import EXTENSIONS
from .image_loading import load_images
from .raw_dataset import SPLIT_ALIASES, RawDataset, ReadOptions, look_like_numbers, short_hash

TABLE_EXTENSIONS = (".csv", ".tsv")

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
    if len(tables) == 1 and any(_is_image(entry) for entry in entries):
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
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            if not header:
                header = cells
                columns = _find_columns(header, name, reader.line_num)
                continue
            _check_num_cells(cells, header, name, reader.line_num)
            values = {column: cells[index] for column, index in columns.items()}
            rows.append(_parse_row(values, name, reader.line_num))
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
    header = next((line for line in text.splitlines() if line.strip()), "")
    return max(",;\t", key=header.count)


def _find_columns(header: list[str], name: str, line: int) -> dict[str, int]:
    """Return the index of each column that is there."""
    lowercase = [title.casefold() for title in header]
    columns = {}
    for column, ranks in _COLUMN_NAMES.items():
        for names in ranks:
            indices = [index for index, title in enumerate(lowercase) if title in names]
            if len(indices) > 1:
                titles = [header[index] for index in indices]
                quoted = " and ".join(f"'{title}'" for title in titles)
                raise DataError(
                    f"{name}, line {line}: {quoted} are both the {column} column.",
                    cure="Rename one of them.",
                    path=name,
                    line=line,
                    value=titles,
                )
            if indices:
                columns[column] = indices[0]
                break
    for column in _REQUIRED_COLUMNS:
        if column not in columns:
            raise _missing_column_error(column, header, name, line)
    return columns


def _missing_column_error(column: str, header: list[str], name: str, line: int) -> DataError:
    lowercase = [title.casefold() for title in header]
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
        allowed=[title for names in _COLUMN_NAMES[column] for title in names],
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


def _parse_row(values: dict[str, str], name: str, line: int) -> CsvRow:
    """Return the row with these cells by column. Raises DataError for an empty cell or an unknown split."""
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
    rows, warnings = parse_table(path.read_bytes(), table_name)
    files = [_resolve_path(path, row) for row in rows]
    missing = []
    existing = []
    for index, file in enumerate(files):
        if file.is_file():
            existing.append(index)
        else:
            missing.append(index)
    _check_missing(path, rows, missing)
    unreadable = []
    for index in missing:
        source = f"{table_name}, line {rows[index].line}: {rows[index].path}"
        unreadable.append(UnreadableFile(source, _missing_file_reason(files[index])))
    loaded = load_images([files[index] for index in existing], options)
    loaded_files = [files[existing[row]] for row in loaded.rows]
    loaded_rows = [rows[existing[row]] for row in loaded.rows]
    classes = tuple(sorted({row.label for row in loaded_rows}))
    label_of_class = {name: label for label, name in enumerate(classes)}
    label_N = np.array([label_of_class[row.label] for row in loaded_rows], np.int64)
    split_N = np.array([row.split or "train" for row in loaded_rows], object)
    splits = {}
    for split_name in SPLITS:
        indices = np.flatnonzero(split_N == split_name)
        if len(indices) or split_name == "train":
            sources = [str(loaded_files[index]) for index in indices]
            splits[split_name] = ImageSplit(loaded.images[indices], label_N[indices], sources)
    if missing:
        warnings.append(_format_missing(rows, missing))
    warnings += loaded.warnings
    warnings += _row_warnings(rows)
    warnings += _outside_warnings(path, files)
    is_train_N = split_N == "train"
    groups = _group_hashes(loaded_rows)
    return RawDataset(
        format="table of images",
        path=str(path),
        classes=classes,
        splits=splits,
        groups=None if groups is None else groups[is_train_N],
        files=loaded.files[is_train_N],
        unreadable=unreadable + loaded.unreadable,
        warnings=warnings,
        sizes=loaded.sizes,
    )


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


def _check_missing(path: Path, rows: Sequence[CsvRow], missing: Sequence[int]) -> None:
    """Raise DataError if missing files leave fewer than two classes."""
    absent = set(missing)
    labels = {row.label for index, row in enumerate(rows) if index not in absent}
    if not missing or len(labels) > 1:
        return
    first = rows[missing[0]]
    raise DataError(
        f"{path}, line {first.line}: {_format_missing(rows, missing)}",
        cure="Paths are relative to the folder of the table: move the table there, or correct the paths.",
        path=path,
        line=first.line,
        value=first.path,
    )


def _format_missing(rows: Sequence[CsvRow], missing: Sequence[int]) -> str:
    verb = "is" if len(missing) == 1 else "are"
    return f"{pluralize(len(missing), 'file')} of the table {verb} missing, e.g. {rows[missing[0]].path}."


def _resolve_path(table: Path, row: CsvRow) -> Path:
    """Return the file of a row. Raises DataError for a path that leaves the table's folder, with either slash."""
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
    exact = table.parent / encode_file_name(os.path.normpath(row.path))
    if exact.is_file():
        return exact
    return table.parent / encode_file_name(normalized)


def _missing_file_reason(file: Path) -> str:
    """Describe a missing file, with the most similar name in its folder."""
    try:
        names = [decode_file_name(name) for name in os.listdir(file.parent)]
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
    count = sum(len(splits) > 1 for splits in splits_by_group.values())
    if count:
        lines.append(f"{pluralize(count, 'group')} in more than one split, so scores are too high.")
    return lines


def _has_several_labels(label: str, labels: set[str]) -> bool:
    """Tell whether a cell holds several labels: 'deer;wild', 'deer|wild', or 'deer, wild' if 'deer' is a label."""
    for separator in (";", "|"):
        if len([part for part in label.split(separator) if part.strip()]) > 1:
            return True
    parts = [part.strip() for part in label.split(",")]
    return len(parts) > 1 and any(part in labels for part in parts)


def _outside_warnings(table: Path, files: Sequence[Path]) -> list[str]:
    """Return a warning about files that are outside of the table's folder because of links."""
    root = os.path.realpath(table.parent).rstrip(os.sep)
    outside = []
    for file in files:
        if not os.path.realpath(file).startswith(root + os.sep):
            outside.append(file)
    if not outside:
        return []
    verb = "is" if len(outside) == 1 else "are"
    count = pluralize(len(outside), "file")
    example = decode_file_name(str(outside[0].relative_to(table.parent)))
    return [f"{count} of the table {verb} outside of its folder because of links, e.g. {example}."]
