"""The loss of a batch: how wrong the answers of a network are, as one number.

Softmax: Bridle 1990, doi:10.1007/978-3-642-76153-9_28. Squared error instead: Hui and Belkin 2021, arXiv:2006.07322.
B examples, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor

from ...config.options import Range
from ...errors import NonFiniteError
from ...losses.classification import LOSSES, one_hot
from ...registry import register_concept
from ..base import ConceptResult, Frame, load_text

#: most columns that are drawn; of more classes the others together get one
MAX_COLUMNS = 12

TEXT = load_text(__package__)


@dataclass(frozen=True)
class LossSettings:
    """What can be set: which examples, which loss."""

    examples: Annotated[int, "examples of the batch", Range(1, 12)] = 8
    loss: Annotated[Literal["cross-entropy", "squared-error"], "what is computed of the logits"] = "cross-entropy"
    smoothing: Annotated[float, "share of each one-hot row that is spread over all classes", Range(0, 1)] = 0.0
    temperature: Annotated[float, "what the logits are divided by before all else", Range(0.01, 100)] = 1.0
    seed: Annotated[int, "seed of which examples are taken", Range(0, 2**31)] = 1


@register_concept(TEXT, LossSettings, subject="batch")
def loss(
    settings: LossSettings,
    images: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    logits: np.ndarray,
    sources: Sequence[str],
    told: str = "",
    notes: Sequence[str] = (),
) -> ConceptResult:
    """From `logits` (B, K) and `labels` (B,) to the loss of each example, their mean, and the accuracy.

    `images` (B, H, W, C) uint8 are only shown. Raises NonFinite for logits that are no numbers.
    """
    z_BK = torch.from_numpy(np.asarray(logits, np.float64)) / settings.temperature
    if not bool(torch.isfinite(z_BK).all()):
        row = int((~torch.isfinite(z_BK).all(1)).nonzero()[0, 0])
        raise NonFiniteError(
            f"{sources[row]}: the network's answer is not a number.",
            cure="Its weights are not finite, or too large: train again with a smaller --lr.",
        )
    numbers = {
        "told": told,
        "classes": list(classes),
        "sources": list(sources),
        "loss": settings.loss,
        "smoothing": settings.smoothing,
        "temperature": settings.temperature,
        **loss_steps(z_BK, torch.from_numpy(np.asarray(labels, np.int64)), settings.loss, settings.smoothing),
    }
    numbers["columns"] = _select_columns(numbers)
    right, count = sum(numbers["right"]), len(labels)
    return ConceptResult(
        numbers,
        _build_frames(numbers, images),
        key_numbers={
            "loss of the batch": f"{numbers['mean']:.4g}",
            "smallest and largest of an example": f"{min(numbers['losses']):.3g}, {max(numbers['losses']):.3g}",
            "right": f"{right} of {count}, accuracy {100 * numbers['accuracy']:.1f} %",
            "loss of answering all classes alike": f"{numbers['alike']:.4g}",
        },
        key_frame=3 if settings.loss == "cross-entropy" else 2,
        notes=notes,
    )


def loss_steps(z_BK: Tensor, label_B: Tensor, name: str, smoothing: float) -> dict[str, Any]:
    """Every step from the logits to the loss, and the slope of the loss of each example at its logits.

    `exponentials` are of the logits less the largest of their row; `terms` add up to the loss of their example.
    """
    function, classes = LOSSES[name], z_BK.shape[1]
    target_BK = one_hot(label_B, classes, smoothing, z_BK.dtype)
    raised_BK = (z_BK - z_BK.amax(1, keepdim=True)).exp()
    term_BK = -target_BK * z_BK.log_softmax(1) if name == "cross-entropy" else (z_BK - target_BK).square()
    losses_B = torch.stack(
        [function(z_BK[row : row + 1], label_B[row : row + 1], smoothing) for row in range(len(z_BK))]
    )
    at_BK = z_BK.clone().requires_grad_()
    mean = function(at_BK, label_B, smoothing)
    (slope_BK,) = torch.autograd.grad(mean * len(z_BK), at_BK)
    answer_B = z_BK.argmax(1)
    right_B = answer_B == label_B
    level_1K = torch.full((1, classes), 0.0 if name == "cross-entropy" else 1 / classes, dtype=z_BK.dtype)
    return {
        "labels": label_B.tolist(),
        "logits": z_BK.tolist(),
        "exponentials": raised_BK.tolist(),
        "sums": raised_BK.sum(1).tolist(),
        "probabilities": z_BK.softmax(1).tolist(),
        "targets": target_BK.tolist(),
        "terms": (term_BK + 0.0).tolist(),  # no minus before a zero
        "losses": (losses_B + 0.0).tolist(),
        "mean": float(mean.detach()) + 0.0,
        "slopes": slope_BK.tolist(),
        "answers": answer_B.tolist(),
        "right": right_B.tolist(),
        "accuracy": float(right_B.double().mean()),
        "alike": float(function(level_1K, label_B[:1], smoothing)),
    }


def _select_columns(numbers: dict[str, Any]) -> list[int]:
    """The classes that get a column: all, or of many the true ones, the answers, and those most probable on average."""
    count = len(numbers["classes"])
    if count <= MAX_COLUMNS:
        return list(range(count))
    likely = np.argsort(-np.mean(numbers["probabilities"], 0), kind="stable").tolist()
    wanted = dict.fromkeys([*numbers["labels"], *numbers["answers"], *likely])
    return sorted(list(wanted)[:MAX_COLUMNS])


def _build_frames(numbers: dict[str, Any], images: np.ndarray) -> list[Frame]:
    from .plot import plot_bars, plot_steps

    count, classes, mean = len(images), len(numbers["classes"]), numbers["mean"]
    cross = numbers["loss"] == "cross-entropy"
    worst = max(range(count), key=lambda row: numbers["losses"][row])
    share = numbers["losses"][worst] / max(sum(numbers["losses"]), 1e-300)
    scaled = "" if numbers["temperature"] == 1 else f", divided by the temperature {numbers['temperature']:g}"
    wrong = "no answer is wrong" if all(numbers["right"]) else "an orange frame is a wrong answer"
    first = f"The network gives each picture {classes} logits, one for each class{scaled}; the frame is the true class."
    if cross:
        middle = [
            (
                "exponentials",
                "The largest logit of each row is taken off, and e raised to the rest: all are positive now. Their sum "
                "is at the right.",
            ),
            ("probabilities", "Divided by their sum they are probabilities: each row adds up to 1."),
            ("terms", f"The loss of each example, at the right: {_key_numbers(numbers)}; {wrong}."),
        ]
    else:
        middle = [
            ("targets", "What the logits should be: the one-hot rows of the labels."),
            ("terms", f"The squares of the differences add up to the loss of each example; {wrong}."),
        ]
    told = "probability minus target" if cross else "twice the difference"
    slope = (
        f"What the loss asks for: its slope at each logit, {told}, of which the batch takes the mean. Blue logits "
        "should fall, orange ones rise."
    )
    last = (
        f"The mean of all {count} is the loss of the batch, {mean:.4g}; example {worst + 1} alone makes "
        f"{100 * share:.0f} % of it. {sum(numbers['right'])} of {count} are right."
    )
    return [
        Frame(first, plot_steps, (numbers, images, "logits")),
        *(Frame(caption, plot_steps, (numbers, images, key)) for key, caption in middle),
        Frame(last, plot_bars, (numbers,)),
        Frame(slope, plot_steps, (numbers, images, "slopes")),
    ]


def _key_numbers(numbers: dict[str, Any]) -> str:
    if numbers["smoothing"]:
        return "minus the logarithms of the probabilities, weighed by the smoothed targets and added up"
    return "minus the logarithm of the probability of its true class"
