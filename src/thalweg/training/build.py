"""From options to the parts of a training, in this order: data, spec, model, setup, plan, trainer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import nn

from ..config.options import TrainOptions, format_command, parse_duration, parse_run_options, validate_options
from ..config.recipes import find_recipe
from ..data.base import DataRequest, Dataset
from ..engine import checkpoint, distributed
from ..engine.config import TrainConfig
from ..engine.trainer import Trainer
from ..errors import DataError, OptionError, pluralize
from ..registry import ModelEntry, find_model, find_task
from ..runs.initial_weights import from_options
from ..runs.run_dir import RunDir, create_run_dir
from ..runs.run_record import (
    InitialWeightsRecord,
    RunRecord,
    parse_data_spec,
    parse_record_part,
)
from ..runs.trackers import check_trackers
from ..tasks.base import Context, Setup, Task
from ..weights.initial import InitialWeights
from . import autotune
from . import plan as planning
from .plan import TrainPlan
from .resume import check_same_data, read_existing_record, resume_options
from .snapshots import WeightSnapshots

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class TrainingRequest:
    """What the user asked to train."""

    task: str | None
    data: Any = None
    recipe: str | None = None
    out: str | None = None
    resume: bool = False
    overrides: dict[str, Any] = field(default_factory=dict)
    load: Callable[[str], Any] | None = None
    progress: Progress | None = None

    @property
    def names_training(self) -> bool:
        """Whether it says what to train, so that a run that does not exist can be begun."""
        return self.data is not None or self.recipe is not None or bool(self.overrides)


@dataclass
class TrainingParts:
    """Everything that a training consists of."""

    task: Task
    options: TrainOptions
    task_options: Any
    dataset: Dataset[Any]
    spec: Any
    run_dir: RunDir
    record: RunRecord
    context: Context
    model: nn.Module
    setup: Setup
    plan: TrainPlan
    trainer: Trainer
    snapshots: WeightSnapshots
    has_checkpoint: bool


def build_training(
    request: TrainingRequest, log: Callable[[str], None], started_at: float
) -> TrainingParts | RunRecord:
    """Build a training, or return the record of a run that is finished already.

    Raises every error of data and options before anything is trained.
    """
    run_dir = RunDir(request.out) if request.out is not None else None
    existing = None
    if request.resume:
        existing = read_existing_record(run_dir, request.recipe, request.names_training)
    task, options, task_options = _resolve_options(request, run_dir, existing)
    is_longer = request.overrides.get("epochs") is not None or request.overrides.get("steps") is not None
    if existing is not None and existing.is_finished and not is_longer:
        return existing
    if existing is not None and run_dir is not None:
        check_data_given(existing, request.data, run_dir)
    validate_options(options)
    check_trackers(options)
    _set_threads(options, existing, log)
    has_checkpoint = existing is not None and run_dir is not None and run_dir.has_checkpoint
    entry, initial = _find_model(task, options, existing, has_checkpoint, log)
    if initial is None and existing is None and planning.is_frozen(options):
        log("--freeze without --weights: the frozen layers keep their random initialization.")
    rank, world_size = distributed.get_rank_and_world_size()
    context = Context(
        device=planning.resolve_device(options.device),
        seed=options.seed,
        rank=rank,
        world_size=world_size,
        offline=options.offline,
        log=log,
        load=request.load,
        setup_record=existing.setup if existing is not None else None,
        options=options,
    )
    old_spec = _initial_spec(task, initial, existing, run_dir)
    dataset = load_training_data(task, task_options, context, request.data, old_spec, request.progress)
    if existing is not None:
        check_same_data(existing, dataset)
    if run_dir is None:
        run_dir = _make_run_dir(task, dataset, entry.name, context.rank)
    if context.rank == 0:
        run_dir.lock(request.resume)
    try:
        builder = _Builder(
            task, options, task_options, dataset, run_dir, context, entry, initial, existing, old_spec, has_checkpoint
        )
        return builder.build(request, started_at)
    except BaseException:
        run_dir.unlock()
        raise


def _resolve_options(
    request: TrainingRequest, run_dir: RunDir | None, existing: RunRecord | None
) -> tuple[Task, TrainOptions, Any]:
    if existing is None or run_dir is None:
        return new_options(request)
    task = find_task(existing.task)()
    path = run_dir.path / "run.json"
    return task, *resume_options(existing, task, request.data, request.overrides, path)


def new_options(request: TrainingRequest) -> tuple[Task, TrainOptions, Any]:
    """Return task and options of a new run: the recipe's, then what was given. Raises OptionError."""
    overrides = {name: value for name, value in request.overrides.items() if value is not None}
    task_name = request.task
    if request.recipe is not None:
        recipe = find_recipe(request.recipe)
        task_name = recipe.task
        overrides = recipe.merge(overrides)
    if task_name is None:
        raise OptionError("No task is given.", "See `thalweg tasks`, or give --recipe NAME.", option="task")
    if isinstance(overrides.get("epochs"), str) and overrides["epochs"].startswith("+"):
        raise OptionError(
            f"--epochs {overrides['epochs']} adds epochs to a run; this run is new.",
            "Add --resume.",
            option="epochs",
            value=overrides["epochs"],
        )
    task = find_task(task_name)()
    if isinstance(request.data, str) or hasattr(request.data, "__fspath__"):
        overrides["data"] = str(request.data)
    return task, *parse_run_options(overrides, task.TrainOptions)


