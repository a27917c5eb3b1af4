"""Parts of the task `generate`: the transform of a batch, and what the task says in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..objectives.base import Batch
from .base import CardText
from .generate_metrics import FEATURE_NETWORKS

#: fraction of images told apart from which on the generator learns little, and recall below which samples are alike
HIGH_ACCURACY = 0.99
LOW_RECALL = 0.05
#: fraction of the best recall below which the generator collapses, and multiple of the best distance above which
#: training diverges
COLLAPSE = 0.25
DIVERGENCE = 4.0


def to_signed_float(image_BHWC: Tensor) -> Tensor:
    """Convert images (B, H, W, C) uint8 to (B, C, H, W) in [-1, 1]."""
    return image_BHWC.permute(0, 3, 1, 2).float() / 127.5 - 1


def build_transform(mirror: bool) -> Callable[[Batch], Batch]:
    """Build the function from bytes (B, H, W, C) to images (B, C, H, W) in [-1, 1], half of them mirrored if asked."""

    def transform(batch: Batch) -> Batch:
        image_BCHW = to_signed_float(batch["image"])
        if mirror:
            is_mirrored_B = torch.rand(len(image_BCHW), device=image_BCHW.device) < 0.5
            image_BCHW = torch.where(is_mirrored_B[:, None, None, None], image_BCHW.flip(3), image_BCHW)
        return {**batch, "image": image_BCHW}

    return transform


class CollapseWatch:
    """What validations were at their best, to name a collapse or a divergence as it happens; each is said once."""

    def __init__(self) -> None:
        self.best_recall = 0.0
        self.best_distance = math.inf
        self.said: set[str] = set()

    def check(self, metrics: Mapping[str, Any], accuracy: float | None = None) -> list[str]:
        """Return what is wrong with the last validation and was not said of the one before.

        `accuracy` is the fraction of images that the discriminator tells apart; None where it says nothing.
        """
        recall = metrics.get("recall")
        distance = metrics.get("frechet_distance")
        problems = {}
        if recall is not None:
            self.best_recall = max(self.best_recall, recall)
            if recall < COLLAPSE * self.best_recall and self.best_recall > LOW_RECALL:
                problems["collapse"] = (
                    f"the generator collapses: its samples cover {100 * recall:.1f} % of the validation images, at "
                    f"best {100 * self.best_recall:.1f} %"
                )
        if distance is not None:
            self.best_distance = min(self.best_distance, distance)
            if distance > DIVERGENCE * self.best_distance:
                problems["divergence"] = (
                    f"training diverges: the Fréchet distance is {distance:.4g}, at best {self.best_distance:.4g}"
                )
        for line in [] if accuracy is None else warn_of_accuracy(accuracy):
            problems["accuracy"] = line
        lines = [line for name, line in problems.items() if name not in self.said]
        self.said = set(problems)
        return lines


def has_critic_penalty(row: Mapping[str, Any]) -> bool:
    """Whether WGAN-GP's penalty was on: in the discriminator's loss, or on every n-th step."""
    return bool(row.get("discriminator/gradient_penalty") or row.get("penalty/gradient_penalty"))


def suggest_next(history: list[dict[str, Any]]) -> list[str]:
    """Say where the discriminator wins, or where samples cover little of the real images, and what to try.

    With WGAN-GP's penalty the discriminator may tell all images apart: its gradient has the length 1 between them
    (Gulrajani et al. 2017, arXiv:1704.00028), so the generator learns all the same.
    """
    lines = []
    accuracies = []
    for row in history:
        if row.get("discriminator/accuracy") is not None and not has_critic_penalty(row):
            accuracies.append(row["discriminator/accuracy"])
    recalls = [row["recall"] for row in history if row.get("recall") is not None]
    if accuracies:
        lines += warn_of_accuracy(accuracies[-1])
    if recalls and recalls[-1] < LOW_RECALL:
        lines.append(
            f"the samples cover {100 * recalls[-1]:.1f} % of the validation images: the generator collapsed, or is not "
            "trained enough; look at samples/, then try more --epochs, or a larger --r1"
        )
    return lines


def warn_of_accuracy(accuracy: float) -> list[str]:
    """Say where the discriminator tells nearly all images apart, whatever its loss, and what to try."""
    if accuracy < HIGH_ACCURACY:
        return []
    return [
        f"the discriminator wins: it tells {100 * accuracy:.1f} % of the images apart, so the generator learns little; "
        "try a larger --r1, a smaller --lr, --augment ada, or more images"
    ]


def describe_card(channels: int, image_size: int, feature_network: str | None = None) -> CardText:
    """Say in words what a generator does and where its limits are."""
    color = "gray" if channels == 1 else "color"
    network = feature_network or FEATURE_NETWORKS[channels]
    return CardText(
        summary=f"It turns random numbers into {color} images of {image_size}x{image_size} pixels that resemble its "
        "training images.",
        limitations=(
            "It imitates its training images: what they rarely or never show, it rarely or never makes. Where there "
            "were few, its images may be close to theirs; the report shows the nearest ones.",
            f"All metrics are computed from features of {network}: compare them between models that were judged by the "
            "same network on the same data, not with published figures.",
        ),
        preprocessing=("Images are cropped to the center square, resized, and scaled to [-1, 1].",),
        usage_command="thalweg sample RUN --count 16 --seed 0 --save samples/",
        usage_python='for image in run.sample(count=3):\n    image.draw().save(f"{image.seed}.png")',
    )
