"""The training loop. It runs the phases of an objective, and does not depend on tasks, models or images.

    for report in Trainer(objective, batches, config):
        print(report.step, report.losses)

There are no callbacks: the loop yields and the caller decides. The caller may stop at any report, save, score, and
iterate again.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..data.batches import BatchStream
from ..errors import NonFiniteError, OptionError
from ..objectives.base import Batch, Loss, Objective, Phase
from . import distributed as ranks
from . import ema, freezing, optimizers
from .config import TrainConfig
from .cuda_graph import CudaGraphRecorder, GraphedStep


@dataclass(frozen=True)
class StepReport:
    """Losses after `step` updates, as means since the last report; empty after a pause and at extra yield steps."""

    step: int
    losses: dict[str, float]
    lr: float


@dataclass(frozen=True)
class LossSums:
    """Sums of a loss and its metrics, by name, over `count` items."""

    sums: dict[str, Tensor]
    count: Tensor | int


def keep_batch(batch: Batch) -> Batch:
    """Return the batch unchanged."""
    return batch


class Trainer:
    """Train an objective on a stream of batches.

    Which parameters are trained is decided once, here: freeze before. Phases without trainable parameters are skipped.

    Args:
        objective: Lists the phases of a step.
        batches: Yields batches on the device of the objective.
        config: The training settings.
        augment: Turns a batch of the stream into one that the objective reads; may be random.

    Raises:
        OptionError: If every parameter is frozen.
    """

    def __init__(
        self,
        objective: Objective,
        batches: BatchStream,
        config: TrainConfig,
        augment: Callable[[Batch], Batch] = keep_batch,
    ):
        self.objective = objective
        self.batches = batches
        self.config = config
        self.augment = augment
        self.step = 0
        self.rank, self.world_size = ranks.get_rank_and_world_size()
        self.device = next(objective.parameters()).device
        self.precision: torch.dtype | None = None
        if config.precision == "bfloat16":
            self.precision = torch.bfloat16
        self.freeze_schedule: freezing.FreezeSchedule | None = None
        if config.is_finetuning:
            self.freeze_schedule = freezing.FreezeSchedule(objective.model, config)
        self._build_phases()
        self._build_optimizers()
        self.ema_model: nn.Module | None = None
        self._scored_model = objective.model
        if config.ema_decay:
            self.ema_model = ema.copy_for_ema(objective.model)
            self._scored_model = ema.with_ema(objective.model, self.ema_model)
        self.loss_sums: dict[str, Tensor] = {}
        #: set by a signal handler: yield after the running step
        self.pause_requested = False
        #: steps after which the loop also yields, on every rank
        self.extra_yield_steps: frozenset[int] = frozenset()
        self.graphed_step: GraphedStep | None = None
        if config.cuda_graph:
            self.use_lr_tensors()
            self.graphed_step = GraphedStep(self.train_step, CudaGraphRecorder(self.device))

    def _build_phases(self) -> None:
        phases = self.objective.phases()
        self.has_single_loss = len(phases) == 1 and phases[0].name == "fit"
        self.phases: list[Phase] = []
        self.losses: dict[str, Callable[[Batch], Loss]] = {}
        self.trainable_params: dict[str, list[nn.Parameter]] = {}
        for phase in phases:
            params = [param for param in phase.module.parameters() if param.requires_grad]
            if params:
                self.phases.append(phase)
                self.trainable_params[phase.name] = params
                self.losses[phase.name] = phase.loss
                if self.config.compile and phase.compile:
                    self.losses[phase.name] = torch.compile(phase.loss)
        if not self.phases:
            raise OptionError(
                "Every parameter is frozen; expected at least one that is trained.",
                cure="Freeze fewer layers.",
                option="freeze",
            )

    def _build_optimizers(self) -> None:
        """Build one optimizer for each module; phases of the same module share it."""
        self.optimizers: dict[nn.Module, torch.optim.Optimizer] = {}
        self.phase_lrs: dict[str, list[float | Tensor]] = {}
        for phase in self.phases:
            if phase.module not in self.optimizers:
                params = self.trainable_params[phase.name]
                optimizer = optimizers.build_optimizer(phase.module, params, self.config)
                if self.freeze_schedule:
                    freezing.split_param_groups(optimizer, self.freeze_schedule)
                self.optimizers[phase.module] = optimizer
            num_groups = len(self.optimizers[phase.module].param_groups)
            self.phase_lrs[phase.name] = [self.config.lr] * num_groups
        # With several modules, each phase switches the gradients of its own parameters on and off.
        self.single_module = len(self.optimizers) == 1
        if not self.single_module:
            self.objective.requires_grad_(False)

    def use_lr_tensors(self) -> None:
        """Keep the learning rates in tensors, because a recorded step reads them from fixed addresses."""
        for name, lrs in self.phase_lrs.items():
            self.phase_lrs[name] = [torch.full((), self.config.lr, device=self.device) for _ in lrs]
        for phase in self.phases:
            self._apply_lr(phase)

    @property
    def model(self) -> nn.Module:
        """The model to score and to save: with the averaged parameters, if there are any."""
        return self._scored_model

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The parameter groups of all optimizers."""
        groups = []
        for optimizer in self.optimizers.values():
            groups += optimizer.param_groups
        return groups

    def __iter__(self) -> Iterator[StepReport]:
        self.objective.train()
        with closing(iter(self.batches)) as batches:
            while self.step < self.config.steps:
                self._run_step(batches)
                if self.report_due:
                    yield self.collect_report()
                elif self.step in self.extra_yield_steps or self._pauses_here():
                    yield StepReport(self.step, {}, self.config.lr_at(self.step - 1))

    def _run_step(self, batches: Iterator[Batch]) -> None:
        if self.freeze_schedule:
            self.freeze_schedule.set_trainable(self.step)
        self._set_lr()
        seed_generators(self.step_seed(), self.device)
        due = [phase for phase in self.phases if phase.is_due(self.step)]
        run_step = self.graphed_step or self.train_step
        run_step(due, next(batches))
        if self.ema_model is not None:
            decay = ema.ema_decay_at(self.step, self.config.ema_decay)
            ema.update_ema(self.ema_model, self.objective.model, decay)
        self.step += 1

    def _pauses_here(self) -> bool:
        return self.pause_requested and self.world_size == 1  # several ranks pause together, at a report

    def train_step(self, due: list[Phase], batch: Batch) -> None:
        """Run one training step: augment the batch, then update every phase that is due."""
        batch = self.augment(batch)
        micro_batches = [batch]
        if self.config.grad_accum > 1:
            micro_batches = split_micro_batches(batch, self.config.grad_accum)
        for phase in due:
            self._accumulate_losses(phase, self.run_phase(phase, micro_batches))

    def _set_lr(self) -> None:
        """Compute the learning rates of this step for every phase and parameter group."""
        lr = self.config.lr_at(self.step)
        for phase in self.phases:
            lrs = self.phase_lrs[phase.name]
            for index, group in enumerate(self.optimizers[phase.module].param_groups):
                group_lr = lr * phase.lr_scale * self._lr_factor(group)
                current = lrs[index]
                if isinstance(current, Tensor):
                    current.fill_(group_lr)
                else:
                    lrs[index] = group_lr

    def _lr_factor(self, group: dict[str, Any]) -> float:
        if self.freeze_schedule is None:
            return 1.0
        return self.freeze_schedule.lr_factor(group["params"][0], self.step)

    def _apply_lr(self, phase: Phase) -> None:
        groups = self.optimizers[phase.module].param_groups
        for group, lr in zip(groups, self.phase_lrs[phase.name], strict=True):
            group["lr"] = lr

    @property
    def report_due(self) -> bool:
        """True every `report_every` steps, at the end of an epoch, and at the end of the run."""
        if self.step == self.config.steps:
            return True
        return self.step % self.config.report_every == 0 or self.step % self.batches.steps_per_epoch == 0

    def step_seed(self) -> int:
        """Return the seed of this step, a hash of (seed, step, rank), so that any step can be replayed alone.

        32 bits, because the generator of the CPU ignores the others.
        """
        return zlib.crc32(f"{self.config.seed}/{self.step}/{self.rank}".encode())

    def collect_report(self) -> StepReport:
        """Return the means since the last report and start new ones. Only here the host waits for the device.

        A single phase named fit is reported as `loss` and its metrics by their names; other phases as `<phase>` and
        `<phase>/<metric>`.

        Raises:
            NonFiniteError: If a mean is NaN or inf on a device other than the CPU, where it is checked only now.
        """
        means = {}
        for phase in self.phases:
            means |= self._phase_means(phase)
        for total in self.loss_sums.values():
            total.zero_()
        if self.device.type != "cpu" and not all(map(math.isfinite, means.values())):
            raise self._divergence_error(self.phases[0], self.config.lr_at(self.step - 1))
        return StepReport(self.step, means, self.config.lr_at(self.step - 1))

    def _phase_means(self, phase: Phase) -> dict[str, float]:
        prefix = f"{phase.name}/"
        means = {}
        count = float(self.loss_sums.get(f"{prefix}count", 0.0))
        for key, value in self.loss_sums.items():
            if count and key.startswith(prefix) and key != f"{prefix}count":
                means[self._report_key(phase, key.removeprefix(prefix))] = float(value) / count
        return means

    def _report_key(self, phase: Phase, name: str) -> str:
        if self.has_single_loss:
            return name
        if name == "loss":
            return phase.name
        return f"{phase.name}/{name}"

    def run_phase(self, phase: Phase, batches: list[Batch]) -> LossSums:
        """Run one optimizer step on `phase.module` and return the sums of its loss and metrics.

        Raises:
            NonFiniteError: If the loss is NaN or inf on the CPU; the parameters have not changed then.
        """
        params = self.trainable_params[phase.name]
        optimizer = self.optimizers[phase.module]
        self._apply_lr(phase)
        self._switch_gradients(params, on=True)
        optimizer.zero_grad(set_to_none=True)
        totals = self._backward(phase, batches)
        self._switch_gradients(params, on=False)
        if self.device.type == "cpu" and not math.isfinite(totals.sums["loss"].item()):
            raise self._divergence_error(phase, self.config.lr_at(self.step))
        if not self._is_already_mean(batches):
            gradients = []
            for param in params:
                if param.grad is not None:
                    gradients.append(param.grad)
            torch._foreach_div_(gradients, totals.count)  # pyright: ignore[reportPrivateImportUsage]
        if self.config.grad_clip:
            nn.utils.clip_grad_norm_(params, self.config.grad_clip)
        optimizer.step()
        return totals

    def _switch_gradients(self, params: list[nn.Parameter], on: bool) -> None:
        if not self.single_module:
            for param in params:
                param.requires_grad_(on)

    def _is_already_mean(self, batches: list[Batch]) -> bool:
        """Return True if the gradient of the mean loss needs no division by the count afterwards."""
        return len(batches) == 1 and self.world_size == 1

    def _backward(self, phase: Phase, batches: list[Batch]) -> LossSums:
        """Fill `.grad`: with the gradients of the mean loss if `_is_already_mean`, else of the sum."""
        sums: dict[str, Tensor] = {}
        count: Tensor | int = 0
        for batch in batches:
            with torch.autocast(self.device.type, self.precision, enabled=self.precision is not None):
                loss = self.losses[phase.name](batch)
            # A sum adds up correctly over micro-batches and ranks; a mean of means would not.
            target = loss.mean
            if not self._is_already_mean(batches):
                target = loss.mean * loss.count
            target.backward()
            for name, mean in (("loss", loss.mean.detach()), *loss.metrics.items()):
                value = mean * loss.count
                if name in sums:
                    value = sums[name] + value
                sums[name] = value
            count = count + loss.count
        if self.world_size > 1:
            count = self._sum_over_ranks(phase, sums, count)
        return LossSums(sums, count)

    def _sum_over_ranks(self, phase: Phase, sums: dict[str, Tensor], count: Tensor | int) -> Tensor:
        """Add gradients and sums of all ranks in place; return the total count."""
        gradients = []
        for param in self.trainable_params[phase.name]:
            if param.requires_grad:  # not the groups that are unfrozen later
                if param.grad is None:  # every rank must send the same tensors
                    param.grad = torch.zeros_like(param)
                gradients.append(param.grad)
        total = torch.as_tensor(count, dtype=torch.float32, device=self.device).reshape(())
        ranks.all_reduce_sum([*gradients, *sums.values(), total])
        return total

    def _accumulate_losses(self, phase: Phase, totals: LossSums) -> None:
        for name, value in (*totals.sums.items(), ("count", totals.count)):
            key = f"{phase.name}/{name}"
            if key not in self.loss_sums:
                self.loss_sums[key] = torch.zeros((), device=self.device)
            self.loss_sums[key] += value

    def _divergence_error(self, phase: Phase, lr: float) -> NonFiniteError:
        return NonFiniteError(
            f"The training diverged at step {self.step} (lr {lr:g}): the {phase.name} loss is NaN or inf; "
            "expected a finite loss.",
            cure="--lr auto finds a learning rate.",
            step=self.step,
            indices=tuple(self.batches.batch_indices(self.step)),
        )

    def state_dict(self) -> dict[str, Any]:
        """Return everything that resuming needs.

        With several ranks every rank must call this, because buffers that differ between ranks are gathered.
        """
        buffers = {}
        if self.world_size > 1:
            for name, buffer in self.objective.named_buffers():
                buffers[name] = ranks.all_gather(buffer)
        ema_state = None
        if self.ema_model is not None:
            ema_state = self.ema_model.state_dict()
        return {
            "step": self.step,
            "objective": self.objective.state_dict(),
            "ema_model": ema_state,
            "optimizers": list(map(optimizers.optimizer_state, self.optimizers.values())),
            "batches": self.batches.state_dict(),
            "loss_sums": dict(self.loss_sums),
            "ranks": buffers,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state_dict` was called."""
        self.step = state["step"]
        self.objective.load_state_dict(state["objective"])
        if self.ema_model is not None:
            self.ema_model.load_state_dict(state["ema_model"])
        for optimizer, saved in zip(self.optimizers.values(), state["optimizers"], strict=True):
            optimizers.load_optimizer_state(optimizer, saved)
        self.batches.load_state_dict(state["batches"])
        self.loss_sums = {}
        for name, total in state["loss_sums"].items():
            self.loss_sums[name] = total.to(self.device, copy=True)
        if self.graphed_step:  # the recording reads the memory of the old state
            self.graphed_step = GraphedStep(self.train_step, self.graphed_step.recorder)
        for name, buffer in self.objective.named_buffers():
            saved_buffers = state["ranks"].get(name, ())
            if len(saved_buffers) == self.world_size:
                buffer.copy_(saved_buffers[self.rank])


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed the generators that the random numbers of a step come from: the CPU's and the device's."""
    if device.type not in ("cpu", "cuda"):
        torch.manual_seed(seed)  # seeds every device, which takes a millisecond
        return
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        index = device.index
        if index is None:
            index = torch.cuda.current_device()
        torch.cuda.default_generators[index].manual_seed(seed)


def split_micro_batches(batch: Batch, count: int) -> list[Batch]:
    """Split a batch into `count` micro-batches of sizes as equal as possible; empty ones are left out."""
    pieces = {name: values.tensor_split(count) for name, values in batch.items()}
    micro_batches = []
    for index in range(count):
        micro_batch = {}
        for name, values in pieces.items():
            micro_batch[name] = values[index]
        if len(next(iter(micro_batch.values()))):
            micro_batches.append(micro_batch)
    return micro_batches