def _find_model(
    task: Task,
    options: TrainOptions,
    existing: RunRecord | None,
    has_checkpoint: bool,
    log: Callable[[str], None],
) -> tuple[ModelEntry, InitialWeights | None]:
    """Return the model, before any data is read, and its initial weights where there are any."""
    default = task.default_model if existing is None else existing.model
    entry = find_model(options.model or default, task.name)
    if options.weights is None or has_checkpoint:
        return entry, None
    initial = from_options(options, task.default_model, log)
    return find_model(options.model or initial.model, task.name), initial


def _set_threads(options: TrainOptions, existing: RunRecord | None, log: Callable[[str], None]) -> None:
    """Set the number of threads; sums in another order give other last bits, so a resumed run keeps its number."""
    saved_plan: dict[str, Any] = {}
    version = None
    if existing is not None:
        saved_plan = existing.plan or {}
        version = existing.versions.get("torch")
    threads = options.cpu_threads or saved_plan.get("cpu_threads")
    if isinstance(threads, int) and threads != torch.get_num_threads():
        torch.set_num_threads(threads)
    if version and version != torch.__version__:
        log(f"the run began with torch {version}, this is {torch.__version__}: the last bits may differ")


def _initial_spec(
    task: Task, initial: InitialWeights | None, existing: RunRecord | None, run_dir: RunDir | None
) -> Any | None:
    """Return the spec of the data that the initial weights were trained on, where it is known."""
    if initial is not None:
        return task.spec_from_weights(initial) if initial.spec_values else None
    record = existing.initial_weights if existing is not None else None
    if record is None or record.data_spec is None or run_dir is None:
        return None
    return parse_record_part(record.data_spec, task.DataSpec, "initial_weights.data_spec", run_dir.path / "run.json")


def load_training_data(
    task: Task, task_options: Any, context: Context, data: Any, spec: Any, progress: Progress | None = None
) -> Dataset[Any]:
    """Read the data of a training.

    Args:
        task: The task.
        task_options: Its own options.
        context: Where this runs, with the common options.
        data: Data in memory; else the data that the options name is read.
        spec: The spec of initial weights, in whose form the data is read; None for none.
        progress: Called with the examples read and their number.

    Returns:
        The data set.
    """
    options = context.options or TrainOptions()
    in_memory = data is not None and not isinstance(data, str) and not hasattr(data, "__fspath__")
    request = DataRequest(
        source=data if in_memory else options.data or task.default_data,
        val_fraction=options.val_fraction,
        strict=options.strict,
        offline=options.offline,
        for_training=True,
        log=context.log,
        progress=progress,
    )
    return task.load_data(request, task_options, context, spec)


def _make_run_dir(task: Task, dataset: Dataset[Any], model: str, rank: int) -> RunDir:
    name = f"{task.name}-{dataset.name}-{model}".replace("/", "-").replace(":", "-")
    return create_run_dir(name) if rank == 0 else RunDir("runs/.rank")


@dataclass(frozen=True)
class _Built:
    """What a record describes besides the options."""

    kwargs: dict[str, Any]
    spec: Any
    setup: Setup
    plan: TrainPlan
    weights_record: InitialWeightsRecord | None


