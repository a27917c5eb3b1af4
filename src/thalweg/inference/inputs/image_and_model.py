"""A network that was trained, a picture that it is asked about, and pictures of those that it was trained on."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ...data.images.dataset import ImageDataset, Split
from ...data.images.preprocess import eval_batch_size
from ...errors import DataError, NotFoundError, OptionError, ResourceError
from ..model import PretrainedModel, TrainedModel
from . import check_max_words
from .batch import DEFAULT_DATA, DEFAULT_MODEL, load_model


def load_input(words: list[Any], settings: Any, weights: str | None, offline: bool) -> dict[str, Any]:
    """RUN|MODEL [PICTURE [DATA]]: the network, the picture as it reads it, its answer, a sample of `settings.images`.

    Without a picture one of the test set is taken. The sample is of the training set, or of DATA; where neither is at
    hand, `training` is None and `notes` say why. Raises OptionError for a model without a picture, DataError for a
    picture or data that cannot be read, NotFound and ModelFileError for what is no run and no model.
    """
    check_max_words(words, 3, "a run or model, a picture, and data")
    trained = load_model(words[0] if words else DEFAULT_MODEL, weights, offline)
    data, notes = _load_training_data(trained, words)
    order = np.random.default_rng(settings.seed).permutation(len(data.train)) if data else np.empty(0, np.int64)
    if len(words) > 1:
        named, picture_HWC = trained.look(words[1])
    else:
        named, picture_HWC, order = _sample_test_image(data, order, settings.seed)
    if trained.facts.get("views", "one") != "one":
        notes.append("The answer is averaged over views of the picture; what layers answer is of the picture as it is.")
    found = trained.task.infer(trained.model, {"image": torch.from_numpy(picture_HWC[None].copy())}, trained.facts)
    cpu = torch.device("cpu")
    return {
        "network": trained.model,
        "x_1CHW": trained.task.prepared(picture_HWC[None], trained.facts, cpu),
        "picture_HWC": picture_HWC,
        "classes": list(trained.facts["classes"]),
        "probability_K": found[0].numpy(),
        "training": data.train.take(np.sort(order[: settings.images])) if data else None,
        "prepared": lambda images_NHWC: trained.task.prepared(images_NHWC, trained.facts, cpu),
        "at_once": eval_batch_size(trained.facts),
        "told": f"{trained.name}, {named}",
        "notes": notes,
    }


def _load_training_data(trained: TrainedModel, words: list[Any]) -> tuple[ImageDataset | None, list[str]]:
    """The data whose training pictures are shown, and what is to be said of it."""
    if not words:
        return trained.read(DEFAULT_DATA), [
            f"The pictures are those of {DEFAULT_DATA}, which come along, and not those that it was trained on."
        ]
    if len(words) == 3:
        read = trained.read(words[2])
        return (read if len(read.train) else replace(read, train=read.whole)), []
    if isinstance(trained, PretrainedModel):
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
    except (DataError, NotFoundError, ResourceError) as error:
        return None, [f"Training pictures are left out: {error.message} Name DATA after the picture to see some."]


def _sample_test_image(data: ImageDataset, order: np.ndarray, seed: int) -> tuple[str, np.ndarray, np.ndarray]:
    """The name of a picture of the test set, it, and the rows of the training set that are left for the sample."""
    split: Split = data.test
    row = int(np.random.default_rng(seed).integers(len(split))) if len(split) else int(order[0])
    if not len(split):
        split, order = data.train, order[1:]
    return str(split.sources[row]), split.images[row], order
