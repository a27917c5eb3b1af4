"""From what was asked to what is done: device, precision, batch, steps and rates, all before anything is trained."""

from __future__ import annotations

import copy
import math
import os
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from ..config.options import Options
from ..data.batches import BatchStream
from ..engine import distributed as ranks
from ..engine.config import DEFAULT_LR, TrainConfig
from ..engine.trainer import Trainer
from ..errors import OptionError, ResourceError
from ..objectives.base import Objective

#: optimisers whose updates can be recorded: nothing in them is counted or decided on the processor
GRAPHABLE_OPTIMIZERS = ("sgd", "momentum", "nesterov", "adam", "adamw", "muon")
#: updates that a run of unstated length aims at, and the epochs it stays between
DEFAULT_STEPS, MIN_EPOCHS, MAX_EPOCHS = 1500, 5, 40


@dataclass(frozen=True)
class TrainPlan:
    """What will be done, as printed on the first lines of a run and kept in run.json."""

    device: str
    threads: int
    ranks: int
    batch: int
    steps_per_epoch: int
    recipe: TrainConfig

    @property
    def epochs(self) -> float:
        """Passes over the training set."""
        return self.recipe.steps / self.steps_per_epoch

    def json(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "epochs": self.epochs}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrainPlan:
        """The plan that `json` gave."""
        values = {k: v for k, v in values.items() if k != "epochs"}
        return cls(**{**values, "recipe": TrainConfig(**values["recipe"])})


def resolve_device(options: Options) -> torch.device:
    """The device asked for, or the best there is. Raises OptionError for no device, ResourceError for one not here."""
    name = options.device
    if not re.fullmatch(r"auto|(cpu|cuda|mps)(:\d+)?", name):
        raise OptionError(f"--device {name}: there is no such device.", cure="Give auto, cpu, cuda, cuda:1 or mps.")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name == "cuda" and ranks.world_size() > 1:
        name = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except RuntimeError as error:
        raise ResourceError(
            f"--device {name} is not to be had here.", cure="Give --device cpu, or see `thalweg doctor`."
        ) from error
    except AssertionError as error:  # torch built without CUDA
        raise ResourceError(
            f"--device {name}: {error}.", cure="Give --device cpu, or install torch with CUDA."
        ) from error
    return device


def resolve_precision(options: Options, device: torch.device, network: nn.Module) -> str:
    """bfloat16 where it is quicker: on GPUs that have it, and for convolutions on processors with AMX units."""
    if options.precision != "auto":
        return options.precision
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    convolutions = any(isinstance(m, nn.Conv2d) for m in network.modules())
    return "bfloat16" if device.type == "cpu" and convolutions and has_amx() else "float32"


def has_amx() -> bool:
    """Whether the processor multiplies bfloat16 matrices in AMX tiles."""
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16") or capabilities.get("amx_tile"))


def supports_cuda_graph(wanted: bool, device: torch.device) -> bool:
    """Whether the update can be recorded as is wanted: on CUDA, by one process."""
    return wanted and device.type == "cuda" and ranks.world_size() == 1


def default_batch_size(examples: int, pixels: int = 0) -> int:
    """A power of two from 16 to 128 that gives a small training set some 40 updates per epoch.

    At most 32 where pictures have more than 160 x 160 `pixels`: all that a network answers them must be remembered.
    """
    return 2 ** min(5 if pixels > 160 * 160 else 7, max(4, round(math.log2(max(1, examples) / 40))))


