"""A trained classifier, an image for it, and images that it was trained on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ...data.images.dataset import ImageDataset
from ...data.images.input_spec import InputSpec, eval_batch_size, preprocess_image, to_normalized_float
from ...errors import DataError, NotFoundError, OptionError, ResourceError
from ...layers.tta import predict_proba
from ..load import PretrainedModel
from ..model import TrainedModel
from . import check_max_words
from .batch import DEFAULT_DATA, DEFAULT_MODEL, load_images, load_model


def load_input(words: list[Any], settings: Any, weights: str | None, offline: bool) -> dict[str, Any]:
    """Load RUN|MODEL [IMAGE [DATA]]: the model, the image as it reads it, its prediction, and training images.

    Without an image one of the test split is taken. The training images are `settings.images` of the training split,
    or of DATA; where neither is at hand, `training` is None and `notes` say why. Raises OptionError for a model
    without an image, DataError for an unreadable image or data, NotFoundError and ModelFileError for an unusable run.
    """
    check_max_words(words, 3, "a run or model, an image, and data")
    trained = load_model(words[0] if words else DEFAULT_MODEL, weights, offline)
    spec = trained.spec
    dataset, notes = _load_training_data(trained, words)
    order = np.empty(0, np.int64)
    if dataset is not None:
        order = np.random.default_rng(settings.seed).permutation(len(dataset.train))
    if len(words) > 1:
        name, content = trained.read_one(words[1])
        image_HWC = _preprocess(name, content, spec)
    else:
        name, image_HWC, order = _sample_test_image(dataset, order, settings.seed)
    if spec.tta != "none":
        notes.append("The prediction is that of augmented copies; the layers are those of the image itself.")
    x_1CHW = to_normalized_float(torch.from_numpy(image_HWC[None].copy()), spec)
    with torch.no_grad():
        probability_K = predict_proba(trained.model, x_1CHW.clone(), spec.tta)[0].numpy()
    return {
        "model": trained.model,
        "x_1CHW": x_1CHW,
        "image_HWC": image_HWC,
        "classes": list(spec.classes),
        "probability_K": probability_K,
        "training": None if dataset is None else dataset.train.take(np.sort(order[: settings.images])),
        "preprocess": lambda images_NHWC: to_normalized_float(torch.from_numpy(images_NHWC.copy()), spec),
        "batch_size": eval_batch_size(spec),
        "title": f"{trained.name}, {name}",
        "notes": notes,
    }


def _preprocess(name: str, content: Any, spec: InputSpec) -> np.ndarray:
    try:
        return preprocess_image(content, spec)
    except DataError as error:
        raise DataError(f"{name}: {error.message}", error.cure, path=name) from error


def _load_training_data(trained: TrainedModel, words: list[Any]) -> tuple[ImageDataset | None, list[str]]:
    """Return the data whose training images are shown, and notes on it."""
    if not words:
        note = f"The images are those of the bundled {DEFAULT_DATA}, not those that the model was trained on."
        return load_images(trained, DEFAULT_DATA), [note]
    if len(words) == 3:
        dataset = load_images(trained, words[2])
        if not len(dataset.train):
            dataset = replace(dataset, splits={**dataset.splits, "train": dataset.all})
        return dataset, []
    if isinstance(trained, PretrainedModel):
        if len(words) == 1:
            raise OptionError(
                f"{trained.name} has no test split to take an image from.", "Give an image after its name."
            )
        return None, [f"{trained.name} came without training images. Name DATA after the image to see some."]
    if len(words) == 1:
        return load_images(trained), []
    offline, trained.offline = trained.offline, True  # nothing is downloaded that was not named
    try:
        return load_images(trained), []
    except (DataError, NotFoundError, ResourceError) as error:
        return None, [f"Training images are left out: {error.message} Name DATA after the image to see some."]
    finally:
        trained.offline = offline


def _sample_test_image(
    dataset: ImageDataset | None, order: np.ndarray, seed: int
) -> tuple[str, np.ndarray, np.ndarray]:
    """Return name and pixels of a test image, and the rows of the training split that are left."""
    if dataset is None:
        raise DataError("There is no data to take an image from.", "Give an image.")
    split = dataset.test
    row = int(np.random.default_rng(seed).integers(len(split))) if len(split) else int(order[0])
    if not len(split):
        split = dataset.train
        order = order[1:]
    return str(split.sources[row]), split.images[row], order
