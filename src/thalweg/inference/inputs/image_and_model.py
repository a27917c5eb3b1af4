"""A network that was trained, a picture that it is asked about, and pictures of those that it was trained on."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ...data.images.dataset import Data, Split
from ...data.images.preprocess import at_once
from ...errors import DataError, NotFound, OptionError, ResourceError
from ..model import Pretrained, Trained
from . import at_most
from .batch import DATA, NETWORK, network_of


def read(words: list[Any], asked: Any, weights: str | None, offline: bool) -> dict[str, Any]:
    """RUN|MODEL [PICTURE [DATA]]: the network, the picture as it reads it, its answer, a sample of `asked.pictures`.

    Without a picture one of the test set is taken. The sample is of the training set, or of DATA; where neither is at
    hand, `training` is None and `notes` say why. Raises OptionError for a model without a picture, DataError for a
    picture or data that cannot be read, NotFound and ModelFileError for what is no run and no model.
    """
    at_most(words, 3, "a run or model, a picture, and data")
    trained = network_of(words[0] if words else NETWORK, weights, offline)
    data, notes = _data(trained, words)
    order = np.random.default_rng(asked.seed).permutation(len(data.train)) if data else np.empty(0, np.int64)
    if len(words) > 1:
        named, picture_HWC = trained.look(words[1])
    else:
        named, picture_HWC, order = _example(data, order, asked.seed)
    if trained.facts.get("views", "one") != "one":
        notes.append("The answer is averaged over views of the picture; what layers answer is of the picture as it is.")
    found = trained.task.infer(trained.network, {"image": torch.from_numpy(picture_HWC[None].copy())}, trained.facts)
    cpu = torch.device("cpu")
    return {
        "network": trained.network,
        "x_1CHW": trained.task.prepared(picture_HWC[None], trained.facts, cpu),
        "picture_HWC": picture_HWC,
        "classes": list(trained.facts["classes"]),
        "probability_K": found[0].numpy(),
        "training": data.train.take(np.sort(order[: asked.pictures])) if data else None,
        "prepared": lambda images_NHWC: trained.task.prepared(images_NHWC, trained.facts, cpu),
        "at_once": at_once(trained.facts),
        "told": f"{trained.name}, {named}",
        "notes": notes,
    }


def _data(trained: Trained, words: list[Any]) -> tuple[Data | None, list[str]]:
    """The data whose training pictures are shown, and what is to be said of it."""
    if not words:
        return trained.read(DATA), [
            f"The pictures are those of {DATA}, which come along, and not those that it was trained on."
        ]
    if len(words) == 3:
        read = trained.read(words[2])
        return (read if len(read.train) else replace(read, train=read.whole)), []
    if isinstance(trained, Pretrained):
        if len(words) == 1:
            raise OptionError(
                f"{trained.name} is a model without a test set to take a picture from.",
                cure="Give a picture after its name.",
            )
        return None, [f"{trained.name} came without training pictures. Name DATA after the picture to see some."]
    if len(words) == 1:
        return trained.read(), []
    here = copy(trained)
    here.options = replace(trained.options, offline=True)  # nobody asked for the data by name
    try:
        return here.read(), []
    except (DataError, NotFound, ResourceError) as error:
        return None, [f"Training pictures are left out: {error.message} Name DATA after the picture to see some."]


def _example(data: Data, order: np.ndarray, seed: int) -> tuple[str, np.ndarray, np.ndarray]:
    """The name of a picture of the test set, it, and the rows of the training set that are left for the sample."""
    split: Split = data.test
    row = int(np.random.default_rng(seed).integers(len(split))) if len(split) else int(order[0])
    if not len(split):
        split, order = data.train, order[1:]
    return str(split.sources[row]), split.images[row], order
