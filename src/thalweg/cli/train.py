"""`thalweg train`: plan, progress, summary, and the run's folder last."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ..config.options import TrainOptions
from ..errors import NotFoundError, OptionError, ThalwegError
from ..io.log import Notify
from . import option_flags
from .console import (
    ReadingProgress,
    escape_controls,
    is_main_process,
    make_progress,
    print_notice,
    print_result,
)


def train(
    task: Annotated[str | None, typer.Argument(metavar="TASK", help="what to train; see `thalweg tasks`")] = None,
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help="folder, file or name of a data set; see `thalweg data list`")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(metavar="NAME", help="start from a recipe; see `thalweg recipes`")
    ] = None,
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="the run's folder  [default: a new one in runs/]")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="continue the run in --out exactly where it stopped")
    ] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="any option, or an argument of the model")
    ] = None,
    **given: Any,
) -> None:
    """Train a model. The last line on standard output is the run's folder.

    `thalweg train TASK --help` lists the options of a task too.

    \b
    thalweg train classify                                          the default data and model
    thalweg train classify photos/ --time-budget 10m --out runs/a   for ten minutes
    thalweg train write book.txt                                    a text, character by character
    thalweg train --recipe mnist-lenet                              a published result
    thalweg train --resume --out runs/a --epochs +5                 five epochs more
    """
    option_types = [TrainOptions, *_task_option_types(_known_task)]
    overrides = option_flags.parse_flags(given, settings or (), option_types)
    if "data" in overrides:
        if data is not None:
            raise OptionError("'data' is given twice.", "Leave one of the two out.", option="data", value=data)
        data = overrides.pop("data")
    from ..api import plan_training

    notify = Notify(print_notice, ReadingProgress().show)
    try:
        run = plan_training(task, data, recipe=recipe, out=out, resume=resume, notify=notify, **overrides)
    except NotFoundError as error:
        if task and os.path.exists(task):
            from ..inference.datasets import guess_task

            error.cure = f"Did you mean: thalweg train {guess_task(Path(task))} {task}? See `thalweg tasks`."
        raise
    _follow(run)


def _follow(run: Any) -> None:
    """Print plan, progress and summary of a training, and its folder last."""
    for line in run.describe():
        print_notice(line)
    with make_progress() as display:
        for progress in run:
            display.show(progress)
    if is_main_process():
        from .. import api

        for line in api.Run(run.run_dir).summary():
            print_result(escape_controls(line))
        print_result(str(run.path))


#: the task whose own flags `train` has at the moment
_known_task: str | None = None


def prepare_flags(words: Sequence[str]) -> None:
    """Give `train` the common flags, and those of the task that the words name."""
    global _known_task
    _known_task = find_task_name(words)
    option_flags.add_flags(train, TrainOptions, *_task_option_types(_known_task))


def _task_option_types(name: str | None) -> list[type]:
    if name is None:
        return []
    from ..registry import find_task

    try:
        return [find_task(name).TrainOptions]
    except NotFoundError:  # `train` itself says so
        return []


def find_task_name(words: Sequence[str]) -> str | None:
    """Return the task that the words of `thalweg train` name: itself, by a recipe, or by the run to resume."""
    name, values = option_flags.scan_words(words, ["--recipe", "--out", "--set"], [TrainOptions])
    if "--recipe" in values:
        from ..config.recipes import find_recipe

        try:
            return find_recipe(values["--recipe"]).task
        except ThalwegError:  # reported when the training is planned
            return None
    if "--resume" in words and "--out" in values:
        task = _task_of_run(Path(values["--out"]) / "run.json")
        if task is not None:
            return task
    return name


def _task_of_run(path: Path) -> str | None:
    try:
        task = json.loads(path.read_text(encoding="utf-8")).get("task")
    except (OSError, ValueError, AttributeError):
        return None
    return task if isinstance(task, str) else None
