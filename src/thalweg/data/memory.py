"""How much memory is free, so that a set which cannot fit is refused before it is read."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import ResourceError


def free_memory() -> int | None:
    """Bytes that can still be used, the limit of a container included; None where the system does not say."""
    found = []
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
        group = Path("/sys/fs/cgroup")
        most = (group / "memory.max").read_text(encoding="ascii").strip()
        if most != "max":
            found.append(int(most) - int((group / "memory.current").read_text(encoding="ascii")))
    except (OSError, ValueError):
        pass
    if not found and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(found) if found else None


def require(needed: int, what: str, cure: str) -> None:
    """Raises ResourceError where `needed` bytes for `what` are more than half of the free memory."""
    free = free_memory()
    if free is not None and needed > free / 2:
        raise ResourceError(f"{what} needs {in_words(needed)} of memory; {in_words(free)} are free.", cure=cure)


def in_words(size: int) -> str:
    """Bytes for people: '9.9 MB'."""
    amount = float(size)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
