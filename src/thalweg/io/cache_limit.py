"""Keep a folder of the cache below a number of bytes: what was not used for longest is removed first."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

#: seconds after which a draft that was never finished counts as left behind
MAX_DRAFT_AGE = 24 * 3600


def mark_as_used(path: Path) -> None:
    """Let a file or folder of the cache be removed after all that were used before it."""
    with suppress(OSError):
        os.utime(path)


def remove_oldest(folder: Path, max_bytes: int, used: Path | None = None) -> None:
    """Remove the files and folders that were not used for longest, beyond `max_bytes` for all of them.

    Locks stay, and so do drafts, which another process may be writing, for a day. Failures are ignored.

    Args:
        folder: A folder of the cache.
        max_bytes: What all entries may take together.
        used: An entry that is never removed, because it is in use.
    """
    with suppress(OSError):
        entries = [path for path in folder.iterdir() if path.suffix != ".lock" and not _is_draft(path)]
        total = count_bytes(used) if used in entries else 0
        for path in sorted(entries, key=lambda path: path.stat().st_mtime, reverse=True):
            if path == used:
                continue
            total += count_bytes(path)
            if total > max_bytes:
                _remove(path)


def count_bytes(path: Path | None) -> int:
    """Return the bytes of a file, or of the files directly in a folder."""
    if path is None:
        return 0
    files = list(path.iterdir()) if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def _is_draft(path: Path) -> bool:
    return path.suffix == ".draft" and time.time() - path.stat().st_mtime < MAX_DRAFT_AGE


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
