"""Train a pair of small networks on points of the plane, and record what both do.

Inside, both coordinates are standardized; everything that is recorded is in the units of the points. N real points, n
generated ones, G x G points of a grid over the plane.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor, nn

from .losses import measure_gradient
from .plane import Modes, measure_coverage
from .players import GanRun, Players, draw_latents, iter_steps
from .rounding import round_values

LATENT_DIM = 4
#: slope of the leaky ReLUs of the discriminator for negative inputs
LEAKY_SLOPE = 0.2
#: points along each side of the map of the discriminator
MAP_GRID = 61
#: generated points that coverage is measured on, that are recorded, and that get an arrow
NUM_MEASURED = 1000
NUM_GENERATED = 250
NUM_ARROWS = 40
#: coverage is measured so many times
NUM_MEASUREMENTS = 60


class PointsSnapshot(TypedDict):
    """Both networks after `step` steps.

    `realness` is what the discriminator thinks of each grid point, row by row from the bottom, from 0 (generated) to 1
    (real). `arrows` are x, y and the gradient of the logit there.
    """

    step: int
    realness: list[list[float]]
    generated: list[list[float]]
    arrows: list[list[float]]
    covered: int
    good_fraction: float


class CoverageCurve(TypedDict):
    """Coverage after each of some steps."""

    step: list[int]
    covered: list[int]
    good_fraction: list[float]


@dataclass(frozen=True)
class PointsResult:
    """A run and what became of it; `diverged_at` is the step whose losses were infinite or NaN, or None."""

    run: GanRun
    discriminator_loss: list[float]
    generator_loss: list[float]
    coverage: CoverageCurve
    snapshots: list[PointsSnapshot]
    diverged_at: int | None


@dataclass(frozen=True)
class Plane:
    """Real points, the window (left, right, bottom, top) of the map, and the modes."""

    points_N2: np.ndarray
    window: tuple[float, float, float, float]
    modes: Modes

    @property
    def center_2(self) -> np.ndarray:
        """The mean of the points."""
        return self.points_N2.mean(0)

    @property
    def scale_2(self) -> np.ndarray:
        """The standard deviations, or 1 where there is none."""
        std_2 = self.points_N2.std(0)
        return np.where(std_2 > 0, std_2, 1.0)

    def standardize(self, points_N2: np.ndarray) -> Tensor:
        """Return points as the networks see them."""
        return torch.from_numpy((points_N2 - self.center_2) / self.scale_2).float()

    def restore(self, x_N2: Tensor) -> np.ndarray:
        """Return points in their own units."""
        return x_N2.double().numpy() * self.scale_2 + self.center_2

    def round_points(self, points_N2: np.ndarray) -> list[list[float]]:
        """Return points in their own units, rounded to four digits of the standard deviations."""
        return round_values(points_N2, self.scale_2)


def build_players(width: int) -> Players:
    """Build two networks with two hidden layers each, with random weights from torch's generator."""
    generator = nn.Sequential(
        nn.Linear(LATENT_DIM, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2)
    )
    discriminator = nn.Sequential(
        nn.Linear(2, width),
        nn.LeakyReLU(LEAKY_SLOPE),
        nn.Linear(width, width),
        nn.LeakyReLU(LEAKY_SLOPE),
        nn.Linear(width, 1),
        nn.Flatten(0),
    )
    return Players(generator, discriminator, LATENT_DIM)


