"""Everything that the command line and the studio use, and what `import thalweg` offers.

train, plan_training       a training, in full or step by step
explain                    a concept, or what a model looked at
load                       a run, a bundled model, or a published one: predict, sample, evaluate, explain, export
list_tasks, list_models, list_recipes, list_concepts, list_datasets, list_weights

What only one verb needs is imported by that verb.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import registry
from .config.options import TrainOptions
from .config.parsing import option_fields
from .config.recipes import load_recipes
from .errors import NotFoundError, OptionError, did_you_mean
from .inference.load import load, resolve_name
from .inference.model import TrainedModel
from .inference.run import Run
from .inference.sources import iter_sources
from .io.log import Notify, log_warning
from .predictions.base import Prediction, UnreadableSource
from .weights.store import download_weights, get_weights_path, list_weights

if TYPE_CHECKING:
    from typing import Unpack

    from .tasks.train_keywords import TrainKeywords
    from .training.run import TrainingRun

__all__ = [
    "Prediction",
    "Run",
    "TrainedModel",
    "UnreadableSource",
    "check_dataset",
    "compare_models",
    "concept_text",
    "download_dataset",
    "download_weights",
    "explain",
    "export_samples",
    "format_metrics",
    "get_weights_path",
    "is_concept",
    "layer_summary",
    "list_concepts",
    "list_datasets",
    "list_layer_groups",
    "list_models",
    "list_recipes",
    "list_tasks",
    "list_weights",
    "load",
    "plan_training",
    "raise_unknown_name",
    "task_of",
    "train",
]


def train(
    task: str | None = None,
    data: Any = None,
    *,
    recipe: str | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    **options: Unpack[TrainKeywords],
) -> Run:
    """Train to the end and return the run.

    Args:
        task: The task, such as "classify"; a recipe brings its own.
        data: A path, the name of a data set, or data in memory: a Dataset, or (images, labels).
        recipe: The name of a recipe, or a YAML file.
        out: The run's folder. Default: a new one in runs/.
        resume: Continue the run in `out` exactly where it stopped.
        options: Any option of `thalweg train TASK --help`, and `model_kwargs` for the model.

    Returns:
        The finished run.

    Raises:
        OptionError: For an option that does not exist or has a value that is not allowed.
        DataError: For data that cannot be used.
    """
    run = plan_training(task, data, recipe=recipe, out=out, resume=resume, **options)
    for line in run.describe():
        log_warning(line)
    show = _make_notebook_progress()
    for progress in run:
        for warning in progress.warnings:
            log_warning(warning)
        if show is not None:
            show(progress)
        elif progress.val:
            log_warning(
                f"epoch {progress.epoch:g}/{progress.epochs:g}  {format_metrics(progress.losses, progress.val)}"
            )
    return Run(run.run_dir)


def _complete_signature() -> None:
    """Give `train` a signature with all common options, so that help, completion and editors see them."""
    signature = inspect.signature(train)
    parameters = [item for item in signature.parameters.values() if item.kind is not item.VAR_KEYWORD]
    variable = [item for item in signature.parameters.values() if item.kind is item.VAR_KEYWORD]
    lines = []
    for field in option_fields(TrainOptions).values():
        if field.name == "data":
            continue
        parameters.append(
            inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.kind)
        )
        lines.append(f"        {field.name}: {field.help}")
    train.__signature__ = signature.replace(parameters=[*parameters, *variable])  # type: ignore[attr-defined]
    text = train.__doc__ or ""
    train.__doc__ = text + "\n    Common options:\n" + "\n".join(lines) + "\n"


_complete_signature()


def _make_notebook_progress() -> Callable[[Any], None] | None:
    """Return a function that shows progress in a notebook; None outside of one."""
    from .pages.notebook import make_progress_display

    return make_progress_display()


def format_metrics(losses: Mapping[str, float], val: Mapping[str, Any]) -> str:
    """Format training losses and validation metrics in one line, those first that both have."""
    parts = [f"{name} {value:.4f}" for name, value in losses.items()]
    numbers = {name: value for name, value in val.items() if isinstance(value, float)}
    shared = [name for name in losses if name in numbers] or list(numbers)[:3]
    parts += [f"val {name} {numbers[name]:.4f}" for name in shared]
    return "  ".join(parts)


def plan_training(
    task: str | None = None,
    data: Any = None,
    *,
    recipe: str | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    notify: Notify | None = None,
    **options: Any,
) -> TrainingRun:
    """Return a TrainingRun: planned, checked, not begun. Iterating it trains and yields TrainingProgress."""
    from .training.build import TrainingRequest
    from .training.run import TrainingRun

    if data is not None and isinstance(data, os.PathLike):
        data = os.fspath(data)
    folder = os.fspath(out) if out is not None else None
    notify = notify or Notify()
    request = TrainingRequest(task, data, recipe, folder, resume, options, load, notify.progress)
    return TrainingRun(request, notify.log)


def compare_models(
    names: Sequence[str], sources: Any, weights: str | None = None, offline: bool = False, **options: Any
) -> dict[str, Iterator[Prediction | UnreadableSource]]:
    """Return the predictions of several models for the same sources, by name; every URL is fetched once.

    Weights are downloaded only if all names are known and there is a readable source. Raises what `load` and
    `TrainedModel.predict` raise.
    """
    input_types = {registry.find_task(task_of(name, weights)).input_type for name in names}
    if None in input_types:
        raise OptionError(f"{', '.join(names)}: a model that only samples reads nothing.", value=list(names))
    if len(input_types) != 1:
        raise OptionError(f"{', '.join(names)} do not read the same kind of source.", value=list(names))
    listed = list(iter_sources(sources, input_types.pop(), num_models=len(names)))
    unreadable = [source.content for source in listed if isinstance(source.content, UnreadableSource)]
    if listed and len(unreadable) == len(listed):
        return {name: iter(unreadable) for name in names}
    models = {name: load(name, weights, offline) for name in names}
    return {name: model.predict(listed, **options).drain() for name, model in models.items()}


def task_of(name: str, weights: str | None = None) -> str:
    """Return the task of a run or model, without loading weights. Raises what `load` raises for an unknown name."""
    from .runs.run_dir import RunDir

    folder = resolve_name(name, weights)
    if folder is not None:
        return RunDir(folder).read_record().task
    return registry.find_model(name).task


def explain(name: Any = None, *inputs: Any, offline: bool = False, **settings: Any) -> Any:
    """Explain a concept with these settings, or what a model looked at in a source. Both have draw() and json().

    Args:
        name: A concept, a run, or a model with published weights. None lists the concepts.
        inputs: What the concept is about (an image, a table, a run), or the source of a model.
        offline: Never use the network.
        settings: Settings of the concept; for a model those of its task, such as `target_class` and `methods`.
            `weights` is what `load` takes, but for concepts that have a setting of that name.

    Returns:
        A RenderedConcept, or what the task explains.

    Raises:
        NotFoundError: For a name of nothing.
        OptionError: For an unknown setting.
    """
    from .inference import explain_concept

    if name is None:
        return list_concepts()
    if is_concept(name):
        return explain_concept.explain_concept(name, inputs, settings, offline)
    weights = settings.pop("weights", None)
    if len(inputs) != 1:
        raise_unknown_name(name)
        raise OptionError(f"{name} needs exactly one source.", "explain(name, source)", value=len(inputs))
    return load(name, weights, offline).explain(inputs[0], **settings)


def is_concept(name: Any) -> bool:
    """Whether a concept has that name."""
    return isinstance(name, str) and name in registry.get_concepts()


def concept_text(name: str) -> list[str]:
    """Return the text of a concept and its settings, in lines. Raises NotFoundError."""
    from .inference import explain_concept

    text = explain_concept.find_concept(name).text
    exercises = [f"{number}. {exercise}" for number, exercise in enumerate(text.exercises, 1)]
    settings = explain_concept.settings_help(name)
    body = " ".join(text.body.split())
    return [text.title, "", body, "", *settings, "", "Exercises", *exercises, "", f"Source: {text.source}"]


def raise_unknown_name(name: Any) -> None:
    """Raise NotFoundError, with the nearest concepts, for a name that is neither a concept, a run nor a model."""
    try:
        resolve_name(name)
    except NotFoundError as error:
        concepts = did_you_mean(str(name), registry.get_concepts())
        matches = " ".join(cure for cure in (concepts, error.cure) if cure.startswith("Did"))
        error.cure = matches or f"{error.cure} Concepts: {concepts}"
        raise


def list_concepts() -> list[dict[str, Any]]:
    """Return a row per concept, in the order of the talk."""
    from .inference import explain_concept

    return explain_concept.list_concepts()


def list_models() -> list[dict[str, Any]]:
    """Return a row per model: name, task, summary, paper, arguments with their defaults."""
    rows = []
    for entry in registry.get_models().values():
        arguments = {}
        for name, parameter in entry.parameters.items():
            arguments[name] = None if parameter.default is parameter.empty else parameter.default
        rows.append(
            {
                "name": entry.name,
                "task": entry.task,
                "summary": entry.summary,
                "paper": entry.paper,
                "arguments": arguments,
            }
        )
    return rows


def list_tasks() -> list[dict[str, Any]]:
    """Return a row per task: name, description, default model and data."""
    rows = []
    for name, cls in registry.get_tasks().items():
        rows.append(
            {"name": name, "description": cls.description, "model": cls.default_model, "data": cls.default_data}
        )
    return rows


def list_recipes() -> list[dict[str, Any]]:
    """Return a row per recipe."""
    return [asdict(recipe) for recipe in load_recipes().values()]


def list_layer_groups(name: str) -> list[dict[str, Any]]:
    """Return a row per layer group of a model, from the input on: what --freeze and --unfreeze-groups count."""
    from .inference.layer_tables import layer_group_rows

    return layer_group_rows(name)


def layer_summary(name: str) -> dict[str, Any]:
    """Return a model layer by layer, for one example of the size that it is made for, and all layers in total."""
    from .inference.layer_tables import layer_summary_of

    return layer_summary_of(name)


def check_dataset(source: str, task: str | None = None, *, notify: Notify | None = None, **options: Any) -> Any:
    """Check a data set: formats, counts, unreadable files, duplicates. Has ok, lines(), json() and picture()."""
    from .inference.datasets import check_source

    return check_source(source, task, options, notify or Notify())


def list_datasets() -> list[dict[str, Any]]:
    """Return a row per data that has a name, of every task: what it is, its terms, and where it is on this machine."""
    from .inference.datasets import list_named_data

    return [item.row(task) for task, item in list_named_data()]


def download_dataset(name: str, offline: bool = False) -> Path | None:
    """Download data by name into the cache, if it is nowhere yet; return where it is, None if it needs no files."""
    from .inference.datasets import find_named_data

    return find_named_data(name).fetch(offline, log_warning)


def export_samples(name: str, count: int, out: str | os.PathLike[str]) -> list[Path]:
    """Write images of the test split of a data set as PNG files NAME-INDEX-is-CLASS.png, one of each class in turn."""
    from .data.images.samples import export_samples

    return export_samples(name, count, Path(out))
