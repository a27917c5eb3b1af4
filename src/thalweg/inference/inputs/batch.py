"""A few images that a classifier was not trained on, and its logits for them."""

from __future__ import annotations

import os
from typing import Any, cast

import numpy as np
import torch

from ...data.images.catalog import NAMED_DATASETS
from ...data.images.dataset import ImageDataset, ImageSplit
from ...data.images.input_spec import InputSpec, to_normalized_float
from ...errors import DataError, OptionError
from ...layers.tta import tta_logits
from ..load import load
from ..model import TrainedModel
from . import check_max_words

#: bundled with the package
DEFAULT_MODEL = "digits-lenet"
DEFAULT_DATA = "digits"


def load_input(words: list[Any], settings: Any, weights: str | None, offline: bool) -> dict[str, Any]:
    """Load [RUN|MODEL [DATA]]: `settings.examples` images drawn by `settings.seed`, their labels, and the logits.

    `images` (B, H, W, C) uint8, `labels` (B,) int64 into `classes`, `logits` (B, K) float32, `sources` name each. They
    are of the test split, or of all of the data where it has none. Raises NotFoundError and ModelFileError for an
    unusable run, DataError for data that cannot be read or has classes that the model does not know.
    """
    check_max_words(words, 2, "a run or model, and data")
    if weights is not None and not words:
        raise OptionError("--weights needs a model.", "Name the model, and then data.", option="weights")
    trained = load_model(words[0] if words else DEFAULT_MODEL, weights, offline)
    data = None if words else DEFAULT_DATA
    dataset = load_images(trained, words[1] if len(words) > 1 else data)
    split, notes = sample(evaluation_split(dataset), settings.examples, settings.seed)
    if trained.spec.tta != "none":
        notes.append("The logits are those of augmented copies of each image, as this model predicts.")
    trained_loss = trained.task_options.loss
    if trained_loss != getattr(settings, "loss", trained_loss):
        notes.append(f"{trained.name} was trained with another loss: --set loss={trained_loss}")
    return {
        "images": split.images[:],
        "labels": split.labels,
        "classes": list(dataset.classes),
        "logits": compute_logits(trained, split.images[:]).numpy(),
        "sources": [str(source) for source in split.sources],
        "title": f"{trained.name} on {dataset.name}",
        "notes": notes,
    }


def load_model(word: Any, weights: str | None, offline: bool) -> TrainedModel:
    """Return the classifier that a word means. Raises what `load` raises, and OptionError for other models."""
    if isinstance(word, TrainedModel):
        return require_classifier(word)
    if not isinstance(word, str | os.PathLike):
        raise OptionError(f"{type(word).__name__} is neither a run nor a model's name.", value=type(word).__name__)
    if str(word).partition(":")[0] in NAMED_DATASETS and not os.path.exists(word):
        raise OptionError(
            f"{word} is data; expected a run or model.",
            f"Name one before it, as {DEFAULT_MODEL} {word}",
            value=str(word),
        )
    return require_classifier(load(word, weights, offline))


def load_images(trained: TrainedModel, data: Any = None) -> ImageDataset:
    """Read the data of a classifier, or other data in its terms. Raises DataError."""
    return cast(ImageDataset, trained.load_data(data))


def require_classifier(trained: TrainedModel) -> TrainedModel:
    """Raise OptionError for a model that does not classify images."""
    if not isinstance(trained.spec, InputSpec):
        raise OptionError(
            f"{trained.name} is a model of the task {trained.task.name}; expected one that classifies images.",
            value=trained.task.name,
        )
    return trained


def evaluation_split(dataset: ImageDataset) -> ImageSplit:
    """Return the test split, or all examples of data that has none. Raises DataError where there is nothing at all."""
    if not len(dataset.all):
        raise DataError(f"{dataset.name} has no examples.", path=dataset.path)
    return dataset.test if len(dataset.test) else dataset.all


def sample(split: ImageSplit, count: int, seed: int) -> tuple[ImageSplit, list[str]]:
    """Draw so many examples; a note where there are fewer."""
    rows = np.random.default_rng(seed).permutation(len(split))[:count]
    notes = [f"{count} examples were requested; there are {len(split)}."] if len(split) < count else []
    return split.take(rows), notes


def compute_logits(trained: TrainedModel, images_BHWC: np.ndarray) -> torch.Tensor:
    """Return logits (B, K) float32, averaged over augmented copies where the model predicts so."""
    x_BCHW = to_normalized_float(torch.from_numpy(images_BHWC.copy()), trained.spec)
    with torch.no_grad():
        return tta_logits(trained.model, x_BCHW, trained.spec.tta)
