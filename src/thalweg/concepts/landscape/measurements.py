"""Loss and curvature along the path of a training: straight line, path, planes and Hessian.

Shapes: N snapshots of the path, D trained weights, F filters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .loss_surface import LossSurface


@dataclass(frozen=True)
class LineRecord:
    """Loss and accuracy at fractions of the straight line from the initial (0) to the final weights (1).

    `barrier` is the largest rise of the training loss on it, `fall` the total decrease.
    """

    fraction: list[float]
    train_loss: list[float]
    train_accuracy: list[float]
    test_loss: list[float]
    test_accuracy: list[float]
    barrier: float
    fall: float


@dataclass(frozen=True)
class PathRecord:
    """Loss, gradient norm and distances of each snapshot.

    `fraction_of_line` and `distance_from_line` are the position along the straight line and the distance from it.
    """

    step: list[int]
    loss: list[float]
    gradient_norm: list[float]
    distance_from_start: list[float]
    distance_from_end: list[float]
    fraction_of_line: list[float]
    distance_from_line: list[float]
    straight_length: float
    length: float


@dataclass(frozen=True)
class PlaneRecord:
    """The loss on a plane, row by row, and the path projected onto it.

    `explained_variance` is the fraction of the path that each direction explains, or None for scaled directions.
    """

    first: list[float]
    second: list[float]
    loss: list[list[float]]
    path: list[list[float]]
    explained_variance: list[float] | None


@dataclass(frozen=True)
class CurvatureRecord:
    """The extreme eigenvalues of the Hessian at some snapshots, with error bounds."""

    step: list[int]
    smallest: list[float]
    largest: list[float]
    smallest_error: list[float]
    largest_error: list[float]


# --- straight line ----------------------------------------------------------------------------------------------------


def interpolate(
    train_surface: LossSurface, test_surface: LossSurface, start_D: Tensor, end_D: Tensor, num_points: int
) -> LineRecord:
    """Evaluate the loss on the line through start and end, from fraction -0.25 to 1.25.

    Args:
        train_surface: the loss on training examples.
        test_surface: the loss on test examples.
        start_D: initial weights.
        end_D: final weights.
        num_points: number of points; start and end are added if they are not among them.

    Returns:
        Losses and accuracies.
    """
    fractions = line_fractions(num_points)
    points = [start_D + fraction * (end_D - start_D) for fraction in fractions]
    train_loss, train_accuracy = _evaluate_all(train_surface, points)
    test_loss, test_accuracy = _evaluate_all(test_surface, points)
    between = train_loss[fractions.index(0.0) : fractions.index(1.0) + 1]
    return LineRecord(
        fraction=fractions,
        train_loss=train_loss,
        train_accuracy=train_accuracy,
        test_loss=test_loss,
        test_accuracy=test_accuracy,
        barrier=largest_barrier(between),
        fall=between[0] - between[-1],
    )


def _evaluate_all(surface: LossSurface, points: Iterable[Tensor]) -> tuple[list[float], list[float]]:
    """Return the loss and the accuracy at each point."""
    losses = []
    accuracies = []
    for weights_D in points:
        loss, accuracy = surface.evaluate(weights_D)
        losses.append(loss)
        accuracies.append(accuracy)
    return losses, accuracies


def line_fractions(num_points: int) -> list[float]:
    """Return `num_points` fractions from -0.25 to 1.25, and 0 and 1."""
    return sorted({0.0, 1.0, *torch.linspace(-0.25, 1.25, num_points).tolist()})


def largest_barrier(losses: Sequence[float]) -> float:
    """Return the largest rise of the losses above the lowest value before it."""
    lowest = losses[0]
    barrier = 0.0
    for loss in losses:
        lowest = min(lowest, loss)
        barrier = max(barrier, loss - lowest)
    return barrier


# --- path -------------------------------------------------------------------------------------------------------------


def measure_path(surface: LossSurface, steps: list[int], path_ND: Tensor) -> PathRecord:
    """Measure loss, gradient norm and distances at each snapshot."""
    line_D = path_ND[-1] - path_ND[0]
    length = float(line_D.norm())
    losses, _ = _evaluate_all(surface, path_ND)
    gradient_norms = []
    for weights_D in path_ND:
        gradient_norms.append(float(surface.compute_gradient(weights_D).norm()))
    offset_ND = path_ND - path_ND[0]
    fraction_N = offset_ND @ line_D / max(length**2, 1e-30)
    distance_N = (offset_ND - fraction_N[:, None] * line_D).norm(dim=1)
    return PathRecord(
        step=steps,
        loss=losses,
        gradient_norm=gradient_norms,
        distance_from_start=offset_ND.norm(dim=1).tolist(),
        distance_from_end=(path_ND - path_ND[-1]).norm(dim=1).tolist(),
        fraction_of_line=fraction_N.tolist(),
        distance_from_line=distance_N.tolist(),
        straight_length=length,
        length=float((path_ND[1:] - path_ND[:-1]).norm(dim=1).sum()),
    )


def path_pca(path_ND: Tensor, seed: int = 0) -> tuple[Tensor, list[float]]:
    """Return the first two principal directions (2, D) of the path around its end, and their explained variance.

    A direction that the path does not have is random, orthogonal to the first, and explains 0.
    """
    centered_ND = (path_ND[:-1] - path_ND[-1]).double()
    eigenvalues, eigenvectors = torch.linalg.eigh(centered_ND @ centered_ND.T)
    total = float(eigenvalues.clamp(min=0).sum()) or 1.0
    directions = []
    explained_variance = []
    for i in eigenvalues.argsort(descending=True)[:2]:
        if float(eigenvalues[i]) > 1e-12 * total:
            direction_D = eigenvectors[:, i] @ centered_ND
            directions.append(direction_D / direction_D.norm())
            explained_variance.append(float(eigenvalues[i]) / total)
    generator = torch.Generator().manual_seed(seed)
    while len(directions) < 2:
        direction_D = torch.randn(path_ND.shape[1], generator=generator, dtype=torch.float64)
        for other_D in directions:
            direction_D = direction_D - (direction_D @ other_D) * other_D
        directions.append(direction_D / direction_D.norm())
        explained_variance.append(0.0)
    return torch.stack(directions).to(path_ND.dtype), explained_variance


# --- planes -----------------------------------------------------------------------------------------------------------


def filter_normalize(direction_D: Tensor, weights_D: Tensor, shapes: Sequence[torch.Size]) -> Tensor:
    """Scale each filter, or row, of the direction to the norm of that of the weights; biases and scales become 0.

    Li et al. 2018, section 4.
    """
    scaled = []
    start = 0
    for shape in shapes:
        end = start + shape.numel()
        if len(shape) <= 1:
            scaled.append(torch.zeros(end - start))
        else:
            direction_FN = direction_D[start:end].view(shape).flatten(1)
            weights_FN = weights_D[start:end].view(shape).flatten(1)
            direction_norm_F1 = direction_FN.norm(dim=1, keepdim=True)
            weight_norm_F1 = weights_FN.norm(dim=1, keepdim=True)
            scaled.append((direction_FN * weight_norm_F1 / direction_norm_F1.clamp(min=1e-30)).reshape(-1))
        start = end
    return torch.cat(scaled)


def compute_plane(
    surface: LossSurface,
    path_ND: Tensor,
    directions_2D: Tensor,
    grid: int,
    explained_variance: list[float] | None = None,
) -> PlaneRecord:
    """Evaluate the loss on a plane through the end of the path, and project the path onto it.

    Args:
        surface: the loss.
        path_ND: the path.
        directions_2D: the directions of the plane.
        grid: number of points along each side.
        explained_variance: of the directions. If given, the plane covers the path; otherwise it covers one length of
            each direction to either side of the end.

    Returns:
        Losses and the projected path.
    """
    end_D = path_ND[-1]
    # least squares, because filter-normalized directions are not orthogonal
    coordinates_N2 = torch.linalg.lstsq(directions_2D.T.double(), (path_ND - end_D).T.double()).solution.T
    if explained_variance is None:
        low = torch.tensor([-1.0, -1.0])
        high = torch.tensor([1.0, 1.0])
    else:
        low = coordinates_N2.amin(0)
        high = coordinates_N2.amax(0)
        margin = (0.25 * (high - low)).clamp(min=0.1 * float((high - low).max()))
        low = low - margin
        high = high + margin
    first = torch.linspace(float(low[0]), float(high[0]), grid).tolist()
    second = torch.linspace(float(low[1]), float(high[1]), grid).tolist()
    losses = []
    for y in second:
        points = (end_D + x * directions_2D[0] + y * directions_2D[1] for x in first)
        row, _ = _evaluate_all(surface, points)
        losses.append(row)
    return PlaneRecord(first, second, losses, coordinates_N2.tolist(), explained_variance)


# --- curvature --------------------------------------------------------------------------------------------------------


def compute_curvature(
    surface: LossSurface, steps: list[int], path_ND: Tensor, indices: Sequence[int], iterations: int, seed: int
) -> CurvatureRecord:
    """Estimate the extreme eigenvalues of the Hessian at the snapshots `indices`.

    Args:
        surface: the loss.
        steps: the step of each snapshot.
        path_ND: the path.
        indices: the snapshots at which the Hessian is used.
        iterations: Lanczos iterations.
        seed: seed of the start vector of Lanczos.

    Returns:
        Eigenvalues and error bounds.
    """
    record = CurvatureRecord([], [], [], [], [])
    for index in indices:
        spectrum = surface.hessian_extremes(path_ND[index], iterations, seed)
        record.step.append(steps[index])
        record.smallest.append(spectrum.smallest)
        record.largest.append(spectrum.largest)
        record.smallest_error.append(spectrum.smallest_error)
        record.largest_error.append(spectrum.largest_error)
    return record


def pick_evenly(count: int, size: int) -> list[int]:
    """Return up to `count` indices below `size`, evenly spaced, with the last one and (from two on) the first."""
    return sorted(set(map(round, torch.linspace(size - 1, 0, min(count, size)).tolist())))
