"""Walks downhill on a surface of two numbers, with the package's own optimisers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ...engine.config import TrainConfig
from ...engine.optimizers import build_optimizer
from .test_functions import TestFunction

LABELS = {
    "sgd": "SGD",
    "momentum": "Momentum",
    "nesterov": "Nesterov",
    "adagrad": "AdaGrad",
    "adadelta": "AdaDelta",
    "rmsprop": "RMSProp",
    "adam": "Adam",
    "adamw": "AdamW",
    "muon": "Muon",
}
#: points of the grid and arrows, along each side
GRID_SIZE, ARROW_GRID_SIZE = 101, 13
#: a path ends that many widths of the window away from its middle
MAX_DISTANCE = 1000.0

#: Rates of plain steps, as a share of 1 over the curvature; on a quadratic SGD diverges from a share of 2 on.
LR_PER_CURVATURE = {"sgd": 1.5, "momentum": 0.5, "nesterov": 0.5}
#: what is left of those rates where the slopes are noisy
NOISE_LR_FACTOR = 0.25
#: Rates of steps whose length hardly depends on how steep it is, as a share of the window's size.
LR_PER_WINDOW = {"adagrad": 0.15, "adadelta": 1.0, "rmsprop": 0.015, "adam": 0.04, "adamw": 0.04, "muon": 0.015}


class _PointModule(nn.Module):
    """The point as a matrix of one row and two columns, between two matrices that stand still.

    They are there because Muon leaves the first and the last matrix of a module to AdamW.
    """

    def __init__(self, start: Sequence[float]):
        super().__init__()
        still = torch.ones(1, 1, dtype=torch.float64)
        self.first = nn.Parameter(still.clone(), requires_grad=False)
        self.point_12 = nn.Parameter(torch.tensor([list(start)], dtype=torch.float64))
        self.last = nn.Parameter(still.clone(), requires_grad=False)


def default_lrs(surface: TestFunction, names: Sequence[str]) -> list[float]:
    """A learning rate that suits the surface for each optimiser, rounded to two digits.

    The curvature is that of the start, or a large one (nine tenths are smaller) of those on the way down from there.
    """
    left, right, lower, upper = surface.window
    size = (right - left + upper - lower) / 2
    way_N2 = torch.tensor(steepest_descent_path(surface, size), dtype=torch.float64)
    curvature_N = surface.curvature(*way_N2.T).nan_to_num(0, 0, 0)
    curvature = max(float(curvature_N[0]), float(curvature_N.quantile(0.9)))
    steep = math.hypot(*surface.at(surface.start)[1:])
    # where nothing is curved, as on a plane, a first step goes a fiftieth of the window
    flat = 0.02 * size / steep if steep else 1.0
    plain = 1 / curvature if curvature * size > 1e-6 * steep else flat
    plain *= NOISE_LR_FACTOR if surface.noise else 1
    found = [LR_PER_WINDOW[name] * size if name in LR_PER_WINDOW else LR_PER_CURVATURE[name] * plain for name in names]
    return [float(f"{rate:.2g}") for rate in found]


def steepest_descent_path(surface: TestFunction, size: float, steps: int = 60) -> list[list[float]]:
    """Points straight downhill from the start, each the same short way from the last."""
    way = [list(surface.start)]
    for _ in range(steps):
        _, *slope = surface.at(way[-1])
        steep = math.hypot(*slope)
        if not (math.isfinite(steep) and steep > 0):
            break
        way.append([at - size / steps * along / steep for at, along in zip(way[-1], slope, strict=True)])
    return way


def run_optimizer(surface: TestFunction, recipe: TrainConfig, seed: int) -> dict[str, Any]:
    """The path of one optimiser and the loss at each of its points, without noise.

    `ended` says why a path is shorter than the recipe's steps: 'not finite' or 'far'; else it is empty. `left` is the
    first step outside of the window, or None; `outside` whether the last point is.
    """
    module = _PointModule(surface.start)
    optimizer = build_optimizer(module, [module.point_12], _resolve_optimizer(recipe))
    noise = torch.Generator().manual_seed(seed)
    point, (loss, *slope) = list(surface.start), surface.at(surface.start)
    path, losses, ended = [point], [loss], ""
    for step in range(recipe.steps):
        gradient_2 = torch.tensor(slope, dtype=torch.float64)
        if surface.noise:
            gradient_2 += surface.noise * torch.randn(2, generator=noise, dtype=torch.float64)
        module.point_12.grad = gradient_2[None]
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr_at(step)
        optimizer.step()
        point = module.point_12[0].tolist()
        loss, *slope = surface.at(point)
        if not all(map(math.isfinite, (*point, loss, *slope))):
            ended = "not finite"
            break
        if _distance_in_windows(surface, point) > MAX_DISTANCE:
            ended = "far"
            break
        path.append(point)
        losses.append(loss)
    inside = [_distance_in_windows(surface, point) <= 0.5 for point in path]
    return {
        "name": recipe.optimizer,
        "label": LABELS[recipe.optimizer],
        "rate": recipe.lr,
        "path": path,
        "losses": losses,
        "ended": ended,
        "left": None if all(inside) else inside.index(False),
        "outside": not inside[-1],
    }


def _resolve_optimizer(recipe: TrainConfig) -> TrainConfig:
    """Without momentum Nesterov's method is SGD, and torch refuses it under its own name."""
    return replace(recipe, optimizer="sgd") if recipe.optimizer == "nesterov" and not recipe.momentum else recipe


