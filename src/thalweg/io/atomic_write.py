"""Files that are replaced in one step and are on the disk when the call returns."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ..errors import ResourceError

#: what to try if a run cannot be written
RESUME_HINT = "Free disk space or use another --out. The last checkpoint is intact; continue with --resume."


def write_fsync(path: Path, data: bytes) -> None:
    """Write `data` and wait until it is on the disk."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_folder_fsync(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a new folder of files, by name, and wait until all of it is on the disk."""
    if not folder.parent.exists():
        folder.parent.mkdir(parents=True)
        fsync_dir(folder.parent.parent)
    folder.mkdir()
    for name, data in files.items():
        write_fsync(folder / name, data)
    fsync_dir(folder)


def atomic_write(path: Path, data: bytes, cure: str = RESUME_HINT) -> None:
    """Replace a file in one step: readers see the old content or the new, never a part.

    Args:
        path: The file; missing folders are created.
        data: The new content.
        cure: What to try if the disk is full.

    Raises:
        ResourceError: If the file cannot be written.
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
    """Make renames inside `folder` durable, on systems that support it."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def disk_full_error(error: OSError, path: Path, needed: int, cure: str = RESUME_HINT) -> ResourceError:
    """Build the error for a failed write.

    Args:
        error: What the system reported.
        path: The file or folder.
        needed: The size of the data in bytes.
        cure: What to try if the disk is full.

    Returns:
        The error to raise.
    """
    if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        return ResourceError(
            f"Could not write {path}: {error.strerror}.",
            cure="A file is in the place of a folder, or a folder in that of a file: move it, or write elsewhere.",
            path=path,
        )
    try:
        folder = path.parent if path.parent.exists() else Path()
        free = f"{shutil.disk_usage(folder).free / 1e6:.0f} MB"
    except OSError:
        free = "an unknown amount"
    reason = error.strerror or error
    return ResourceError(
        f"Could not write {path}: {reason}; {needed / 1e6:.1f} MB are needed, {free} is free.",
        cure,
        path=path,
        value=needed,
    )
