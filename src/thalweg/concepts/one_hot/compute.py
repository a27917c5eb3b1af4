"""Labels as rows of zeros and a one, and what goes wrong where their numbers are learned instead.

Least squares on such rows is as old as linear classifiers; label smoothing is of Szegedy et al. 2016
(arXiv:1512.00567, section 7). B examples of the batch, N to learn from, M to be tested on, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...config.options import Range
from ...errors import pluralize
from ...losses.classification import one_hot as encode_one_hot
from ...registry import register_concept
from ..base import ConceptResult, Frame, load_text

#: most classes that all get a column, columns where there are more, classes with distances; pixels of a side
MAX_FULL_CLASSES, MAX_COLUMNS, MAX_DISTANCES, IMAGE_SIZE = 20, 12, 12, 16
#: fewer tested pictures than that say little
MIN_TEST_EXAMPLES = 20
#: how much large weights are held down, as a share of the mean square of a picture
RIDGE_FACTOR = 0.01

TEXT = load_text(__package__)


@dataclass(frozen=True)
class OneHotSettings:
    """What can be set: which examples, and how sure the rows are."""

    examples: Annotated[int, "pictures that are shown", Range(1, 12)] = 8
    smoothing: Annotated[float, "share of each row that is spread over all classes", Range(0, 1)] = 0.0
    fitted: Annotated[int, "examples to fit to, and as many others to test on", Range(10, 2000)] = 500
    seed: Annotated[int, "seed of which examples are taken, and of the other order", Range(0, 2**31)] = 1


@register_concept(TEXT, OneHotSettings, subject="labels")
def one_hot(
    settings: OneHotSettings,
    images: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    sources: Sequence[str],
    learned: tuple[np.ndarray, np.ndarray],
    tested: tuple[np.ndarray, np.ndarray],
    told: str = "",
    notes: Sequence[str] = (),
) -> ConceptResult:
    """The rows of `labels` (B,), the distances between labels, and linear fits of `learned` tested on `tested`.

    `images` (B, H, W, C) uint8; `learned` and `tested` are (images, labels) of the same shape.
    """
    count = len(classes)
    targets_BK = encode_one_hot(torch.from_numpy(labels), count, settings.smoothing, torch.float64)
    shown = _select_columns(labels, count)
    numbers: dict[str, Any] = {
        "classes": list(classes),
        "labels": labels.tolist(),
        "sources": list(sources),
        "columns": shown,
        "rows": targets_BK.tolist(),
        "smoothing": settings.smoothing,
        "told": told,
    }
    few = shown[:MAX_DISTANCES]
    rows_FK = encode_one_hot(torch.tensor(few), count, 0.0, torch.float64)
    place_F = torch.tensor(few, dtype=torch.float64)[:, None]
    numbers["distances"] = {
        "classes": few,
        "as_numbers": torch.cdist(place_F, place_F).tolist(),
        "as_rows": torch.cdist(rows_FK, rows_FK, compute_mode="donot_use_mm_for_euclid_dist").tolist(),
    }
    numbers["fit"] = compare_encodings(learned, tested, count, settings.seed)
    fit = numbers["fit"]
    return ConceptResult(
        numbers,
        _build_frames(numbers, images),
        key_numbers={
            "classes": f"{count}",
            "right, fitted to the numbers": f"{100 * fit['numbers_accuracy']:.1f} %",
            "the same, classes in another order": f"{100 * fit['other_accuracy']:.1f} %",
            "right, fitted to one-hot rows": f"{100 * fit['rows_accuracy']:.1f} %, in any order",
        },
        key_frame=1 + len(labels),
        notes=[*notes, *_collect_notes(fit)],
    )


def _collect_notes(fit: dict[str, Any]) -> list[str]:
    """A warning where so few are tested that the shares say little."""
    if fit["tested"] >= MIN_TEST_EXAMPLES:
        return []
    return [
        f"The fits are tested on {pluralize(fit['tested'], 'picture')} only; with others the shares may be far off."
    ]


def _select_columns(labels: np.ndarray, count: int) -> list[int]:
    """The classes that get a column: all, or of many those of the batch and the first others."""
    if count <= MAX_FULL_CLASSES:
        return list(range(count))
    of_batch = dict.fromkeys(labels.tolist())
    others = (k for k in range(count) if k not in of_batch)
    return sorted([*of_batch, *(k for k, _ in zip(others, range(MAX_COLUMNS - len(of_batch)), strict=False))])


def compare_encodings(
    learned: tuple[np.ndarray, np.ndarray], tested: tuple[np.ndarray, np.ndarray], count: int, seed: int
) -> dict[str, Any]:
    """The share of `tested` that linear fits answer rightly: to the numbers, in two orders, and to one-hot rows.

    A number is rounded to the nearest class. `answers` are those of the first fit, `truth` the labels.
    """
    x_ND, x_MD = flatten_images(learned[0]), flatten_images(tested[0])
    label_N, label_M = (torch.from_numpy(part[1].astype(np.int64)) for part in (learned, tested))
    order_K = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    wanted = [label_N.double()[:, None], order_K[label_N].double()[:, None]]
    answer_MT = fit_linear(x_ND, torch.cat([*wanted, encode_one_hot(label_N, count, dtype=torch.float64)], 1), x_MD)
    nearest_M2 = answer_MT[:, :2].round().clamp(0, count - 1).long()
    right = {
        "numbers_accuracy": nearest_M2[:, 0] == label_M,
        "other_accuracy": nearest_M2[:, 1] == order_K[label_M],
        "rows_accuracy": answer_MT[:, 2:].argmax(1) == label_M,
    }
    return {
        "learned": len(label_N),
        "tested": len(label_M),
        "other_order": order_K.tolist(),
        "truth": label_M.tolist(),
        "answers": answer_MT[:, 0].tolist(),
        **{name: float(share.double().mean()) for name, share in right.items()},
    }


def flatten_images(images_NHWC: np.ndarray) -> Tensor:
    """(N, D) float64 in [0, 1]: pictures as rows, larger ones averaged to SIDE x SIDE pixels."""
    x_NCHW = torch.from_numpy(images_NHWC.copy()).permute(0, 3, 1, 2)
    if max(x_NCHW.shape[2:]) > IMAGE_SIZE:
        parts = x_NCHW.split(64)  # as floats, a thousand photographs would take a gigabyte
        x_NCHW = torch.cat([F.interpolate(part.float(), size=(IMAGE_SIZE, IMAGE_SIZE), mode="area") for part in parts])
    return x_NCHW.flatten(1).double() / 255


def fit_linear(x_ND: Tensor, y_NT: Tensor, x_MD: Tensor) -> Tensor:
    """Answers (M, T) to x_MD of the linear functions with bias that fit y_NT best, large weights held down.

    Hoerl and Kennard 1970, doi:10.1080/00401706.1970.10488634; the squares of the weights count by `damping(x_ND)`.
    """
    mean_D, mean_T = x_ND.mean(0), y_NT.mean(0)
    centred_ND = x_ND - mean_D
    square_DD = centred_ND.T @ centred_ND + ridge_penalty(x_ND) * torch.eye(x_ND.shape[1], dtype=x_ND.dtype)
    weight_DT = torch.linalg.solve(square_DD, centred_ND.T @ (y_NT - mean_T))
    return (x_MD - mean_D) @ weight_DT + mean_T


def ridge_penalty(x_ND: Tensor) -> float:
    """DAMPING of the sum of the squares of all pictures around their mean, shared by the pictures; never 0."""
    return max(RIDGE_FACTOR * float((x_ND - x_ND.mean(0)).square().sum()) / len(x_ND), 1e-9)


def _build_frames(numbers: dict[str, Any], images: np.ndarray) -> list[Frame]:
    from .plot import plot_distances, plot_encoding_rows, plot_linear_fits

    classes, labels, fit = numbers["classes"], numbers["labels"], numbers["fit"]
    count, few = len(classes), numbers["distances"]["classes"]
    told = [
        "Pictures with a class each: examples to learn from.",
        f"Of {count} classes, counted from 0, each picture gets the number of its class: its label.",
    ]
    for row, label in enumerate(labels, 1):
        told.append(
            f"Row {row}: {_shorten_name(classes[label])} has the number {label} of 0 to {count - 1}, so the row is "
            f"{max(numbers['rows'][row - 1]):.3g} there and {min(numbers['rows'][row - 1]):.3g} elsewhere."
        )
    first, last = few[0], few[-1]
    apart = (
        f"As numbers, {_shorten_name(classes[first])} and {_shorten_name(classes[last])} are {last - first} apart and neighbours 1; "
        "as one-hot rows any two classes are 1.41 apart."
    )
    measured = (
        f"A linear fit of {fit['learned']} pictures, tested on {pluralize(fit['tested'], 'other')}: "
        f"to the numbers {100 * fit['numbers_accuracy']:.1f} % are right, in another order of classes "
        f"{100 * fit['other_accuracy']:.1f} %, to the rows {100 * fit['rows_accuracy']:.1f} %."
    )
    return [
        *(Frame(caption, plot_encoding_rows, (numbers, images, step)) for step, caption in enumerate(told)),
        Frame(apart, plot_distances, (numbers,)),
        Frame(measured, plot_linear_fits, (numbers,)),
    ]


def _shorten_name(name: str) -> str:
    """A name of a class that leaves room in a caption."""
    from ...plots.style import ellipsize

    return f"'{ellipsize(name, 24)}'"
