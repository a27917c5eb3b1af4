"""The loss of a batch, step by step: logits, softmax, loss of each example, mean, gradient.

Softmax: Bridle 1990, doi:10.1007/978-3-642-76153-9_28. Squared error instead: Hui and Belkin 2021, arXiv:2006.07322.

B examples, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor

from ...config.parsing import Range
from ...errors import NonFiniteError
from ...losses.classification import LOSSES, one_hot
from ...registry import register_concept
from ..base import ConceptResult, Frame, load_text

#: with more classes, the remaining ones share one more column
MAX_COLUMNS = 12

LossName = Literal["cross-entropy", "squared-error"]

TEXT = load_text(__package__)


@dataclass(frozen=True)
class LossSettings:
    """Settings: which examples, which loss."""

    examples: Annotated[int, "batch size", Range(1, 12)] = 8
    loss: Annotated[LossName, "loss function"] = "cross-entropy"
    label_smoothing: Annotated[float, "fraction of each target spread evenly over all classes", Range(0, 1)] = 0.0
    temperature: Annotated[float, "softmax temperature; the logits are divided by it", Range(0.01, 100)] = 1.0
    seed: Annotated[int, "seed of the random choice of examples", Range(0, 2**31)] = 1


@dataclass(frozen=True)
class Batch:
    """Labeled images and the logits of a model.

    `images` (B, H, W, C) uint8 are only displayed; `labels` (B,) are indices into `classes` (K,); `logits` are (B, K);
    `sources` (B,) name the images; `title` names the model and the data.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: Sequence[str]
    logits: np.ndarray
    sources: Sequence[str]
    title: str = ""
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class LossNumbers:
    """All steps from the logits to the mean loss, and the gradient of each example's loss at its logits.

    `logits` are divided by the temperature. `exponentials` are those of the logits minus the row maximum;
    `exponential_sums` are their row sums. The row sums of `terms` are `losses`. `uniform_loss` is the loss of equal
    logits. `columns` are the classes that get a column in the plots.
    """

    title: str
    classes: list[str]
    sources: list[str]
    loss: LossName
    label_smoothing: float
    temperature: float
    labels: list[int]
    logits: list[list[float]]
    exponentials: list[list[float]]
    exponential_sums: list[float]
    probabilities: list[list[float]]
    targets: list[list[float]]
    terms: list[list[float]]
    losses: list[float]
    mean_loss: float
    gradient: list[list[float]]
    predictions: list[int]
    correct: list[bool]
    accuracy: float
    uniform_loss: float
    columns: list[int]


@register_concept(TEXT, LossSettings, input_kind="batch")
def loss(settings: LossSettings, **inputs: Any) -> ConceptResult:
    """Compute the loss of each example, the mean loss, the gradient at the logits, and the accuracy.

    `inputs` are the fields of Batch. Raises NonFiniteError if a logit is NaN or inf.
    """
    batch = Batch(**inputs)
    numbers = compute_loss(settings, batch)
    num_correct = sum(numbers.correct)
    return ConceptResult(
        asdict(numbers),
        _build_frames(numbers, batch.images),
        key_numbers={
            "mean loss": f"{numbers.mean_loss:.4g}",
            "smallest and largest loss": f"{min(numbers.losses):.3g}, {max(numbers.losses):.3g}",
            "accuracy": f"{100 * numbers.accuracy:.1f} % ({num_correct} of {len(numbers.labels)} correct)",
            "loss of equal logits": f"{numbers.uniform_loss:.4g}",
        },
        key_frame=3 if settings.loss == "cross-entropy" else 2,
        notes=batch.notes,
    )


