"""What a trained classifier predicts on the test split, and what its last layer reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...data.images.dataset import ImageSplit
from ...data.images.input_spec import eval_batch_size, to_normalized_float
from ...engine.freezing import layer_groups
from ...errors import OptionError
from ...layers.tta import tta_logits
from ..model import TrainedModel
from . import check_max_words
from .batch import evaluation_split, load_images, load_model


def load_input(words: list[Any], settings: Any, weights: str | None, offline: bool) -> dict[str, Any]:
    """Load RUN [DATA]: up to `settings.examples` of its test split, drawn by `settings.seed`, with predictions.

    `images` (N, H, W, C) uint8, `labels` (N,) int64 into `classes`, `logits` (N, K) and `features` (N, D) float32,
    `sources` name each. Of DATA without a test split all examples are taken; a model by name needs DATA. Raises
    OptionError without a run, NotFoundError and ModelFileError for an unusable one, DataError for unusable data.
    """
    check_max_words(words, 2, "a run, and data")
    if not words:
        raise OptionError(
            "This concept is about the predictions of a trained model; no run is named.",
            "Give the folder of one: thalweg explain predictions runs/a",
        )
    trained = load_model(words[0], weights, offline)
    dataset = load_images(trained, words[1] if len(words) > 1 else None)
    split = evaluation_split(dataset)
    notes = []
    if len(split) > settings.examples:
        notes.append(
            f"{settings.examples} of {len(split)} examples are used, drawn by the seed; --set examples=N changes it."
        )
        rows = np.random.default_rng(settings.seed).permutation(len(split))[: settings.examples]
        split = split.take(np.sort(rows))
    logits_NK, features_ND = compute_logits_and_features(trained, split)
    return {
        "images": split.images,
        "labels": split.labels,
        "classes": list(dataset.classes),
        "logits": logits_NK.numpy(),
        "features": features_ND.numpy(),
        "sources": [str(source) for source in split.sources],
        "title": f"{trained.name} on {dataset.name}",
        "notes": notes,
    }


def compute_logits_and_features(trained: TrainedModel, split: ImageSplit) -> tuple[Tensor, Tensor]:
    """Return logits (N, K), averaged over augmented copies where the model predicts so, and features (N, D).

    Features are what goes into the last layer with weights; maps are averaged over their pixels.
    """
    model = trained.model
    spec = trained.spec
    last_layer = layer_groups(model)[-1].layers[0]
    captured: list[Tensor] = []
    logits = []
    features = []
    handle = last_layer.register_forward_pre_hook(lambda _, inputs: captured.append(inputs[0]))
    batch_size = eval_batch_size(spec)
    try:
        with torch.no_grad():
            for start in range(0, len(split), batch_size):
                images = torch.from_numpy(split.images[start : start + batch_size].copy())
                x_BCHW = to_normalized_float(images, spec)
                plain_BK = model(x_BCHW)
                features.append(_flatten_features(captured[0]))
                logits.append((plain_BK if spec.tta == "none" else tta_logits(model, x_BCHW, spec.tta)).float())
                captured.clear()
    finally:
        handle.remove()
    return torch.cat(logits), torch.cat(features)


def _flatten_features(features: Tensor) -> Tensor:
    """Return what a layer reads as (B, D)."""
    return (features.mean((2, 3)) if features.ndim == 4 else features.flatten(1)).float()
