"""How long and how fast: all that a paper's training section says, in numbers, and nothing about the task."""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Rates at which each optimiser does well on the networks of this package, with batches of 32 to 512.
DEFAULT_LR = {
    "sgd": 0.1,
    "momentum": 0.05,
    "nesterov": 0.05,
    "adagrad": 0.02,
    "adadelta": 1.0,
    "rmsprop": 1e-3,
    "adam": 2e-3,
    "adamw": 2e-3,
    "muon": 0.02,
}


@dataclass(frozen=True)
class TrainConfig:
    """What the trainer does, resolved: no choices are left open. `lr_at` is the schedule, a function of the step."""

    steps: int = 100
    lr: float = 1e-3
    optimizer: str = "adam"
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "cosine"
    warmup_fraction: float = 0.0  # share of the steps
    grad_clip: float | None = None  # largest norm of the gradient
    ema_decay: float = 0.0  # decay of the averaged weights
    grad_accum: int = 1  # micro-batches per step
    report_every: int = 50  # steps between reports
    precision: str = "float32"
    compile: bool = False
    cuda_graph: bool = False  # record the update on a GPU and replay it
    seed: int = 0
    trainable_groups: int | None = None  # parts before the last layer that are trained from the start; None: all
    unfreeze_interval: int = 0  # steps after which one part more is trained; 0: never
    layer_decay: float = 1.0  # rate of a part as a share of the rate of the next

    def lr_at(self, step: int) -> float:
        """The learning rate of `step`, counted from 0.

        After a linear warm-up: constant; step (a tenth after 1/2 and again after 3/4 of the run); linear to zero;
        cosine to zero (Loshchilov and Hutter 2017, arXiv:1608.03983); one-cycle (Smith and Topin 2018,
        arXiv:1708.07120), which warms up from 1/25 of the rate and ends near zero.
        """
        warm = round(self.warmup_fraction * self.steps)
        if step < warm:
            low = 1 / 25 if self.schedule == "one-cycle" else 0.0
            return self.lr * (low + (1 - low) * (step + 1) / warm)
        done = (step - warm) / max(1, self.steps - warm)
        match self.schedule:
            case "constant":
                return self.lr
            case "step":
                return self.lr * (0.1 if done >= 0.5 else 1.0) * (0.1 if done >= 0.75 else 1.0)
            case "linear":
                return self.lr * (1 - done)
        return self.lr * 0.5 * (1 + math.cos(math.pi * done))
