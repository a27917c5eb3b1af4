"""Read files of sentence pairs: tab-separated columns, or two files whose lines belong together; plain, .gz or .zip."""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import DataError, pluralize
from ..text.text_file import decode_text

TABLE_SUFFIXES = (".tsv", ".txt", ".tab")

#: a first line of two of these names the columns
_HEADER_WORDS = {"source", "src", "target", "tgt", "trg", "translation", "english", "german", "french", "spanish"}
#: an archive may become at most so large
_MAX_BYTES = 4_000_000_000


@dataclass(frozen=True)
class PairLines:
    """Sentence pairs of one file, or of two aligned ones.

    Attributes:
        name: The file, for messages.
        sources: Sentences of the first language.
        targets: Their translations.
        lines: The line of each pair, counted from 1.
        warnings: What was skipped or left out.
    """

    name: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    lines: tuple[int, ...]
    warnings: tuple[str, ...] = ()


def read_table(path: Path) -> PairLines:
    """Read lines of a source, a tab and its translation; more columns are left out.

    Args:
        path: A .tsv or .txt file, also as .gz, or the only such file in a .zip.

    Returns:
        The pairs.

    Raises:
        DataError: For a line with one column, and for what is no text in UTF-8.
    """
    lines = read_lines(path)
    sources: list[str] = []
    targets: list[str] = []
    numbers: list[int] = []
    empty = 0
    has_more_columns = False
    for number, line in enumerate(lines, 1):
        if not line.strip():
            empty += 1
            continue
        columns = line.split("\t")
        if len(columns) < 2:
            raise DataError(
                f"{path}, line {number}: one column: {line[:60]!r}; expected a source, a tab and its translation.",
                "Separate both sentences by one tab, or give two files with equally many lines.",
                path=path,
                line=number,
                value=1,
                allowed=[2],
            )
        has_more_columns = has_more_columns or len(columns) > 2
        if number == 1 and _is_header(columns):
            continue
        if not columns[0].strip() or not columns[1].strip():
            empty += 1
            continue
        sources.append(columns[0])
        targets.append(columns[1])
        numbers.append(number)
    warnings = _describe_skipped(str(path), empty)
    if has_more_columns:
        warnings.append(f"{path}: columns after the second are left out")
    return PairLines(str(path), tuple(sources), tuple(targets), tuple(numbers), tuple(warnings))


def _is_header(columns: Sequence[str]) -> bool:
    return all(column.strip().lower() in _HEADER_WORDS for column in columns[:2])


def read_aligned(source_path: Path, target_path: Path) -> PairLines:
    """Read two files whose lines belong together.

    Args:
        source_path: Sentences of the first language, one a line.
        target_path: Their translations.

    Returns:
        The pairs; those of which one side is empty are left out.

    Raises:
        DataError: For files of different lengths, and for what is no text in UTF-8.
    """
    sources = read_lines(source_path)
    targets = read_lines(target_path)
    if len(sources) != len(targets):
        shorter = min(len(sources), len(targets))
        raise DataError(
            f"{source_path} has {pluralize(len(sources), 'line')} and {target_path} {len(targets):,}; expected equally "
            "many.",
            f"Line N of one file has to be the translation of line N of the other; one of them ends after line "
            f"{shorter:,}.",
            path=target_path,
            line=shorter + 1,
            value=len(targets),
            allowed=[len(sources)],
        )
    pairs: list[tuple[str, str, int]] = []
    for number, (source, target) in enumerate(zip(sources, targets, strict=True), 1):
        if source.strip() and target.strip():
            pairs.append((source, target, number))
    warnings = _describe_skipped(f"{source_path} and {target_path.name}", len(sources) - len(pairs))
    return PairLines(
        str(source_path),
        tuple(pair[0] for pair in pairs),
        tuple(pair[1] for pair in pairs),
        tuple(pair[2] for pair in pairs),
        tuple(warnings),
    )


def _describe_skipped(name: str, count: int) -> list[str]:
    if not count:
        return []
    return [f"{name}: {pluralize(count, 'line')} with an empty side skipped"]


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file, of a .gz, or of the only text in a .zip.

    Raises DataError for what cannot be read; for wrong bytes with their line.
    """
    content = _read_bytes(path)
    try:
        text = decode_text(content, path)
    except DataError as error:
        line = 0
        if isinstance(error.value, int):
            line = content[: error.value].count(b"\n") + 1
        raise DataError(
            f"{path}, line {line:,}: {error.message.removeprefix(f'{path}: ')}",
            error.cure,
            path=path,
            line=line,
            value=error.value,
        ) from error
    if not text:
        raise DataError(
            f"{path}: the file is empty; expected sentences, one a line.", "Give a file with text.", path=path
        )
    return text.removesuffix("\n").split("\n")


def _read_bytes(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        if path.suffix.lower() == ".gz":
            with gzip.open(io.BytesIO(content)) as file:
                return file.read(_MAX_BYTES)
        if path.suffix.lower() == ".zip":
            return _read_zip(content, path)
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataError(
            f"{path}: cannot be read: {reason}; expected a text file, .gz or .zip.",
            "Check the file, or download it anew.",
            path=path,
        ) from error
    return content


def _read_zip(content: bytes, path: Path) -> bytes:
    """Return the only text of an archive; texts whose names begin with _ or . are about the archive."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        texts = []
        for member in archive.infolist():
            name = Path(member.filename).name
            if name.lower().endswith(TABLE_SUFFIXES) and not name.startswith(("_", ".")):
                texts.append(member)
        if len(texts) != 1:
            names = ", ".join(member.filename for member in texts) or "none"
            raise DataError(
                f"{path}: {pluralize(len(texts), 'text')} in the archive: {names}; expected one.",
                "Unpack it, and give the file of pairs.",
                path=path,
                value=len(texts),
                allowed=[1],
            )
        with archive.open(texts[0]) as file:
            return file.read(_MAX_BYTES)
