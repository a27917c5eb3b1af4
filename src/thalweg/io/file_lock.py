"""The system's lock on an open file: one process has it, and loses it when it ends, however that happens."""

from __future__ import annotations

from typing import Any


def lock_file(handle: Any) -> bool:
    """Takes the system's lock on an open file; it ends with the process, however that ends. False if another has it.

    True as well on a disk that has no locks, as some shared ones: there nobody can own a file.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True
