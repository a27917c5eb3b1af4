"""The architecture of any model or run, built for inputs of any size; what its weights have learned is left out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import nn

from ...errors import NotFoundError, OptionError
from ...registry import ModelEntry, find_model, get_models
from ...runs.run_dir import bundled_models
from ...weights.files import skip_init
from ..load import load
from ..model import TrainedModel
from ..run import Run
from . import check_max_words
from .batch import require_classifier

#: shown without words
DEFAULT_MODEL = "lenet"


class InputShape(NamedTuple):
    """The images that a model reads, and the number of its outputs."""

    image_size: int
    in_channels: int
    num_outputs: int


def load_input(words: list[Any], settings: Any, weights: str | None, offline: bool) -> dict[str, Any]:
    """Load [MODEL | RUN]: `build(side, channels, classes)` builds it on "meta"; `form` is its input, `title` its name.

    Raises NotFoundError for an unknown name, ModelFileError for a broken run, OptionError where weights are given.
    """
    check_max_words(words, 1, "a model or a run")
    if weights is not None:
        raise OptionError(
            "This concept counts weights; their values do not matter.", "Leave --weights out.", option="weights"
        )
    word = words[0] if words else DEFAULT_MODEL
    if not isinstance(word, str | os.PathLike | TrainedModel):
        raise OptionError(f"{type(word).__name__} is neither a model's name nor a run.", value=type(word).__name__)
    if isinstance(word, TrainedModel) or _is_run(os.fspath(word)):
        trained = word if isinstance(word, TrainedModel) else load(word, None, offline)
        entry, kwargs, form = _from_trained(require_classifier(trained))
        return {"build": meta_builder(entry, kwargs), "form": form, "title": trained.name}
    name = os.fspath(word)
    entry = find_any(name)
    return {"build": meta_builder(entry), "form": default_shape(entry), "title": name}


def _is_run(name: str) -> bool:
    """Whether a name means a run, also one that is broken, and not a model."""
    if os.path.isfile(os.path.join(name, "run.json")) or name in bundled_models():
        return True
    return os.path.exists(name) and name not in get_models()


def find_any(name: str) -> ModelEntry:
    """Return the model of that name. Raises NotFoundError, with the nearest names of models and bundled runs."""
    try:
        return find_model(name)
    except NotFoundError as error:
        if ":" in name:
            raise
        raise NotFoundError.for_unknown("model or run", name, {*get_models(), *bundled_models()}) from error


def default_shape(entry: ModelEntry) -> InputShape:
    """Return gray digits for models of their size, ImageNet's images and classes for those made for them.

    Raises OptionError for a model that does not read images.
    """
    classes = entry.parameters.get("num_classes")
    # where the default is none, classes are what a model reads and not what it finds
    if "image_size" not in entry.parameters or classes is None or classes.default == 0:
        raise OptionError(
            f"{entry.name} is a model of the task {entry.task}; layers are shown of models that classify images.",
            value=entry.name,
        )
    side = entry.parameters["image_size"].default
    channels = 1 if side <= 28 else 3
    return InputShape(side, channels, 1000 if side >= 224 else 10)


def meta_builder(
    entry: ModelEntry, kwargs: Mapping[str, Any] = MappingProxyType({})
) -> Callable[[int, int, int], nn.Module]:
    """Return a function that builds the model on the device "meta", where tensors have a shape and take no memory."""

    def build(side: int, channels: int, classes: int) -> nn.Module:
        with torch.device("meta"), skip_init():
            return entry(**{**kwargs, "in_channels": channels, "num_classes": classes, "image_size": side})

    return build


def _from_trained(trained: TrainedModel) -> tuple[ModelEntry, dict[str, Any], InputShape]:
    """Return the model of a trained one, the arguments that were given to it, and what it reads."""
    spec = trained.spec
    height, width = spec.size
    if height != width:
        raise OptionError(
            f"{trained.name} reads images of {width}x{height}; this concept expects squares.",
            "Give the name of its model instead.",
            value=f"{width}x{height}",
        )
    shape = InputShape(height, spec.channels, len(spec.classes))
    if isinstance(trained, Run):
        return find_model(trained.record.model), dict(trained.record.model_kwargs), shape
    return find_model(trained.name), dict(trained.options.model_kwargs), shape
