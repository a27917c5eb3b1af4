"""What a resumed run may change, and whether its data is still the same."""

from __future__ import annotations

import os
from collections.abc import Iterable, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..config.options import TrainOptions, parse_train_options, split_options
from ..config.parsing import option_fields, parse_options, parse_value
from ..data.base import Dataset
from ..errors import DataError, ModelFileError, NotFoundError, OptionError
from ..runs.run_dir import RunDir
from ..runs.run_record import RESTORE_HINT, RunRecord
from ..tasks.base import Task

#: what a resumed run may be given anew; everything else stays as it was
RESUMABLE_OPTIONS = {
    "epochs",
    "steps",
    "checkpoint_every",
    "report",
    "tracker",
    "tensorboard",
    "offline",
    "cpu_threads",
}


def read_existing_record(run_dir: RunDir | None, recipe: str | None, is_new: bool) -> RunRecord | None:
    """Return the record of the run to resume; None where there is none yet.

    Args:
        run_dir: The folder given by --out.
        recipe: The recipe's name, where one was given.
        is_new: Whether data, a recipe or options were given, so that a missing run is begun.

    Returns:
        The record.

    Raises:
        OptionError: Without --out, or for another recipe.
        NotFoundError: Where there is no run and nothing that says what to train.
    """
    if run_dir is None:
        raise OptionError("--resume needs the folder of a run.", "Give --out DIR.", option="out")
    record = run_dir.read_record() if run_dir.exists else None
    if record is None and not is_new:
        raise NotFoundError(
            f"There is no run in {run_dir.path} to resume.", "Give the folder of a run, or say what to train."
        )
    if record is not None and recipe is not None and recipe != record.recipe:
        raise OptionError(
            f"--recipe: {recipe} is not the recipe that {run_dir.path} began with ({record.recipe}).",
            "Leave it out to resume, or train anew into another --out.",
            option="recipe",
            value=recipe,
            allowed=[record.recipe],
        )
    return record


def resume_options(
    record: RunRecord, task: Task, data: Any, overrides: dict[str, Any], path: Path
) -> tuple[TrainOptions, Any]:
    """Return the options of a resumed run.

    Args:
        record: The run.
        task: The task.
        data: The data that was given again; None for the run's own.
        overrides: Options that were given.
        path: run.json, for messages.

    Returns:
        Common options and the task's own.

    Raises:
        OptionError: For an option that would make it another run.
    """
    before, own_before = recorded_options(record, task.TrainOptions, path)
    overrides = {name: value for name, value in overrides.items() if value is not None}
    if str(overrides.get("epochs", "")).startswith("+"):
        epochs = (record.plan or {}).get("epochs", 0)
        more = parse_value(option_fields(TrainOptions)["epochs"], overrides["epochs"][1:])
        overrides["epochs"] = epochs + more
    common_values, own_values = split_options(overrides, task.TrainOptions)
    common = parse_train_options(common_values)
    own = parse_options(own_values, task.TrainOptions, "--")
    if isinstance(data, str | os.PathLike):
        common = _check_same_source(before, common, os.fspath(data))
    changes = _select_changes(common_values, before, common, RESUMABLE_OPTIONS, record)
    own_changes = _select_changes(own_values, own_before, own, task.resumable_options, record)
    if {"epochs", "steps"} & set(changes):
        changes = {"epochs": None, "steps": None, "time_budget": None, **changes}
    return replace(before, **changes), replace(own_before, **own_changes)


def recorded_options(record: RunRecord, task_class: type, path: Path) -> tuple[TrainOptions, Any]:
    """Read the options of run.json. Raises ModelFileError."""
    try:
        return parse_train_options(record.options), parse_options(record.task_options, task_class)
    except OptionError as error:
        raise ModelFileError(
            f"{path}: options: {error.message}",
            f"Upgrade thalweg. {RESTORE_HINT}",
            path=path,
            option=error.option or "",
        ) from error


def _check_same_source(before: TrainOptions, common: TrainOptions, data: str) -> TrainOptions:
    if before.data is None or os.path.realpath(before.data) != os.path.realpath(data):
        raise _changed_option("data", before.data, data)
    return replace(common, data=before.data)


def _select_changes(
    names: Iterable[str], before: Any, options: Any, resumable: Set[str], record: RunRecord
) -> dict[str, Any]:
    """Return the options that a resumed run may change. Raises OptionError for another one that is not as before."""
    changes = {}
    for name in names:
        old = getattr(before, name)
        if name == "model":
            old = old or record.model
        new = getattr(options, name)
        if name in resumable:
            changes[name] = new
        elif old != new:
            raise _changed_option(name, old, new)
    return changes


def _changed_option(name: str, old: Any, new: Any) -> OptionError:
    flag = "--" + name.replace("_", "-")
    before = "not given" if old is None else old
    return OptionError(
        f"{flag}: {new} is not what this run began with ({before}).",
        "Leave it out to resume, or train anew into another --out.",
        option=name,
        value=new,
        allowed=[old],
    )


def check_same_data(record: RunRecord, dataset: Dataset[Any]) -> None:
    """Raise DataError where the data is not what the run began with: moved, renamed, grown or changed."""
    old = record.data
    if old.fingerprint == dataset.fingerprint:
        return
    counts = {name: len(split) for name, split in dataset.splits.items()}
    reason = "its content changed"
    if counts != old.counts:
        before = ", ".join(f"{count:,} {name}" for name, count in old.counts.items())
        after = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        reason = f"it had {before} examples and has {after}"
    raise DataError(
        f"{dataset.name} is not what this run was trained on: {reason}.",
        "Restore the data, or train anew into another --out.",
        path=dataset.path,
        value=dataset.fingerprint,
    )
