"""A few examples that a network was not trained on, and what it answers to them."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch

from ...data.images.catalog import KNOWN
from ...data.images.dataset import Data, Split
from ...data.images.preprocess import averaged
from ...errors import DataError, OptionError
from ..model import Trained, load
from . import at_most

#: what comes along with the package
NETWORK, DATA = "digits-lenet", "digits"


def read(words: list[Any], asked: Any, weights: str | None, offline: bool) -> dict[str, Any]:
    """[RUN|MODEL [DATA]]: `asked.examples` pictures drawn by `asked.seed`, their labels, and the network's logits.

    `images` (B, H, W, C) uint8, `labels` (B,) int64 into `classes`, `logits` (B, K) float32, `sources` name each. They
    are of the test set, or of all of the data where it has none. Raises NotFound and ModelFileError for what is no run
    and no model, DataError for data that cannot be read or has classes that the network does not know.
    """
    at_most(words, 2, "a run or model, and data")
    if weights is not None and not words:
        raise OptionError("--weights are of a model, and none is named.", cure="Name the model, and then data.")
    trained = network_of(words[0] if words else NETWORK, weights, offline)
    data = trained.read(words[1] if len(words) > 1 else None if words else DATA)
    split, notes = drawn(held_out(data), asked.examples, asked.seed)
    if trained.facts.get("views", "one") != "one":
        notes.append("The logits are averaged over views of each picture, as this network answers.")
    if trained.options.loss != getattr(asked, "loss", trained.options.loss):
        notes.append(f"{trained.name} was trained with another loss: --set loss={trained.options.loss}")
    return {
        "images": split.images,
        "labels": split.labels,
        "classes": list(data.classes),
        "logits": logits(trained, split.images).numpy(),
        "sources": [str(source) for source in split.sources],
        "told": f"{trained.name} on {data.name}",
        "notes": notes,
    }


def network_of(given: Any, weights: str | None, offline: bool) -> Trained:
    """The network that a word means. Raises OptionError for data and what can be no name, else what `load` raises."""
    if isinstance(given, Trained):
        return given
    if not isinstance(given, (str, os.PathLike)):
        raise OptionError(f"{type(given).__name__} is no run and no model's name.", cure="Give one of these first.")
    if str(given).partition(":")[0] in KNOWN and not os.path.exists(given):
        raise OptionError(f"{given} is data, and no run or model.", cure=f"Name one before it, as {NETWORK} {given}")
    return load(given, weights, offline)


def held_out(data: Data) -> Split:
    """The test set, or all examples of data that has none. Raises DataError where there is nothing at all."""
    if not len(data.whole):
        raise DataError(f"{data.name} has no examples.", cure="Give data with at least one that can be used.")
    return data.test if len(data.test) else data.whole


def drawn(split: Split, count: int, seed: int) -> tuple[Split, list[str]]:
    """So many examples in the order of the draw; a note where there are fewer."""
    rows = np.random.default_rng(seed).permutation(len(split))[:count]
    notes = [f"{count} examples were asked for; there are {len(split)}."] if len(split) < count else []
    return split.take(rows), notes


def logits(trained: Trained, images_BHWC: np.ndarray) -> torch.Tensor:
    """(B, K) float32: what the network answers before the softmax, averaged over views where it answers so."""
    x_BCHW = trained.task.prepared(images_BHWC, trained.facts, torch.device("cpu"))
    with torch.no_grad():
        return averaged(trained.network, x_BCHW, trained.facts.get("views", "one"))
