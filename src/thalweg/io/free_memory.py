"""Measure free memory, so that a dataset that cannot fit is rejected before it is read."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import ResourceError

#: where Linux describes the machine, and the container (control groups, version 2)
MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")


def get_free_memory() -> int | None:
    """Return the bytes that can still be used, within the limit of the container; None if the system does not say."""
    limits = [size for size in (_read_system_memory(), _read_cgroup_memory()) if size is not None]
    if limits:
        return min(limits)
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _read_system_memory() -> int | None:
    try:
        return int(_read_table(MEMINFO)["MemAvailable:"]) * 1024
    except (OSError, ValueError, KeyError):
        return None


def _read_cgroup_memory() -> int | None:
    """Return the bytes that the container may still use. Cached files count as free, because they give way."""
    try:
        limit = int((CGROUP / "memory.max").read_text(encoding="ascii"))  # ValueError for "max": no limit
        used = int((CGROUP / "memory.current").read_text(encoding="ascii"))
        cached = int(_read_table(CGROUP / "memory.stat").get("inactive_file", 0))
    except (OSError, ValueError):
        return None
    return limit - used + cached


def _read_table(path: Path) -> dict[str, str]:
    """Return the second word of each line by the first."""
    table = {}
    for line in path.read_text(encoding="ascii").splitlines():
        words = line.split()
        if len(words) > 1:
            table[words[0]] = words[1]
    return table


def require_memory(needed: int, subject: str, cure: str) -> None:
    """Raise ResourceError if `needed` bytes for `subject` are more than half of the free memory."""
    free = get_free_memory()
    if free is not None and needed > free / 2:
        raise ResourceError(
            f"{subject} needs {format_bytes(needed)} of memory; {format_bytes(free)} are free.", cure=cure, value=needed
        )


def format_bytes(size: int) -> str:
    """Format a number of bytes as '9.9 MB'."""
    if size < 1000:
        return f"{size} bytes"
    amount = float(size)
    for unit in ("kB", "MB", "GB"):
        amount /= 1000
        if amount < 1000:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1000:.1f} TB"
