"""Downloads that can be trusted: resumed, checked, whole or not there at all."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where downloads are kept: THALWEG_CACHE, or the user's cache folder of this system. It may not exist yet."""
    if os.environ.get("THALWEG_CACHE"):
        return Path(os.environ["THALWEG_CACHE"])
    import platformdirs  # costs time that a set cache folder saves

    return Path(platformdirs.user_cache_dir("thalweg", appauthor=False))


def is_offline() -> bool:
    """Whether THALWEG_OFFLINE forbids the network."""
    return os.environ.get("THALWEG_OFFLINE", "").lower() not in ("", "0", "false", "no")
