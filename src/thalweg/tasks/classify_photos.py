"""What a classifier of few photos is given beside its training: a zoom for evaluation, and a word on better weights."""

from __future__ import annotations

import shlex
from typing import Any

from ..config.options import TrainOptions
from ..data.images.augment import parse_augmentation
from ..data.images.dataset import ImageDataset
from ..data.images.input_spec import InputSpec
from ..layers.tta import TTA
from ..weights.store import lookup
from .classify_support import can_cache_features, has_few_color_images, resolve_augment

#: the smallest published model of today's accuracy, and the accuracy from which on nothing is suggested
SMALL_PRETRAINED = "mobilenet_v3_small"
SOLVED = 0.95


def choose_tta(dataset: ImageDataset, spec: InputSpec, options: Any, common: TrainOptions) -> TTA:
    """Choose the test-time augmentation: a zoom where training sees random crops, if none is given.

    The center crop in the preprocessing of weights is such a zoom already.
    """
    augment = parse_augmentation(resolve_augment(options, dataset, spec, common))
    sees_crops = "crop" in augment and not can_cache_features(options, common)
    return "zoom" if options.tta == "auto" and sees_crops and spec.resize is None else spec.tta


def suggest_weights(history: list[dict[str, Any]], spec: InputSpec, common: TrainOptions) -> list[str]:
    """Name the command that starts from pretrained weights, where few photos were learned from scratch."""
    accuracies = [row["accuracy"] for row in history if row.get("split") == "val" and row.get("accuracy") is not None]
    is_solved = max(accuracies, default=0.0) >= SOLVED
    if common.weights is not None or is_solved or not has_few_color_images(spec):
        return []
    megabytes = lookup(SMALL_PRETRAINED).bytes / 1e6
    source = shlex.quote(common.data) if common.data else "DATA"
    return [
        f"{sum(spec.class_counts):,} photos are few to train a model from scratch; pretrained weights usually "
        f"do far better: thalweg train classify {source} --model {SMALL_PRETRAINED} --weights imagenet --freeze  "
        f"(this downloads {megabytes:.0f} MB, once)"
    ]
