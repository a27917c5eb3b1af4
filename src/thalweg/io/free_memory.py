"""How much memory is free, so that a set which cannot fit is refused before it is read."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import ResourceError

#: where Linux tells about the machine, and about the container (control groups, version 2)
MEMINFO, CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


def get_free_memory() -> int | None:
    """Bytes that can still be used, the limit of a container included; None where the system does not say."""
    found = [f for f in (_read_system_memory(), _read_cgroup_memory()) if f is not None]
    if not found and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(found) if found else None


def _read_system_memory() -> int | None:
    try:
        return int(_read_table(MEMINFO)["MemAvailable:"]) * 1024
    except (OSError, ValueError, KeyError):
        return None


def _read_cgroup_memory() -> int | None:
    """What the container may still use; files that are only kept in case they are read again give way."""
    try:
        most = int((CGROUP / "memory.max").read_text(encoding="ascii"))  # the word "max" where there is no limit
        used = int((CGROUP / "memory.current").read_text(encoding="ascii"))
        return most - used + int(_read_table(CGROUP / "memory.stat").get("inactive_file", 0))
    except (OSError, ValueError):
        return None


def _read_table(path: Path) -> dict[str, str]:
    """First and second word of each line."""
    lines = (line.split() for line in path.read_text(encoding="ascii").splitlines())
    return {words[0]: words[1] for words in lines if len(words) > 1}


def require_memory(needed: int, what: str, cure: str) -> None:
    """Raises ResourceError where `needed` bytes for `what` are more than half of the free memory."""
    free = get_free_memory()
    if free is not None and needed > free / 2:
        raise ResourceError(f"{what} needs {format_bytes(needed)} of memory; {format_bytes(free)} are free.", cure=cure)


def format_bytes(size: int) -> str:
    """Bytes for people: '9.9 MB'."""
    amount = float(size)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
