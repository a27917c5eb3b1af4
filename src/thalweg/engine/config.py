"""The training settings of a paper: steps, optimizer and learning-rate schedule, independent of the task."""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Learning rates that work well for the models of this package, with batches of 32 to 512.
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
    """The resolved settings of a training: no value is left to choose.

    Attributes:
        steps: Number of training steps.
        lr: The highest learning rate of the schedule.
        optimizer: A key of `DEFAULT_LR`.
        momentum: Momentum; for Adam and AdamW the first beta.
        beta2: Second beta of Adam and AdamW.
        weight_decay: Weight decay of matrices and filters.
        schedule: constant, step, linear, cosine or one-cycle.
        warmup_fraction: Fraction of the steps in which the learning rate rises.
        grad_clip: Maximum norm of the gradient.
        ema_decay: Decay of the exponential moving average of the parameters; 0: none.
        grad_accum: Micro-batches per step.
        report_every: Steps from one report to the next.
        precision: float32 or bfloat16 (autocast).
        compile: Compile the losses with torch.compile.
        cuda_graph: Record the step as a CUDA graph and replay it.
        seed: Seeds everything random in the loop.
        trainable_groups: Layer groups before the last layer that are trained from the start; None: all.
        unfreeze_interval: Steps after which one more layer group is trained; 0: never.
        layer_decay: Factor on the learning rate from one layer group to the one before it.
    """

    steps: int = 100
    lr: float = 1e-3
    optimizer: str = "adam"
    momentum: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 0.0
    schedule: str = "cosine"
    warmup_fraction: float = 0.0
    grad_clip: float | None = None
    ema_decay: float = 0.0
    grad_accum: int = 1
    report_every: int = 50
    precision: str = "float32"
    compile: bool = False
    cuda_graph: bool = False
    seed: int = 0
    trainable_groups: int | None = None
    unfreeze_interval: int = 0
    layer_decay: float = 1.0

    @property
    def is_finetuning(self) -> bool:
        """Whether the layer groups of the model are trained differently."""
        return self.trainable_groups is not None or self.layer_decay != 1.0

    def lr_at(self, step: int) -> float:
        """Return the learning rate of `step`, counted from 0.

        After a linear warm-up: constant; step (a tenth after 1/2 and again after 3/4 of the run); linear to zero;
        cosine to zero (Loshchilov and Hutter 2017, arXiv:1608.03983); one-cycle (Smith and Topin 2018,
        arXiv:1708.07120), which warms up from 1/25 of the learning rate and ends near zero.
        """
        warmup_steps = round(self.warmup_fraction * self.steps)
        if step < warmup_steps:
            start = 0.0
            if self.schedule == "one-cycle":
                start = 1 / 25
            return self.lr * (start + (1 - start) * (step + 1) / warmup_steps)
        progress = (step - warmup_steps) / max(1, self.steps - warmup_steps)
        match self.schedule:
            case "constant":
                return self.lr
            case "step":
                return self._stepped_lr(progress)
            case "linear":
                return self.lr * (1 - progress)
        return self.lr * 0.5 * (1 + math.cos(math.pi * progress))

    def _stepped_lr(self, progress: float) -> float:
        """Return the learning rate of the schedule step; `progress` is 0 after the warm-up and 1 at the end."""
        lr = float(self.lr)
        if progress >= 0.5:
            lr *= 0.1
        if progress >= 0.75:
            lr *= 0.1
        return lr