def train_points(plane: Plane, run: GanRun, width: int, snapshot_steps: list[int]) -> PointsResult:
    """Train on points. The global random state is left unchanged.

    Args:
        plane: The real points.
        run: How to train.
        width: Neurons of each hidden layer.
        snapshot_steps: Steps after which both networks are recorded; the first is 0.

    Returns:
        Losses, coverage and snapshots, up to where a loss is infinite or NaN.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        players = build_players(width)
    recorder = _Recorder(plane, players, run)
    measured = set(np.linspace(0, run.steps, NUM_MEASUREMENTS + 1).round().astype(int).tolist())
    recorder.record(0, is_snapshot=True)
    losses = []
    for step, step_losses in enumerate(iter_steps(players, plane.standardize(plane.points_N2), run), 1):
        losses.append(step_losses)
        if step in measured or step in snapshot_steps:
            recorder.record(step, step in snapshot_steps)
    array_S2 = np.array(losses, np.float64).reshape(-1, 2)
    return PointsResult(
        run=run,
        discriminator_loss=round_values(array_S2[:, 0]),
        generator_loss=round_values(array_S2[:, 1]),
        coverage=recorder.coverage,
        snapshots=recorder.snapshots,
        diverged_at=None if len(losses) == run.steps else len(losses),
    )


class _Recorder:
    """Coverage and snapshots of a run, always for the same latents."""

    def __init__(self, plane: Plane, players: Players, run: GanRun):
        self.plane = plane
        self.players = players
        self.loss = run.loss
        self.latent_nL = draw_latents(NUM_MEASURED, players.latent_dim, torch.Generator().manual_seed(run.seed + 1))
        self.coverage = CoverageCurve(step=[], covered=[], good_fraction=[])
        self.snapshots: list[PointsSnapshot] = []

    def record(self, step: int, is_snapshot: bool) -> None:
        """Measure coverage; also record a snapshot where `is_snapshot`. Skip networks that have become NaN or inf."""
        with torch.no_grad():
            fake_n2 = self.players.generator(self.latent_nL)
        if not fake_n2.isfinite().all():
            return
        points_n2 = self.plane.restore(fake_n2)
        coverage = measure_coverage(points_n2, self.plane.modes)
        self.coverage["step"].append(step)
        self.coverage["covered"].append(coverage.covered)
        self.coverage["good_fraction"].append(round(coverage.good_fraction, 4))
        if not is_snapshot:
            return
        realness_GG = map_realness(self.players.discriminator, self.plane, fake_n2, self.loss)
        gradient_n2 = measure_gradient(self.players.discriminator, fake_n2[:NUM_ARROWS]).double().numpy()
        if not np.isfinite(realness_GG).all() or not np.isfinite(gradient_n2).all():
            return
        origins = self.plane.round_points(points_n2[:NUM_ARROWS])
        gradients = round_values(gradient_n2 / self.plane.scale_2)
        snapshot = PointsSnapshot(
            step=step,
            realness=np.round(realness_GG, 3).tolist(),
            generated=self.plane.round_points(points_n2[:NUM_GENERATED]),
            arrows=[[*origin, *gradient] for origin, gradient in zip(origins, gradients, strict=True)],
            covered=coverage.covered,
            good_fraction=round(coverage.good_fraction, 4),
        )
        self.snapshots.append(snapshot)


@torch.no_grad()
def map_realness(discriminator: nn.Module, plane: Plane, fake_n2: Tensor, loss: str) -> np.ndarray:
    """Return what the discriminator thinks of each point of a grid over the window, from 0 to 1.

    Args:
        discriminator: Standardized points (B, 2) -> logits (B,).
        plane: The real points.
        fake_n2: Generated points, standardized.
        loss: Name of the loss.

    Returns:
        (G, G), row by row from the bottom.
    """
    left, right, bottom, top = plane.window
    grid_GG2 = np.stack(np.meshgrid(np.linspace(left, right, MAP_GRID), np.linspace(bottom, top, MAP_GRID)), 2)
    logit_G = discriminator(plane.standardize(grid_GG2.reshape(-1, 2)))
    real_logit_N = discriminator(plane.standardize(plane.points_N2))
    middle = (real_logit_N.mean() + discriminator(fake_n2).mean()) / 2
    return to_realness(logit_G, loss, middle).double().numpy().reshape(MAP_GRID, MAP_GRID)


def to_realness(logit_B: Tensor, loss: str, middle: Tensor) -> Tensor:
    """Return logits as numbers from 0 (generated) to 1 (real), by what the loss makes of them.

    Args:
        logit_B: Logits.
        loss: Name of the loss.
        middle: Half of the way from generated to real logits, for losses where only differences count.

    Returns:
        (B,): a probability for cross-entropy; else 0 and 1 are what the loss asks for.
    """
    if loss in ("logistic", "minimax"):
        return logit_B.sigmoid()
    if loss == "hinge":
        return ((logit_B + 1) / 2).clamp(0, 1)
    if loss == "least_squares":
        return logit_B.clamp(0, 1)
    return (logit_B - middle).sigmoid()
