"""One-hot encoding of labels, compared with the class index as a regression target.

Least squares on one-hot rows is as old as linear classifiers. Label smoothing: Szegedy et al. 2016 (arXiv:1512.00567,
section 7).

B images of the batch, N training images, M test images, K classes, D pixels, F classes of the distance tables,
T regression targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...config.parsing import Range
from ...errors import pluralize
from ...losses.classification import one_hot as encode_one_hot
from ...registry import register_concept
from ..base import ConceptResult, Frame, load_text

#: up to this many classes, all get a column; with more, MAX_COLUMNS of them do
MAX_FULL_CLASSES = 20
MAX_COLUMNS = 12
#: classes in the distance tables
MAX_DISTANCES = 12
#: larger images are averaged to this height and width before a linear fit
IMAGE_SIZE = 16
#: images resized at once; a thousand photographs as floats would take a gigabyte
RESIZE_BATCH = 64
#: accuracies on fewer test images come with a warning
MIN_TEST_EXAMPLES = 20
#: ridge penalty, as a fraction of the mean squared norm of the centered images
RIDGE_FACTOR = 0.01

#: images (N, H, W, C) uint8 and labels (N,)
ImageSet = tuple[np.ndarray, np.ndarray]

TEXT = load_text(__package__)


@dataclass(frozen=True)
class OneHotSettings:
    """Settings: which examples, label smoothing, and the size of the linear fits."""

    examples: Annotated[int, "images shown", Range(1, 12)] = 8
    label_smoothing: Annotated[float, "fraction of each row spread evenly over all classes", Range(0, 1)] = 0.0
    fit_examples: Annotated[int, "training images of the linear fits, and as many test images", Range(10, 2000)] = 500
    seed: Annotated[int, "seed of the random choice of examples and of the class order", Range(0, 2**31)] = 1


@dataclass(frozen=True)
class LabeledImages:
    """Images with labels, and a training and a test set for the linear fits.

    `images` (B, H, W, C) uint8 are displayed; `labels` (B,) are indices into `classes` (K,); `sources` (B,) name the
    images; `train_set` and `test_set` are for the linear fits; `title` names the data.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: Sequence[str]
    sources: Sequence[str]
    train_set: ImageSet
    test_set: ImageSet
    title: str = ""
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Distances:
    """Distances (F, F) between labels, as class indices and as one-hot rows."""

    classes: list[int]
    class_index: list[list[float]]
    one_hot: list[list[float]]


@dataclass(frozen=True)
class LinearFits:
    """Test accuracy of linear fits to the class index, to a permuted class index, and to one-hot rows.

    `permutation` maps class to permuted index. `predicted_index` are the outputs of the first fit for the test images,
    `labels` their labels.
    """

    num_train: int
    num_test: int
    permutation: list[int]
    labels: list[int]
    predicted_index: list[float]
    index_accuracy: float
    permuted_index_accuracy: float
    one_hot_accuracy: float


@dataclass(frozen=True)
class OneHotNumbers:
    """One-hot rows (B, K) of the labels, distances between labels, and the linear fits.

    `columns` are the classes that get a column in the plots.
    """

    title: str
    classes: list[str]
    labels: list[int]
    sources: list[str]
    columns: list[int]
    rows: list[list[float]]
    label_smoothing: float
    distances: Distances
    fits: LinearFits


@register_concept(TEXT, OneHotSettings, input_kind="labels")
def one_hot(settings: OneHotSettings, **inputs: Any) -> ConceptResult:
    """Encode the labels as one-hot rows, measure distances between labels, and compare linear fits to both encodings.

    `inputs` are the fields of LabeledImages.
    """
    data = LabeledImages(**inputs)
    num_classes = len(data.classes)
    targets_BK = encode_one_hot(torch.from_numpy(data.labels), num_classes, settings.label_smoothing, torch.float64)
    columns = _select_columns(data.labels, num_classes)
    fits = compare_encodings(data.train_set, data.test_set, num_classes, settings.seed)
    numbers = OneHotNumbers(
        title=data.title,
        classes=list(data.classes),
        labels=data.labels.tolist(),
        sources=list(data.sources),
        columns=columns,
        rows=targets_BK.tolist(),
        label_smoothing=settings.label_smoothing,
        distances=_compute_distances(columns[:MAX_DISTANCES], num_classes),
        fits=fits,
    )
    return ConceptResult(
        asdict(numbers),
        _build_frames(numbers, data.images),
        key_numbers={
            "classes": f"{num_classes}",
            "accuracy, fit to the class index": f"{100 * fits.index_accuracy:.1f} %",
            "the same, classes in another order": f"{100 * fits.permuted_index_accuracy:.1f} %",
            "accuracy, fit to one-hot rows": f"{100 * fits.one_hot_accuracy:.1f} %, in any order",
        },
        key_frame=1 + len(data.labels),
        notes=[*data.notes, *_collect_notes(fits)],
    )