@dataclass
class _Builder:
    """Builds model, setup, plan and trainer once data and folder are there."""

    task: Task
    options: TrainOptions
    task_options: Any
    dataset: Dataset[Any]
    run_dir: RunDir
    context: Context
    entry: ModelEntry
    initial: InitialWeights | None
    existing: RunRecord | None
    old_spec: Any
    has_checkpoint: bool

    def build(self, request: TrainingRequest, started_at: float) -> TrainingParts:
        """Build all parts."""
        spec = self._build_spec()
        defaults = self.task.default_options(self.dataset, spec, self.task_options, self.options)
        options = planning.apply_defaults(self.options, defaults | planning.suit_model(self.entry, self.options))
        model, kwargs = self._build_model(spec)
        weights_record = self._load_initial_weights(model, spec)
        if self.has_checkpoint:
            saved = checkpoint.load_latest(self.run_dir.state, lambda message: None)
            if saved is not None:
                load_checkpoint_into(model, saved[1])
        elif self.initial is None:
            self.task.init_from_data(model, self.dataset, spec, self.context)
        setup, plan = self._build_setup(model, spec, options, started_at)
        setup.objective.set_length(plan.config.steps * plan.batch_size)
        trainer = Trainer(setup.objective, setup.batches, plan.config, setup.transform)
        snapshots = WeightSnapshots(self.run_dir.path / "snapshots", trainer, self.options.snapshots)
        trainer.extra_yield_steps = snapshots.steps
        built = _Built(kwargs, spec, setup, plan, weights_record)
        record = self._build_record(request, model, built)
        return TrainingParts(
            self.task,
            options,
            self.task_options,
            self.dataset,
            spec,
            self.run_dir,
            record,
            self.context,
            model,
            setup,
            plan,
            trainer,
            snapshots,
            self.has_checkpoint,
        )

    def _build_spec(self) -> Any:
        if self.existing is not None:
            return parse_data_spec(self.existing, self.task.DataSpec, self.run_dir.path / "run.json")
        spec = self.task.data_spec(self.dataset, self.task_options)
        if self.old_spec is not None:
            spec = self.task.spec_for_transfer(self.old_spec, spec)
        return self.task.spec_for_training(spec, self.dataset, self.task_options, self.options)

    def _build_model(self, spec: Any) -> tuple[nn.Module, dict[str, Any]]:
        torch.manual_seed(self.options.seed)
        from_weights: dict[str, Any] = {}
        build_kwargs: dict[str, Any] = {}
        if self.initial is not None:
            from_weights = self.initial.model_kwargs
            build_kwargs = self.initial.build_kwargs
        kwargs = {**self.task.model_kwargs(spec), **from_weights, **self.options.model_kwargs}
        if self.existing is not None:
            kwargs = self.existing.model_kwargs
        model = self.entry(**{**kwargs, **build_kwargs})
        return model.to(self.context.device, memory_format=torch.channels_last), kwargs

    def _load_initial_weights(self, model: nn.Module, spec: Any) -> InitialWeightsRecord | None:
        if self.initial is None:
            return self.existing.initial_weights if self.existing is not None else None
        reset_head = self.old_spec is not None and self.task.reset_on_transfer(self.old_spec, spec)
        reset = self.initial.load_into(model, reset_head, self.context.log)
        return InitialWeightsRecord(
            weights=str(self.options.weights),
            file=self.initial.path.name if self.initial.tensors else str(self.initial.path),
            sha256=self.initial.sha256,
            reset=reset,
            license=self.initial.license,
            data_spec=asdict(self.old_spec) if self.old_spec is not None else None,
        )

    def _build_setup(
        self, model: nn.Module, spec: Any, options: TrainOptions, started_at: float
    ) -> tuple[Setup, TrainPlan]:
        """Return setup and plan; a saved plan is kept but for its number of steps."""

        def make_setup(batch_size: int) -> Setup:
            return self.task.setup(model, self.dataset, spec, self.task_options, batch_size, self.context)

        if self.existing is not None and self.existing.plan is not None:
            plan = self._restore_plan(self.existing.plan)
            return make_setup(plan.batch_size), _extend_steps(plan, self.options)
        precision = planning.resolve_precision(options.precision, self.context.device, model)
        batch_size = options.batch_size or 64
        if isinstance(batch_size, str):
            batch_size = autotune.find_batch_size(
                make_setup, lambda setup: planning.resolve_config(options, setup.batches, precision)
            )
        setup = make_setup(batch_size)
        config = planning.resolve_config(options, setup.batches, precision)
        if options.lr == "auto":
            config = replace(config, lr=autotune.lr_range_test(setup, config))
        if options.time_budget is not None:
            config = self._fit_budget(setup, config, spec, started_at)
        plan = TrainPlan(
            str(self.context.device),
            torch.get_num_threads(),
            self.context.world_size,
            setup.batches.batch_size,
            setup.batches.steps_per_epoch,
            config,
        )
        return setup, _extend_steps(plan, self.options)

    def _fit_budget(self, setup: Setup, config: TrainConfig, spec: Any, started_at: float) -> TrainConfig:
        """Choose the number of steps for the time budget, which includes what the planning took."""
        step_seconds = autotune.time_steps(setup, config)
        start = time.monotonic()
        model = setup.objective.model
        if setup.validate is not None:
            setup.validate(model)
        else:
            self.task.evaluate(model, self.dataset.val, spec, self.task_options, self.context)
        validation_seconds = distributed.broadcast_from_0(time.monotonic() - start)
        budget = parse_duration(str(self.options.time_budget))
        elapsed = distributed.broadcast_from_0(time.monotonic() - started_at)
        left = max(budget - elapsed, budget / 4)  # where planning took nearly all, a quarter is trained all the same
        return autotune.steps_within_budget(
            config, left, step_seconds, validation_seconds, setup.batches.steps_per_epoch
        )

    def _restore_plan(self, values: dict[str, Any]) -> TrainPlan:
        """Return the plan in run.json, as far as it can be kept on this machine."""
        plan = TrainPlan.parse(values, self.run_dir.path / "run.json")
        device = str(self.context.device)
        world_size = self.context.world_size
        for name, old, new in (("device", plan.device, device), ("world_size", plan.world_size, world_size)):
            if old != new:
                self.context.log(f"the run began with {name} {old}, this is {new}: the last bits may differ")
        graph = planning.supports_cuda_graph(plan.config.cuda_graph, self.context.device)
        config = replace(plan.config, cuda_graph=graph)
        threads = torch.get_num_threads()
        return replace(plan, device=device, cpu_threads=threads, world_size=world_size, config=config)

    def _build_record(self, request: TrainingRequest, model: nn.Module, built: _Built) -> RunRecord:
        if self.existing is not None:
            return replace(
                self.existing,
                options=asdict(self.options),
                task_options=asdict(self.task_options),
                plan=built.plan.json(),
            )
        data = request.data
        in_memory = data is not None and not isinstance(data, str) and not hasattr(data, "__fspath__")
        return RunRecord.begin(
            task=self.task.name,
            model=self.entry.name,
            model_kwargs=built.kwargs,
            options=asdict(self.options),
            task_options=asdict(self.task_options),
            data_spec=asdict(built.spec),
            dataset=self.dataset,
            in_memory=in_memory,
            recipe=request.recipe,
            command=format_command(self.task.name, self.options, self.task_options),
            seed=self.options.seed,
            num_params=sum(param.numel() for param in model.parameters()),
            main_metric=self.task.metrics[0].name,
            plan=built.plan.json(),
            initial_weights=built.weights_record,
            setup=dict(built.setup.record),
        )