def compute_loss(settings: LossSettings, batch: Batch) -> LossNumbers:
    """Compute every step in double precision. Raises NonFiniteError if a logit is NaN or inf."""
    logits_BK = torch.from_numpy(np.asarray(batch.logits, np.float64)) / settings.temperature
    _check_finite(logits_BK, batch.sources)
    label_B = torch.from_numpy(np.asarray(batch.labels, np.int64))
    target_BK = one_hot(label_B, logits_BK.shape[1], settings.label_smoothing, logits_BK.dtype)
    exp_BK = (logits_BK - logits_BK.amax(1, keepdim=True)).exp()
    probability_BK = logits_BK.softmax(1)
    prediction_B = logits_BK.argmax(1)
    correct_B = prediction_B == label_B
    mean_loss, gradient_BK = _backpropagate(settings, logits_BK, label_B)
    return LossNumbers(
        title=batch.title,
        classes=list(batch.classes),
        sources=list(batch.sources),
        loss=settings.loss,
        label_smoothing=settings.label_smoothing,
        temperature=settings.temperature,
        labels=label_B.tolist(),
        logits=logits_BK.tolist(),
        exponentials=exp_BK.tolist(),
        exponential_sums=exp_BK.sum(1).tolist(),
        probabilities=probability_BK.tolist(),
        targets=target_BK.tolist(),
        terms=_clear_negative_zeros(_compute_terms(settings.loss, logits_BK, target_BK)),
        losses=_clear_negative_zeros(_compute_losses(settings, logits_BK, label_B)),
        mean_loss=mean_loss + 0.0,
        gradient=gradient_BK.tolist(),
        predictions=prediction_B.tolist(),
        correct=correct_B.tolist(),
        accuracy=float(correct_B.double().mean()),
        uniform_loss=_compute_uniform_loss(settings, logits_BK, label_B),
        columns=_select_columns(label_B, prediction_B, probability_BK),
    )


def _check_finite(logits_BK: Tensor, sources: Sequence[str]) -> None:
    """Raise NonFiniteError for the first example with NaN or inf among its logits."""
    is_finite_B = torch.isfinite(logits_BK).all(1)
    if bool(is_finite_B.all()):
        return
    row = int((~is_finite_B).nonzero()[0, 0])
    raise NonFiniteError(
        f"{sources[row]}: the logits contain NaN or inf; expected finite numbers.",
        cure="The model's weights are not finite or too large: train again with a smaller --lr.",
        indices=(row,),
    )


def _compute_terms(name: LossName, logits_BK: Tensor, target_BK: Tensor) -> Tensor:
    """Return the terms (B, K) that add up to the loss of each example."""
    if name == "cross-entropy":
        return -target_BK * logits_BK.log_softmax(1)
    return (logits_BK - target_BK).square()


def _compute_losses(settings: LossSettings, logits_BK: Tensor, label_B: Tensor) -> Tensor:
    """Return the loss (B,) of each example, as training would compute it for a batch of one."""
    loss_fn = LOSSES[settings.loss]
    losses = []
    for row in range(len(logits_BK)):
        losses.append(loss_fn(logits_BK[row : row + 1], label_B[row : row + 1], settings.label_smoothing))
    return torch.stack(losses)


def _backpropagate(settings: LossSettings, logits_BK: Tensor, label_B: Tensor) -> tuple[float, Tensor]:
    """Return the mean loss, and the gradient (B, K) of each example's own loss at its logits, by autograd."""
    logits_BK = logits_BK.clone().requires_grad_()
    mean = LOSSES[settings.loss](logits_BK, label_B, settings.label_smoothing)
    (gradient_BK,) = torch.autograd.grad(mean * len(logits_BK), logits_BK)
    return float(mean.detach()), gradient_BK


def _compute_uniform_loss(settings: LossSettings, logits_BK: Tensor, label_B: Tensor) -> float:
    """Return the loss of equal logits: zeros for cross-entropy, 1/K for squared error."""
    num_classes = logits_BK.shape[1]
    value = 0.0 if settings.loss == "cross-entropy" else 1 / num_classes
    uniform_1K = torch.full((1, num_classes), value, dtype=logits_BK.dtype)
    return float(LOSSES[settings.loss](uniform_1K, label_B[:1], settings.label_smoothing))


