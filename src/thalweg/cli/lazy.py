"""The façade for the command line, imported when a verb needs it and not before."""

from __future__ import annotations

import gc
from types import ModuleType


def facade() -> ModuleType:
    """`thalweg.api`. Importing torch makes a million objects and no garbage: none is looked for, then or at the end."""
    gc.disable()
    try:
        from .. import api
    finally:
        gc.freeze()
        gc.enable()
    return api
