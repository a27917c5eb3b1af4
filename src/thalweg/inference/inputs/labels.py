"""A few labeled images, of data alone or of a model's, and more of them to fit and to test on."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from ...data.base import DataRequest
from ...data.images.catalog import NAMED_DATASETS
from ...data.images.dataset import ImageDataset, ImageSplit
from ...data.images.load import load_dataset
from ...errors import OptionError
from ...registry import get_models
from ...runs.run_dir import bundled_models
from . import check_max_words
from .batch import DEFAULT_DATA, DEFAULT_MODEL, evaluation_split, load_images, load_model, sample


def load_input(words: list[Any], settings: Any, weights: str | None, offline: bool) -> dict[str, Any]:
    """Load [DATA | RUN|MODEL [DATA]]: `settings.examples` images and labels, drawn as for the kind `batch`.

    `images` (B, H, W, C) uint8, `labels` (B,) int64 into `classes`, `sources` name each; `train_set` and `test_set` are
    up to `settings.fit_examples` (images, labels) of the two splits, or of halves of data without a test split.
    Raises what `batch.load_input` raises, OptionError also for --weights without a model.
    """
    check_max_words(words, 2, "data, or a run or model and data")
    is_data_only = len(words) == 1 and _is_dataset(words[0])
    if weights is not None and (is_data_only or not words):
        raise OptionError("--weights needs a model.", "Leave them out.", option="weights")
    words = words or [DEFAULT_MODEL, DEFAULT_DATA]
    if is_data_only:
        word = words[0]
        dataset = (
            word if isinstance(word, ImageDataset) else load_dataset(DataRequest(os.fspath(word), offline=offline))
        )
    else:
        dataset = load_images(load_model(words[0], weights, offline), words[1] if len(words) > 1 else None)
    split, notes = sample(evaluation_split(dataset), settings.examples, settings.seed)
    train, test = _split_train_test(dataset, settings.fit_examples, settings.seed)
    return {
        "images": split.images,
        "labels": split.labels,
        "classes": list(dataset.classes),
        "sources": [str(source) for source in split.sources],
        "train_set": (train.images, train.labels),
        "test_set": (test.images, test.labels),
        "title": dataset.name,
        "notes": notes,
    }


def _is_dataset(word: Any) -> bool:
    """Whether a word means data and neither a run nor a model."""
    if isinstance(word, ImageDataset):
        return True
    if not isinstance(word, str | os.PathLike):
        return False
    name = os.fspath(word)
    if os.path.isfile(os.path.join(name, "run.json")) or name in bundled_models() or name in get_models():
        return False
    return name.partition(":")[0] in NAMED_DATASETS or os.path.exists(name)


def _split_train_test(dataset: ImageDataset, count: int, seed: int) -> tuple[ImageSplit, ImageSplit]:
    """Return at most `count` examples to fit, and as many others."""
    if len(dataset.test):
        return sample(dataset.train, count, seed)[0], sample(dataset.test, count, seed)[0]
    examples = dataset.all
    order = np.random.default_rng(seed).permutation(len(examples))
    half = (len(examples) + 1) // 2
    return examples.take(order[:half][:count]), examples.take(order[half:][:count])