def _distance_in_windows(surface: TestFunction, point: Sequence[float]) -> float:
    """How far from the middle of the window, in widths or heights of it, whichever is more."""
    left, right, lower, upper = surface.window
    across, along = point[0] - (left + right) / 2, point[1] - (lower + upper) / 2
    return max(abs(across) / (right - left), abs(along) / (upper - lower))


def sample_grid(surface: TestFunction) -> dict[str, Any]:
    """The surface over its window: axes, losses row by row from below, levels, arrows; None where there is no value."""
    x_HW, y_HW = _grid_points(surface, GRID_SIZE)
    loss_HW = surface.slope(x_HW, y_HW)[0]
    finite = loss_HW[loss_HW.isfinite()]
    x_hw, y_hw = _grid_points(surface, ARROW_GRID_SIZE, inset=True)
    loss_hw, along_x, along_y = surface.slope(x_hw, y_hw)
    steep = torch.hypot(along_x, along_y)
    known = loss_hw.isfinite() & steep.isfinite() & (steep > 0)
    arrows = torch.stack([x_hw, y_hw, -along_x / steep, -along_y / steep], -1)[known]
    return {
        "axis_x": _round_values(x_HW[0]),
        "axis_y": _round_values(y_HW[:, 0]),
        "loss": [_round_values(row) for row in loss_HW],
        "lowest": float(finite.min()) if len(finite) else math.inf,
        "undefined": 1 - len(finite) / loss_HW.numel(),
        "levels": contour_levels(finite),
        "arrows": [_round_values(arrow) for arrow in arrows],
    }


def contour_levels(loss_N: Tensor, count: int = 12) -> list[float]:
    """Losses at which lines are drawn, rising: equally far apart, or by equal factors where the range is large."""
    if not len(loss_N):
        return []
    low, middle, high = (float(loss_N.quantile(share)) for share in (0.0, 0.25, 0.99))
    if not high > low:
        return []
    if high - low < 12 * (middle - low):
        found = torch.linspace(low, high, count + 1, dtype=torch.float64)[1:]
    else:
        # the few lowest points of a grid say little about how low it is between them
        near = max(float(loss_N.quantile(0.05)) - low, 1e-9 * (high - low))
        found = low + torch.logspace(math.log10(near), math.log10(high - low), count, dtype=torch.float64)
    return sorted({float(f"{level:.6g}") for level in found.tolist()})


def _grid_points(surface: TestFunction, count: int, inset: bool = False) -> tuple[Tensor, Tensor]:
    """x and y, each (count, count), over the window; `inset` keeps half a distance from its edges."""
    left, right, lower, upper = surface.window
    share = torch.linspace(0, 1, count, dtype=torch.float64)
    if inset:
        share = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    y_HW, x_HW = torch.meshgrid(lower + share * (upper - lower), left + share * (right - left), indexing="ij")
    return x_HW, y_HW


def _round_values(values: Tensor) -> list[float | None]:
    """To six digits, which is more than can be seen; None for what is not finite."""
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values.tolist()]
