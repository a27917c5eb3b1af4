"""What a concept can be about: one file per kind of thing of the user's, each with a `read`.

    read(words, settings, weights, offline) -> the keyword arguments that the concept's function takes besides `settings`

`words` are those of the command line after the concept's name (in Python also arrays, pictures, runs), `settings` are the
settings. Without words `read` gives what comes along, where there is such a thing. Raises OptionError for too many
words or none where one is needed, DataError for what cannot be read, ModelFileError for a broken run.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from ...errors import OptionError

#: kinds for which nothing comes along: a run has to be named
RUN_REQUIRED = ("weight_path", "test_predictions")


def load_input(
    kind: str | None, words: Sequence[Any], settings: Any, weights: str | None = None, offline: bool = False
) -> dict[str, Any]:
    """What the subject of that kind gives to the concept. Raises what its `read` raises."""
    if kind is None:
        if words:
            raise OptionError(
                f"This concept is about its settings alone, and {words[0]!s} is none.", cure="Give --set KEY=VALUE."
            )
        return {}
    return importlib.import_module(f".{kind}", __name__).load_input(list(words), settings, weights, offline)


def check_max_words(words: Sequence[Any], count: int, told: str) -> None:
    """Raises OptionError where more words were given than `told` ('a picture') needs."""
    if len(words) > count:
        raise OptionError(f"{words[count]!s} is one word too many: this concept takes {told}.", cure="Leave it out.")
