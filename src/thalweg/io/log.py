"""Notices for the user, on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass


def log_warning(message: str) -> None:
    """Print a notice to stderr. Control characters are escaped, because file names may hold terminal sequences."""
    print(escape_unprintable(message), file=sys.stderr)


def escape_unprintable(text: str) -> str:
    r"""Return `text` with every unprintable character as its escape, such as \x1b."""
    characters = []
    for character in text:
        if not character.isprintable():
            character = character.encode("unicode_escape").decode("ascii")
        characters.append(character)
    return "".join(characters)


@dataclass(frozen=True)
class Notify:
    """Where notices go, and the progress of reading files: (files read, files in total)."""

    log: Callable[[str], None] = log_warning
    progress: Callable[[int, int], None] | None = None