def _collect_notes(fits: LinearFits) -> list[str]:
    """Warn about accuracies that are measured on few images."""
    if fits.num_test >= MIN_TEST_EXAMPLES:
        return []
    images = pluralize(fits.num_test, "test image")
    return [f"The accuracies are measured on only {images}; other images may give very different ones."]


def _select_columns(labels_B: np.ndarray, num_classes: int) -> list[int]:
    """Select the classes that get a column: all, or with many classes those of the batch and the first others."""
    if num_classes <= MAX_FULL_CLASSES:
        return list(range(num_classes))
    ordered = dict.fromkeys([*labels_B.tolist(), *range(num_classes)])
    return sorted(list(ordered)[:MAX_COLUMNS])


def _compute_distances(classes: Sequence[int], num_classes: int) -> Distances:
    """Compute Euclidean distances between the labels of `classes` in both encodings."""
    index_F1 = torch.tensor(classes, dtype=torch.float64)[:, None]
    rows_FK = encode_one_hot(torch.tensor(classes), num_classes, 0.0, torch.float64)
    row_distance_FF = torch.cdist(rows_FK, rows_FK, compute_mode="donot_use_mm_for_euclid_dist")
    return Distances(list(classes), torch.cdist(index_F1, index_F1).tolist(), row_distance_FF.tolist())


# --- linear fits -----------------------------------------------------------------------------------------------------


def compare_encodings(train_set: ImageSet, test_set: ImageSet, num_classes: int, seed: int) -> LinearFits:
    """Fit linear functions to the class index, in two class orders, and to one-hot rows; measure test accuracy.

    Args:
        train_set: Images and labels to fit to.
        test_set: Images and labels to measure the accuracy on.
        num_classes: Number of classes K.
        seed: Seed of the second class order.

    Returns:
        The accuracies. An output of a fit to the class index counts as the nearest class, an output of the fit to
        one-hot rows as the class with the largest value.
    """
    x_ND = flatten_images(train_set[0])
    x_MD = flatten_images(test_set[0])
    label_N = torch.from_numpy(train_set[1].astype(np.int64))
    label_M = torch.from_numpy(test_set[1].astype(np.int64))
    permutation_K = torch.randperm(num_classes, generator=torch.Generator().manual_seed(seed))
    target_NT = torch.cat(
        [
            label_N.double()[:, None],
            permutation_K[label_N].double()[:, None],
            encode_one_hot(label_N, num_classes, dtype=torch.float64),
        ],
        1,
    )
    output_MT = fit_linear(x_ND, target_NT, x_MD)
    nearest_M2 = output_MT[:, :2].round().clamp(0, num_classes - 1).long()
    return LinearFits(
        num_train=len(label_N),
        num_test=len(label_M),
        permutation=permutation_K.tolist(),
        labels=label_M.tolist(),
        predicted_index=output_MT[:, 0].tolist(),
        index_accuracy=_compute_accuracy(nearest_M2[:, 0], label_M),
        permuted_index_accuracy=_compute_accuracy(nearest_M2[:, 1], permutation_K[label_M]),
        one_hot_accuracy=_compute_accuracy(output_MT[:, 2:].argmax(1), label_M),
    )


def _compute_accuracy(prediction_M: Tensor, label_M: Tensor) -> float:
    return float((prediction_M == label_M).double().mean())


