"""Lock files between processes. The system releases a lock when its process ends, however that happens."""

from __future__ import annotations

from typing import IO


def lock_file(handle: IO[bytes] | IO[str]) -> bool:
    """Lock an open file until the process ends. Return False if another process has the lock.

    Returns True on file systems without locks, such as some network drives: there nobody can hold one.
    """
    try:
        import fcntl
    except ImportError:
        return _lock_windows(handle)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _lock_windows(handle: IO[bytes] | IO[str]) -> bool:
    import msvcrt

    try:
        msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)  # pyright: ignore[reportAttributeAccessIssue]
    except OSError:
        return False
    return True
