"""A training before it begins: options from a recipe and from what was given, the data, the folder, the plan."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from .. import registry
from ..config import options as settings
from ..config import recipes
from ..config.options import Options
from ..data.images.dataset import ImageDataset
from ..engine import distributed as ranks
from ..errors import DataError, NotFoundError, OptionError
from ..inference.model import Run
from ..io.log import log_warning
from ..runs import initial_weights as starting
from ..runs.run_dir import RunDir, create_run_dir
from ..version import __version__
from . import plan as planning
from .run import TrainingLoop, TrainingProgress

#: what a resumed run may be told anew; everything else is as it was
RESUMABLE_OPTIONS = {"epochs", "steps", "save_every", "report", "tensorboard", "offline", "threads"}


class TrainingRun:
    """A training that is planned but not begun. Iterating it trains and yields Progress; then `run` is there.

    Raises every error of data and settings when it is made, before anything is trained.
    """

    def __init__(
        self,
        task: str = "classify",
        data: Any = None,
        *,
        recipe: str | None = None,
        out: Any = None,
        resume: bool = False,
        notice: Callable[[str], None] = log_warning,
        **given: Any,
    ):
        self.notices: list[str] = []
        self._joined = ranks.process_group(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        self._joined.__enter__()
        try:
            self._prepare(task, data, recipe, RunDir(out) if out is not None else None, resume, notice, given)
        except BaseException:
            self._joined.__exit__(None, None, None)
            raise

    def _prepare(self, task, data, recipe, folder, resume, notice, given) -> None:
        content = self._found(folder, recipe, resume, new=data is not None or recipe is not None or bool(given))
        if content:
            task, options = content["task"], resume_options(content, data, given)
            if content.get("status") == "finished" and given.get("epochs") is None and given.get("steps") is None:
                self.session, self.folder, self.content = None, folder, content
                return
        else:
            task, options = new_options(task, data, recipe, given)
        planning.validate_options(options)
        self._set_threads(options, content)
        chosen = registry.find_task(task)()
        registry.find_model(options.model or chosen.default_model, task)  # a name that nothing has is told at once
        if data is None and content.get("data", {}).get("in_memory"):
            raise DataError(f"{folder.path} was trained on data in memory.", cure="Give the data again.")
        begun = folder is not None and folder.begun
        start = None if begun else starting.from_options(options, chosen.default_model, notice)
        if start is None and not content and (options.freeze or options.unfreeze is not None):
            self.notices.append("Nothing was learned elsewhere (--weights): frozen parts stay as chance made them.")
        form = content.get("form", {}) if begun or start is None else start.form
        loaded = data if isinstance(data, ImageDataset) else chosen.read(options, notice, form)
        check_same_data(content, loaded)
        if folder is None:
            model = options.model or (start.model if start else chosen.default_model)
            name = f"{task}-{loaded.name}-{model}".replace("/", "-").replace(":", "-")
            folder = create_run_dir(name) if ranks.get_rank() == 0 else RunDir("runs/.rank")
        if ranks.get_rank() == 0:
            folder.claim(resume)
        content = content or initial_record(task, options, recipe, loaded, in_memory=isinstance(data, ImageDataset))
        content.setdefault("form", form)
        try:
            self.session = TrainingLoop(chosen, options, loaded, folder, content, self.notices.append, start)
        except BaseException:
            folder.release()
            raise
        self.folder, self.content = folder, content

    def _found(self, folder: RunDir | None, recipe: str | None, resume: bool, new: bool) -> dict[str, Any]:
        """run.json of the run to go on with; empty for a new run."""
        if not resume:
            return {}
        if folder is None:
            raise OptionError(
                "--resume needs to know which run to go on with.", cure="Give --out with the run's folder."
            )
        content = folder.read() if folder.exists else {}
        if not content and not new:
            raise NotFoundError(
                f"There is no run in {folder.path} to go on with.",
                cure="Give the folder of a run, or say what to train.",
            )
        if content and recipe is not None and recipe != content.get("recipe"):
            raise OptionError(
                f"--recipe {recipe} is not what {folder.path} was begun with ({content.get('recipe')}).",
                cure="Leave it out to go on, or train anew into another --out.",
            )
        return content

    def _set_threads(self, options: Options, content: dict[str, Any]) -> None:
        """Sums in another order give other last bits, so a resumed run keeps its number of threads."""
        threads = options.threads or content.get("plan", {}).get("threads")
        if threads and threads != torch.get_num_threads():
            torch.set_num_threads(int(threads))
        versions = content.get("versions", {})
        if versions and versions.get("torch") != torch.__version__:
            self.notices.append(
                f"The run was begun with torch {versions.get('torch')}, this is {torch.__version__}: "
                "the last bits may differ."
            )

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.folder.path

    @property
    def run(self) -> Run:
        """The finished run."""
        return Run(self.folder)

    def summary(self) -> list[str]:
        """The result in words."""
        return self.run.summary()

    @property
    def plan(self) -> dict[str, Any]:
        """What will be done, as JSON values."""
        return self.content["plan"] if self.session is None else self.session.plan.json()

    def lines(self) -> list[str]:
        """The plan in words, and what was noticed while reading the data."""
        if self.session is None:
            return [f"{self.path} is finished already; --epochs +N trains it further."]
        return [*describe_plan(self.session), *self.notices]

    def __iter__(self) -> Iterator[TrainingProgress]:
        try:
            if self.session is not None:
                told = len(self.notices)
                for progress in self.session:
                    yield replace(progress, notes=tuple(self.notices[told:]))
                    told = len(self.notices)
        finally:
            self._joined.__exit__(None, None, None)


def new_options(task: str, data: Any, recipe: str | None, given: dict[str, Any]) -> tuple[str, Options]:
    """Task and options of a new run: the recipe's, then what was given."""
    values = {}
    if recipe is not None:
        found = recipes.find_recipe(recipe)
        task, values = found.task, dict(found.options)
        # one length replaces another, whichever way it is said
        if {"epochs", "steps", "time"} & set(given):
            values = {k: v for k, v in values.items() if k not in ("epochs", "steps", "time")}
        given = {**given, "arguments": {**values.get("arguments", {}), **(given.get("arguments") or {})}}
    if data is not None and not isinstance(data, ImageDataset):
        given = {**given, "data": os.fspath(data)}
    given = {k: v for k, v in given.items() if v is not None}
    if isinstance(given.get("epochs"), str) and given["epochs"].startswith("+"):
        raise OptionError(f"--epochs {given['epochs']} means so many more, and this run is new.", cure="Add --resume.")
    return task, settings.parse_options({**values, **given})


