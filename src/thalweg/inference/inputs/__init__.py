"""Loaders for concept inputs, one module per kind (image, table, run, …).

    load_input(words, settings, weights, offline) -> the keyword arguments of the concept's function besides `settings`

`words` follow the concept's name on the command line (in Python also arrays, images, runs), `settings` are the
concept's settings. Without words a loader returns what is bundled, where there is such a thing. Raises OptionError for
too many words or none where one is needed, DataError for what cannot be read, ModelFileError for a broken run.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from ...errors import OptionError

#: kinds for which nothing is bundled: a run has to be named
RUN_REQUIRED = ("weight_path", "test_predictions")


def load_input(
    kind: str | None, words: Sequence[Any], settings: Any, weights: str | None = None, offline: bool = False
) -> dict[str, Any]:
    """Load the input of a kind.

    Args:
        kind: A module of this package; None for concepts that have settings only.
        words: What follows the concept's name.
        settings: The concept's settings.
        weights: Weights for the name of a model.
        offline: Never use the network.

    Returns:
        Keyword arguments of the concept's function.

    Raises:
        OptionError: For words where there are only settings.
    """
    if kind is None:
        if words:
            raise OptionError(
                f"This concept has settings only; {words[0]!s} is not one.",
                f"Settings are given as --set {words[0]!s}" if "=" in str(words[0]) else "Give --set KEY=VALUE.",
                value=words[0],
            )
        return {}
    return importlib.import_module(f".{kind}", __name__).load_input(list(words), settings, weights, offline)


def check_max_words(words: Sequence[Any], count: int, expected: str) -> None:
    """Raise OptionError where more words were given than `expected` ('an image') needs."""
    if len(words) > count:
        extra = str(words[count])
        cure = f"Settings are given as --set {extra}" if "=" in extra else "Leave it out."
        raise OptionError(f"{extra} is one word too many; expected {expected}.", cure, value=extra)
