"""The one training loop. It knows phases, and nothing of tasks, networks or pictures.

    for report in Trainer(objective, stream, config):
        print(report.step, report.losses)

No callbacks: the loop yields and the caller decides. It may stop at any report, save, score, and iterate again.
"""

from __future__ import annotations

import copy
import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..data.batches import BatchStream
from ..errors import NonFiniteError
from ..objectives.base import Batch, Loss, Objective, Phase
from . import distributed as ranks
from . import freezing
from . import optimizers
from .config import TrainConfig
from .cuda_graph import CudaGraphRecorder, GraphedStep


@dataclass(frozen=True)
class StepReport:
    """What happened since the last report: `step` updates are done; losses are means over all items since then.

    Losses are empty where no report is due: when the trainer was paused, and at its halts.
    """

    step: int
    losses: dict[str, float]
    lr: float


class Trainer:
    """Runs an objective over a stream, as a config says.

    `augment` turns a batch of the stream into one that the objective reads; it may be random. Which weights are trained
    is recorded once, here: freeze before. `average` is the running mean of the network, if the config asks for one.
    """

    def __init__(
        self,
        objective: Objective,
        batches: BatchStream,
        config: TrainConfig,
        augment: Callable[[Batch], Batch] = lambda batch: batch,
    ):
        self.objective, self.batches, self.config, self.augment = objective, batches, config, augment
        self.step = 0
        self.phases = objective.phases()
        self.device = next(objective.parameters()).device
        self.freeze_schedule = freezing.FreezeSchedule(objective.model, config) if freezing.is_finetuning(config) else None
        self.trainable_params = {p.name: [w for w in p.module.parameters() if w.requires_grad] for p in self.phases}
        self.optimizers: dict[nn.Module, torch.optim.Optimizer] = {}
        for phase in self.phases:  # phases that share a module share its optimiser
            if phase.module not in self.optimizers:
                weights = self.trainable_params[phase.name]
                self.optimizers[phase.module] = optimizers.build_optimizer(phase.module, weights, config)
                if self.freeze_schedule:
                    freezing.split_param_groups(self.optimizers[phase.module], self.freeze_schedule)
        if config.cuda_graph:  # a recorded update reads its rates where they were when it was recorded
            for group in self.param_groups:
                group["lr"] = torch.full((), config.lr, device=self.device)
        self.losses = {p.name: torch.compile(p.loss) if config.compile and p.compile else p.loss for p in self.phases}
        self.ema_model = copy.deepcopy(objective.model).requires_grad_(False) if config.ema_decay else None
        self.single_module = len(self.optimizers) == 1  # with several modules, each phase switches its own weights on and off
        if not self.single_module:
            objective.requires_grad_(False)
        self.loss_sums: dict[str, Tensor] = {}
        self.pause_requested = False  # set by a signal handler: hands control back after the step that is running
        self.extra_yield_steps: frozenset[int] = frozenset()  # steps after which control is handed back as well, on every rank
        self.precision = torch.bfloat16 if config.precision == "bfloat16" else None
        self.graphed_step = GraphedStep(self.train_step, CudaGraphRecorder(self.device)) if config.cuda_graph else None

    @property
    def model(self) -> nn.Module:
        """The network to score and to save: the average where there is one."""
        return self.objective.model if self.ema_model is None else self.ema_model

    @property
    def param_groups(self) -> list[dict]:
        """The groups of weights of all optimisers."""
        return [group for optimizer in self.optimizers.values() for group in optimizer.param_groups]

    def __iter__(self) -> Iterator[StepReport]:
        self.objective.train()
        batches = iter(self.batches)
        while self.step < self.config.steps:
            if self.freeze_schedule:
                self.freeze_schedule.set_trainable(self.step)
            self._set_lr()
            seed_generators(self.step_seed(), self.device)
            due = [phase for phase in self.phases if self.step % phase.interval == 0]
            (self.graphed_step or self.train_step)(due, next(batches))
            if self.ema_model is not None:
                self._update_ema()
            self.step += 1
            if self.report_due:
                yield self.collect_report()
            elif self.step in self.extra_yield_steps or self.pause_requested and ranks.world_size() == 1:  # several ranks pause at a report
                yield StepReport(self.step, {}, self.config.lr_at(self.step - 1))

    def train_step(self, due: list[Phase], batch: Batch) -> None:
        """One step but for what the host decides: the phases that are due, on a batch as it comes from the stream."""
        batch = self.augment(batch)
        micro = [batch] if self.config.grad_accum == 1 else split_micro_batches(batch, self.config.grad_accum)
        for phase in due:
            self._accumulate_losses(phase, *self.run_phase(phase, micro))

    def _set_lr(self) -> None:
        rate = self.config.lr_at(self.step)
        for group in self.param_groups:
            factor = self.freeze_schedule.lr_factor(group["params"][0], self.step) if self.freeze_schedule else 1.0
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate * factor)
            else:
                group["lr"] = rate * factor

    @property
    def report_due(self) -> bool:
        """Whether a report is due: every so many steps, at the end of an epoch, at the end of the run."""
        return 0 in (
            self.step % self.config.report_every,
            self.step % self.batches.steps_per_epoch,
            self.config.steps - self.step,
        )

    def step_seed(self) -> int:
        """Randomness is a function of (seed, step, rank): nothing to save, and any step can be replayed alone.

        32 bits, because the generator of a processor ignores the rest.
        """
        return zlib.crc32(f"{self.config.seed}/{self.step}/{ranks.get_rank()}".encode())

    def collect_report(self) -> StepReport:
        """The means since the last report; begins a new one. The only place where the host waits for the device.

        Raises NonFinite where a loss on another device than the processor was no number: there it is seen only now.
        """
        means = {}
        for phase in self.phases:
            items = float(self.loss_sums.get(f"{phase.name}/items", 0.0))
            for key in [k for k in self.loss_sums if k.startswith(phase.name + "/")]:
                if items and not key.endswith("/items"):
                    means[key.removesuffix("/loss").removeprefix("fit/")] = float(self.loss_sums[key]) / items
        if "fit" in means:
            means = {"loss": means.pop("fit"), **means}
        for total in self.loss_sums.values():
            total.zero_()
        if self.device.type != "cpu" and not all(map(math.isfinite, means.values())):
            raise self._non_finite(self.phases[0])
        return StepReport(self.step, means, self.config.lr_at(self.step - 1))

    def run_phase(self, phase: Phase, batches: list[Batch]) -> tuple[dict[str, Tensor], Tensor | int]:
        """One optimiser step on `phase.module`: sums of the loss and its parts, and the items they are over.

        Raises NonFinite before the weights change, if the loss is infinite or not a number.
        """
        weights, optimizer = self.trainable_params[phase.name], self.optimizers[phase.module]
        if not self.single_module:
            for weight in weights:
                weight.requires_grad_(True)
        optimizer.zero_grad(set_to_none=True)
        sums, items, plain = self._backward(phase, batches, weights)
        if not self.single_module:
            for weight in weights:
                weight.requires_grad_(False)
        if self.device.type == "cpu" and not math.isfinite(sums["loss"].item()):
            raise self._non_finite(phase)
        if not plain:
            gradients = [w.grad for w in weights if w.grad is not None]
            torch._foreach_div_(gradients, items)
        if self.config.grad_clip:
            nn.utils.clip_grad_norm_(weights, self.config.grad_clip)
        optimizer.step()
        return sums, items

    def _backward(self, phase: Phase, batches: list[Batch], weights: list[Tensor]):
        """Fills `.grad`; returns (sums, items, whether the gradients already are those of the mean)."""
        plain = len(batches) == 1 and ranks.world_size() == 1
        sums: dict[str, Tensor] = {}
        items: Tensor | int = 0
        for batch in batches:
            with torch.autocast(self.device.type, self.precision, enabled=self.precision is not None):
                loss = self.losses[phase.name](batch)
            # A sum adds up correctly over micro-batches and ranks; a mean of means would not.
            (loss.mean if plain else loss.mean * loss.count).backward()
            for name, value in (("loss", loss.mean.detach()), *loss.metrics.items()):
                part = value * loss.count
                sums[name] = sums[name] + part if name in sums else part
            items = items + loss.count
        if ranks.world_size() > 1:
            weights = [weight for weight in weights if weight.requires_grad]  # not parts that wait to be trained
            for weight in weights:  # every rank must send the same weights
                weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
            items = torch.as_tensor(items, dtype=torch.float32, device=self.device).reshape(())
            ranks.all_reduce_sum([w.grad for w in weights] + [*sums.values(), items])
        return sums, items, plain

    def _accumulate_losses(self, phase: Phase, sums: dict[str, Tensor], items: Tensor | int) -> None:
        for name, value in (*sums.items(), ("items", items)):
            key = f"{phase.name}/{name}"
            if key not in self.loss_sums:
                self.loss_sums[key] = torch.zeros((), device=self.device)
            self.loss_sums[key] += value

    def _update_ema(self) -> None:
        decay = min(self.config.ema_decay, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.ema_model.parameters()), list(self.objective.model.parameters()), 1 - decay)
            # Batch statistics belong to the weights that were run; they are averages themselves.
            for mean, latest in zip(self.ema_model.buffers(), self.objective.model.buffers(), strict=True):
                mean.copy_(latest)

    def _non_finite(self, phase: Phase) -> NonFiniteError:
        rows = tuple(self.batches.batch_indices(self.step))
        return NonFiniteError(
            f"The loss of phase '{phase.name}' became infinite or not a number at step {self.step}; "
            "the weights before it are kept.",
            cure="Give a smaller --lr, or --clip 1; if it stays, look at the pictures of that batch.",
            step=self.step,
            indices=rows,
        )

    def state_dict(self) -> dict:
        """All that must survive: counters, weights, buffers, optimisers, the sums of the open report.

        With several ranks every rank must call this: buffers that differ between ranks are gathered.
        """
        buffers = dict(self.objective.named_buffers()) if ranks.world_size() > 1 else {}
        return {
            "step": self.step,
            "objective": self.objective.state_dict(),
            "average": self.ema_model.state_dict() if self.ema_model is not None else None,
            "optimizers": [optimizers.optimizer_state(optimizer) for optimizer in self.optimizers.values()],
            "stream": self.batches.state_dict(),
            "sums": dict(self.loss_sums),
            "ranks": {name: ranks.all_gather(value) for name, value in buffers.items()},
        }

    def load_state_dict(self, state: dict) -> None:
        """Continues exactly where `state_dict` was taken."""
        self.step = state["step"]
        self.objective.load_state_dict(state["objective"])
        if self.ema_model is not None:
            self.ema_model.load_state_dict(state["average"])
        for optimizer, saved in zip(self.optimizers.values(), state["optimizers"], strict=True):
            optimizers.load_optimizer_state(optimizer, saved)
        self.batches.load_state_dict(state["stream"])
        self.loss_sums = {name: total.to(self.device, copy=True) for name, total in state["sums"].items()}
        if self.graphed_step:
            self.graphed_step = GraphedStep(self.train_step, self.graphed_step.recorder)  # what was recorded knows the old memory
        for name, buffer in self.objective.named_buffers():
            if name in state["ranks"] and ranks.world_size() == len(state["ranks"][name]):
                buffer.copy_(state["ranks"][name][ranks.get_rank()])


def seed_generators(seed: int, device: torch.device) -> None:
    """Seeds what the random numbers of a step come from: the processor's generator, and the device's own."""
    if device.type not in ("cpu", "cuda"):
        torch.manual_seed(seed)  # every device there is, which takes a millisecond
        return
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        number = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[number].manual_seed(seed)


def split_micro_batches(batch: Batch, parts: int) -> list[Batch]:
    """The batch in `parts` pieces, as equal as can be."""
    pieces = {name: values.tensor_split(parts) for name, values in batch.items()}
    return [
        {name: pieces[name][part] for name in batch} for part in range(parts) if len(next(iter(pieces.values()))[part])
    ]


__all__ = ["Loss", "StepReport", "Trainer", "split_micro_batches"]