def load_checkpoint_into(model: nn.Module, state: dict[str, Any]) -> None:
    """Load the trained (not averaged) weights of a checkpoint into a model."""
    objective = state["trainer"]["objective"]
    tensors = {}
    for name, value in objective.items():
        if name.startswith("model."):
            tensors[name.removeprefix("model.")] = value
    model.load_state_dict(tensors)


def _extend_steps(plan: TrainPlan, options: TrainOptions) -> TrainPlan:
    """Return the plan with the number of steps that the options ask for, which a resumed run may raise."""
    steps = options.steps
    if steps is None and options.epochs is not None:
        steps = max(1, round(options.epochs * plan.steps_per_epoch))
    return replace(plan, config=replace(plan.config, steps=steps)) if steps else plan


def describe_plan(parts: TrainingParts) -> list[str]:
    """Return the first lines of a run."""
    plan = parts.plan
    config = plan.config
    dataset = parts.dataset
    counts = ", ".join(f"{count:,} {name}" for name, count in parts.record.data.counts.items())
    threads = f", {pluralize(plan.cpu_threads, 'thread')}" if plan.device == "cpu" else ""
    params = f"{parts.record.num_params:,} parameters"
    if config.trainable_groups is not None:
        count = sum(param.numel() for params_ in parts.trainer.trainable_params.values() for param in params_)
        params = f"{count:,} of {params} trained"
    lines = [
        f"{dataset.name} ({dataset.format}): {dataset.summary}; {counts}",
        f"{parts.record.model}: {params}, {config.precision} on {plan.device}{threads}",
        f"{config.steps:,} steps of {plan.batch_size} ({plan.epochs:.3g} epochs), "
        f"{config.optimizer}, lr {config.lr:g} {config.schedule}",
    ]
    if parts.setup.validate is not None and planning.is_frozen(parts.options):
        lines.append("only the head is trained: backbone features are computed once")
    if config.unfreeze_interval:
        lines.append(f"one more layer group is unfrozen every {config.unfreeze_interval:,} steps")
    lines += parts.setup.notes
    lines += dataset.messages()
    if parts.snapshots.steps:
        count = len(parts.snapshots.steps)
        lines.append(f"saves {count} weight snapshots: {parts.snapshots.bytes / 1e6:.3g} MB (--snapshots)")
    return [*lines, f"writing to {parts.run_dir.path}"]


def check_data_given(record: RunRecord, data: Any, run_dir: RunDir) -> None:
    """Raise DataError where a run on data in memory is resumed without the data."""
    if data is None and record.data.in_memory:
        raise DataError(f"{run_dir.path} was trained on data in memory.", "Give the data again.", path=run_dir.path)