def _clear_negative_zeros(values: Tensor) -> list[Any]:
    """Convert to lists; -0.0 becomes 0.0, so that no minus sign is printed before a zero."""
    return (values + 0.0).tolist()


def _select_columns(label_B: Tensor, prediction_B: Tensor, probability_BK: Tensor) -> list[int]:
    """Select the classes that get a column: true classes and predictions first, then the most probable ones."""
    num_classes = probability_BK.shape[1]
    if num_classes <= MAX_COLUMNS:
        return list(range(num_classes))
    by_probability = np.argsort(-np.mean(probability_BK.numpy(), 0), kind="stable").tolist()
    ordered = dict.fromkeys([*label_B.tolist(), *prediction_B.tolist(), *by_probability])
    return sorted(list(ordered)[:MAX_COLUMNS])


# --- frames ----------------------------------------------------------------------------------------------------------


def _build_frames(numbers: LossNumbers, images_BHWC: np.ndarray) -> list[Frame]:
    from .plot import plot_losses, plot_step

    if numbers.loss == "cross-entropy":
        steps = _describe_cross_entropy(numbers)
    else:
        steps = _describe_squared_error(numbers)
    frames = [Frame(_describe_logits(numbers), plot_step, (numbers, images_BHWC, "logits"))]
    for step, caption in steps:
        frames.append(Frame(caption, plot_step, (numbers, images_BHWC, step)))
    frames.append(Frame(_describe_mean(numbers), plot_losses, (numbers,)))
    frames.append(Frame(_describe_gradient(numbers), plot_step, (numbers, images_BHWC, "gradient")))
    return frames


def _describe_logits(numbers: LossNumbers) -> str:
    scale = ""
    if numbers.temperature != 1:
        scale = f", here divided by the temperature {numbers.temperature:g}"
    return (
        f"Forward pass: the model computes {len(numbers.classes)} logits for each image, one per class{scale}. "
        "The black frame marks the true class."
    )


def _describe_cross_entropy(numbers: LossNumbers) -> list[tuple[str, str]]:
    """Return (step, caption) between the logits and the mean loss."""
    formula = "minus the log probability of its true class"
    if numbers.label_smoothing:
        formula = "the sum of minus log probability times smoothed target over the classes"
    return [
        (
            "exponentials",
            "Softmax, part 1: subtract the largest logit of each row and take the exponential. All values are "
            "positive; their sum is on the right.",
        ),
        ("probabilities", "Softmax, part 2: divide by the sum. The probabilities of each row sum to 1."),
        ("terms", f"Cross-entropy: the loss of each example, on the right, is {formula}. {_describe_errors(numbers)}"),
    ]


def _describe_squared_error(numbers: LossNumbers) -> list[tuple[str, str]]:
    """Return (step, caption) between the logits and the mean loss."""
    return [
        ("targets", "Targets: the one-hot rows of the labels, which the logits should equal."),
        (
            "terms",
            "Squared error: the squared differences of logits and targets sum to the loss of each example. "
            f"{_describe_errors(numbers)}",
        ),
    ]


def _describe_errors(numbers: LossNumbers) -> str:
    if all(numbers.correct):
        return "All predictions are correct."
    return "An orange frame marks a wrong prediction."


def _describe_mean(numbers: LossNumbers) -> str:
    count = len(numbers.losses)
    worst = int(np.argmax(numbers.losses))
    fraction = numbers.losses[worst] / max(sum(numbers.losses), 1e-300)
    return (
        f"The loss of the batch is the mean over its {count} examples, {numbers.mean_loss:.4g}. Example {worst + 1} "
        f"contributes {100 * fraction:.0f} %. {sum(numbers.correct)} of {count} predictions are correct."
    )


def _describe_gradient(numbers: LossNumbers) -> str:
    formula = "twice the difference of logit and target"
    if numbers.loss == "cross-entropy":
        formula = "probability minus target"
    return (
        f"Backward pass: the gradient of each example's loss with respect to its logits, {formula}. Gradient descent "
        "lowers the blue logits and raises the orange ones."
    )
