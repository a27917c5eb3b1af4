"""Thalweg: deep learning from one neuron to a trained, tested, understood model, with one grammar, on your own data.

    import thalweg as tw

    run = tw.train("classify", "photos/", epochs=10)     # or tw.train(recipe="mnist-lenet")
    print(run.evaluate())
    for prediction in run.predict("holiday.jpg"):
        print(prediction.label, prediction.top(3))

`tw.list_tasks()`, `tw.list_models()` and `tw.list_recipes()` say what there is. Importing this package imports nothing
heavy; torch is imported with the first function that needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .version import __version__ as __version__

if TYPE_CHECKING:
    from .api import Run, explain, list_models, list_recipes, list_tasks, load, train

__all__ = ["Run", "explain", "list_models", "list_recipes", "list_tasks", "load", "train"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module(".api", __name__), name)
    raise AttributeError(f"module 'thalweg' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*__all__]