def parse_duration(text: str) -> float:
    """'90s', '2m', '1.5h' or '90' in seconds. Raises OptionError."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*", str(text))
    if not found or float(found[1]) <= 0:
        raise OptionError(f"--time {text} is no time.", cure="Give 90s, 2m or 1h.")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def validate_options(options: Options) -> None:
    """Raises OptionError for values that no run can have."""
    above_zero = {
        "epochs": 1e6, "steps": 1e9, "lr": 1e30, "clip": 1e30, "batch": 1e7, "accumulate": 1e6, "patience": 1e6,
        "gradual": 1e6, "size": 4096, "threads": 4096,
    }  # fmt: skip
    for name, high in above_zero.items():
        value = getattr(options, name)
        if value not in (None, "auto") and not 0 < value <= high:
            raise OptionError(f"--{name} {value} is out of range.", cure=f"Give more than 0 and at most {high:,.10g}.")
    for name, least in (("unfreeze", 0), ("cached_views", 1)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise OptionError(f"--{name.replace('_', '-')} {value} is out of range.", cure=f"Give {least} or more.")
    if options.cached_views > 1 and (not options.freeze or options.augment in ("", "none")):
        raise OptionError(
            "--cached-views keeps what a frozen network answers to changed pictures.",
            cure="Give --freeze and --augment too, or leave it out.",
        )
    if not 0 < options.layer_decay <= 1:
        raise OptionError(f"--layer-decay {options.layer_decay} is out of range.", cure="Give more than 0, at most 1.")
    for name in ("momentum", "ema", "smoothing", "valid"):
        if not 0 <= (getattr(options, name) or 0) < 1:
            raise OptionError(
                f"--{name} {getattr(options, name)} is out of range.", cure="Give at least 0 and below 1."
            )
    if not 0 <= (options.warmup or 0) <= 1:
        raise OptionError(f"--warmup {options.warmup} is not a share of the run.", cure="Give 0 to 1.")
    if not 0 <= options.seed < 2**32:
        raise OptionError(f"--seed {options.seed} is out of range.", cure=f"Give 0 to {2**32 - 1}.")
    if not 0 <= (options.trail or 0) <= 1000:
        raise OptionError(f"--trail {options.trail} is out of range.", cure="Give 0 to 1000.")
    if options.weight_decay < 0 or options.save_every < 0:
        raise OptionError("--weight-decay and --save-every are not negative.")
    if options.optimizer == "nesterov" and options.momentum == 0:
        raise OptionError("--optimizer nesterov needs a momentum above 0.", cure="Leave --momentum out, or take sgd.")
    if sum(getattr(options, n) is not None for n in ("epochs", "steps", "time")) > 1:
        raise OptionError("--epochs, --steps and --time are three ways to say one thing.", cure="Give one of them.")
    if options.time is not None:
        parse_duration(options.time)
    if options.graph and (options.gradual is not None or (options.optimizer or "adamw") not in GRAPHABLE_OPTIMIZERS):
        raise OptionError(
            "--graph records one update for all steps, which --gradual and some optimisers do not allow.",
            cure=f"Leave --graph or --gradual out, and give --optimizer {', '.join(GRAPHABLE_OPTIMIZERS)}.",
        )


def resolve_config(options: Options, stream: BatchStream, precision: str) -> TrainConfig:
    """The numbers of the training. An `lr` of auto and a `time` are left to `settle`."""
    optimizer = options.optimizer or "adamw"
    schedule = options.schedule or "one-cycle"
    steps = options.steps
    if steps is None:
        epochs = options.epochs or min(MAX_EPOCHS, max(MIN_EPOCHS, math.ceil(DEFAULT_STEPS / stream.steps_per_epoch)))
        steps = max(1, round(epochs * stream.steps_per_epoch))
    warmup = options.warmup if options.warmup is not None else 0.25 if schedule == "one-cycle" else 0.0
    frozen = options.freeze or options.unfreeze is not None or options.gradual is not None
    only_head = frozen and not options.unfreeze and options.gradual is None
    # what was learned elsewhere is lost at the rates that a new network needs
    usual = DEFAULT_LR[optimizer] * (0.1 if options.weights and not only_head else 1.0)
    return TrainConfig(
        steps=steps,
        lr=usual if options.lr in (None, "auto") else options.lr,
        optimizer=optimizer,
        momentum=0.9 if options.momentum is None else options.momentum,
        weight_decay=options.weight_decay,
        schedule=schedule,
        warmup_fraction=warmup,
        grad_clip=options.clip,
        ema_decay=options.ema,
        grad_accum=options.accumulate,
        report_every=max(1, min(50, stream.steps_per_epoch // 4)),
        precision=precision,
        compile=options.compile,
        cuda_graph=options.graph and supports_cuda_graph(options.graph, stream.device),
        seed=options.seed,
        trainable_groups=(options.unfreeze or 0) if frozen else None,
        unfreeze_interval=max(1, round(options.gradual * stream.steps_per_epoch)) if options.gradual else 0,
        layer_decay=options.layer_decay,
    )


def trial_trainer(objective: Objective, stream: BatchStream, recipe: TrainConfig, augment: Callable) -> Trainer:
    """A trainer on copies, so that trying costs the real run nothing."""
    trial = copy.copy(stream)
    trial.load_state_dict({"step": 0})
    return Trainer(copy.deepcopy(objective), trial, replace(recipe, ema_decay=0.0, compile=False, cuda_graph=False), augment)


def time_steps(
    objective: Objective, stream: BatchStream, recipe: TrainConfig, augment: Callable, count: int = 12
) -> float:
    """Seconds per step, the median of `count` steps after two."""
    trainer = trial_trainer(objective, stream, replace(recipe, steps=count + 2, report_every=1), augment)
    times, last = [], time.perf_counter()
    for _ in trainer:
        now = time.perf_counter()
        times.append(now - last)
        last = now
    return ranks.broadcast_from_0(sorted(times[2:])[count // 2])


def steps_within_budget(
    recipe: TrainConfig, budget: float, per_step: float, per_validation: float, steps_per_epoch: int
) -> TrainConfig:
    """The recipe with as many steps as fit into `budget` seconds with a validation per epoch, a tenth kept back."""
    steps = int(0.9 * budget / (per_step + per_validation / steps_per_epoch))
    if steps < 1:
        raise OptionError(
            f"--time: {budget:.1f} s are left and one update takes {per_step:.1f} s.",
            cure="Give more time or a smaller --batch.",
        )
    return replace(recipe, steps=steps)


def lr_range_test(
    objective: Objective, stream: BatchStream, recipe: TrainConfig, augment: Callable, steps: int = 100
) -> float:
    """A learning rate by the range test of Smith 2017 (arXiv:1506.01186): the rate grows until the loss does.

    A tenth of the rate at which the smoothed loss was lowest, but no less than the rate at which it fell quickest.
    """
    from ..errors import NonFiniteError

    low, high = 1e-6, 10.0

    @dataclass(frozen=True)
    class Growing(TrainConfig):
        def lr_at(self, step: int) -> float:
            return low * (high / low) ** (step / (steps - 1))

    values = {**asdict(recipe), "steps": steps, "report_every": 1, "ema_decay": 0.0, "compile": False, "cuda_graph": False}
    trial = copy.copy(stream)
    trial.load_state_dict({"step": 0})
    rates, losses, smooth = [], [], 0.0
    try:
        for number, report in enumerate(Trainer(copy.deepcopy(objective), trial, Growing(**values), augment)):
            smooth = 0.9 * smooth + 0.1 * next(iter(report.losses.values()))
            rates.append(report.lr)
            losses.append(smooth / (1 - 0.9 ** (number + 1)))
            if losses[-1] > 3 * min(losses):
                break
    except NonFiniteError:
        pass
    lowest = losses.index(min(losses)) if losses else 0
    falls = [losses[i + 3] - losses[i] for i in range(min(lowest, len(losses) - 4))]
    quickest = rates[falls.index(min(falls)) + 3] if falls else 0.0
    return float(f"{max(rates[lowest] / 10, quickest):.2g}") if rates else low


def find_batch_size(
    objective: Objective, make_stream: Callable[[int], BatchStream], recipe: TrainConfig, augment: Callable
) -> int:
    """The smallest batch from 32 to 1024 at 90 % of the best speed; memory that runs out ends the search."""
    speeds: dict[int, float] = {}
    for batch in (32, 64, 128, 256, 512, 1024):
        stream = make_stream(batch)
        if stream.steps_per_epoch < 8 and speeds:
            break
        try:
            speeds[batch] = batch / time_steps(objective, stream, recipe, augment, count=6)
        except (MemoryError, torch.OutOfMemoryError):
            break
    return next(b for b, speed in speeds.items() if speed >= 0.9 * max(speeds.values()))
