"""Thalweg: deep learning from one neuron to a trained, tested, understood model, with one grammar, on your own data.

    import thalweg as tw

    run = tw.train("classify", "photos/", epochs=10)     # or tw.train(recipe="mnist-lenet")
    print(run.evaluate())
    for answer in run.predict("holiday.jpg"):
        print(answer.label, answer.top(3))

`tw.tasks`, `tw.models` and `tw.recipes` list what there is. Importing this imports nothing heavy; torch comes with the
first name that needs it.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from . import explain, train
from .version import __version__ as __version__

__all__ = ["Run", "explain", "load", "models", "recipes", "tasks", "train"]


class Verb(ModuleType):
    """A folder of this package that can be called, since the folder and the verb have one name."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """What the function of that name in `thalweg.api` does."""
        verb = self.__name__.rpartition(".")[2]
        return getattr(importlib.import_module(".api", __name__), verb)(*arguments, **options)


explain.__class__ = train.__class__ = Verb


def __getattr__(name: str) -> Any:
    if name in ("models", "recipes", "tasks"):
        return importlib.import_module(f".{name}", __name__)
    if name in ("Run", "load"):
        return getattr(importlib.import_module(".api", __name__), name)
    raise AttributeError(f"module 'thalweg' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*__all__]
