"""How `generate` trains: its options, and what they are where the user leaves them open."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from ..config.parsing import Alias, Range
from ..data.images.square_images import SIZES, SquareImageDataset
from ..errors import DataError, OptionError
from ..models.generate.base import GanModel, GanTraining
from ..objectives.adversarial import Adversarial, AdversarialSettings
from ..registry import find_model
from .base import Context

#: training images that a run of unstated length shows the discriminator, and the epochs it stays between
DEFAULT_IMAGES = 50_000
MIN_EPOCHS = 3
MAX_EPOCHS = 400
MAX_BATCH_SIZE = 32
#: images in which the weight of old parameters in the average is halved: a decay of 0.999 at batches of 32
HALF_LIFE_IMAGES = 22_170


@dataclass(frozen=True)
class GenerateTrainOptions:
    """Options of `thalweg train generate`. None: as the model's paper has it."""

    image_size: Annotated[
        int | None,
        "height and width, a power of two  [default: 32; 16 for small images]",
        Range(SIZES[0], SIZES[-1]),
        Alias("size"),
    ] = None
    loss: Annotated[
        Literal["logistic", "hinge", "least_squares", "wasserstein", "relativistic"] | None,
        "loss of both players  [default: the model's]",
    ] = None
    r1: Annotated[
        float | None, "weight of the gradient penalty at real images; 0 for none  [default: the model's]", Range(0, 1e6)
    ] = None
    r2: Annotated[float | None, "the same at generated images  [default: the model's]", Range(0, 1e6)] = None
    penalty_interval: Annotated[
        int | None, "steps from one gradient penalty to the next  [default: the model's]", Range(1, 10_000)
    ] = None
    gradient_penalty: Annotated[
        float | None, "weight of the penalty of WGAN-GP, between both  [default: the model's]", Range(0, 1e6)
    ] = None
    drift: Annotated[
        float | None, "weight of the squared logits of real images  [default: the model's]", Range(0, 1e6)
    ] = None
    path_length: Annotated[
        float | None, "weight of the generator's path length regularization  [default: the model's]", Range(0, 1e6)
    ] = None
    mixing: Annotated[
        float | None, "fraction of generated images with styles of two latents  [default: the model's]", Range(0, 1)
    ] = None
    augment: Annotated[
        Literal["none", "diff", "ada"],
        "what the discriminator sees of few images: as they are, DiffAugment, or adaptive augmentation",
    ] = "none"
    growth_images: Annotated[
        int | None,
        "images of each fade and each hold of a growing model  [default: it is whole after half of the run]",
        Range(1, 1e9),
    ] = None
    conditional: Annotated[bool, "generate images of a given class; folders are the classes"] = False
    mirror: Annotated[bool, "mirror half of the training images"] = False
    num_eval_samples: Annotated[
        int, "images that the final test generates; a validation makes at most 1,000", Range(2, 1_000_000)
    ] = 10_000
    feature_network: Annotated[
        str | None,
        "a run or a model: classifier by whose features images are judged  [default: digits-lenet, cifar10-fast]",
    ] = None


def choose_common_options(num_images: int, common: Any, default_model: str) -> dict[str, Any]:
    """Return what adversarial networks are trained with.

    Args:
        num_images: Training images.
        common: The common options that the user gave.
        default_model: The model where none is given.

    Returns:
        Values of common options by name.
    """
    num_images = max(1, num_images)
    batch_size = min(MAX_BATCH_SIZE, 2 ** int(math.log2(num_images)))
    own = find_model(common.model or default_model, "generate").training
    used_batch_size = common.batch_size if isinstance(common.batch_size, int) else own.get("batch_size", batch_size)
    values: dict[str, Any] = {
        "batch_size": batch_size,
        "epochs": min(MAX_EPOCHS, max(MIN_EPOCHS, math.ceil(DEFAULT_IMAGES / num_images))),
        "optimizer": "adam",
        "schedule": "constant",
        "ema_decay": round(0.5 ** (used_batch_size / HALF_LIFE_IMAGES), 6),
        # the players can lose their balance late in a run: on MNIST from a distance of 17 after epoch 3 to 48
        "keep_best": True,
    }
    if common.optimizer in (None, "adam", "adamw"):
        values |= {"lr": 2e-3, "momentum": 0.5}
    return values


def resolve_settings(options: GenerateTrainOptions, model: GanModel, context: Context) -> AdversarialSettings:
    """Return how a model is trained: as its paper has it, where the options leave it open.

    Raises OptionError for an option that means nothing to the model.
    """
    if options.mixing and model.network.num_styles == 1:
        raise _no_meaning_error("mixing", options.mixing, "layers of styles")
    if options.growth_images and model.network.num_levels == 1:
        raise _no_meaning_error("growth_images", options.growth_images, "levels that grow")
    values = {}
    for field in fields(GanTraining):
        value = getattr(options, field.name)
        if value is None:
            value = getattr(model.training_values, field.name)
        values[field.name] = value
    return AdversarialSettings(
        **values, augment=options.augment, growth_images=options.growth_images or 0, num_ranks=context.world_size
    )


def _no_meaning_error(option: str, value: float, missing: str) -> OptionError:
    flag = option.replace("_", "-")
    cure = f"Leave out --{flag}, or choose a model that has them: `thalweg models`."
    return OptionError(f"--{flag}: {value}; the model has no {missing}.", cure, option=option, value=value)


def build_objective(model: Any, options: GenerateTrainOptions, context: Context) -> Adversarial:
    """Build the objective. Raises OptionError."""
    model = cast(GanModel, model)
    if model.network.num_levels > 1 and context.options is not None and context.options.cuda_graph:
        raise OptionError(
            "--cuda-graph: a model that grows runs other layers from step to step.",
            "Leave it out.",
            option="cuda_graph",
            value=True,
        )
    return Adversarial(model, resolve_settings(options, model, context))


def load_tensors(
    dataset: SquareImageDataset, has_classes: bool, batch_size: int, device: torch.device
) -> dict[str, Tensor]:
    """Return the training images, and their labels if there are classes, on the device.

    Raises DataError for fewer images than a batch.
    """
    count = len(dataset.train)
    if count < batch_size:
        raise DataError(
            f"{dataset.name}: {count} training images; expected at least a batch of {batch_size}.",
            f"Give --batch-size {count} or less, or more images.",
            value=count,
            allowed=[batch_size],
        )
    tensors = {"image": torch.from_numpy(np.require(dataset.train.images, requirements="W")).to(device)}
    if has_classes:
        assert dataset.train.labels is not None
        tensors["label"] = torch.from_numpy(np.require(dataset.train.labels, requirements="W")).to(device)
    return tensors
