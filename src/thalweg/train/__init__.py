"""How a loss is minimised: the loop, optimisers, ranks, checkpoints. Nothing here knows a task.

`thalweg.train` is this folder and also the verb: `thalweg.train("classify", "photos/", epochs=10)`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class Verb(ModuleType):
    """A package that can be called, since the folder and the verb have one name."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Trains and returns the run: see `thalweg.api.train`."""
        from ..api import train

        return train(*arguments, **options)


sys.modules[__name__].__class__ = Verb
