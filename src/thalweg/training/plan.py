"""From options to a plan: device, precision, batch size, steps and learning rates, all before anything is trained."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..config.json_record import to_json
from ..config.options import TrainOptions
from ..data.batches import BatchStream
from ..engine import distributed
from ..engine.config import DEFAULT_LR, TrainConfig
from ..errors import OptionError, ResourceError
from ..registry import ModelEntry
from ..runs.run_record import parse_record_part

#: steps that a run of unstated length aims at, and the epochs it stays between
DEFAULT_STEPS = 1500
MIN_EPOCHS = 5
MAX_EPOCHS = 40
#: cells of a recurrent layer from which on bfloat16 is faster on CPUs: at 128 its conversions cost more than they save
MIN_BFLOAT16_WIDTH = 256


@dataclass(frozen=True)
class TrainPlan:
    """What will be done, as printed at the beginning of a run and kept in run.json."""

    device: str
    cpu_threads: int
    world_size: int
    batch_size: int
    steps_per_epoch: int
    config: TrainConfig

    @property
    def epochs(self) -> float:
        """Passes over the training set."""
        return self.config.steps / self.steps_per_epoch

    def json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**to_json(self), "epochs": self.epochs}

    @classmethod
    def parse(cls, values: Any, path: Path) -> TrainPlan:
        """Read the plan of run.json. Raises ModelFileError."""
        return parse_record_part(values, cls, "plan", path)


def resolve_device(name: str) -> torch.device:
    """Return the requested device, or the best there is. Raises OptionError or ResourceError."""
    if not re.fullmatch(r"auto|(cpu|cuda|mps)(:\d+)?", name):
        raise OptionError(
            f"--device: '{name}' is unknown; expected auto, cpu, cuda, cuda:1 or mps.",
            option="device",
            value=name,
            allowed=["auto", "cpu", "cuda", "mps"],
        )
    if name == "auto":
        name = _best_device()
    if name == "cuda" and distributed.world_size() > 1:
        name = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch was built without CUDA
        raise ResourceError(
            f"--device: '{name}' is not available on this machine.",
            "Give --device cpu, or see `thalweg doctor`.",
            option="device",
            value=name,
        ) from error
    return device


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def resolve_precision(precision: str, device: torch.device, model: nn.Module) -> str:
    """Return bfloat16 where it is faster: on GPUs that have it, for convolutions and wide recurrent layers on CPUs."""
    if precision != "auto":
        return precision
    is_fast = False
    if device.type == "cuda":
        is_fast = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        is_fast = has_bfloat16_units() and any(map(_gains_from_bfloat16, model.modules()))
    return "bfloat16" if is_fast else "float32"


def _gains_from_bfloat16(module: nn.Module) -> bool:
    """Whether a layer is faster in bfloat16 on CPUs, which must convert what it reads."""
    if isinstance(module, nn.RNNBase):
        return module.hidden_size >= MIN_BFLOAT16_WIDTH
    return isinstance(module, nn.Conv2d)


def has_bfloat16_units() -> bool:
    """Whether the CPU multiplies bfloat16, in AMX tiles or AVX-512 vectors."""
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return any(map(capabilities.get, ("amx_bf16", "amx_tile", "avx512_bf16")))


def supports_cuda_graph(requested: bool, device: torch.device) -> bool:
    """Whether the update can be recorded: on CUDA, by one process."""
    return requested and device.type == "cuda" and distributed.world_size() == 1


def suit_model(entry: ModelEntry, options: TrainOptions) -> dict[str, Any]:
    """Return the options that a model is trained with; with another optimizer than its own, not its learning rate."""
    optimizer = entry.training.get("optimizer", options.optimizer)
    if options.optimizer in (None, optimizer):
        return dict(entry.training)
    return {name: value for name, value in entry.training.items() if name not in ("lr", "momentum", "beta2")}


def apply_defaults(options: TrainOptions, defaults: dict[str, Any]) -> TrainOptions:
    """Fill in a task's defaults where the user left an option open."""
    open_values = {}
    for name, value in defaults.items():
        current = getattr(options, name)
        if current is None or (name == "precision" and current == "auto"):
            open_values[name] = value
    if {"epochs", "steps"} & set(open_values) and _has_length(options):
        open_values = {name: value for name, value in open_values.items() if name not in ("epochs", "steps")}
    return replace(options, **open_values)


def _has_length(options: TrainOptions) -> bool:
    return any(value is not None for value in (options.epochs, options.steps, options.time_budget))


def resolve_config(options: TrainOptions, batches: BatchStream, precision: str) -> TrainConfig:
    """Resolve the numbers of the training. An `lr` of auto and a time budget are settled by autotune."""
    optimizer = options.optimizer or "adamw"
    schedule = options.schedule or "one-cycle"
    steps_per_epoch = batches.steps_per_epoch
    return TrainConfig(
        steps=_resolve_steps(options, steps_per_epoch),
        lr=_resolve_lr(options, optimizer),
        optimizer=optimizer,
        momentum=0.9 if options.momentum is None else options.momentum,
        beta2=0.999 if options.beta2 is None else options.beta2,
        weight_decay=options.weight_decay,
        schedule=schedule,
        warmup_fraction=_resolve_warmup(options, schedule),
        grad_clip=options.grad_clip,
        ema_decay=options.ema_decay or 0.0,
        grad_accum=options.grad_accum,
        report_every=max(1, min(50, steps_per_epoch // 4)),
        precision=precision,
        compile=options.compile,
        cuda_graph=supports_cuda_graph(options.cuda_graph, batches.device),
        seed=options.seed,
        trainable_groups=(options.unfreeze_groups or 0) if is_frozen(options) else None,
        unfreeze_interval=_resolve_unfreeze_interval(options, steps_per_epoch),
        layer_decay=options.layer_decay,
    )


def is_frozen(options: TrainOptions) -> bool:
    """Whether any layer groups are frozen at the start."""
    return options.freeze or options.unfreeze_groups is not None or options.unfreeze_every is not None


def _resolve_steps(options: TrainOptions, steps_per_epoch: int) -> int:
    if options.steps is not None:
        return options.steps
    epochs = options.epochs or min(MAX_EPOCHS, max(MIN_EPOCHS, math.ceil(DEFAULT_STEPS / steps_per_epoch)))
    return max(1, round(epochs * steps_per_epoch))


def _resolve_lr(options: TrainOptions, optimizer: str) -> float:
    if isinstance(options.lr, float):
        return options.lr
    only_head = is_frozen(options) and not options.unfreeze_groups and options.unfreeze_every is None
    # pretrained features are destroyed by the rates that a new model needs
    return DEFAULT_LR[optimizer] * (0.1 if options.weights and not only_head else 1.0)


def _resolve_warmup(options: TrainOptions, schedule: str) -> float:
    if options.warmup_fraction is not None:
        return options.warmup_fraction
    return 0.25 if schedule == "one-cycle" else 0.0


def _resolve_unfreeze_interval(options: TrainOptions, steps_per_epoch: int) -> int:
    if not options.unfreeze_every:
        return 0
    return max(1, round(options.unfreeze_every * steps_per_epoch))
