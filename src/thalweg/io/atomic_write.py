"""Write files so that a crash, a power cut or a full disk leaves the old content or the new, never a part."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path

from ..errors import ResourceError

#: what to do if a run cannot be written
RESUME_HINT = "Free some space or choose another --out. Everything saved before is intact; continue with --resume."


def atomic_write(path: Path, data: bytes, cure: str = RESUME_HINT) -> None:
    """Replace a file in one step, making missing folders. Raises ResourceError with `cure`."""
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


def write_fsync(path: Path, data: bytes) -> None:
    """Write a file and wait until it is on the disk."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def fsync_dir(folder: Path) -> None:
    """Wait until renames inside a folder are on the disk, where the system supports it."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def disk_full_error(error: OSError, path: Path, needed: int, cure: str = RESUME_HINT) -> ResourceError:
    """Return the error for the user after writing `needed` bytes to `path` failed."""
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        return ResourceError(
            f"Could not write {path}: {reason}.",
            cure="A file is where a folder is needed, or the reverse: move it away, or write elsewhere.",
            path=path,
        )
    try:
        folder = path.parent if path.parent.exists() else Path(".")
        free = f"{shutil.disk_usage(folder).free / 1e6:.0f} MB"
    except OSError:
        free = "an unknown amount"
    return ResourceError(
        f"Could not write {path}: {reason}; {needed / 1e6:.1f} MB are needed, {free} is free.",
        cure=cure,
        path=path,
        value=needed,
    )
