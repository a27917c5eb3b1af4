"""The loss landscape of a training: the straight line, the path, planes through the end, and the Hessian.

Goodfellow, Vinyals and Saxe 2015 (arXiv:1412.6544) for the straight line; Li et al. 2018 (arXiv:1712.09913) for the
planes. N snapshots of the path, D trained weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Annotated

import torch
from torch import Tensor

from ...config.parsing import Range
from ...errors import NonFiniteError
from ...objectives.base import Batch
from ...objectives.supervised import Supervised
from ...registry import register_concept
from ..base import ConceptResult, Frame, load_text
from .loss_surface import LossSurface, count_examples, flatten
from .measurements import (
    CurvatureRecord,
    LineRecord,
    compute_curvature,
    compute_plane,
    filter_normalize,
    interpolate,
    line_fractions,
    measure_path,
    path_pca,
    pick_evenly,
)
from .records import LandscapeRecord

TEXT = load_text(__package__)

#: a smaller rise, as a fraction of the total fall of the loss, is rounding error and no barrier
MIN_BARRIER_FRACTION = 0.01
#: a smaller negative eigenvalue, as a fraction of the largest eigenvalue, is rounding error
MIN_CURVATURE_RATIO = 0.001
#: duration of a gradient and of a Hessian-vector product, in evaluations of the loss
GRADIENT_COST = 3
HESSIAN_COST = 7
MIN_EXAMPLES = 2


@dataclass(frozen=True)
class LandscapeSettings:
    """Settings: how much is computed."""

    examples: Annotated[int, "maximum number of training examples, and of test examples", Range(2, 10000)] = 500
    points: Annotated[int, "points on the straight line", Range(5, 500)] = 31
    grid: Annotated[int, "points along each side of the planes", Range(5, 101)] = 19
    iterations: Annotated[int, "iterations of Lanczos for each pair of eigenvalues", Range(4, 200)] = 24
    curvature_points: Annotated[int, "points of the path with Hessian eigenvalues", Range(1, 100)] = 7
    seconds: Annotated[float, "time budget; fewer examples are used if it would be exceeded", Range(1, 86400)] = 60.0
    seed: Annotated[int, "seed of the examples and of the Lanczos start vector", Range(0, 2**31)] = 0


@register_concept(TEXT, LandscapeSettings, input_kind="weight_path")
def landscape(
    settings: LandscapeSettings,
    objective: Supervised,
    snapshots: Sequence[tuple[int, dict[str, Tensor]]],
    train: Sequence[Batch],
    test: Sequence[Batch],
    title: str = "",
) -> ConceptResult:
    """Measure the loss along the path of a training.

    Args:
        settings: how much is computed.
        objective: the model and its loss.
        snapshots: snapshots (step, weights by name), from the initial to the final weights.
        train: batches of training examples.
        test: batches of test examples.
        title: title of the plots.

    Returns:
        Losses on the line, on the path and on two planes, and eigenvalues of the Hessian.

    Raises:
        NonFiniteError: the loss of the initial or the final weights is NaN or inf.
    """
    names = list(snapshots[0][1])
    steps = [step for step, _ in snapshots]
    path_ND = torch.stack([_flatten_weights(weights, names) for _, weights in snapshots])
    curvature_indices = pick_evenly(settings.curvature_points, len(steps))

    fraction, note = _fit_budget(settings, LossSurface(objective, train, names), path_ND, len(curvature_indices))
    notes = []
    if note:
        notes.append(note)
    train_surface = LossSurface(objective, take_fraction(train, fraction), names)
    test_surface = LossSurface(objective, take_fraction(test, fraction), names)

    path = measure_path(train_surface, steps, path_ND)
    if not all(map(torch.isfinite, torch.tensor([path.loss[0], path.loss[-1]]))):
        raise NonFiniteError(
            "The loss of the initial or the final weights is NaN or inf.", cure="Train with a smaller --lr."
        )
    line = interpolate(train_surface, test_surface, path_ND[0], path_ND[-1], settings.points)
    directions_2D, explained_variance = path_pca(path_ND, settings.seed)
    if 0.0 in explained_variance:
        notes.append("The run has too few snapshots for a second principal direction; a random one is used.")
    shapes = [objective.model.get_parameter(name).shape for name in names]
    scaled = []
    for direction_D in directions_2D:
        scaled.append(filter_normalize(direction_D, path_ND[-1], shapes))
    scaled_2D = torch.stack(scaled)
    record = LandscapeRecord(
        examples=train_surface.num_examples,
        weights=path_ND.shape[1],
        line=line,
        path=path,
        plane=compute_plane(train_surface, path_ND, directions_2D, settings.grid, explained_variance),
        filter_plane=compute_plane(train_surface, path_ND, scaled_2D, settings.grid),
        curvature=compute_curvature(
            train_surface, steps, path_ND, curvature_indices, settings.iterations, settings.seed
        ),
    )
    train_surface.set_weights(path_ND[-1])
    return ConceptResult(asdict(record), _build_frames(record, title), _key_numbers(record), key_frame=2, notes=notes)


# --- time budget ------------------------------------------------------------------------------------------------------


def _fit_budget(
    settings: LandscapeSettings, surface: LossSurface, path_ND: Tensor, num_hessians: int
) -> tuple[float, str]:
    """Time one evaluation of the loss; return the fraction of the examples that fits the budget, and a note.

    The note is empty if all examples fit.
    """
    # The first forward pass is slow, because PyTorch allocates memory and selects kernels: it is not timed.
    with torch.no_grad():
        surface.objective.loss(surface.batches[0])
    started_at = perf_counter()
    surface.evaluate(path_ND[-1])
    seconds = perf_counter() - started_at
    needed = seconds * count_evaluations(settings, len(path_ND), num_hessians)
    if needed <= settings.seconds:
        return 1.0, ""
    fraction = settings.seconds / needed
    total = surface.num_examples
    used = count_examples(take_fraction(surface.batches, fraction))
    note = (
        f"{used} of {total} training examples are used, and the same fraction of test examples, to stay within "
        f"{settings.seconds:g} seconds. Use all: --set seconds={needed:.0f}"
    )
    return fraction, note


def count_evaluations(settings: LandscapeSettings, num_snapshots: int, num_hessians: int) -> int:
    """Return the duration of the entire computation in evaluations of the training loss.

    Args:
        settings: how much is computed.
        num_snapshots: snapshots of the path.
        num_hessians: points at which the Hessian is used.

    Returns:
        The number of evaluations; gradients and Hessian-vector products count as several.
    """
    line = 2 * len(line_fractions(settings.points))
    path = (1 + GRADIENT_COST) * num_snapshots
    planes = 2 * settings.grid**2
    hessians = HESSIAN_COST * settings.iterations * num_hessians
    return line + path + planes + hessians


def _flatten_weights(weights: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
    return flatten([weights[name] for name in names])


def take_fraction(batches: Sequence[Batch], fraction: float) -> list[Batch]:
    """Return the first `fraction` of all examples, at least MIN_EXAMPLES; the last batch may be cut."""
    remaining = max(MIN_EXAMPLES, int(fraction * count_examples(batches)))
    taken = []
    for batch in batches:
        size = min(remaining, len(batch["label"]))
        if size == 0:
            break
        part = {}
        for name, values in batch.items():
            part[name] = values[:size]
        taken.append(part)
        remaining -= size
    return taken


# --- results ----------------------------------------------------------------------------------------------------------


def _build_frames(record: LandscapeRecord, title: str) -> list[Frame]:
    from .plot import plot_landscape

    path = record.path
    explained = 100 * sum(record.plane.explained_variance or ())
    captions = {
        "line": "Barriers on the straight line from the initial weights (0) to the final weights (1): "
        f"{_describe_barrier(record.line)}.",
        "path": f"The path is {path.length:.3g} long; the straight line is {path.straight_length:.3g} long.",
        "plane": f"The plane of the first two principal directions, which explain {explained:.1f} % of the path; "
        "dark is low loss, light is high loss.",
        "filter_plane": "The same directions around the final weights, scaled filter by filter.",
        "curvature": "Extreme eigenvalues of the Hessian along the path; at the end "
        f"{_format_final_spectrum(record.curvature)}.",
    }
    frames = []
    for part, caption in captions.items():
        frames.append(Frame(caption, plot_landscape, (record, part, title)))
    return frames


def _key_numbers(record: LandscapeRecord) -> dict[str, str]:
    path = record.path
    curvature = record.curvature
    minimum = classify_minimum(curvature.smallest[-1], curvature.largest[-1])
    return {
        "initial and final loss": f"{path.loss[0]:.4g}, {path.loss[-1]:.4g}",
        "barriers on the straight line": _describe_barrier(record.line),
        "path length / straight line": f"{path.length / max(path.straight_length, 1e-30):.2f}",
        "curvature at the end": f"{_format_final_spectrum(curvature)}; {minimum}",
    }


def _describe_barrier(line: LineRecord) -> str:
    if line.fall <= 0:
        return "the loss did not fall"
    fraction = line.barrier / line.fall
    if fraction < MIN_BARRIER_FRACTION:
        return "none, the loss decreases monotonically"
    return f"it rises by {100 * fraction:.1f} % of its fall"


def _format_final_spectrum(curvature: CurvatureRecord) -> str:
    """Format the extreme eigenvalues at the end."""
    smallest = format_eigenvalue(curvature.smallest[-1], curvature.smallest_error[-1])
    largest = format_eigenvalue(curvature.largest[-1], curvature.largest_error[-1])
    return f"{smallest} to {largest}"


def format_eigenvalue(value: float, error: float) -> str:
    """Format three digits, and the error bound if it affects them."""
    text = f"{value:.3g}"
    if error > 0.005 * abs(value):
        text += f" ± {error:.1g}"
    return text


def classify_minimum(smallest: float, largest: float) -> str:
    """Classify the final weights by the extreme eigenvalues of the Hessian."""
    if smallest < -MIN_BARRIER_FRACTION * abs(largest):
        return "negative curvature: a saddle point or slope, not a minimum"
    if smallest < -MIN_CURVATURE_RATIO * abs(largest):
        return "slightly negative curvature: nearly a minimum, or flat"
    return "no negative curvature: a minimum, or flat"
