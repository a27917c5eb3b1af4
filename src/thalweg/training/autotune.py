"""Measure before training: time per step, the fastest batch size, a learning rate by a range test."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import torch

from ..engine import distributed
from ..engine.config import TrainConfig
from ..engine.trainer import Trainer
from ..errors import NonFiniteError, OptionError
from ..tasks.base import Setup

#: batch sizes that are tried, smallest first
BATCH_SIZES = (32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True)
class ExponentialLR(TrainConfig):
    """A learning rate that grows exponentially from `low` to `high` over all steps."""

    low: float = 1e-6
    high: float = 10.0

    def lr_at(self, step: int) -> float:
        """Return the learning rate of a step."""
        return self.low * (self.high / self.low) ** (step / (self.steps - 1))


def trial_trainer(setup: Setup, config: TrainConfig) -> Trainer:
    """Build a trainer on copies, so that trying changes nothing of the real run."""
    batches = copy.copy(setup.batches)
    batches.load_state_dict({"step": 0})
    config = replace(config, ema_decay=0.0, compile=False, cuda_graph=False)
    return Trainer(copy.deepcopy(setup.objective), batches, config, setup.transform)


def time_steps(setup: Setup, config: TrainConfig, count: int = 12) -> float:
    """Return seconds per step: the median of `count` steps after two."""
    trainer = trial_trainer(setup, replace(config, steps=count + 2, report_every=1))
    times = []
    last = time.perf_counter()
    for _ in trainer:
        now = time.perf_counter()
        times.append(now - last)
        last = now
    return distributed.broadcast_from_0(sorted(times[2:])[count // 2])


def steps_within_budget(
    config: TrainConfig, budget: float, step_seconds: float, validation_seconds: float, steps_per_epoch: int
) -> TrainConfig:
    """Return the config with as many steps as fit into a budget.

    Args:
        config: The config of the training.
        budget: Seconds; a tenth of them is kept in reserve.
        step_seconds: Seconds per step.
        validation_seconds: Seconds per validation; there is one per epoch.
        steps_per_epoch: Steps per epoch.

    Returns:
        The config with its number of steps.

    Raises:
        OptionError: If not one step fits.
    """
    steps = int(0.9 * budget / (step_seconds + validation_seconds / steps_per_epoch))
    if steps < 1:
        raise OptionError(
            f"--time-budget: {budget:.1f} s are left and one step takes {step_seconds:.1f} s.",
            "Give more time or a smaller --batch-size.",
            option="time_budget",
            value=budget,
        )
    return replace(config, steps=steps)


def lr_range_test(setup: Setup, config: TrainConfig, steps: int = 100) -> float:
    """Find a learning rate by the range test of Smith 2017 (arXiv:1506.01186): it grows until the loss does.

    Returns a tenth of the rate at which the smoothed loss was lowest, but no less than that at which it fell fastest.
    """
    values = {**asdict(config), "steps": steps, "report_every": 1, "ema_decay": 0.0}
    growing = ExponentialLR(**{**values, "compile": False, "cuda_graph": False})
    batches = copy.copy(setup.batches)
    batches.load_state_dict({"step": 0})
    rates: list[float] = []
    losses: list[float] = []
    smooth = 0.0
    try:
        for index, report in enumerate(Trainer(copy.deepcopy(setup.objective), batches, growing, setup.transform)):
            smooth = 0.9 * smooth + 0.1 * next(iter(report.losses.values()))
            rates.append(report.lr)
            losses.append(smooth / (1 - 0.9 ** (index + 1)))
            if losses[-1] > 3 * min(losses):
                break
    except NonFiniteError:
        pass
    return _choose_lr(rates, losses, growing.low)


def _choose_lr(rates: list[float], losses: list[float], low: float) -> float:
    if not rates:
        return low
    lowest = losses.index(min(losses))
    drops = [losses[index + 3] - losses[index] for index in range(min(lowest, len(losses) - 4))]
    fastest = rates[drops.index(min(drops)) + 3] if drops else 0.0
    return float(f"{max(rates[lowest] / 10, fastest):.2g}")


def find_batch_size(make_setup: Callable[[int], Setup], make_config: Callable[[Setup], TrainConfig]) -> int:
    """Find the smallest batch size from 32 to 1024 at 90 % of the best speed; memory that runs out ends the search."""
    speeds: dict[int, float] = {}
    for batch_size in BATCH_SIZES:
        setup = make_setup(batch_size)
        if setup.batches.steps_per_epoch < 8 and speeds:
            break
        try:
            speeds[batch_size] = batch_size / time_steps(setup, make_config(setup), count=6)
        except (MemoryError, torch.OutOfMemoryError):
            if not speeds:
                raise
            break
    best = max(speeds.values())
    return next(batch_size for batch_size, speed in speeds.items() if speed >= 0.9 * best)
