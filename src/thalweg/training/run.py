"""One training from its plan to its report: ordinary code around the trainer's loop. Knows tasks by their base only."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from ..config.options import Options
from ..data.images.dataset import ImageDataset
from ..engine import checkpoint
from ..engine import distributed as ranks
from ..engine import feature_cache as features
from ..engine.trainer import StepReport, Trainer
from ..errors import InterruptedTrainingError, ModelFileError, NonFiniteError, OptionError, ResourceError
from ..objectives.base import Objective
from ..registry import find_model
from ..runs import artifacts as leave
from ..runs.initial_weights import InitialWeights
from ..runs.run_dir import MetricsFile, RunDir
from ..tasks.base import Task
from . import interrupts as signals
from . import plan as planning
from .plan import TrainPlan
from .snapshots import WeightSnapshots

#: seconds that saving may take after every validation, however short the epochs are
MAX_CHEAP_SAVE_SECONDS = 0.5


@dataclass(frozen=True)
class TrainingProgress:
    """What a training tells while it runs. Seconds count from its start; `remaining` is an estimate.

    `valid` holds the metrics of a validation that just ended.
    """

    step: int
    steps: int
    epoch: float
    epochs: float
    losses: dict[str, float]
    lr: float
    seconds: float
    remaining: float | None
    valid: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()


@dataclass
class LoopState:
    """What the story around the loop must remember across a kill; a part of every checkpoint."""

    steps: int = 0  # that were planned when it was saved
    metrics_bytes: int = 0
    best: float | None = None
    best_epoch: float = 0.0
    worse: int = 0  # validations since the best one
    best_weights: dict[str, Any] | None = None


class TrainingLoop:
    """A training in a folder. Iterating trains, and finishes with the test; `content` is what run.json holds.

    `content` may come from a run that was cut off: then the newest whole checkpoint is gone on from.
    """

    def __init__(
        self,
        task: Task,
        options: Options,
        data: ImageDataset,
        folder: RunDir,
        content: dict,
        notice: Callable,
        start: InitialWeights | None = None,
    ):
        self.task, self.options, self.data, self.start = task, options, data, start
        self.folder, self.content, self.notice = folder, content, notice
        self.begun = time.monotonic()
        self.facts = content.get("facts") or {
            **task.facts(data), **(start.facts(data.shape[0], data.shape[2]) if start else {}), "views": options.views,
        }  # fmt: skip
        self.device = planning.resolve_device(options)
        self.standing, self.finishing, self.saved, self.saving = LoopState(), False, self.begun, 0.0
        self._prepare()

    def _prepare(self) -> None:
        torch.manual_seed(self.options.seed)
        known = self.content.get("model") or (self.start.model if self.start else self.task.default_model)
        self.model_name = self.options.model or known
        entry = find_model(self.model_name, self.task.name)
        began = self.start.arguments if self.start else {}
        self.arguments = self.content.get("arguments") or {
            **self.task.arguments(self.facts), **began, **self.options.arguments,
        }  # fmt: skip
        network = entry(**{**self.arguments, **(self.start.building if self.start else {})})
        network = network.to(self.device, memory_format=torch.channels_last)
        classes = self.facts.get("classes", ())
        if self.start:
            self.content["start"] = {"weights": self.options.weights, **self.start.load(network, classes, self.notice)}
        elif not self.folder.begun:
            self.task.initialise(network, self.data, self.facts, self.device)
        self.parameters = sum(w.numel() for w in network.parameters())
        objective = self.task.objective(network, self.facts, self.options).to(self.device)
        augment = self.task.augment(self.facts, self.options)
        self.features = self._features(objective)
        if self.features:
            augment = features.no_augmentation
        plan = self._saved_plan() if "plan" in self.content else self._plan(objective, augment)
        self.plan = self._extended(plan)
        self.trainer = Trainer(objective, self._stream(self.plan.batch), self.plan.recipe, augment)
        self.trail = WeightSnapshots(self.folder.path / "trail", self.trainer, self.options.trail)
        self.trainer.extra_yield_steps = self.trail.steps

    def _features(self, objective: Objective) -> features.CachedFeatures | None:
        """The features of all pictures, where only the last layer is trained on them; else None."""
        if not features.can_cache_features(self.options):
            return None
        saved = checkpoint.load_latest(self.folder.state, lambda told: None)  # it is told when the training goes on
        if saved:
            objective.load_state_dict(saved[1]["trainer"]["objective"])
        found = features.load_or_compute(
            self.task, objective.model, self.data, self.facts, self.options, self.notice
        )
        if self.content.setdefault("features", found is not None) != (found is not None):
            raise ResourceError(
                f"{self.folder.path} was begun with the features of all pictures in memory, which is too small now.",
                cure="Go on where more memory is free.",
            )
        return found

    def _stream(self, batch: int):
        seed, rank, count = self.options.seed, ranks.get_rank(), ranks.world_size()
        if self.features:
            return self.features.stream(batch, seed, rank, count)
        return self.task.stream(self.data.train, batch, seed, rank, count, self.device)

    def _plan(self, objective, augment) -> TrainPlan:
        options = self.options
        precision = planning.resolve_precision(options, self.device, objective.model)
        if options.precision == "auto" and features.can_cache_features(replace(options, cache=True)):
            precision = "float32"  # so that features that are kept and those that are not give the same weights
        if options.batch == "auto":
            recipe = planning.resolve_config(options, self._stream(32), precision)
            batch = planning.find_batch_size(objective, self._stream, recipe, augment)
        else:
            pixels = 0 if self.features else self.data.shape[0] * self.data.shape[1]
            batch = options.batch or planning.default_batch_size(len(self.data.train), pixels)
        stream = self._stream(batch)
        recipe = planning.resolve_config(options, stream, precision)
        if options.lr == "auto":
            recipe = replace(recipe, lr=planning.lr_range_test(objective, stream, recipe, augment))
        if options.time is not None:
            per_step = planning.time_steps(objective, stream, recipe, augment)
            start = time.monotonic()
            self.task.score(objective.model, self.data.valid, self.facts, self.device)
            per_validation = ranks.broadcast_from_0(time.monotonic() - start)
            budget = planning.parse_duration(options.time)
            # The budget includes what the plan took; where that was nearly all, a quarter is trained all the same.
            left = max(budget - ranks.broadcast_from_0(time.monotonic() - self.begun), budget / 4)
            recipe = planning.steps_within_budget(recipe, left, per_step, per_validation, stream.steps_per_epoch)
        threads, together = torch.get_num_threads(), ranks.world_size()
        return TrainPlan(str(self.device), threads, together, stream.batch_size, stream.steps_per_epoch, recipe)

    def _saved_plan(self) -> TrainPlan:
        """The plan in run.json, as far as it can be kept here. Raises ModelFileError for one that cannot be read."""
        try:
            plan = TrainPlan.from_json(self.content["plan"])
        except (TypeError, KeyError, AttributeError) as error:
            raise ModelFileError(
                f"{self.folder.path / 'run.json'}: 'plan' is not that of a run ({error}).",
                cure="Restore it from a copy, or train again.",
            ) from error
        recipe = replace(plan.recipe, cuda_graph=planning.supports_cuda_graph(plan.recipe.cuda_graph, self.device))
        threads, together = torch.get_num_threads(), ranks.world_size()
        here = replace(plan, device=str(self.device), threads=threads, ranks=together, recipe=recipe)
        for name in ("device", "ranks"):
            old, new = getattr(plan, name), getattr(here, name)
            if old != new:
                self.notice(f"The run was begun with {name} {old}, this is {new}: the last bits may differ.")
        return here

    def _extended(self, plan: TrainPlan) -> TrainPlan:
        """The plan with the number of steps that the options ask for, which a resumed run may raise."""
        steps = self.options.steps
        if steps is None and self.options.epochs is not None:
            steps = max(1, round(self.options.epochs * plan.steps_per_epoch))
        return replace(plan, recipe=replace(plan.recipe, steps=steps)) if steps else plan

    @property
    def ended(self) -> bool:
        """Whether nothing is left to train: all steps are done, or the best validation is too long ago."""
        patience = self.options.patience
        return self.trainer.step >= self.plan.recipe.steps or bool(patience and self.standing.worse >= patience)

    def __iter__(self) -> Iterator[TrainingProgress]:
        with ExitStack() as stack:
            stack.callback(self.folder.release)
            state = checkpoint.load_latest(self.folder.state, self.notice)
            if state:
                self._restore(state[1])
            self._describe("running")
            metrics = None
            if ranks.get_rank() == 0:
                metrics = MetricsFile(self.folder.path / "metrics.jsonl", self.standing.metrics_bytes)
                stack.callback(metrics.close)
                if not metrics.complete:
                    self.notice(f"{metrics.path} has lost rows since the last checkpoint; the training goes on.")
            stack.enter_context(signals.on_interrupt(self._wish_to_stop))
            try:
                if not state:  # what chance, the source of the weights and the data gave is not to be had again
                    self.trail.keep(self.trainer)
                    self._save(metrics)
                if not self.ended:
                    yield from self._train(metrics, stack)
                yield from self._finish()
            except NonFiniteError as error:
                raise self._kept(error) from None
            except ValueError as error:
                if "more than 1 value per channel" not in str(error):
                    raise
                raise OptionError(
                    f"{self.model_name} normalises over the batch, and one picture of one pixel gives it nothing to.",
                    cure="Give a larger --batch, a smaller --accumulate, or a larger --size.",
                ) from None
            except InterruptedTrainingError:
                self._describe("stopped")
                raise

    def _train(self, metrics: MetricsFile | None, stack: ExitStack) -> Iterator[TrainingProgress]:
        board = self._tensorboard(stack)
        spe, first = self.plan.steps_per_epoch, self.trainer.step
        started = self.saved = time.monotonic()
        for report in self.trainer:
            valid = None
            self.trail.keep(self.trainer)
            if report.losses:
                place = {"step": report.step, "epoch": round(report.step / spe, 4), "split": "train"}
                self._write(metrics, board, {**place, **report.losses, "lr": report.lr})
                if report.step % spe == 0 or report.step == self.plan.recipe.steps:
                    valid = self._validate(report, metrics, board)
            stop = ranks.any_rank(self.trainer.pause_requested)
            if stop or ranks.any_rank(self._save_is_due(valid is not None)):
                self._save(metrics)
            if stop:
                raise self._stopped()
            if report.losses:
                yield self._progress(report, started, first, valid)
            if self.ended:
                return

    def _validate(self, report: StepReport, metrics, board) -> dict[str, Any]:
        """Scores the validation set; decides which weights are best and whether to stop early."""
        self.trainer.objective.eval()
        results, _ = self._score(self.trainer.model, "valid")
        self.trainer.objective.train()
        epoch = report.step / self.plan.steps_per_epoch
        self._write(metrics, board, {"step": report.step, "epoch": round(epoch, 4), "split": "valid", **results})
        standing, figure = self.standing, results.get(self.task.judged_by)
        figure = ranks.broadcast_from_0(figure) if figure is not None else None
        if figure is not None and (standing.best is None or figure > standing.best):
            standing.best, standing.best_epoch, standing.worse = figure, epoch, 0
            if self.options.patience:
                standing.best_weights = {k: v.clone() for k, v in self.trainer.model.state_dict().items()}
        else:
            standing.worse += 1
        return results

    def _score(self, network: torch.nn.Module, split: str) -> tuple[dict[str, Any], Any]:
        """The metrics on a split and their outcome. Raises NonFinite where the network's answers are no numbers."""
        try:
            known = getattr(self.features, {"valid": "val"}.get(split, split)) if self.features else None
            return self.task.score(network, self.data.splits[split], self.facts, self.device, known)
        except NonFiniteError as error:  # its rows are those of the split, not of the step
            message = f"After {self.trainer.step} updates, on the {split} set: {error.message}"
            raise NonFiniteError(message, error.cure, self.trainer.step) from None

    def _finish(self) -> Iterator[TrainingProgress]:
        """The final weights, the one test, and everything that is drawn and written of it."""
        self.finishing = True
        if ranks.any_rank(self.trainer.pause_requested):
            raise self._stopped()
        network = self.trainer.model
        if self.standing.best_weights:
            network.load_state_dict(self.standing.best_weights)
        if ranks.get_rank() > 0:
            ranks.any_rank(False)  # all leave together: a process that goes while others work can tear them down
            return
        network.eval()
        self.content["weights_sha256"] = self.folder.write_weights(network.state_dict())
        valid, _ = self._score(network, "valid")
        test, outcome = self._score(network, "test")
        self.content["results"] = {
            "valid": valid,
            "test": test,
            **outcome.details,
            "steps": self.trainer.step,
            "epochs": round(self.trainer.step / self.plan.steps_per_epoch, 4),
            "best_epoch": self.standing.best_epoch,
            "seconds": round(time.monotonic() - self.begun, 1),
        }
        if self.options.duplicates:
            self.content["results"]["near_copies"] = leave.near_duplicates(self.data, outcome)
        if self.options.report:
            self._describe("running")
            history = self.folder.metrics()
            drawn = self.task.pictures(network, self.data, self.facts, self.options, outcome, history)
            leave.write_report(self.folder, self.content, drawn)
        self._describe("finished")
        self.finishing = False
        ranks.any_rank(False)
        yield self._progress(StepReport(self.trainer.step, {}, 0.0), time.monotonic(), self.trainer.step, None)

    def _restore(self, state: dict[str, Any]) -> None:
        self.standing = LoopState(**state["standing"])
        self.trainer.load_state_dict(state["trainer"])
        done, asked = self.trainer.step, self.plan.recipe.steps
        if asked < done:
            told = f"{asked:,} updates in all were asked for, and {self.folder.path} has made {done:,} already."
            raise OptionError(told, cure=f"Ask for more than {done / self.plan.steps_per_epoch:.4g} epochs, or for +1.")
        if self.plan.recipe.steps > self.standing.steps:
            self.standing.worse = 0  # more was asked for, so patience begins anew

    def _save_is_due(self, validated: bool) -> bool:
        """Every so many seconds, and after a validation unless saving a large network would take most of the time."""
        passed = time.monotonic() - self.saved
        last = self.trainer.step >= self.plan.recipe.steps
        cheap = self.saving < MAX_CHEAP_SAVE_SECONDS or passed >= 10 * self.saving
        return validated and (last or cheap) or passed > self.options.save_every

    def _save(self, metrics: MetricsFile | None) -> None:
        begun = time.monotonic()
        state = self.trainer.state_dict()  # every rank takes part
        if ranks.get_rank() == 0:
            self.standing.metrics_bytes, self.standing.steps = metrics.sync(), self.plan.recipe.steps
            checkpoint.save_checkpoint(
                self.folder.state, self.trainer.step, {"trainer": state, "standing": vars(self.standing)}
            )
        self.saved = time.monotonic()
        self.saving = self.saved - begun

    def _stopped(self) -> InterruptedTrainingError:
        return InterruptedTrainingError(
            f"Stopped after {self.trainer.step} updates; everything is saved.",
            cure=f"Go on with --resume --out {self.folder.path}.",
        )

    def _kept(self, error: NonFiniteError) -> NonFiniteError:
        """The error with the names of the samples; the last finite weights are written, and it is told which."""
        message = error.message
        if error.indices:
            names = [self.data.train.sources[row] for row in error.indices[:8]]
            more = f" and {len(error.indices) - 8} more" if len(error.indices) > 8 else ""
            message = f"{message} Samples of that step: {', '.join(names)}{more}."
        if ranks.get_rank() == 0:
            saved = (
                None if leave.all_finite(self.trainer.model) else checkpoint.load_latest(self.folder.state, self.notice)
            )
            if saved:
                self._restore(saved[1])
            if leave.all_finite(self.trainer.model):
                self.content["weights_sha256"] = self.folder.write_weights(self.trainer.model.state_dict())
                message = f"{message} weights.safetensors holds those after {self.trainer.step} updates."
            self._describe("non-finite")
        return NonFiniteError(message, error.cure, error.step, error.indices)

    def _describe(self, status: str) -> None:
        if ranks.get_rank() == 0:
            self.content |= {"status": status, "options": asdict(self.options), "plan": self.plan.json()}
            self.content |= {"facts": self.facts, "model": self.model_name, "parameters": self.parameters}
            self.content |= {"arguments": self.arguments}
            self.folder.write(self.content)

    def _progress(self, report: StepReport, started: float, first: int, valid: dict | None) -> TrainingProgress:
        steps, spe = self.plan.recipe.steps, self.plan.steps_per_epoch
        done = report.step - first
        remaining = (time.monotonic() - started) / done * (steps - report.step) if done else None
        elapsed = time.monotonic() - self.begun
        return TrainingProgress(
            report.step, steps, report.step / spe, steps / spe, report.losses, report.lr, elapsed, remaining, valid
        )

    def _write(self, metrics: MetricsFile | None, board, row: dict[str, Any]) -> None:
        if metrics:
            metrics.append(row)
        if board:
            for name, value in row.items():
                if isinstance(value, (int, float)) and name not in ("step", "epoch"):
                    board.add_scalar(f"{row['split']}/{name}", value, row["step"])

    def _tensorboard(self, stack: ExitStack):
        if not self.options.tensorboard or ranks.get_rank() > 0:
            return None
        board = leave.open_tensorboard_writer(self.folder.path / "tensorboard")
        stack.callback(board.close)
        return board

    def _wish_to_stop(self) -> None:
        """Ends the training after the step that is running, and the work after it at once."""
        self.trainer.pause_requested = True
        if self.finishing:
            raise self._stopped()
