"""File names as text, the same in every locale.

Under an ASCII locale, Python decodes the name `é` as two lone surrogates. Names that users see, and that fingerprints
depend on, are therefore decoded as UTF-8 explicitly.
"""

from __future__ import annotations

import os


def decode_file_name(name: str) -> str:
    """Return a name or path that the system gave, decoded as UTF-8."""
    if os.name != "posix":
        return name
    return os.fsencode(name).decode("utf-8", "surrogateescape")


def encode_file_name(text: str) -> str:
    """Return a name or path that a UTF-8 text contains, as the system's functions expect it."""
    if os.name != "posix":
        return text
    return os.fsdecode(text.encode("utf-8", "surrogateescape"))
