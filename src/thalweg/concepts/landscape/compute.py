"""The way of a training over its loss: straight, along its path, on planes through it, and how the ground curves there.

Goodfellow, Vinyals and Saxe 2015 (arXiv:1412.6544) for the straight line; Li et al. 2018 (arXiv:1712.09913) for the
planes. N points of the path, D trained weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from ...config.options import Range
from ...errors import NonFiniteError
from ...objectives.base import Batch
from ...objectives.supervised import Supervised
from ...registry import register_concept
from ..base import ConceptResult, Frame, load_text
from .loss_surface import LossSurface, Spectrum, flatten

TEXT = load_text(__package__)

#: a rise on the way of less than this share of the whole fall is rounding, not an obstacle
MIN_BARRIER_FRACTION = 0.01
#: an eigenvalue below 0 of less than this share of the largest is rounding
MIN_CURVATURE_RATIO = 0.001


@dataclass(frozen=True)
class LandscapeSettings:
    """What can be set: how much is computed."""

    examples: Annotated[int, "examples of the training and of the test set that the loss is of", Range(2, 10000)] = 500
    points: Annotated[int, "points on the straight line", Range(5, 500)] = 31
    grid: Annotated[int, "points along each side of the planes", Range(5, 101)] = 19
    iterations: Annotated[int, "products with the Hessian for each pair of eigenvalues", Range(4, 200)] = 24
    curvatures: Annotated[int, "points of the path at which the curvature is computed", Range(1, 100)] = 7
    seed: Annotated[int, "seed of which examples are taken, and of where Lanczos begins", Range(0, 2**31)] = 0


@register_concept(TEXT, LandscapeSettings, input_kind="weight_path")
def landscape(
    settings: LandscapeSettings,
    objective: Supervised,
    trail: Sequence[tuple[int, dict[str, Tensor]]],
    train: Sequence[Batch],
    test: Sequence[Batch],
    told: str = "",
) -> ConceptResult:
    """The loss from the first weights of `trail`, (step, weights by name), to the last ones, on the given batches.

    Raises NonFinite where the loss at the start or the end is no number.
    """
    names = list(trail[0][1])
    steps = [step for step, _ in trail]
    path_ND = torch.stack([flatten([weights[name] for name in names]) for _, weights in trail])
    ground, unseen = LossSurface(objective, train, names), LossSurface(objective, test, names)
    path = measure_path(ground, steps, path_ND)
    if not all(map(torch.isfinite, torch.tensor([path["loss"][0], path["loss"][-1]]))):
        raise NonFiniteError(
            "The loss at the start or the end of this run is no number.", cure="Train with a smaller --lr."
        )
    numbers: dict[str, Any] = {"examples": sum(len(batch["label"]) for batch in train), "weights": path_ND.shape[1]}
    numbers["line"] = interpolate(ground, unseen, path_ND[0], path_ND[-1], settings.points)
    numbers["path"] = path
    directions_2D, shares, notes = path_pca(path_ND, settings.seed)
    numbers["plane"] = compute_plane(ground, path_ND, directions_2D, settings.grid, shares)
    filters = [objective.model.get_parameter(name).shape for name in names]
    scaled_2D = torch.stack([filter_normalize(one, path_ND[-1], filters) for one in directions_2D])
    numbers["filter_plane"] = compute_plane(ground, path_ND, scaled_2D, settings.grid, None)
    numbers["curvature"] = compute_curvature(ground, steps, path_ND, settings)
    ground.put(path_ND[-1])
    return ConceptResult(numbers, _build_frames(numbers, told), _key_numbers(numbers), key_frame=2, notes=notes)


def interpolate(
    ground: LossSurface, unseen: LossSurface, start_D: Tensor, end_D: Tensor, points: int
) -> dict[str, Any]:
    """Loss and accuracy, on seen and unseen examples, from a quarter before the start to a quarter behind the end."""
    shares = sorted({0.0, 1.0, *torch.linspace(-0.25, 1.25, points).tolist()})
    found: dict[str, Any] = {"share": shares}
    for name, surface in (("train", ground), ("test", unseen)):
        pairs = [surface.loss(start_D + share * (end_D - start_D)) for share in shares]
        found[f"{name}_loss"], found[f"{name}_accuracy"] = (list(values) for values in zip(*pairs, strict=True))
    between = [loss for share, loss in zip(shares, found["train_loss"], strict=True) if 0 <= share <= 1]
    fall = between[0] - between[-1]
    found["rise"], found["fall"] = largest_barrier(between), fall
    return found


def largest_barrier(losses: Sequence[float]) -> float:
    """How far a walk along these losses climbs at most above a place where it was before."""
    lowest, rise = losses[0], 0.0
    for loss in losses:
        lowest = min(lowest, loss)
        rise = max(rise, loss - lowest)
    return rise


def measure_path(ground: LossSurface, steps: list[int], path_ND: Tensor) -> dict[str, Any]:
    """Along the path: loss, norm of the gradient, how far from start and end, and how far beside the straight line."""
    whole_D = path_ND[-1] - path_ND[0]
    length = float(whole_D.norm())
    losses = [ground.loss(point_D)[0] for point_D in path_ND]
    gradients = [float(ground.gradient(point_D).norm()) for point_D in path_ND]
    walked_ND = path_ND - path_ND[0]
    along_N = walked_ND @ whole_D / max(length**2, 1e-30)
    beside_N = (walked_ND - along_N[:, None] * whole_D).norm(dim=1)
    return {
        "step": steps,
        "loss": losses,
        "gradient_norm": gradients,
        "from_start": walked_ND.norm(dim=1).tolist(),
        "from_end": (path_ND - path_ND[-1]).norm(dim=1).tolist(),
        "share_of_line": along_N.tolist(),
        "beside_line": beside_N.tolist(),
        "straight_length": length,
        "length": float((path_ND[1:] - path_ND[:-1]).norm(dim=1).sum()),
    }


def path_pca(path_ND: Tensor, seed: int = 0) -> tuple[Tensor, list[float], list[str]]:
    """The two orthonormal directions (2, D) that hold most of the path around its end, their shares of it, and notes.

    Where the path has no second direction, one is drawn by chance.
    """
    around_ND = (path_ND[:-1] - path_ND[-1]).double()
    values, vectors = torch.linalg.eigh(around_ND @ around_ND.T)
    order, notes = values.argsort(descending=True), []
    total = float(values.clamp(min=0).sum()) or 1.0
    found, shares = [], []
    for place in order[:2]:
        if float(values[place]) > 1e-12 * total:
            direction_D = vectors[:, place] @ around_ND
            found.append(direction_D / direction_D.norm())
            shares.append(float(values[place]) / total)
    generator = torch.Generator().manual_seed(seed)
    while len(found) < 2:
        notes = ["The run kept too few weights for a second direction of its path; one was drawn by chance."]
        direction_D = torch.randn(path_ND.shape[1], generator=generator, dtype=torch.float64)
        for other_D in found:
            direction_D = direction_D - (direction_D @ other_D) * other_D
        found.append(direction_D / direction_D.norm())
        shares.append(0.0)
    return torch.stack(found).to(path_ND.dtype), shares, notes


def filter_normalize(direction_D: Tensor, weights_D: Tensor, shapes: Sequence[torch.Size]) -> Tensor:
    """The direction with every filter, or row, as long as that of the weights; biases and scales do not move.

    Li et al. 2018, section 4.
    """
    scaled, start = [], 0
    for shape in shapes:
        end = start + shape.numel()
        part, size = direction_D[start:end].view(shape), weights_D[start:end].view(shape)
        if len(shape) <= 1:
            scaled.append(torch.zeros(end - start))
        else:
            norm_F1 = part.flatten(1).norm(dim=1, keepdim=True)
            size_F1 = size.flatten(1).norm(dim=1, keepdim=True)
            scaled.append((part.flatten(1) * size_F1 / norm_F1.clamp(min=1e-30)).reshape(-1))
        start = end
    return torch.cat(scaled)


def compute_plane(
    ground: LossSurface, path_ND: Tensor, directions_2D: Tensor, grid: int, shares: list[float] | None
) -> dict[str, Any]:
    """The loss on a plane through the end of the path, and where on it the path comes to lie.

    With `shares` the plane reaches around the path; without, one step of the directions to either side of the end.
    """
    end_D = path_ND[-1]
    # least squares, since filter-normalised directions are not orthogonal
    coordinates_N2 = torch.linalg.lstsq(directions_2D.T.double(), (path_ND - end_D).T.double()).solution.T
    if shares is None:
        low, high = torch.tensor([-1.0, -1.0]), torch.tensor([1.0, 1.0])
    else:
        low, high = coordinates_N2.amin(0), coordinates_N2.amax(0)
        margin = (0.25 * (high - low)).clamp(min=0.1 * float((high - low).max()))
        low, high = low - margin, high + margin
    first, second = (torch.linspace(float(a), float(b), grid) for a, b in zip(low, high, strict=True))
    losses = [
        [ground.loss(end_D + x * directions_2D[0] + y * directions_2D[1])[0] for x in first.tolist()]
        for y in second.tolist()
    ]
    return {
        "first": first.tolist(),
        "second": second.tolist(),
        "loss": losses,
        "path": coordinates_N2.tolist(),
        "shares": shares,
    }


def compute_curvature(
    ground: LossSurface, steps: list[int], path_ND: Tensor, settings: LandscapeSettings
) -> dict[str, Any]:
    """The extreme eigenvalues of the Hessian at the start, the end, and points of the path between."""
    count = min(settings.curvatures, len(steps))
    places = sorted({round(place) for place in torch.linspace(len(steps) - 1, 0, count).tolist()})
    found = [ground.curvature(path_ND[place], settings.iterations, settings.seed) for place in places]
    columns = {name: [getattr(one, name) for one in found] for name in Spectrum._fields}
    return {"step": [steps[place] for place in places], **columns}


def _key_numbers(numbers: dict[str, Any]) -> dict[str, str]:
    line, path, curve = numbers["line"], numbers["path"], numbers["curvature"]
    smallest, largest = curve["smallest"][-1], curve["largest"][-1]
    return {
        "loss at the start and the end": f"{path['loss'][0]:.4g}, {path['loss'][-1]:.4g}",
        "obstacles on the straight line": _describe_barrier(line),
        "way walked, against the straight line": f"{path['length'] / max(path['straight_length'], 1e-30):.2f} times",
        "curvature at the end": f"{_final_curvature(curve)}; {classify_minimum(smallest, largest)}",
    }


def _final_curvature(curve: dict[str, Any]) -> str:
    """The extreme eigenvalues at the end."""
    return " to ".join(
        format_eigenvalue(curve[name][-1], curve[f"{name}_error"][-1]) for name in ("smallest", "largest")
    )


def format_eigenvalue(value: float, error: float) -> str:
    """Three digits of an eigenvalue, and the bound of its error where not all of them are sure."""
    return f"{value:.3g}" + (f" ± {error:.1g}" if error > 0.005 * abs(value) else "")


def classify_minimum(smallest: float, largest: float) -> str:
    """What the extreme eigenvalues say of the end."""
    if smallest < -MIN_BARRIER_FRACTION * abs(largest):
        return "a direction leads further down: no minimum"
    if smallest < -MIN_CURVATURE_RATIO * abs(largest):
        return "a direction bends down a little: nearly a minimum, or flat"
    return "nothing bends down: a minimum, or flat"


def _describe_barrier(line: dict[str, Any]) -> str:
    if line["fall"] <= 0:
        return "the loss did not fall"
    share = line["rise"] / line["fall"]
    return (
        "none, the loss falls all the way"
        if share < MIN_BARRIER_FRACTION
        else f"it rises again by {100 * share:.1f} % of its fall"
    )


def _build_frames(numbers: dict[str, Any], told: str) -> list[Frame]:
    from .plot import plot_landscape as drawing

    line, path, plane, curve = (numbers[name] for name in ("line", "path", "plane", "curvature"))
    held = 100 * sum(plane["shares"])
    captions = {
        "line": "Obstacles on the straight line from the initial weights (0) to the trained ones (1): "
        f"{_describe_barrier(line)}.",
        "path": f"Along the path: {path['length']:.3g} long, where the straight line would be "
        f"{path['straight_length']:.3g}.",
        "plane": f"The plane of the path's two principal directions, which holds {held:.1f} % of it; the loss rises "
        "from dark to light.",
        "filter_plane": "The same two directions around the end, each filter scaled to the length of the trained one.",
        "curvature": f"How the ground curves at points of the path: at the end from {_final_curvature(curve)}.",
    }
    return [Frame(caption, drawing, (numbers, part, told)) for part, caption in captions.items()]
