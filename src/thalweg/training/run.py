"""One training from its plan to its report: ordinary code around the trainer's loop. It knows no task."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..engine import checkpoint, distributed
from ..engine.trainer import StepReport
from ..errors import InterruptedTrainingError, NonFiniteError, OptionError
from ..io.log import log_warning
from ..runs.artifacts import (
    all_finite,
    write_examples,
    write_report,
    write_samples,
    write_time_lapse,
    write_training_keys,
)
from ..runs.run_dir import MetricsFile, RunDir
from ..runs.run_record import Results, RunRecord, Status
from ..runs.trackers import TrackerGroup, list_trackers
from ..tasks.base import EvalResult
from .build import TrainingParts, TrainingRequest, build_training, describe_plan
from .interrupts import on_interrupt

#: seconds that saving may take after every validation, however short the epochs are
MAX_CHEAP_SAVE_SECONDS = 0.5


@dataclass(frozen=True)
class TrainingProgress:
    """Where a training stands. Seconds count from its start; `eta` is an estimate of those left.

    `val` holds the metrics of a validation that just ended; `warnings` are notices since the last progress.
    """

    step: int
    steps: int
    epoch: float
    epochs: float
    losses: dict[str, float]
    lr: float
    elapsed: float
    eta: float | None
    val: dict[str, Any] | None = None
    warnings: tuple[str, ...] = ()


@dataclass
class LoopState:
    """Loop state outside the trainer, saved in every checkpoint."""

    steps: int = 0  # planned when it was saved
    metrics_bytes: int = 0
    best: float | None = None
    best_epoch: float = 0.0
    epochs_without_improvement: int = 0
    best_weights: dict[str, Tensor] | None = None


class TrainingRun:
    """A training that is planned but not begun. Iterating it trains and yields TrainingProgress.

    Raises every error of data and options when it is made, before anything is trained.
    """

    def __init__(self, request: TrainingRequest, log: Callable[[str], None] = log_warning):
        self.started_at = time.monotonic()
        self.warnings: list[str] = []
        self._process_group = distributed.process_group(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        self._process_group.__enter__()
        self.parts: TrainingParts | None = None
        try:
            built = build_training(request, self._make_log(log), self.started_at)
        except BaseException:
            self._process_group.__exit__(None, None, None)
            raise
        if isinstance(built, RunRecord):
            self.record = built
            self.run_dir = RunDir(str(request.out))
        else:
            self.parts = built
            self.record = built.record
            self.run_dir = built.run_dir
        self.state = LoopState()
        self.is_finalizing = False
        self.last_saved_at = self.started_at
        self.save_seconds = 0.0
        self.train_keys: Any = None

    def _make_log(self, log: Callable[[str], None]) -> Callable[[str], None]:
        """Return a log that speaks at once while planning, and between reports of progress while training."""

        def collect(message: str) -> None:
            if self.parts is None:
                log(message)
            else:
                self.warnings.append(message)

        return collect

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.run_dir.path

    def describe(self) -> list[str]:
        """Return the plan in words, and what was noticed while reading the data."""
        if self.parts is None:
            return [f"{self.path} is finished already; --epochs +N trains it further."]
        return describe_plan(self.parts)

    @property
    def plan(self) -> dict[str, Any]:
        """What will be done, as JSON values."""
        return dict(self.record.plan or {})

    # --- the loop's story ---------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[TrainingProgress]:
        """Train, validate every epoch, checkpoint, then test once and write the report."""
        if self.parts is None:
            self._process_group.__exit__(None, None, None)
            return
        loop = _Loop(self, self.parts)
        try:
            with self.run_dir.locked(), on_interrupt(loop.request_stop):
                seen = len(self.warnings)
                for progress in loop:
                    yield replace(progress, warnings=tuple(self.warnings[seen:]))
                    seen = len(self.warnings)
        finally:
            self._process_group.__exit__(None, None, None)


class _Loop:
    """The loop around the trainer, and what it writes."""

    def __init__(self, run: TrainingRun, parts: TrainingParts):
        self.run = run
        self.parts = parts
        self.trainer = parts.trainer
        self.plan = parts.plan
        self.state = run.state
        self.metrics: MetricsFile | None = None
        self.trackers = TrackerGroup(run.warnings.append)
        self.is_main = parts.context.rank == 0
        self.first_step = 0
        self.loop_started_at = run.started_at

    def __iter__(self) -> Iterator[TrainingProgress]:
        with ExitStack() as stack:
            try:
                self.restore_or_save_initial_state(stack)
                yield from self.train()
                yield from self.test_and_report()
            except NonFiniteError as error:
                raise self.save_last_finite(error) from None
            except ValueError as error:
                raise self.explain_value_error(error) from error
            except InterruptedTrainingError:
                self.write_record("stopped")
                raise

    def restore_or_save_initial_state(self, stack: ExitStack) -> None:
        """Continue from the newest checkpoint, or save one: random initial weights cannot be recreated."""
        saved = None
        if self.parts.has_checkpoint:
            saved = checkpoint.load_latest(self.run.run_dir.state, self.run.warnings.append)
        if saved is not None:
            self.restore(saved[1])
        self.write_record("running")
        if self.is_main:
            self.metrics = MetricsFile(self.run.path / "metrics.jsonl", self.state.metrics_bytes)
            stack.callback(self.metrics.close)
            if not self.metrics.is_complete:
                self.run.warnings.append(
                    f"{self.metrics.path} lost rows since the last checkpoint; training continues."
                )
            names = list_trackers(self.parts.options)
            self.trackers.open(names, self.run.run_dir, self.run.record, self.trainer.step)
            stack.push(self.close_trackers)
        if saved is None:
            if self.is_main:
                write_examples(self.run.run_dir, self.parts.setup.examples)
            self.save_snapshot()
            self.save_checkpoint()
        self.first_step = self.trainer.step
        self.loop_started_at = self.run.last_saved_at = time.monotonic()

    def train(self) -> Iterator[TrainingProgress]:
        """Run the trainer; validate at the end of every epoch, save when it is due."""
        if self.is_done:
            return
        for step in self.trainer:
            self.save_snapshot()
            validation = None
            if step.losses:
                self.write_row("train", step.step, {**step.losses, "lr": step.lr})
                if self.ends_epoch(step):
                    validation = self.validate(step)
            stop = distributed.any_rank(self.trainer.pause_requested)
            if stop or distributed.any_rank(self.checkpoint_due(validation is not None)):
                self.save_checkpoint()
            if stop:
                raise self.stop_error()
            if step.losses:
                yield self.progress(step, validation)
            if self.is_done:
                return

    def ends_epoch(self, step: StepReport) -> bool:
        """Whether a validation is due."""
        return step.step % self.plan.steps_per_epoch == 0 or step.step == self.plan.config.steps

    @property
    def is_done(self) -> bool:
        """Whether all steps are done, or the best validation is too long ago."""
        patience = self.parts.options.patience
        exhausted = patience is not None and self.state.epochs_without_improvement >= patience
        return self.trainer.step >= self.plan.config.steps or exhausted

    def validate(self, step: StepReport) -> dict[str, Any]:
        """Evaluate on the validation split; remember the best weights, and how long ago they were."""
        self.trainer.objective.eval()
        result = self.evaluate("val")
        self.trainer.objective.train()
        self.write_row("val", step.step, result.metrics)
        if self.is_main and result.samples:
            write_samples(self.run.run_dir, step.step, result.samples)
            self.trackers.log_samples(step.step, result.samples)
        self.run.warnings += result.warnings
        metric = self.parts.task.metrics[0]
        value = result.metrics.get(metric.name)
        if value is not None:
            value = distributed.broadcast_from_0(value)
        if value is not None and metric.is_better(value, self.state.best):
            self.state.best = value
            self.state.best_epoch = step.step / self.plan.steps_per_epoch
            self.state.epochs_without_improvement = 0
            if self.keeps_best:
                weights = self.trainer.model.state_dict()
                self.state.best_weights = {name: tensor.clone() for name, tensor in weights.items()}
        else:
            self.state.epochs_without_improvement += 1
        return result.metrics

    @property
    def keeps_best(self) -> bool:
        """Whether the best epoch's weights are saved instead of the last."""
        options = self.parts.options
        return options.patience is not None if options.keep_best is None else options.keep_best

    def evaluate(self, split: str) -> EvalResult:
        """Evaluate the (averaged) model on a split. Raises NonFiniteError naming the step."""
        parts = self.parts
        model = self.trainer.model
        try:
            if split == "val" and parts.setup.validate is not None:
                return parts.setup.validate(model)
            return parts.task.evaluate(
                model, parts.dataset.splits[split], parts.spec, parts.task_options, parts.context
            )
        except NonFiniteError as error:  # its indices are those of the split, not of the step
            message = f"After {self.trainer.step} steps, on the {split} split: {error.message}"
            raise NonFiniteError(message, error.cure, self.trainer.step) from None

    # --- the end ------------------------------------------------------------------------------------------------------

    def test_and_report(self) -> Iterator[TrainingProgress]:
        """Write the final weights, test once, and write the report."""
        self.run.is_finalizing = True
        if distributed.any_rank(self.trainer.pause_requested):
            raise self.stop_error()
        if self.state.best_weights is not None:
            self.trainer.model.load_state_dict(self.state.best_weights)
        if self.is_main:
            self.finish()
        distributed.any_rank(False)  # all leave together: a process that goes while others work can tear them down
        if self.is_main:
            self.run.is_finalizing = False
            yield self.progress(StepReport(self.trainer.step, {}, 0.0), None)

    def finish(self) -> None:
        """Save the model, its results, and the report."""
        parts = self.parts
        model = self.trainer.model
        model.eval()
        digest = self.run.run_dir.write_weights(model.state_dict())
        val = self.evaluate("val")
        test = self.evaluate("test")
        details = dict(test.details)
        details |= parts.task.final_details(model, parts.dataset, parts.spec, parts.task_options, test)
        results = Results(
            val=val.metrics,
            test=test.metrics,
            details=details,
            steps=self.trainer.step,
            epochs=round(self.trainer.step / self.plan.steps_per_epoch, 4),
            best_epoch=self.state.best_epoch,
            seconds=round(time.monotonic() - self.run.started_at, 1),
        )
        self.run.record = replace(self.run.record, weights_sha256=digest, results=results)
        self.trackers.log_metrics("test", self.trainer.step, test.metrics)
        write_training_keys(self.run.run_dir, parts.dataset.train)
        write_time_lapse(self.run.run_dir)
        history = self.run.run_dir.read_metrics()
        self.run.warnings += parts.task.advice(history, parts.spec, parts.task_options, parts.options)
        if parts.options.report:
            self.write_record("running")
            plots = parts.task.plots(model, parts.dataset, parts.spec, parts.task_options, test, history)
            write_report(self.run.run_dir, self.run.record, parts.task, parts.spec, plots)
            images = {f"plots/{plot.name}": plot.image for plot in plots if plot.image is not None}
            self.trackers.log_images(self.trainer.step, images)
        self.write_record("finished")

    # --- state --------------------------------------------------------------------------------------------------------

    def restore(self, saved: dict[str, Any]) -> None:
        """Restore trainer and loop. Raises OptionError where fewer steps are asked for than were made."""
        self.run.state = self.state = LoopState(**saved["loop"])
        self.trainer.load_state_dict(saved["trainer"])
        done = self.trainer.step
        requested = self.plan.config.steps
        if requested < done:
            epochs = done / self.plan.steps_per_epoch
            raise OptionError(
                f"{requested:,} steps in all were requested, and {self.run.path} has made {done:,} already.",
                f"Give --epochs +1, or --epochs {epochs:.4g} to finish it as it is.",
                option="epochs",
                value=requested,
            )
        if requested > self.state.steps:
            self.state.epochs_without_improvement = 0  # more was requested, so patience begins anew

    def checkpoint_due(self, validated: bool) -> bool:
        """Whether to save: every so many seconds, and after a validation unless saving takes most of the time."""
        passed = time.monotonic() - self.run.last_saved_at
        is_last = self.trainer.step >= self.plan.config.steps
        is_cheap = self.run.save_seconds < MAX_CHEAP_SAVE_SECONDS or passed >= 10 * self.run.save_seconds
        return validated and (is_last or is_cheap) or passed > self.parts.options.checkpoint_every

    def save_snapshot(self) -> None:
        """Save the weights for `thalweg explain landscape`, if this is one of the steps."""
        if self.is_main and self.trainer.step in self.parts.snapshots.steps:
            self.parts.snapshots.save(self.trainer)

    def save_checkpoint(self) -> None:
        """Save trainer and loop; every rank takes part."""
        started = time.monotonic()
        state = self.trainer.state_dict()
        if self.metrics is not None:
            self.state.metrics_bytes = self.metrics.sync()
            self.state.steps = self.plan.config.steps
            saved = {"trainer": state, "loop": vars(self.state)}
            checkpoint.save_checkpoint(self.run.run_dir.state, self.trainer.step, saved)
        self.run.last_saved_at = time.monotonic()
        self.run.save_seconds = self.run.last_saved_at - started

    def request_stop(self) -> None:
        """End the training after the step that is running, and the work after the training at once."""
        self.trainer.pause_requested = True
        if self.run.is_finalizing:
            raise self.stop_error()

    def stop_error(self) -> InterruptedTrainingError:
        """Build the error of a stopped run."""
        return InterruptedTrainingError(
            f"Stopped after {self.trainer.step} steps; everything is saved.",
            f"Continue with --resume --out {self.run.path}; `thalweg predict {self.run.path}` uses the checkpoint.",
            path=self.run.path,
            value=self.trainer.step,
        )

    def save_last_finite(self, error: NonFiniteError) -> NonFiniteError:
        """Save the last finite weights; return the error with the names of the examples of that step."""
        message = error.message
        if error.indices:
            names = self.parts.dataset.train.names(list(error.indices[:8]))
            more = f" and {len(error.indices) - 8} more" if len(error.indices) > 8 else ""
            message = f"{message} Examples of that step: {', '.join(names)}{more}."
        if self.is_main:
            model = self.trainer.model
            saved = (
                None if all_finite(model) else checkpoint.load_latest(self.run.run_dir.state, self.run.warnings.append)
            )
            if saved is not None:
                self.restore(saved[1])
                model = self.trainer.model
            if all_finite(model):
                digest = self.run.run_dir.write_weights(model.state_dict())
                self.run.record = replace(self.run.record, weights_sha256=digest)
                message = f"{message} weights.safetensors holds those after {self.trainer.step} steps."
            self.write_record("non-finite")
        return NonFiniteError(message, error.cure, error.step, error.indices)

    def explain_value_error(self, error: ValueError) -> Exception:
        """Return an OptionError where batch norm got a single value; else the error itself."""
        if "more than 1 value per channel" not in str(error):
            return error
        return OptionError(
            "BatchNorm needs more than one value per channel: this batch is a single 1x1 image.",
            "Give a larger --batch-size, a smaller --grad-accum, or larger inputs.",
            option="batch_size",
        )

    # --- what is written ----------------------------------------------------------------------------------------------

    def write_record(self, status: Status) -> None:
        """Write run.json."""
        if self.is_main:
            self.run.record = replace(self.run.record, status=status)
            self.run.run_dir.write_record(self.run.record)

    def close_trackers(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Close the trackers; they are told how the run ended."""
        if kind is None:
            self.trackers.close("finished")
        elif issubclass(kind, InterruptedTrainingError | GeneratorExit):
            self.trackers.close("stopped")
        else:
            self.trackers.close("failed")

    def write_row(self, split: str, step: int, values: dict[str, Any]) -> None:
        """Write one row of metrics."""
        row = {"step": step, "epoch": round(step / self.plan.steps_per_epoch, 4), "split": split, **values}
        if self.metrics is not None:
            self.metrics.append(row)
        self.trackers.log_metrics(split, step, values)

    def progress(self, report: StepReport, val: dict[str, Any] | None) -> TrainingProgress:
        """Return where the training stands."""
        steps = self.plan.config.steps
        done = report.step - self.first_step
        now = time.monotonic()
        eta = (now - self.loop_started_at) / done * (steps - report.step) if done else None
        steps_per_epoch = self.plan.steps_per_epoch
        return TrainingProgress(
            report.step,
            steps,
            report.step / steps_per_epoch,
            steps / steps_per_epoch,
            report.losses,
            report.lr,
            now - self.run.started_at,
            eta,
            val,
        )
