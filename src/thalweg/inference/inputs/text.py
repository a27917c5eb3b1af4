"""A text: the words themselves, or a file; without words, a few sentences made here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ...data.text.grammar import generate_sentences
from ...data.text.text_file import normalize_newlines, read_text
from ...errors import DataError, OptionError
from . import check_max_words

#: characters of the text made here, and of a longer text that are read
DEFAULT_LENGTH = 3000
MAX_LENGTH = 20_000
#: longer words cannot be the name of a file
MAX_NAME = 255


def load_input(words: list[Any], settings: Any, weights: str | None, offline: bool) -> dict[str, Any]:
    """Load [TEXT|FILE]: `text` of at most 20,000 characters, and `title`, `notes`.

    Raises DataError for a file that is no text, and for a text that is empty.
    """
    check_max_words(words, 1, "a text in quotes, or a file")
    if weights is not None:
        raise OptionError("This concept trains a network of its own.", "Leave --weights out.", option="weights")
    if not words:
        return {"text": generate_sentences(DEFAULT_LENGTH, 1), "title": "sentences made here", "notes": []}
    text, title = _read_word(words[0])
    if not text.strip():
        raise DataError(
            f"{title} has no characters; expected a text.", "Give a sentence in quotes, or a .txt file.", value=title
        )
    notes = []
    if len(text) > MAX_LENGTH:
        notes.append(f"The first {MAX_LENGTH:,} of {len(text):,} characters are read.")
    return {"text": text[:MAX_LENGTH], "title": title, "notes": notes}


def _read_word(word: Any) -> tuple[str, str]:
    """Return text and title of a word that is a file's name or the text itself. Raises DataError."""
    if isinstance(word, os.PathLike) or _is_file(str(word)):
        return read_text(Path(word)), Path(word).name
    return normalize_newlines(str(word)), "your text"


def _is_file(word: str) -> bool:
    try:
        return len(word) <= MAX_NAME and Path(word).expanduser().is_file()
    except (OSError, ValueError):
        return False
