"""A few labelled examples, of data alone or of a network's, and more of them to learn from and to be tested on."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from ...data.images.catalog import KNOWN
from ...data.images.dataset import Data, Split
from ...data.images.load import read as read_data
from ...errors import OptionError
from ...registry import models
from ..model import shipped
from . import at_most
from .batch import DATA, NETWORK, drawn, held_out, network_of


def read(words: list[Any], asked: Any, weights: str | None, offline: bool) -> dict[str, Any]:
    """[DATA | RUN|MODEL [DATA]]: `asked.examples` pictures and labels, drawn as for the subject `batch`.

    `images` (B, H, W, C) uint8, `labels` (B,) int64 into `classes`, `sources` name each; `learned` and `tested` are up
    to `asked.fitted` (images, labels) of the training and the test set, or of halves of data that has no test set.
    Raises what `batch.read` raises, OptionError also for --weights without a model.
    """
    at_most(words, 2, "data, or a run or model and data")
    alone = len(words) == 1 and _is_data(words[0])
    if weights is not None and (alone or not words):
        raise OptionError("--weights are of a model, and none is named.", cure="Leave them out.")
    words = words or [NETWORK, DATA]
    if alone:
        data = words[0] if isinstance(words[0], Data) else read_data(words[0], offline=offline)
    else:
        data = network_of(words[0], weights, offline).read(words[1] if len(words) > 1 else None)
    split, notes = drawn(held_out(data), asked.examples, asked.seed)
    learned, tested = _parts(data, asked.fitted, asked.seed)
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


def _is_data(word: Any) -> bool:
    """Whether a word means data and neither a run nor a model."""
    if isinstance(word, Data):
        return True
    if not isinstance(word, (str, os.PathLike)):
        return False
    name = os.fspath(word)
    if os.path.isfile(os.path.join(name, "run.json")) or name in shipped() or name in models():
        return False
    return name.partition(":")[0] in KNOWN or os.path.exists(name)


def _parts(data: Data, count: int, seed: int) -> tuple[Split, Split]:
    """At most `count` examples to learn from, and as many others."""
    if len(data.test):
        return drawn(data.train, count, seed)[0], drawn(data.test, count, seed)[0]
    order, half = np.random.default_rng(seed).permutation(len(data.whole)), (len(data.whole) + 1) // 2
    return data.whole.take(order[:half][:count]), data.whole.take(order[half:][:count])
