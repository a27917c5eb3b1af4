"""Files that are replaced in one step and are on the disk when the call returns."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path

from ..errors import ResourceError

RESUME_HINT = "Make room or give another --out. What was saved before is whole; continue with --resume."


def write_fsync(path: Path, data: bytes) -> None:
    """Writes `data` and waits until the disk has it."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def atomic_write(path: Path, data: bytes, cure: str = RESUME_HINT) -> None:
    """Replaces a file in one step: readers see the old content or the new, never a part.

    Makes the folders above it where they are missing. Raises ResourceError, with that cure where there is no room.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_fsync(draft, data)
        os.replace(draft, path)
        fsync_dir(path.parent)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        raise disk_full_error(error, path, len(data), cure) from error


def fsync_dir(folder: Path) -> None:
    """Makes renames inside `folder` durable, where the system knows how."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def disk_full_error(error: OSError, path: Path, needed: int, cure: str = RESUME_HINT) -> ResourceError:
    """What to tell the user when writing `needed` bytes to `path` failed."""
    if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        stands = "A file stands where a folder is needed, or the reverse: move it away, or write elsewhere."
        return ResourceError(f"Could not write {path}: {error.strerror}.", stands)
    try:
        free = f"{shutil.disk_usage(path.parent if path.parent.exists() else '.').free / 1e6:.0f} MB"
    except OSError:
        free = "an unknown amount"
    return ResourceError(
        f"Could not write {path}: {error.strerror or error}; {needed / 1e6:.1f} MB are needed, {free} is free.",
        cure,
    )