def resume_options(content: dict[str, Any], data: Any, given: dict[str, Any]) -> Options:
    """The options of a run that goes on. Raises OptionError for one that would make it another run."""
    before = settings.parse_options(content["options"])
    given = {k: v for k, v in given.items() if v is not None}
    if str(given.get("epochs", "")).startswith("+"):
        given["epochs"] = content["plan"]["epochs"] + settings.convert("epochs", given["epochs"][1:], float)
    asked = settings.parse_options(given)
    if data is not None and not isinstance(data, ImageDataset):
        given, asked = {**given, "data": os.fspath(data)}, replace(asked, data=os.fspath(data))
    for name in given:
        old, new = getattr(before, name), getattr(asked, name)
        if name == "model":
            old = old or content.get("model")
        if name == "data" and old is not None and os.path.realpath(old) == os.path.realpath(new):
            asked = replace(asked, data=old)
        elif name not in RESUMABLE_OPTIONS and old != new:
            raise OptionError(
                f"--{name.replace('_', '-')} {new} is not what this run was begun with "
                f"({'not given' if old is None else old}).",
                cure="Leave it out to go on, or train anew into another --out.",
            )
    longer = {k: getattr(asked, k) for k in given if k in RESUMABLE_OPTIONS}
    if {"epochs", "steps"} & set(longer):
        longer = {"epochs": None, "steps": None, "time": None, **longer}
    return replace(before, **longer)


def initial_record(
    task: str, options: Options, recipe: str | None, data: ImageDataset, in_memory: bool
) -> dict[str, Any]:
    """What run.json holds before the first step."""
    import platform
    import shlex
    from datetime import UTC, datetime

    words = ["thalweg", "train", task]
    words += [str(options.data)] if options.data else []
    for name, value in settings.non_default(options).items():
        flag = "--" + name.replace("_", "-")
        if name == "arguments":
            words += [w for k, v in value.items() for w in ("--set", f"{k}={format_cli_value(v)}")]
        elif isinstance(value, bool):
            words.append(flag if value else flag.replace("--", "--no-", 1))
        elif name != "data":
            words += [flag, f"{value:g}" if isinstance(value, float) else str(value)]
    return {
        "thalweg": __version__,
        "task": task,
        "recipe": recipe,
        "command": shlex.join(words),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": options.seed,
        "options": asdict(options),
        "versions": {"thalweg": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "data": {
            "name": data.name,
            "in_memory": in_memory,
            "format": data.format,
            "fingerprint": data.fingerprint,
            "counts": {name: len(split) for name, split in data.splits.items()},
            "bad": [asdict(bad) for bad in data.bad],
            "notes": list(data.notes),
        },
    }


def check_same_data(content: dict[str, Any], data: ImageDataset) -> None:
    """Raises DataError where the data is not what the run began with."""
    known = content.get("data", {}).get("fingerprint")
    if known and known != data.fingerprint:
        raise DataError(
            f"{data.name} is not what this run was trained on: its content has changed.",
            cure="Restore the data, or train anew into another --out.",
        )


def format_cli_value(value: Any) -> str:
    """A model's argument as --set takes it."""
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def describe_plan(session: TrainingLoop) -> list[str]:
    """The first lines of a run."""
    plan, data = session.plan, session.data
    recipe = plan.recipe
    counts = ", ".join(f"{len(split)} {name}" for name, split in data.splits.items())
    height, width, channels = data.shape
    colour = "grey" if channels == 1 else "colour"
    threads = f" with {plan.threads} threads" if plan.device == "cpu" else ""
    trained = f"{session.parameters:,} parameters"
    if recipe.trainable_groups is not None:
        count = sum(weight.numel() for weights in session.trainer.trainable_params.values() for weight in weights)
        trained = f"{count:,} of {trained} trained"
    lines = [
        f"{data.name} ({data.format}): {len(data.classes)} classes, {counts}, {width}x{height} {colour}",
        f"{session.model_name}: {trained}, {recipe.precision} on {plan.device}{threads}",
        f"{recipe.steps:,} updates of {plan.batch} ({plan.epochs:.3g} epochs), "
        f"{recipe.optimizer}, rate {recipe.lr:g} {recipe.schedule}",
    ]
    if session.features:
        lines += ["only the last layer is trained: what the others answer is computed once"]
    if recipe.unfreeze_interval:
        lines += [f"one part more is trained every {recipe.unfreeze_interval:,} updates"]
    lines += data.told()
    kept = session.trail
    if kept.steps:
        lines += [f"keeps the weights of {len(kept.steps)} steps along the way: {kept.bytes / 1e6:.3g} MB (--trail)"]
    return [*lines, f"writing to {session.folder.path}"]
