"""Reading a text file: UTF-8 with or without byte order mark; UTF-16 with one.

Line ends become line feeds, so that a text from Windows is the same text.
"""

from __future__ import annotations

import codecs
import os
from pathlib import Path
from typing import Any

from ...errors import DataError

TEXT_SUFFIXES = (".txt", ".md")

_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text_file(path: Path) -> str:
    """Read a text file. Raises DataError with the path and, for wrong bytes, their position."""
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DataError(f"{path}: cannot be read: {reason}.", path=path) from error
    return decode_text(content, path)


def read_text(source: Any) -> str:
    """Read a path or the bytes of a file, or take a str as the text itself. Raises DataError for what has no text."""
    if isinstance(source, os.PathLike):
        text = read_text_file(Path(source))
    elif isinstance(source, bytes):
        text = decode_text(source, "the text")
    elif isinstance(source, str):
        text = normalize_newlines(source)
    else:
        raise DataError(f"{type(source).__name__} is not a text; expected a path, bytes or a str.", value=source)
    if not text:
        raise DataError("The text is empty; expected at least one character.", value=source)
    return text


def decode_text(content: bytes, source: str | os.PathLike[str]) -> str:
    """Decode the bytes of a text file.

    Args:
        content: The bytes.
        source: A path or title, for messages.

    Returns:
        The text, without byte order mark, with line feeds as line ends.

    Raises:
        DataError: For bytes that are no text; `value` is the position of the first, counted from 0.
    """
    encoding = "UTF-8"
    if content.startswith(_UTF16_MARKS):
        encoding = "UTF-16"
    body = content.removeprefix(codecs.BOM_UTF8)
    try:
        text = body.decode(encoding)
    except UnicodeDecodeError as error:
        position = error.start + len(content) - len(body)
        raise DataError(
            f"{source}: byte {position:,} (0x{content[position]:02x}) is not {encoding} text.",
            "Save the file as UTF-8; on a command line: iconv -f latin1 -t utf-8 OLD > NEW.",
            path=source,
            value=position,
        ) from error
    if "\0" in text:
        position = text.index("\0")
        raise DataError(
            f"{source}: character {position + 1:,} is NUL, which texts do not hold; this looks like a binary file.",
            "Give a text file in UTF-8.",
            path=source,
            value=position,
        )
    return normalize_newlines(text)


def normalize_newlines(text: str) -> str:
    """Return a text whose lines end with line feeds."""
    return text.replace("\r\n", "\n").replace("\r", "\n")
