"""A few labelled examples, of data alone or of a network's, and more of them to learn from and to be tested on."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from ...data.images.catalog import NAMED_DATASETS
from ...data.images.dataset import ImageDataset, Split
from ...data.images.load import load_dataset as read_data
from ...errors import OptionError
from ...registry import get_models
from ..model import bundled_models
from . import check_max_words
from .batch import DEFAULT_DATA, DEFAULT_MODEL, evaluation_split, load_model, sample


def load_input(words: list[Any], settings: Any, weights: str | None, offline: bool) -> dict[str, Any]:
    """[DATA | RUN|MODEL [DATA]]: `settings.examples` pictures and labels, drawn as for the subject `batch`.

    `images` (B, H, W, C) uint8, `labels` (B,) int64 into `classes`, `sources` name each; `learned` and `tested` are up
    to `settings.fit_examples` (images, labels) of the training and the test set, or of halves of data without test set.
    Raises what `batch.read` raises, OptionError also for --weights without a model.
    """
    check_max_words(words, 2, "data, or a run or model and data")
    alone = len(words) == 1 and _is_dataset(words[0])
    if weights is not None and (alone or not words):
        raise OptionError("--weights are of a model, and none is named.", cure="Leave them out.")
    words = words or [DEFAULT_MODEL, DEFAULT_DATA]
    if alone:
        data = words[0] if isinstance(words[0], ImageDataset) else read_data(words[0], offline=offline)
    else:
        data = load_model(words[0], weights, offline).read(words[1] if len(words) > 1 else None)
    split, notes = sample(evaluation_split(data), settings.examples, settings.seed)
    learned, tested = _split_train_test(data, settings.fit_examples, settings.seed)
    return {
        "images": split.images,
        "labels": split.labels,
        "classes": list(data.classes),
        "sources": [str(source) for source in split.sources],
        "learned": (learned.images, learned.labels),
        "tested": (tested.images, tested.labels),
        "told": data.name,
        "notes": notes,
    }


def _is_dataset(word: Any) -> bool:
    """Whether a word means data and neither a run nor a model."""
    if isinstance(word, ImageDataset):
        return True
    if not isinstance(word, (str, os.PathLike)):
        return False
    name = os.fspath(word)
    if os.path.isfile(os.path.join(name, "run.json")) or name in bundled_models() or name in get_models():
        return False
    return name.partition(":")[0] in NAMED_DATASETS or os.path.exists(name)


def _split_train_test(data: ImageDataset, count: int, seed: int) -> tuple[Split, Split]:
    """At most `count` examples to learn from, and as many others."""
    if len(data.test):
        return sample(data.train, count, seed)[0], sample(data.test, count, seed)[0]
    order, half = np.random.default_rng(seed).permutation(len(data.whole)), (len(data.whole) + 1) // 2
    return data.whole.take(order[:half][:count]), data.whole.take(order[half:][:count])
