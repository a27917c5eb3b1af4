"""The network of any model or run, to be built for pictures of any size; what its weights have learned is left out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import nn

from ...errors import NotFound, OptionError
from ...registry import ModelEntry, find_model, models
from ...weights.files import Undrawn
from ..model import Trained, load, shipped
from . import at_most

#: what is shown without words
MODEL = "lenet"


class Form(NamedTuple):
    """The pictures that a network reads, and how many classes it tells apart."""

    side: int
    channels: int
    classes: int


def read(words: list[Any], asked: Any, weights: str | None, offline: bool) -> dict[str, Any]:
    """[MODEL | RUN]: `build(side, channels, classes)` makes it without numbers, `form` is its own, `told` its name.

    Raises NotFound for a name of neither, ModelFileError for a broken run, OptionError where weights are given.
    """
    at_most(words, 1, "a model or a run")
    if weights is not None:
        raise OptionError(
            "This concept counts weights; what they have learned does not matter.", cure="Leave --weights out."
        )
    given = words[0] if words else MODEL
    if not isinstance(given, (str, os.PathLike, Trained)):
        raise OptionError(f"{type(given).__name__} is no model's name and no run.", cure="Give one of these.")
    if isinstance(given, Trained) or _is_run(os.fspath(given)):
        trained = given if isinstance(given, Trained) else load(given, None, offline)
        entry, arguments, form = _of(trained)
        return {"build": builder(entry, arguments), "form": form, "told": trained.name}
    told = os.fspath(given)
    entry = named(told)
    return {"build": builder(entry), "form": usual(entry), "told": told}


def _is_run(name: str) -> bool:
    """Whether a name means a run, also one that is broken, and not a model."""
    if os.path.isfile(os.path.join(name, "run.json")) or name in shipped():
        return True
    return os.path.exists(name) and name not in models()


def named(name: str) -> ModelEntry:
    """The model of that name. Raises NotFound, with the nearest names of models and runs that come along."""
    try:
        return find_model(name)
    except NotFound as error:
        if ":" in name:
            raise
        raise NotFound.among("model or run", name, {*models(), *shipped()}) from error


def usual(entry: ModelEntry) -> Form:
    """Grey digits for networks of their size, ImageNet's pictures and classes for those that are made for them."""
    side = entry.arguments["size"].default
    return Form(side, 1 if side <= 28 else 3, 1000 if side >= 224 else 10)


def builder(
    entry: ModelEntry, arguments: Mapping[str, Any] = MappingProxyType({})
) -> Callable[[int, int, int], nn.Module]:
    """A function that builds the model on the device "meta", where tensors have a shape and take no memory."""

    def build(side: int, channels: int, classes: int) -> nn.Module:
        with torch.device("meta"), Undrawn():
            return entry(**{**arguments, "channels": channels, "classes": classes, "size": side})

    return build


def _of(trained: Trained) -> tuple[ModelEntry, dict[str, Any], Form]:
    """The model of a network that was trained, the arguments that were given to it, and what it reads."""
    facts, content, options = trained.facts, trained.content, trained.options
    entry = find_model(content.get("model") or options.model or trained.task.default_model)
    form = Form(facts["size"][0], facts["channels"], len(facts["classes"]))
    return entry, dict(content.get("arguments") or options.arguments), form
