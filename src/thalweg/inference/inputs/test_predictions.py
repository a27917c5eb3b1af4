"""What a trained network answers to the test set, and what its last layer reads of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...data.images.dataset import Split
from ...data.images.preprocess import eval_batch_size, tta_logits
from ...engine.freezing import layer_groups
from ...errors import OptionError
from ..model import TrainedModel
from . import check_max_words
from .batch import evaluation_split, load_model


def load_input(words: list[Any], settings: Any, weights: str | None, offline: bool) -> dict[str, Any]:
    """RUN [DATA]: up to `settings.examples` of its test set, drawn by `settings.seed`, with the answers to them.

    `images` (N, H, W, C) uint8, `labels` (N,) int64 into `classes`, `logits` (N, K) and `features` (N, D) float32,
    `sources` name each. Of DATA without a test set all examples are taken; a model by name needs DATA. Raises
    OptionError without a run, NotFound and ModelFileError for what is none, DataError for data that cannot be read or
    has classes that the network does not know.
    """
    check_max_words(words, 2, "a run, and data")
    if not words:
        raise OptionError(
            "This concept is about what a trained network answers, and no run is named.",
            cure="Give the folder of one: thalweg explain predictions runs/a",
        )
    trained = load_model(words[0], weights, offline)
    data = trained.read(words[1] if len(words) > 1 else None)
    split, notes = evaluation_split(data), []
    if len(split) > settings.examples:
        notes.append(
            f"{settings.examples} of {len(split)} examples are used, drawn by the seed; --set examples says how many."
        )
        rows = np.random.default_rng(settings.seed).permutation(len(split))[: settings.examples]
        split = split.take(np.sort(rows))
    logits_NK, features_ND = compute_logits_and_features(trained, split)
    return {
        "images": split.images,
        "labels": split.labels,
        "classes": list(data.classes),
        "logits": logits_NK.numpy(),
        "features": features_ND.numpy(),
        "sources": [str(source) for source in split.sources],
        "told": f"{trained.name} on {data.name}",
        "notes": notes,
    }


def compute_logits_and_features(trained: TrainedModel, split: Split) -> tuple[Tensor, Tensor]:
    """Logits (N, K), averaged over views where the network answers so, and features (N, D) of the pictures as they are.

    Features are what goes into the last layer with weights; maps are averaged over their pixels.
    """
    network, facts, views = trained.model, trained.facts, trained.facts.get("views", "one")
    last, heard, logits = layer_groups(network)[-1].layers[0], [], []
    handle = last.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0]))
    features, size = [], eval_batch_size(facts)
    try:
        with torch.no_grad():
            for start in range(0, len(split), size):
                x_BCHW = trained.task.prepared(split.images[start : start + size], facts, torch.device("cpu"))
                plain_BK = network(x_BCHW)
                features.append(_flatten_features(heard[0]))
                logits.append((plain_BK if views == "one" else tta_logits(network, x_BCHW, views)).float())
                heard.clear()
    finally:
        handle.remove()
    return torch.cat(logits), torch.cat(features)


def _flatten_features(features: Tensor) -> Tensor:
    """(B, D) of what a layer reads."""
    return (features.mean((2, 3)) if features.ndim == 4 else features.flatten(1)).float()
