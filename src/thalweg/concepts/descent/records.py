"""What the concept descent computes, as typed values."""

from __future__ import annotations

from dataclasses import dataclass

from .optimizer_paths import LossGrid, OptimizerPath


@dataclass(frozen=True)
class DescentRecord:
    """All numbers of the concept. `log_scale`: losses are plotted on a logarithmic axis."""

    surface: str
    window: list[float]
    start: list[float]
    minima: list[list[float]]
    noise: float
    steps: int
    log_scale: bool
    grid: LossGrid
    optimizers: list[OptimizerPath]