def flatten_images(images_NHWC: np.ndarray) -> Tensor:
    """Convert uint8 images to rows (N, D) float64 in [0, 1]; larger ones are averaged to IMAGE_SIZE x IMAGE_SIZE."""
    x_NCHW = torch.from_numpy(images_NHWC.copy()).permute(0, 3, 1, 2)
    if max(x_NCHW.shape[2:]) > IMAGE_SIZE:
        resized = []
        for x_PCHW in x_NCHW.split(RESIZE_BATCH):
            resized.append(F.interpolate(x_PCHW.float(), size=(IMAGE_SIZE, IMAGE_SIZE), mode="area"))
        x_NCHW = torch.cat(resized)
    return x_NCHW.flatten(1).double() / 255


def fit_linear(x_ND: Tensor, y_NT: Tensor, x_MD: Tensor) -> Tensor:
    """Fit y = W x + b by ridge regression on (x_ND, y_NT) and return the outputs (M, T) for x_MD.

    Hoerl and Kennard 1970, doi:10.1080/00401706.1970.10488634. The penalty is `ridge_penalty(x_ND)`.
    """
    mean_D = x_ND.mean(0)
    mean_T = y_NT.mean(0)
    centered_ND = x_ND - mean_D
    identity_DD = torch.eye(x_ND.shape[1], dtype=x_ND.dtype)
    gram_DD = centered_ND.T @ centered_ND + ridge_penalty(x_ND) * identity_DD
    weight_DT = torch.linalg.solve(gram_DD, centered_ND.T @ (y_NT - mean_T))
    return (x_MD - mean_D) @ weight_DT + mean_T


def ridge_penalty(x_ND: Tensor) -> float:
    """Return RIDGE_FACTOR times the mean squared norm of the centered rows; never 0."""
    return max(RIDGE_FACTOR * float((x_ND - x_ND.mean(0)).square().sum()) / len(x_ND), 1e-9)


# --- frames ----------------------------------------------------------------------------------------------------------


def _build_frames(numbers: OneHotNumbers, images_BHWC: np.ndarray) -> list[Frame]:
    from .plot import plot_distances, plot_encoding_rows, plot_linear_fits

    frames = []
    for step, caption in enumerate(_describe_rows(numbers)):
        frames.append(Frame(caption, plot_encoding_rows, (numbers, images_BHWC, step)))
    frames.append(Frame(_describe_distances(numbers), plot_distances, (numbers,)))
    frames.append(Frame(_describe_fits(numbers.fits), plot_linear_fits, (numbers,)))
    return frames


def _describe_rows(numbers: OneHotNumbers) -> list[str]:
    """Return captions of the images, the class indices, and each one-hot row."""
    num_classes = len(numbers.classes)
    captions = [
        "Training examples: each image has a class.",
        f"Label encoding: the {num_classes} classes are numbered from 0. The class index is the label of the image.",
    ]
    for row, label in enumerate(numbers.labels):
        values = numbers.rows[row]
        captions.append(
            f"Row {row + 1}: {_quote_name(numbers.classes[label])} has class index {label} of 0 to {num_classes - 1}, "
            f"so the row is {max(values):.3g} in column {label} and {min(values):.3g} elsewhere."
        )
    return captions


def _describe_distances(numbers: OneHotNumbers) -> str:
    first = numbers.distances.classes[0]
    last = numbers.distances.classes[-1]
    return (
        f"As class indices, {_quote_name(numbers.classes[first])} and {_quote_name(numbers.classes[last])} have "
        f"distance {last - first}, and neighbors have 1. As one-hot rows, any two classes have distance 1.41."
    )


def _describe_fits(fits: LinearFits) -> str:
    return (
        f"Linear fits on {pluralize(fits.num_train, 'training image')}, test accuracy on "
        f"{pluralize(fits.num_test, 'image')}: {100 * fits.index_accuracy:.1f} % for the class index, "
        f"{100 * fits.permuted_index_accuracy:.1f} % with the classes in another order, "
        f"{100 * fits.one_hot_accuracy:.1f} % for one-hot rows."
    )


def _quote_name(name: str) -> str:
    """Quote a class name, shortened for captions."""
    from ...plots.style import ellipsize

    return f"'{ellipsize(name, 24)}'"
