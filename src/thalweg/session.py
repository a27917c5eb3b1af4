"""One training from its plan to its report: ordinary code around the trainer's loop. Knows tasks by their base only."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from . import plan as planning
from .data.dataset import Data
from .errors import DataError, NonFinite, Stopped
from .options import Options
from .plan import Plan
from .registry import find_model
from .run import MetricsFile, RunFolder
from .tasks.base import Task
from .train import checkpoint, ranks
from .train.trainer import Report, Trainer


@dataclass(frozen=True)
class Progress:
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
class Standing:
    """What the story around the loop must remember across a kill; a part of every checkpoint."""

    metrics_bytes: int = 0
    best: float | None = None
    best_epoch: float = 0.0
    worse: int = 0
    ended: bool = False
    best_weights: dict[str, Any] | None = None
    valid: dict[str, Any] = field(default_factory=dict)


class Session:
    """A training in a folder. Iterating trains, and finishes with the test; `content` is what run.json holds.

    `content` may come from a run that was cut off: then the newest whole checkpoint is gone on from.
    """

    def __init__(self, task: Task, options: Options, data: Data, folder: RunFolder, content: dict[str, Any], notice: Callable):
        self.task, self.options, self.data, self.folder, self.content, self.notice = task, options, data, folder, content, notice
        self.begun = time.monotonic()
        self.facts = content.get("facts") or task.facts(data)
        self.device = planning.choose_device(options)
        self.standing = Standing()
        self._prepare()

    def _prepare(self) -> None:
        torch.manual_seed(self.options.seed)
        self.model_name = self.options.model or self.task.default_model
        entry = find_model(self.model_name, self.task.name)
        network = entry(**{**self.task.arguments(self.facts), **self.options.arguments})
        network = network.to(self.device, memory_format=torch.channels_last)
        self.parameters = sum(w.numel() for w in network.parameters())
        objective = self.task.objective(network, self.facts, self.options).to(self.device)
        augment = self.task.augment(self.facts, self.options)
        saved = self.content.get("plan")
        plan = Plan.from_json(saved) if saved else self._plan(objective, augment)
        self.plan = self._extended(plan)
        self.trainer = Trainer(objective, self._stream(self.plan.batch), self.plan.recipe, augment)

    def _stream(self, batch: int):
        return self.task.stream(self.data.train, batch, self.options.seed, ranks.rank(), ranks.count(), self.device)

    def _plan(self, objective, augment) -> Plan:
        options = self.options
        precision = planning.choose_precision(options, self.device, objective.network)
        if options.batch == "auto":
            recipe = planning.recipe_of(options, self._stream(32), precision)
            batch = planning.quickest_batch(objective, self._stream, recipe, augment)
        else:
            batch = options.batch or planning.usual_batch(len(self.data.train))
        stream = self._stream(batch)
        recipe = planning.recipe_of(options, stream, precision)
        if options.lr == "auto":
            recipe = replace(recipe, lr=planning.range_test(objective, stream, recipe, augment))
        if options.time is not None:
            per_step = planning.time_steps(objective, stream, recipe, augment)
            start = time.monotonic()
            self.task.score(objective.network, self.data.valid, self.facts, self.device)
            per_validation = ranks.first(time.monotonic() - start)
            left = planning.seconds(options.time) - ranks.first(time.monotonic() - self.begun)
            recipe = planning.fit_time(recipe, left, per_step, per_validation, stream.steps_per_epoch)
        return Plan(str(self.device), torch.get_num_threads(), ranks.count(), stream.batch, stream.steps_per_epoch, recipe)

    def _extended(self, plan: Plan) -> Plan:
        """The plan with the number of steps that the options ask for, which a resumed run may raise."""
        steps = self.options.steps
        if steps is None and self.options.epochs is not None:
            steps = max(1, round(self.options.epochs * plan.steps_per_epoch))
        return replace(plan, recipe=replace(plan.recipe, steps=steps)) if steps else plan

    def __iter__(self) -> Iterator[Progress]:
        with ExitStack() as stack:
            stack.callback(self.folder.release)
            state = checkpoint.load(self.folder.state, self.notice)
            if state:
                self._restore(state[1])
            self._describe("running")
            metrics = None
            if ranks.rank() == 0:
                metrics = MetricsFile(self.folder.path / "metrics.jsonl", self.standing.metrics_bytes)
                stack.callback(metrics.close)
            stack.enter_context(self._pause_on_signals())
            try:
                if not self.standing.ended:
                    yield from self._train(metrics, stack)
            except NonFinite as error:
                raise self._kept(error) from None
            yield from self._finish()

    def _train(self, metrics: MetricsFile | None, stack: ExitStack) -> Iterator[Progress]:
        board = self._tensorboard(stack)
        spe, last_saved, started, first = self.plan.steps_per_epoch, time.monotonic(), time.monotonic(), self.trainer.step
        for report in self.trainer:
            if ranks.agree(self.trainer.pause):
                self._save(metrics)
                self._describe("stopped")
                raise Stopped(f"Stopped at step {report.step}; everything is saved.", cure=f"Go on with --resume --out {self.folder.path}.")
            if not report.losses:
                continue
            row = {"step": report.step, "epoch": round(report.step / spe, 4), "split": "train", **report.losses, "lr": report.lr}
            self._write(metrics, board, row)
            valid = None
            if report.step % spe == 0 or report.step == self.plan.recipe.steps:
                valid = self._validate(report, metrics, board)
            if valid is not None or ranks.agree(time.monotonic() - last_saved > self.options.save_every):
                self._save(metrics)
                last_saved = time.monotonic()
            yield self._progress(report, started, first, valid)
            if self.standing.ended:
                return

    def _validate(self, report: Report, metrics, board) -> dict[str, Any]:
        """Scores the validation set; decides which weights are best and whether to stop early."""
        self.trainer.objective.eval()
        results, _ = self.task.score(self.trainer.network, self.data.valid, self.facts, self.device)
        self.trainer.objective.train()
        epoch = report.step / self.plan.steps_per_epoch
        self._write(metrics, board, {"step": report.step, "epoch": round(epoch, 4), "split": "valid", **results})
        standing, figure = self.standing, results.get(self.task.judged_by)
        standing.valid = results
        if figure is not None and (standing.best is None or figure > standing.best):
            standing.best, standing.best_epoch, standing.worse = figure, epoch, 0
            if self.options.patience:
                standing.best_weights = {k: v.clone() for k, v in self.trainer.network.state_dict().items()}
        else:
            standing.worse += 1
        patience = self.options.patience
        standing.ended = report.step == self.plan.recipe.steps or bool(patience and standing.worse >= patience)
        return results

    def _finish(self) -> Iterator[Progress]:
        """The final weights, the one test, and everything that is drawn and written of it."""
        network = self.trainer.network
        if self.standing.best_weights:
            network.load_state_dict(self.standing.best_weights)
        if ranks.rank() > 0:
            return
        network.eval()
        self.content["weights_sha256"] = self.folder.write_weights(network.state_dict())
        valid, _ = self.task.score(network, self.data.valid, self.facts, self.device)
        test, outcome = self.task.score(network, self.data.test, self.facts, self.device)
        self.content["results"] = {
            "valid": valid,
            "test": test,
            **outcome.details,
            "steps": self.trainer.step,
            "epochs": round(self.trainer.step / self.plan.steps_per_epoch, 4),
            "best_epoch": self.standing.best_epoch,
            "seconds": round(time.monotonic() - self.begun, 1),
        }
        self._describe("finished")
        if self.options.report:
            from . import leave

            leave.pictures_and_report(self, network, outcome)
        yield self._progress(Report(self.trainer.step, {}, 0.0), time.monotonic(), self.trainer.step, None)

    def _restore(self, state: dict[str, Any]) -> None:
        self.standing = Standing(**state["standing"])
        self.trainer.load_state_dict(state["trainer"])
        if self.trainer.step < self.plan.recipe.steps and not self.options.patience:
            self.standing.ended = False

    def _save(self, metrics: MetricsFile | None) -> None:
        state = self.trainer.state_dict()  # every rank takes part
        if ranks.rank() == 0:
            self.standing.metrics_bytes = metrics.sync()
            self.folder.state.mkdir(exist_ok=True)
            checkpoint.save(self.folder.state, self.trainer.step, {"trainer": state, "standing": vars(self.standing)})

    def _kept(self, error: NonFinite) -> NonFinite:
        """The error with the names of the samples; the weights before the bad update are written."""
        if ranks.rank() == 0:
            self.content["weights_sha256"] = self.folder.write_weights(self.trainer.network.state_dict())
            self._describe("non-finite")
        names = [self.data.train.sources[row] for row in error.rows[:8]]
        more = f" and {len(error.rows) - 8} more" if len(error.rows) > 8 else ""
        message = f"{error.message} Samples of that step: {', '.join(names)}{more}."
        return NonFinite(message, error.cure, error.step, error.rows)

    def _describe(self, status: str) -> None:
        if ranks.rank() == 0:
            self.content |= {"status": status, "plan": self.plan.json(), "facts": self.facts, "model": self.model_name, "parameters": self.parameters}
            self.folder.write(self.content)

    def _progress(self, report: Report, started: float, first: int, valid: dict | None) -> Progress:
        steps, spe = self.plan.recipe.steps, self.plan.steps_per_epoch
        done = report.step - first
        remaining = (time.monotonic() - started) / done * (steps - report.step) if done else None
        elapsed = time.monotonic() - self.begun
        return Progress(
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
        if not self.options.tensorboard or ranks.rank() > 0:
            return None
        from .leave import tensorboard_writer

        board = tensorboard_writer(self.folder.path / "tensorboard")
        stack.callback(board.close)
        return board

    @contextmanager
    def _pause_on_signals(self):
        """Ctrl-C and SIGTERM end the training after the step that is running; a second one ends the process at once."""
        before = {}

        def ask(number, frame):
            self.trainer.pause = True
            signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler)

        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                before[number] = signal.signal(number, ask)
        except ValueError:  # not in the main thread, as in a notebook's worker: signals are not ours
            pass
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def same_data(content: dict[str, Any], data: Data) -> None:
    """Raises DataError where the data is not what the run began with."""
    known = content.get("data", {}).get("fingerprint")
    if known and known != data.fingerprint:
        raise DataError(
            f"{data.name} is not what this run was trained on: its content has changed.",
            cure="Restore the data, or train anew into another --out.",
        )


