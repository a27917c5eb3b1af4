"""Tables of pictures: CSV or TSV with the columns path and label, and, if wanted, split and group."""

from __future__ import annotations

import csv
import difflib
import io
import os
import posixpath
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import DataError, did_you_mean, pluralize
from ..base import SPLITS, UnreadableFile
from .dataset import ImageSplit
from .image_decoding import EXTENSIONS
from .image_loading import load_images
from .raw_dataset import SPLIT_ALIASES, RawDataset, ReadOptions, short_hash

TABLE_EXTENSIONS = (".csv", ".tsv")

#: other names of the columns that are understood
_COLUMN_ALIASES = {"path": ("file", "filename", "image"), "label": ("class",), "split": (), "group": ()}


@dataclass(frozen=True)
class CsvRow:
    """One line of a table: its number in the file, path as written, label, part, group ('' where not told)."""

    line: int
    path: str
    label: str
    part: str
    group: str


def find_table(folder: Path) -> Path | None:
    """The one table in a folder of pictures that has no folders for classes; else None."""
    tables = [
        e for e in sorted(folder.iterdir()) if e.suffix.lower() in TABLE_EXTENSIONS and not e.name.startswith(".")
    ]
    return tables[0] if len(tables) == 1 and any(_is_image(e) for e in folder.iterdir()) else None


def _is_image(entry: Path) -> bool:
    return entry.suffix.lower() in EXTENSIONS and entry.is_file()


def decode_text(content: bytes, name: str) -> tuple[str, str]:
    """The text of a table and the encoding it was in: by its byte order mark, else UTF-8, else Windows-1252."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encodings = ("utf-16",)
    else:
        encodings = ("utf-8-sig", "cp1252")
    for encoding in encodings:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" in text:
            line = text[: text.index("\0")].count("\n") + 1
            raise DataError(f"{name}, line {line}: a zero byte, which no text has.", cure="Save the table as UTF-8.")
        return text, encoding
    raise DataError(f"{name}: neither UTF-8, UTF-16 nor Windows-1252.", cure="Save the table as UTF-8.")


def parse_table(content: bytes, name: str) -> tuple[list[CsvRow], list[str]]:
    """The rows of a table and what the user should know about it. Raises DataError with file and line."""
    text, encoding = decode_text(content, name)
    notes = [f"{name} is not UTF-8; read as Windows-1252."] if encoding == "cp1252" else []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=detect_delimiter(text), strict=True)
    rows, columns = [], None
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if columns is None:
                columns = _find_columns([c.strip() for c in cells], name, reader.line_num)
                width = len(cells)
            else:
                rows.append(_parse_row(cells, columns, width, name, reader.line_num))
    except csv.Error as error:
        raise DataError(
            f"{name}, line {reader.line_num}: {error}.", cure="Check the quotes around this line."
        ) from None
    if not rows:
        raise DataError(f"{name}: there is no line below the header.", cure="Add one line per picture: path,label.")
    return rows, notes


def detect_delimiter(text: str) -> str:
    """The one of tab, semicolon and comma that is most frequent in the header."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    return max(",;\t", key=header.count)


def _find_columns(header: list[str], name: str, line: int) -> dict[str, int]:
    """Where each known column stands."""
    lower = [h.casefold() for h in header]
    found = {}
    for column, others in _COLUMN_ALIASES.items():
        places = [k for k, h in enumerate(lower) if h in (column, *others)]
        if len(places) > 1:
            told = " and ".join(f"'{header[k]}'" for k in places)
            raise DataError(f"{name}, line {line}: {told} are both the column {column}.", cure="Rename one of them.")
        if places:
            found[column] = places[0]
    for column in ("path", "label"):
        if column not in found:
            near = difflib.get_close_matches(column, lower, n=1, cutoff=0.6)
            hint = f"Is it '{header[lower.index(near[0])]}'? Rename it to '{column}'." if near else ""
            raise DataError(
                f"{name}, line {line}: there is no column '{column}'; there are {', '.join(header)}.",
                cure=hint or "The first line names the columns: path,label (and, if wanted, split,group).",
            )
    return found


