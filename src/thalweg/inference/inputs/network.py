"""The network of any model or run, to be built for pictures of any size; what its weights have learned is left out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import nn

from ...errors import NotFoundError, OptionError
from ...registry import ModelEntry, find_model, get_models
from ...weights.files import skip_init
from ..model import TrainedModel, bundled_models, load
from . import check_max_words

#: what is shown without words
DEFAULT_MODEL = "lenet"


class InputShape(NamedTuple):
    """The pictures that a network reads, and how many classes it tells apart."""

    side: int
    channels: int
    classes: int


def load_input(words: list[Any], settings: Any, weights: str | None, offline: bool) -> dict[str, Any]:
    """[MODEL | RUN]: `build(side, channels, classes)` makes it without numbers, `form` is its own, `told` its name.

    Raises NotFound for a name of neither, ModelFileError for a broken run, OptionError where weights are given.
    """
    check_max_words(words, 1, "a model or a run")
    if weights is not None:
        raise OptionError(
            "This concept counts weights; what they have learned does not matter.", cure="Leave --weights out."
        )
    given = words[0] if words else DEFAULT_MODEL
    if not isinstance(given, (str, os.PathLike, TrainedModel)):
        raise OptionError(f"{type(given).__name__} is no model's name and no run.", cure="Give one of these.")
    if isinstance(given, TrainedModel) or _is_run(os.fspath(given)):
        trained = given if isinstance(given, TrainedModel) else load(given, None, offline)
        entry, arguments, form = _from_trained(trained)
        return {"build": meta_builder(entry, arguments), "form": form, "told": trained.name}
    told = os.fspath(given)
    entry = find_any(told)
    return {"build": meta_builder(entry), "form": default_shape(entry), "told": told}


def _is_run(name: str) -> bool:
    """Whether a name means a run, also one that is broken, and not a model."""
    if os.path.isfile(os.path.join(name, "run.json")) or name in bundled_models():
        return True
    return os.path.exists(name) and name not in get_models()


def find_any(name: str) -> ModelEntry:
    """The model of that name. Raises NotFound, with the nearest names of models and runs that come along."""
    try:
        return find_model(name)
    except NotFoundError as error:
        if ":" in name:
            raise
        raise NotFoundError.for_unknown("model or run", name, {*get_models(), *bundled_models()}) from error


def default_shape(entry: ModelEntry) -> InputShape:
    """Grey digits for networks of their size, ImageNet's pictures and classes for those that are made for them."""
    side = entry.parameters["image_size"].default
    return InputShape(side, 1 if side <= 28 else 3, 1000 if side >= 224 else 10)


def meta_builder(
    entry: ModelEntry, arguments: Mapping[str, Any] = MappingProxyType({})
) -> Callable[[int, int, int], nn.Module]:
    """A function that builds the model on the device "meta", where tensors have a shape and take no memory."""

    def build(side: int, channels: int, classes: int) -> nn.Module:
        with torch.device("meta"), skip_init():
            return entry(**{**arguments, "in_channels": channels, "num_classes": classes, "image_size": side})

    return build


def _from_trained(trained: TrainedModel) -> tuple[ModelEntry, dict[str, Any], InputShape]:
    """The model of a network that was trained, the arguments that were given to it, and what it reads."""
    facts, content, options = trained.facts, trained.content, trained.options
    entry = find_model(content.get("model") or options.model or trained.task.default_model)
    form = InputShape(facts["size"][0], facts["channels"], len(facts["classes"]))
    return entry, dict(content.get("arguments") or options.arguments), form
