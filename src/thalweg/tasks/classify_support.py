"""Parts of the task `classify`: criterion, transform of a batch, feature cache, and what it says in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import PIL
import torch
from torch import Tensor, nn

from ..config.options import TrainOptions
from ..data.images.augment import build_augmentation, build_mixing
from ..data.images.dataset import ImageDataset
from ..data.images.input_spec import InputSpec, eval_batch_size, standardize_, to_normalized_float
from ..data.images.stored_images import StoredImages
from ..engine.cached_features import FeatureRequest, load_or_compute
from ..errors import NonFiniteError, OptionError, ResourceError
from ..losses.classification import LOSSES
from ..objectives.base import Batch, Loss
from .base import CardText, Context

#: photo sets with fewer training images are augmented, and their best weights are kept, by default
SMALL_PHOTO_SET = 20_000
#: what such sets are augmented by; measured by benchmarks/photo_defaults.py
PHOTO_AUGMENT = "crop,flip,trivial"
#: images that a model sees in a training from scratch on such a set, in at most so many epochs
PHOTO_EXAMPLES = 65_000
MAX_PHOTO_EPOCHS = 120
#: images above so many pixels are trained by at most 32, because activation memory grows with their size
LARGE_IMAGE_PIXELS = 160 * 160
#: pixels of a batch of large images: 16 of 512 x 512, 4 of 1024 x 1024
MAX_BATCH_PIXELS = 4 * 1024 * 1024
#: epochs of a run whose length nobody chose, for all other data
MAX_EPOCHS = 40


def class_weights(counts: list[int]) -> Tensor:
    """Return weights (K,) with which each class counts as much as any other, and all examples together as before."""
    count_K = torch.tensor(counts, dtype=torch.float32)
    return torch.where(count_K > 0, count_K.sum() / ((count_K > 0).sum() * count_K), 0.0)


def build_criterion(spec: InputSpec, options: Any, device: torch.device) -> Callable[[nn.Module, Batch], Loss]:
    """Build the loss of a batch: cross-entropy, or squared error, with the accuracy of the batch beside it.

    Where a batch has `other_label` and `mix`, its images are mixed: the loss for the other label weighs `mix`, and the
    accuracy is that of the label with the larger weight.
    """
    loss_fn = LOSSES[options.loss]
    smoothing = options.label_smoothing
    weight_K = class_weights(spec.class_counts).to(device) if options.balance_classes else None

    def target_loss(logits_BK: Tensor, targets: list[tuple[Tensor, Tensor | None]]) -> Tensor:
        losses = []
        for label_B, mix_B in targets:
            weight_B = mix_B
            if weight_K is not None:
                weight_B = weight_K[label_B] if mix_B is None else weight_K[label_B] * mix_B
            losses.append(loss_fn(logits_BK.float(), label_B, smoothing, weight_B))
        return losses[0] if len(losses) == 1 else losses[0] + losses[1]

    def criterion(model: nn.Module, batch: Batch) -> Loss:
        label_B = batch["label"]
        targets: list[tuple[Tensor, Tensor | None]] = [(label_B, None)]
        if "mix" in batch:
            mix_B = batch["mix"]
            targets = [(label_B, 1 - mix_B), (batch["other_label"], mix_B)]
            label_B = torch.where(mix_B > 0.5, batch["other_label"], label_B)
        output = model.get_submodule("head")(batch["features"]) if "features" in batch else model(batch["image"])
        logits_BK, *auxiliary = output if isinstance(output, tuple) else (output,)
        loss = target_loss(logits_BK, targets)
        for aux_BK in auxiliary:  # Szegedy et al. 2016, arXiv:1512.00567, section 4; the weight is torchvision's
            loss = loss + 0.4 * target_loss(aux_BK, targets)
        accuracy = (logits_BK.detach().argmax(1) == label_B).float().mean()
        return Loss(loss, len(label_B), {"accuracy": accuracy})

    return criterion


def build_transform(augment: str, spec: InputSpec) -> Callable[[Batch], Batch]:
    """Build the function from bytes (B, H, W, C) to normalized floats (B, C, H, W), augmented at random.

    Mixed images bring the label of the other image, `other_label` (B,), and its weight, `mix` (B,).
    """
    if augment in ("", "none"):
        return lambda batch: {**batch, "image": to_normalized_float(batch["image"], spec)}
    augment_batch = build_augmentation(augment, spec.handwriting)
    mix_batch = build_mixing(augment)

    def transform(batch: Batch) -> Batch:
        image_BCHW = augment_batch(batch["image"].permute(0, 3, 1, 2))
        if mix_batch is None:
            return {**batch, "image": standardize_(image_BCHW, spec, 1.0)}
        mixed_BCHW, mix_B = mix_batch(image_BCHW)
        other_label_B = batch["label"].roll(1)
        return {**batch, "image": standardize_(mixed_BCHW, spec, 1.0), "other_label": other_label_B, "mix": mix_B}

    return transform


def default_batch_size(num_examples: int, num_pixels: int = 0) -> int:
    """Return a power of two from 16 to 128, fewer large images, that gives a small set some 40 steps per epoch."""
    largest = 7
    if num_pixels > LARGE_IMAGE_PIXELS:
        largest = max(0, min(5, int(math.log2(MAX_BATCH_PIXELS / num_pixels))))
    return 2 ** min(largest, max(4, round(math.log2(max(1, num_examples) / 40))))


def is_small_photo_set(dataset: ImageDataset, spec: InputSpec) -> bool:
    """Whether a set of color image files is so small that a model would memorize it."""
    return bool(dataset.sizes) and has_few_color_images(spec)


def has_few_color_images(spec: InputSpec) -> bool:
    """Whether a model was trained on a small number of color images of 32 pixels or more."""
    return spec.channels == 3 and min(spec.size) >= 32 and sum(spec.class_counts) < SMALL_PHOTO_SET


def choose_defaults(dataset: ImageDataset, spec: InputSpec, options: Any, common: TrainOptions) -> dict[str, Any]:
    """Choose the options that the user left open.

    Args:
        dataset: The data.
        spec: Its images, whose number and size decide on the batch.
        options: The task's own options.
        common: The common ones.

    Returns:
        Values by name: a batch size; float32 where features may come from the cache; for few photos the best weights,
        and more epochs, because augmented images are hard to memorize.
    """
    pixels = 0 if can_cache_features(options, common) else spec.size[0] * spec.size[1]
    defaults: dict[str, Any] = {"batch_size": default_batch_size(sum(spec.class_counts), pixels)}
    if common.precision == "auto" and can_cache_features(replace(options, cache_features=True), common):
        defaults["precision"] = "float32"  # cached features and recomputed ones must give the same weights
    if is_small_photo_set(dataset, spec):
        defaults["keep_best"] = True
        epochs = min(MAX_PHOTO_EPOCHS, PHOTO_EXAMPLES // max(1, sum(spec.class_counts)))
        if common.weights is None and epochs > MAX_EPOCHS:
            defaults["epochs"] = float(epochs)
    return defaults


def resolve_augment(options: Any, dataset: ImageDataset, spec: InputSpec, common: TrainOptions | None = None) -> str:
    """Return the augmentation that 'auto' stands for.

    Args:
        options: The task's own options.
        dataset: The data.
        spec: Its images.
        common: The common options, where a training is set up.

    Returns:
        Cropped and mirrored photos for small sets; none for others, and where features are computed only once.
    """
    if options.augment != "auto":
        return options.augment
    if common is not None and can_cache_features(options, common):
        return "none"
    return PHOTO_AUGMENT if is_small_photo_set(dataset, spec) else "none"


def can_cache_features(options: Any, common: TrainOptions) -> bool:
    """Whether training sees nothing but the features of a frozen backbone."""
    is_fixed = options.augment in ("", "none", "auto") or options.feature_views > 1
    only_head = (common.freeze or common.unfreeze_groups == 0) and not common.unfreeze_groups
    is_frozen = only_head and common.unfreeze_every is None
    return bool(options.cache_features and is_frozen and is_fixed and options.tta in ("auto", "none"))


def cached_features(
    model: nn.Module, dataset: ImageDataset, spec: InputSpec, options: Any, context: Context
) -> dict[str, Tensor] | None:
    """Return the features of all images where only the head is trained; else None."""
    freeze = context.options is not None and context.options.freeze
    if options.feature_views > 1 and (options.augment in ("", "none") or not freeze):
        raise OptionError(
            "--feature-views needs --freeze and --augment: it caches augmented views of a frozen backbone.",
            option="feature_views",
            value=options.feature_views,
        )
    if options.feature_views > 1 and build_mixing(options.augment) is not None:
        raise OptionError(
            f"--augment {options.augment} mixes labels; --feature-views caches views that have one label each.",
            "Leave out mixup and cutmix, or --feature-views.",
            option="augment",
            value=options.augment,
        )
    had_features = (context.setup_record or {}).get("cached_features")
    if context.options is None or had_features is False or not can_cache_features(options, context.options):
        return None
    transform = build_transform(options.augment, spec)

    def to_input(images: np.ndarray) -> Tensor:
        return to_normalized_float(torch.from_numpy(images.copy()).to(context.device), spec)

    def augment(images: np.ndarray) -> Tensor:
        return transform({"image": torch.from_numpy(images.copy()).to(context.device)})["image"]

    form = {name: asdict(spec)[name] for name in ("size", "resize", "channels", "mean", "std")}
    if isinstance(dataset.train.images, StoredImages):
        form["pillow"] = PIL.__version__  # the digests are those of the files, whose pixels depend on the decoder
    changes = [options.augment, options.feature_views, context.seed] if options.feature_views > 1 else []
    request = FeatureRequest(
        images={name: split.images for name, split in dataset.splits.items()},
        to_input=to_input,
        augment=augment,
        views=options.feature_views,
        settings=[form, changes],
        batch_size=eval_batch_size(spec, context.device),
        device=context.device,
        seed=context.seed,
        log=context.log,
    )
    features = load_or_compute(model, request)
    if had_features and features is None:
        raise ResourceError(
            "The run began with the features of all images in memory, which is too small now.",
            "Resume where more memory is free.",
        )
    return features


def check_finite(probabilities: np.ndarray, name: str) -> None:
    """Raise NonFiniteError where a prediction is NaN: its label would mean nothing."""
    if not np.isfinite(probabilities).all():
        raise NonFiniteError(
            f"{name}: the model's output is NaN or inf; expected probabilities.",
            "Its weights are not finite, or too large: give others, or train again with a smaller --lr.",
        )


def suggest_next(history: list[dict[str, Any]], augment: str, common: TrainOptions) -> list[str]:
    """Say when the model memorizes the training set, and what to try."""
    train = [row["accuracy"] for row in history if row.get("split") == "train" and row.get("accuracy") is not None]
    val = [row["accuracy"] for row in history if row.get("split") == "val" and row.get("accuracy") is not None]
    if not train or not val or train[-1] < 0.98 or max(val) > 0.9 or train[-1] - max(val) < 0.15:
        return []
    ideas = []
    if augment in ("", "none"):
        ideas.append("--augment crop,flip,trivial")
    if common.weights is None:
        ideas.append("--model resnet18 --weights imagenet --freeze")
    if common.patience is None:
        ideas.append("--patience 5")
    return [
        f"the model memorizes the training set (accuracy {train[-1]:.1%}, validation {max(val):.1%} at best); "
        f"try {', or '.join(ideas) or 'more images'}"
    ]


def describe_card(spec: InputSpec, results: Mapping[str, Any]) -> CardText:
    """Describe classes, limits and preprocessing of a classifier."""
    names = ", ".join(spec.classes[:12]) + (f" and {len(spec.classes) - 12} more" if len(spec.classes) > 12 else "")
    return CardText(
        summary=f"It predicts one of {len(spec.classes)} classes: {names}.",
        limitations=_describe_limits(spec, results),
        preprocessing=_describe_preprocessing(spec),
        usage_command="thalweg predict path/to/this/run image.png",
        usage_python=('for prediction in run.predict("image.png"):\n    print(prediction.label, prediction.top(3))'),
    )


def _describe_limits(spec: InputSpec, results: Mapping[str, Any]) -> list[str]:
    test = results.get("test") or {}
    lines = [
        "It always predicts one of its classes, also for images that show none of them; a low probability is the only "
        "hint.",
        "Images from another camera, place or time than the training images may be classified worse than the test set.",
    ]
    if test.get("accuracy_low") is not None:
        low = 100 * test["accuracy_low"]
        high = 100 * test["accuracy_high"]
        lines.append(
            f"{test['examples']:,} test images put the accuracy between {low:.2f} and {high:.2f} % with 95 % "
            "confidence; differences within that may be chance."
        )
    per_class = [row for row in results.get("per_class") or [] if row.get("f1") is not None]
    if per_class and len(per_class) == len(spec.classes):
        worst = min(range(len(per_class)), key=lambda index: per_class[index]["f1"])
        lines.append(f"The class with the lowest F1 is {spec.classes[worst]} ({100 * per_class[worst]['f1']:.1f} %).")
    if test.get("calibration_error") is not None:
        lines.append(
            f"Its probabilities differ from the fraction of right predictions by {100 * test['calibration_error']:.1f} "
            "percentage points on average."
        )
    return lines


def _describe_preprocessing(spec: InputSpec) -> list[str]:
    height, width = spec.size
    color = "gray" if spec.channels == 1 else "color"
    if spec.resize:
        lines = [f"The shorter side is resized to {spec.resize} pixels, and the center of {width} x {height} is kept."]
        if height != width:
            margin = f"{spec.resize / min(spec.size):.4g} times {width} x {height} pixels"
            lines = [f"Images are resized until they cover {margin}, and the center of {width} x {height} is kept."]
    elif height == width:
        lines = [f"Images are cropped to the center square and resized to {width} x {height} pixels, {color}."]
    else:
        lines = [
            f"Images are cropped to the largest center with the proportions of {width} x {height}, and resized to "
            f"{width} x {height} pixels, {color}."
        ]
    mean = ", ".join(f"{value:.4g}" for value in spec.mean)
    std = ", ".join(f"{value:.4g}" for value in spec.std)
    lines.append(f"Levels from 0 to 1 are normalized with mean {mean} and standard deviation {std}.")
    if spec.handwriting:
        lines.append("Drawings are brought to the form of MNIST: white on black, centered by mass.")
    if spec.tta == "zoom":
        lines.append("The central 15/16 of each side is enlarged to that size again (--tta zoom).")
    elif spec.tta != "none":
        lines.append(f"Logits are averaged over augmented copies of each image (--tta {spec.tta}).")
    return lines
