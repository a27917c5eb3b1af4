"""Paths of the package's own optimizers on a test function of two parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

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
#: points of the loss grid and of the arrow grid along each side
GRID_SIZE = 101
ARROW_GRID_SIZE = 13
#: a path has diverged this many window widths away from the center of the window
MAX_DISTANCE = 1000.0

#: Learning rates of optimizers whose step is proportional to the gradient, as a fraction of 1 / curvature.
#: On a quadratic function SGD diverges from a fraction of 2.
LR_PER_CURVATURE = {"sgd": 1.5, "momentum": 0.5, "nesterov": 0.5}
#: these learning rates are multiplied by this factor if gradients are noisy
NOISE_LR_FACTOR = 0.25
#: Learning rates of optimizers whose step hardly depends on the size of the gradient, as a fraction of the window.
LR_PER_WINDOW = {"adagrad": 0.15, "adadelta": 1.0, "rmsprop": 0.015, "adam": 0.04, "adamw": 0.04, "muon": 0.015}


@dataclass(frozen=True)
class OptimizerPath:
    """The path of one optimizer, and the loss without noise at each of its points.

    `stop_reason` says why a path has fewer steps than requested. `left_window_at` is the first step outside of the
    window, or None; `ends_outside` is True if the last point is outside.
    """

    name: str
    label: str
    lr: float
    path: list[list[float]]
    losses: list[float]
    stop_reason: Literal["", "not finite", "diverged"]
    left_window_at: int | None
    ends_outside: bool


@dataclass(frozen=True)
class LossGrid:
    """The loss over the window, row by row from the bottom, with contour levels and arrows; None: not finite.

    `arrows` are (x, y, direction along x, direction along y) of steepest descent.
    """

    axis_x: list[float | None]
    axis_y: list[float | None]
    loss: list[list[float | None]]
    min_loss: float
    undefined_fraction: float
    contour_levels: list[float]
    arrows: list[list[float | None]]


class _PointModule(nn.Module):
    """The point as a 1 x 2 matrix between two fixed matrices.

    Muon leaves the first and the last matrix of a module to AdamW, so the point must not be one of them.
    """

    def __init__(self, start: Sequence[float]):
        super().__init__()
        self.first = nn.Parameter(torch.ones(1, 1, dtype=torch.float64), requires_grad=False)
        self.point_12 = nn.Parameter(torch.tensor([list(start)], dtype=torch.float64))
        self.last = nn.Parameter(torch.ones(1, 1, dtype=torch.float64), requires_grad=False)


# --- learning rates ---------------------------------------------------------------------------------------------------


def default_lrs(surface: TestFunction, names: Sequence[str]) -> list[float]:
    """Choose a learning rate that suits the surface for each optimizer, rounded to two digits.

    The curvature is that at the start, or the 90th percentile along the path of steepest descent if that is larger.
    """
    left, right, bottom, top = surface.window
    size = (right - left + top - bottom) / 2
    path_N2 = torch.tensor(steepest_descent_path(surface, size), dtype=torch.float64)
    curvature_N = surface.max_curvature(*path_N2.T).nan_to_num(0, 0, 0)
    curvature = max(float(curvature_N[0]), float(curvature_N.quantile(0.9)))
    _, gradient_x, gradient_y = surface.evaluate_at(surface.start)
    gradient_norm = math.hypot(gradient_x, gradient_y)
    if curvature * size > 1e-6 * gradient_norm:
        base_lr = 1 / curvature
    elif gradient_norm:
        # no curvature, such as on a plane: the first step covers 2 % of the window
        base_lr = 0.02 * size / gradient_norm
    else:
        base_lr = 1.0
    if surface.noise:
        base_lr *= NOISE_LR_FACTOR
    lrs = []
    for name in names:
        if name in LR_PER_WINDOW:
            lr = LR_PER_WINDOW[name] * size
        else:
            lr = LR_PER_CURVATURE[name] * base_lr
        lrs.append(float(f"{lr:.2g}"))
    return lrs


def steepest_descent_path(surface: TestFunction, size: float, steps: int = 60) -> list[list[float]]:
    """Follow the negative gradient from the start in short steps of equal length, `size` in total."""
    path = [list(surface.start)]
    for _ in range(steps):
        _, gradient_x, gradient_y = surface.evaluate_at(path[-1])
        norm = math.hypot(gradient_x, gradient_y)
        if not (math.isfinite(norm) and norm > 0):
            break
        x, y = path[-1]
        path.append([x - size / steps * gradient_x / norm, y - size / steps * gradient_y / norm])
    return path


# --- optimizers -------------------------------------------------------------------------------------------------------


def run_optimizer(surface: TestFunction, config: TrainConfig, seed: int) -> OptimizerPath:
    """Run one optimizer from the start of the surface. The noise on the gradients depends on `seed` only."""
    module = _PointModule(surface.start)
    optimizer = build_optimizer(module, [module.point_12], _resolve_optimizer(config))
    generator = torch.Generator().manual_seed(seed)
    point = list(surface.start)
    loss, *gradient = surface.evaluate_at(point)
    path = [point]
    losses = [loss]
    stop_reason = ""
    for step in range(config.steps):
        gradient_2 = torch.tensor(gradient, dtype=torch.float64)
        if surface.noise:
            gradient_2 += surface.noise * torch.randn(2, generator=generator, dtype=torch.float64)
        module.point_12.grad = gradient_2[None]
        for group in optimizer.param_groups:
            group["lr"] = config.lr_at(step)
        optimizer.step()
        point = module.point_12[0].tolist()
        loss, *gradient = surface.evaluate_at(point)
        if not all(map(math.isfinite, (*point, loss, *gradient))):
            stop_reason = "not finite"
            break
        if _distance_in_windows(surface, point) > MAX_DISTANCE:
            stop_reason = "diverged"
            break
        path.append(point)
        losses.append(loss)
    is_inside = [_distance_in_windows(surface, point) <= 0.5 for point in path]
    left_window_at = None
    if not all(is_inside):
        left_window_at = is_inside.index(False)
    return OptimizerPath(
        name=config.optimizer,
        label=LABELS[config.optimizer],
        lr=config.lr,
        path=path,
        losses=losses,
        stop_reason=stop_reason,
        left_window_at=left_window_at,
        ends_outside=not is_inside[-1],
    )


def _resolve_optimizer(config: TrainConfig) -> TrainConfig:
    """Replace Nesterov without momentum, which torch rejects, by the equivalent SGD."""
    if config.optimizer == "nesterov" and not config.momentum:
        return replace(config, optimizer="sgd")
    return config


def _distance_in_windows(surface: TestFunction, point: Sequence[float]) -> float:
    """Return the distance from the center of the window in window widths or heights, whichever is more."""
    left, right, bottom, top = surface.window
    x, y = point
    return max(abs(x - (left + right) / 2) / (right - left), abs(y - (bottom + top) / 2) / (top - bottom))


# --- loss grid --------------------------------------------------------------------------------------------------------


def sample_grid(surface: TestFunction) -> LossGrid:
    """Sample the loss over the window."""
    x_HW, y_HW = _grid_points(surface, torch.linspace(0, 1, GRID_SIZE, dtype=torch.float64))
    loss_HW, _, _ = surface.evaluate(x_HW, y_HW)
    finite_N = loss_HW[loss_HW.isfinite()]
    min_loss = math.inf
    if len(finite_N):
        min_loss = float(finite_N.min())
    return LossGrid(
        axis_x=_round_values(x_HW[0]),
        axis_y=_round_values(y_HW[:, 0]),
        loss=list(map(_round_values, loss_HW)),
        min_loss=min_loss,
        undefined_fraction=1 - len(finite_N) / loss_HW.numel(),
        contour_levels=contour_levels(finite_N),
        arrows=_sample_arrows(surface),
    )


def _sample_arrows(surface: TestFunction) -> list[list[float | None]]:
    """Sample unit vectors of steepest descent where the gradient is finite and not zero."""
    centers = (torch.arange(ARROW_GRID_SIZE, dtype=torch.float64) + 0.5) / ARROW_GRID_SIZE
    x_HW, y_HW = _grid_points(surface, centers)
    loss_HW, gradient_x, gradient_y = surface.evaluate(x_HW, y_HW)
    norm = torch.hypot(gradient_x, gradient_y)
    is_valid = loss_HW.isfinite() & norm.isfinite() & (norm > 0)
    arrows_N4 = torch.stack([x_HW, y_HW, -gradient_x / norm, -gradient_y / norm], -1)[is_valid]
    return list(map(_round_values, arrows_N4))


def contour_levels(loss_N: Tensor, count: int = 12) -> list[float]:
    """Choose ascending contour levels: linearly spaced, or by equal factors if the range is large."""
    if not len(loss_N):
        return []
    low, quartile, high = (float(loss_N.quantile(q)) for q in (0.0, 0.25, 0.99))
    if not high > low:
        return []
    if high - low < 12 * (quartile - low):
        levels = torch.linspace(low, high, count + 1, dtype=torch.float64)[1:]
    else:
        # The few lowest grid points say little about the minimum between them, so the first level is a quantile.
        first = max(float(loss_N.quantile(0.05)) - low, 1e-9 * (high - low))
        levels = low + torch.logspace(math.log10(first), math.log10(high - low), count, dtype=torch.float64)
    return sorted(set(map(_round_value, levels.tolist())))


def _grid_points(surface: TestFunction, fractions: Tensor) -> tuple[Tensor, Tensor]:
    """Return x and y, each (count, count), at `fractions` of the width and height of the window."""
    left, right, bottom, top = surface.window
    y_HW, x_HW = torch.meshgrid(bottom + fractions * (top - bottom), left + fractions * (right - left), indexing="ij")
    return x_HW, y_HW


def _round_values(values: Tensor) -> list[float | None]:
    """Round to six digits, more than can be seen; None for values that are not finite."""
    rounded = []
    for value in values.tolist():
        if math.isfinite(value):
            rounded.append(_round_value(value))
        else:
            rounded.append(None)
    return rounded


def _round_value(value: float) -> float:
    return float(f"{value:.6g}")
