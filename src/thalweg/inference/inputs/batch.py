"""A few examples that a network was not trained on, and what it answers to them."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch

from ...data.images.catalog import NAMED_DATASETS
from ...data.images.dataset import ImageDataset, Split
from ...data.images.preprocess import tta_logits
from ...errors import DataError, OptionError
from ..model import TrainedModel, load
from . import check_max_words

#: what comes along with the package
DEFAULT_MODEL, DEFAULT_DATA = "digits-lenet", "digits"


def load_input(words: list[Any], settings: Any, weights: str | None, offline: bool) -> dict[str, Any]:
    """[RUN|MODEL [DATA]]: `settings.examples` pictures drawn by `settings.seed`, their labels, and the network's logits.

    `images` (B, H, W, C) uint8, `labels` (B,) int64 into `classes`, `compute_logits` (B, K) float32, `sources` name each. They
    are of the test set, or of all of the data where it has none. Raises NotFound and ModelFileError for what is no run
    and no model, DataError for data that cannot be read or has classes that the network does not know.
    """
    check_max_words(words, 2, "a run or model, and data")
    if weights is not None and not words:
        raise OptionError("--weights are of a model, and none is named.", cure="Name the model, and then data.")
    trained = load_model(words[0] if words else DEFAULT_MODEL, weights, offline)
    data = trained.read(words[1] if len(words) > 1 else None if words else DEFAULT_DATA)
    split, notes = sample(evaluation_split(data), settings.examples, settings.seed)
    if trained.facts.get("views", "one") != "one":
        notes.append("The logits are averaged over views of each picture, as this network answers.")
    if trained.options.loss != getattr(settings, "loss", trained.options.loss):
        notes.append(f"{trained.name} was trained with another loss: --set loss={trained.options.loss}")
    return {
        "images": split.images,
        "labels": split.labels,
        "classes": list(data.classes),
        "logits": compute_logits(trained, split.images).numpy(),
        "sources": [str(source) for source in split.sources],
        "told": f"{trained.name} on {data.name}",
        "notes": notes,
    }


def load_model(given: Any, weights: str | None, offline: bool) -> TrainedModel:
    """The network that a word means. Raises OptionError for data and what can be no name, else what `load` raises."""
    if isinstance(given, TrainedModel):
        return given
    if not isinstance(given, (str, os.PathLike)):
        raise OptionError(f"{type(given).__name__} is no run and no model's name.", cure="Give one of these first.")
    if str(given).partition(":")[0] in NAMED_DATASETS and not os.path.exists(given):
        raise OptionError(
            f"{given} is data, and no run or model.", cure=f"Name one before it, as {DEFAULT_MODEL} {given}"
        )
    return load(given, weights, offline)


def evaluation_split(data: ImageDataset) -> Split:
    """The test set, or all examples of data that has none. Raises DataError where there is nothing at all."""
    if not len(data.whole):
        raise DataError(f"{data.name} has no examples.", cure="Give data with at least one that can be used.")
    return data.test if len(data.test) else data.whole


def sample(split: Split, count: int, seed: int) -> tuple[Split, list[str]]:
    """So many examples in the order of the draw; a note where there are fewer."""
    rows = np.random.default_rng(seed).permutation(len(split))[:count]
    notes = [f"{count} examples were asked for; there are {len(split)}."] if len(split) < count else []
    return split.take(rows), notes


def compute_logits(trained: TrainedModel, images_BHWC: np.ndarray) -> torch.Tensor:
    """(B, K) float32: what the network answers before the softmax, averaged over views where it answers so."""
    x_BCHW = trained.task.prepared(images_BHWC, trained.facts, torch.device("cpu"))
    with torch.no_grad():
        return tta_logits(trained.model, x_BCHW, trained.facts.get("views", "one"))