def _parse_row(cells: list[str], columns: dict[str, int], width: int, name: str, line: int) -> CsvRow:
    if len(cells) != width:
        raise DataError(
            f"{name}, line {line}: {pluralize(len(cells), 'column')}, the header has {width}.",
            cure="Put quotes around a cell that holds the delimiter.",
        )
    told = {column: cells[place].strip() for column, place in columns.items()}
    for column in ("path", "label"):
        if not told[column]:
            raise DataError(f"{name}, line {line}: the {column} is empty.", cure="Fill it in, or remove the line.")
    part = SPLIT_ALIASES.get(told.get("split", "").lower(), "")
    if told.get("split") and not part:
        raise DataError(
            f"{name}, line {line}: the split '{told['split']}' is not train, val or test.",
            cure=did_you_mean(told["split"], SPLIT_ALIASES),
        )
    return CsvRow(line, told["path"], told["label"], part, told.get("group", ""))


def read_table(path: Path, options: ReadOptions) -> RawDataset:
    """The set that a table names. Paths are relative to the table's folder and may not lead out of it.

    Raises DataError with file and line; a picture that is missing or cannot be read is named in `bad`.
    """
    rows, notes = parse_table(path.read_bytes(), path.name)
    files = [_resolve_path(path, row) for row in rows]
    missing = {k for k, file in enumerate(files) if not file.is_file()}
    if len(missing) == len(files):
        raise DataError(
            f"{path}, line {rows[0].line}: there is no file {files[0]}, nor any other of this table.",
            cure="Paths are relative to the folder of the table; move the table there.",
        )
    bad = [
        UnreadableFile(f"{path.name}, line {rows[k].line}: {rows[k].path}", _missing_file_error(files[k]))
        for k in sorted(missing)
    ]
    there = [k for k in range(len(rows)) if k not in missing]
    pixels = load_images([files[k] for k in there], options)
    kept = [rows[there[k]] for k in pixels.rows]
    classes = tuple(sorted({row.label for row in kept}))
    place = {label: number for number, label in enumerate(classes)}
    labels = np.array([place[row.label] for row in kept], np.int64)
    part_of = np.array([SPLITS.index(row.part or "train") for row in kept], np.int64)
    parts = {}
    for number, part in enumerate(SPLITS):
        chosen = np.flatnonzero(part_of == number)
        if len(chosen) or part == "train":
            sources = [str(path.parent / kept[k].path) for k in chosen]
            parts[part] = ImageSplit(pixels.images[chosen], labels[chosen], sources)
    train = part_of == 0
    groups = None
    if any(row.group for row in kept):
        # a row without a group is a group of its own
        groups = np.array([short_hash(f"{r.group}\0{'' if r.group else r.line}".encode()) for r in kept], np.uint64)[
            train
        ]
    notes += pixels.warnings
    notes += _cross_split_warnings(kept)
    return RawDataset(
        "table of pictures",
        str(path),
        classes,
        parts,
        groups,
        pixels.files[train],
        bad + pixels.unreadable,
        notes,
        pixels.sizes,
    )


def _resolve_path(table: Path, row: CsvRow) -> Path:
    """The file of a row. Raises DataError for a path that leads out of the table's folder, with either slash."""
    slashed = row.path.replace("\\", "/")
    clean = posixpath.normpath(slashed)
    if "://" in row.path or clean.startswith(("/", "../")) or clean == ".." or slashed[1:2] == ":":
        raise DataError(
            f"{table}, line {row.line}: '{row.path}' leads out of the folder of the table.",
            cure="Put the pictures below the table's folder and name them relative to it.",
        )
    exact = table.parent / os.path.normpath(row.path)
    return exact if exact.is_file() else table.parent / clean


def _missing_file_error(file: Path) -> str:
    """Why there is no such file, with the name that is nearest to it."""
    try:
        names = os.listdir(file.parent)
    except OSError:
        return "there is no such folder"
    near = difflib.get_close_matches(file.name, names, n=1)
    return f"there is no such file; did you mean '{near[0]}'?" if near else "there is no such file"


def _cross_split_warnings(rows: list[CsvRow]) -> list[str]:
    """A warning where a group stands on two sides of a division made in the table itself."""
    parts: dict[str, set[str]] = {}
    for row in rows:
        if row.group and row.part:
            parts.setdefault(row.group, set()).add(row.part)
    torn = sum(len(p) > 1 for p in parts.values())
    return [f"{pluralize(torn, 'group')} in more than one split: scores will flatter."] if torn else []
