"""The façade: all that the command line and the studio use, and what `import thalweg` offers.

    train, training    a training, whole or step by step
    load               a finished run, or a network that comes with the package
    data_check …       what is in a data set
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from . import options as settings
from . import plan as planning
from . import recipes as recipe_files
from . import registry
from .data.dataset import Data
from .data.read import tell
from .errors import DataError, ModelFileError, NotFound, OptionError
from .options import Options
from .predict import Prediction, Unreadable
from .predict import predict as answer
from .run import RunFolder, new_folder
from .session import Progress, Session, same_data
from .train import ranks
from .version import __version__

if TYPE_CHECKING:
    from .export import Export

#: what a resumed run may be told anew; everything else is as it was
CHANGEABLE = {"epochs", "steps", "save_every", "report", "tensorboard", "offline", "threads"}


def train(task: str = "classify", data: Any = None, *, recipe: str | None = None, out: Any = None, resume: bool = False, **options: Any) -> Run:
    """Trains to the end and returns the run. Options are those of `thalweg options`; `arguments` go to the model.

    `data` is a path, a known name, or a `Data`. Notices and the plan are printed on standard error.
    """
    training = Training(task, data, recipe=recipe, out=out, resume=resume, **options)
    for line in training.lines():
        tell(line)
    for progress in training:
        if progress.valid:
            tell(f"epoch {progress.epoch:g} of {progress.epochs:g}: " + figures(progress.losses, progress.valid))
    return training.run


def figures(losses: dict[str, float], valid: dict[str, Any]) -> str:
    """Training loss and validation figures in one line."""
    told = [f"training {k} {v:.4f}" for k, v in losses.items() if k == "loss"]
    told += [f"validation {k} {v:.4f}" for k, v in valid.items() if k in ("loss", "accuracy") and v is not None]
    return ", ".join(told)


class Training:
    """A training that is planned but not begun. Iterating it trains and yields Progress; then `run` is there.

    Raises every error of data and settings when it is made, before anything is trained.
    """

    def __init__(self, task: str = "classify", data: Any = None, *, recipe: str | None = None, out: Any = None, resume: bool = False, **given: Any):
        self._joined = ranks.joined(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        self._joined.__enter__()
        self.notices: list[str] = []
        folder = RunFolder(out) if out is not None else None
        if resume and folder is None:
            raise OptionError("--resume needs to know which run to go on with.", cure="Give --out with the run's folder.")
        content = folder.read() if resume and folder.exists else {}
        if resume and not content and data is None and recipe is None and not given:
            raise NotFound(f"There is no run in {out} to go on with.", cure="Give the folder of a run, or say what to train.")
        if content.get("status") == "finished" and not set(given) & {"epochs", "steps"}:
            self.session, self.folder, self.content = None, folder, content
            return
        if content:
            task, options = content["task"], resumed_options(content, data, given)
        else:
            task, options = fresh_options(task, data, recipe, given)
        planning.check(options)
        self._set_threads(options, content)
        chosen = registry.find_task(task)()
        loaded = data if isinstance(data, Data) else chosen.read(options, self.notices.append)
        same_data(content, loaded)
        if folder is None:
            model = options.model or chosen.default_model
            folder = new_folder(f"{task}-{loaded.name}-{model}".replace("/", "-")) if ranks.rank() == 0 else RunFolder("runs/.rank")
        if ranks.rank() == 0:
            folder.claim(resume)
        content = content or first_content(task, options, recipe, loaded)
        try:
            self.session = Session(chosen, options, loaded, folder, content, self.notices.append)
        except BaseException:
            folder.release()
            raise
        self.folder, self.content = folder, content

    def _set_threads(self, options: Options, content: dict[str, Any]) -> None:
        """Sums in another order give other last bits, so a resumed run keeps its number of threads."""
        threads = options.threads or content.get("plan", {}).get("threads")
        if threads and threads != torch.get_num_threads():
            torch.set_num_threads(int(threads))
        versions = content.get("versions", {})
        if versions and versions.get("torch") != torch.__version__:
            self.notices.append(
                f"The run was begun with torch {versions.get('torch')}, this is {torch.__version__}: the last bits may differ."
            )

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.folder.path

    @property
    def run(self) -> Run:
        """The finished run."""
        return Run(self.folder)

    @property
    def plan(self) -> dict[str, Any]:
        """What will be done, as JSON values."""
        return self.content["plan"] if self.session is None else self.session.plan.json()

    def lines(self) -> list[str]:
        """The plan in words, and what was noticed while reading the data."""
        if self.session is None:
            return [f"{self.path} is finished already; --epochs +N trains it further."]
        return [*plan_lines(self.session), *self.notices]

    def __iter__(self) -> Iterator[Progress]:
        try:
            if self.session is not None:
                told = len(self.notices)
                for progress in self.session:
                    yield replace(progress, notes=tuple(self.notices[told:]))
                    told = len(self.notices)
        finally:
            self._joined.__exit__(None, None, None)

    def summary(self) -> list[str]:
        """The result in words."""
        return self.run.summary()


def training(task: str = "classify", data: Any = None, **given: Any) -> Training:
    """A Training: planned, checked, not begun."""
    return Training(task, data, **given)


def fresh_options(task: str, data: Any, recipe: str | None, given: dict[str, Any]) -> tuple[str, Options]:
    """Task and options of a new run: the recipe's, then what was given."""
    values = {}
    if recipe is not None:
        found = recipe_files.find(recipe)
        task, values = found.task, dict(found.options)
        # one length replaces another, whichever way it is said
        if {"epochs", "steps", "time"} & set(given):
            values = {k: v for k, v in values.items() if k not in ("epochs", "steps", "time")}
        given = {**given, "arguments": {**values.get("arguments", {}), **(given.get("arguments") or {})}}
    if data is not None and not isinstance(data, Data):
        given = {**given, "data": os.fspath(data)}
    given = {k: v for k, v in given.items() if v is not None}
    if isinstance(given.get("epochs"), str) and given["epochs"].startswith("+"):
        raise OptionError(f"--epochs {given['epochs']} means so many more, and this run is new.", cure="Add --resume.")
    return task, settings.make({**values, **given})


def resumed_options(content: dict[str, Any], data: Any, given: dict[str, Any]) -> Options:
    """The options of a run that goes on. Raises OptionError for one that would make it another run."""
    before = settings.make(content["options"])
    given = {k: v for k, v in given.items() if v is not None}
    if str(given.get("epochs", "")).startswith("+"):
        given["epochs"] = content["plan"]["epochs"] + settings.convert("epochs", given["epochs"][1:], float)
    asked = settings.make(given)
    if data is not None and not isinstance(data, Data):
        given, asked = {**given, "data": os.fspath(data)}, replace(asked, data=os.fspath(data))
    for name in given:
        old, new = getattr(before, name), getattr(asked, name)
        if name not in CHANGEABLE and old != new:
            raise OptionError(
                f"--{name.replace('_', '-')} {new} is not what this run was begun with ({old}).",
                cure="Leave it out to go on, or train anew into another --out.",
            )
    longer = {k: getattr(asked, k) for k in given if k in CHANGEABLE}
    if {"epochs", "steps"} & set(longer):
        longer = {"epochs": None, "steps": None, "time": None, **longer}
    return replace(before, **longer)


def first_content(task: str, options: Options, recipe: str | None, data: Data) -> dict[str, Any]:
    """What run.json holds before the first step."""
    import platform
    import shlex
    from datetime import UTC, datetime

    words = ["thalweg", "train", task]
    words += [str(options.data)] if options.data else []
    for name, value in settings.changed(options).items():
        flag = "--" + name.replace("_", "-")
        if name == "arguments":
            words += [w for k, v in value.items() for w in ("--set", f"{k}={listed(v)}")]
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
            "format": data.format,
            "fingerprint": data.fingerprint,
            "counts": {name: len(split) for name, split in data.splits.items()},
            "bad": [asdict(bad) for bad in data.bad],
            "notes": list(data.notes),
        },
    }


def listed(value: Any) -> str:
    """A model's argument as --set takes it."""
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def plan_lines(session: Session) -> list[str]:
    """The first lines of a run."""
    plan, data = session.plan, session.data
    recipe = plan.recipe
    counts = ", ".join(f"{len(split)} {name}" for name, split in data.splits.items())
    height, width, channels = data.shape
    threads = f" with {plan.threads} threads" if plan.device == "cpu" else ""
    lines = [
        f"{data.name} ({data.format}): {len(data.classes)} classes, {counts}, {width}x{height} {'grey' if channels == 1 else 'colour'}",
        f"{session.model_name}: {session.parameters:,} parameters, {recipe.precision} on {plan.device}{threads}",
        f"{recipe.steps:,} updates of {plan.batch} ({plan.epochs:.3g} epochs), {recipe.optimizer}, rate {recipe.lr:g} {recipe.schedule}",
    ]
    lines += [f"note: {note}" for note in data.notes]
    lines += [f"left out: {bad.source}: {bad.reason}" for bad in data.bad[:10]]
    lines += [f"left out: {len(data.bad) - 10} more files"] if len(data.bad) > 10 else []
    return [*lines, f"writing to {session.folder.path}"]


class Run:
    """A finished run, or a network that comes with the package: evaluate, predict, export."""

    def __init__(self, folder: RunFolder):
        self.folder = folder
        self.content = folder.read()
        for key in ("task", "options", "facts"):
            if key not in self.content:
                raise ModelFileError(f"{folder.path / 'run.json'}: '{key}' is missing.", cure="Train again, or restore it from a copy.")
        self.task = registry.find_task(self.content["task"])()
        self.options = settings.make(self.content["options"])
        self.facts = self.content["facts"]
        self._network: torch.nn.Module | None = None

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.folder.path

    @property
    def results(self) -> dict[str, Any]:
        """Validation and test metrics, steps, epochs, seconds; empty for a run that is not finished."""
        return self.content.get("results", {})

    @property
    def network(self) -> torch.nn.Module:
        """The network with its weights, in evaluation mode. Raises ModelFileError naming the first tensor that differs."""
        if self._network is None:
            entry = registry.find_model(self.options.model or self.task.default_model, self.content["task"])
            network = entry(**{**self.task.arguments(self.facts), **self.options.arguments})
            load_exactly(network, self.folder.weights(self.content), self.path / "weights.safetensors")
            self._network = network.to(memory_format=torch.channels_last).eval()
        return self._network

    def read(self, data: Any = None) -> Data:
        """The run's data, or other data of the same classes. Raises DataError."""
        if isinstance(data, Data):
            return data
        options = self.options if data is None else replace(self.options, data=os.fspath(data), size=self.facts["size"][0])
        read = self.task.read(options, tell)
        if list(read.classes) != list(self.facts["classes"]):
            raise DataError(
                f"{read.name} has the classes {', '.join(read.classes[:12])}; this run knows {', '.join(self.facts['classes'][:12])}.",
                cure="Give data with the same classes.",
            )
        if list(read.shape) != [*self.facts["size"], self.facts["channels"]]:
            raise DataError(
                f"{read.name} has pictures of {read.shape}; this run reads {[*self.facts['size'], self.facts['channels']]} (height, width, channels).",
                cure="Give pictures of that size.",
            )
        return read

    def evaluate(self, data: Any = None, split: str = "test") -> dict[str, Any]:
        """{"split", "metrics", "data"} on the run's own data or on other data. Raises OptionError for an unknown split."""
        read = self.read(data)
        if split not in read.splits:
            raise OptionError(f"--split {split} is none.", cure="Give train, valid or test.")
        if not len(read.splits[split]):
            raise DataError(f"{read.name} has no examples in its {split} set.")
        results, _ = self.task.score(self.network, read.splits[split], self.facts, torch.device("cpu"))
        return {"split": split, "metrics": results, "data": read.name}

    def predict(self, sources: Any, top: int = 5, batch: int = 64, as_is: bool = False, **choices: Any) -> Iterator[Prediction | Unreadable]:
        """An answer per source: files, folders, globs, URLs, arrays, Pillow images. Unreadable ones are answered as such."""
        return answer(self, sources, top=top, batch=batch, as_is=as_is, **choices)

    def export(self, format: str = "onnx", out: Any = None) -> Export:
        """Writes the network with its preprocessing, and proves that it answers alike. Raises ExportError."""
        from .export import export_onnx

        if format != "onnx":
            raise OptionError(f"--format {format} is not known.", cure="Give onnx.")
        test = self.read().test
        path = Path(out) if out is not None else self.path / "model.onnx"
        return export_onnx(self.network, self.facts, path, test.images[:64])

    def summary(self) -> list[str]:
        """The result in words."""
        test = self.results.get("test")
        if not test:
            return [f"{self.path}: not finished; go on with --resume."]
        accuracy = f"test accuracy {100 * test['accuracy']:.2f} % (95 % interval {100 * test['accuracy_low']:.2f} to {100 * test['accuracy_high']:.2f})"
        lines = [f"{accuracy} on {test['examples']:,} pictures, {self.results['seconds']:.1f} s"]
        return lines + ([f"report: {self.path / 'report.html'}"] if (self.path / "report.html").is_file() else [])


def load_exactly(network: torch.nn.Module, tensors: dict[str, torch.Tensor], where: Path) -> None:
    """Loads weights whose names and shapes are the network's. Raises ModelFileError naming the first that differs."""
    wanted = network.state_dict()
    for name, value in wanted.items():
        if name not in tensors:
            raise ModelFileError(f"{where}: the tensor '{name}' is missing.")
        if tensors[name].shape != value.shape:
            raise ModelFileError(f"{where}: '{name}' is {tuple(tensors[name].shape)}, the network's is {tuple(value.shape)}.")
    for name in tensors:
        if name not in wanted:
            raise ModelFileError(f"{where}: the network has no tensor '{name}'.")
    network.load_state_dict(tensors)


def shipped() -> dict[str, Path]:
    """The trained networks that come with the package, by name."""
    root = Path(str(resources.files("thalweg") / "shipped"))
    return {p.name: p for p in sorted(root.iterdir()) if (p / "run.json").is_file()}


def load(name: str | os.PathLike) -> Run:
    """A run by its folder, or a network that comes with the package by its name. Raises NotFound, ModelFileError."""
    path = Path(name)
    if (path / "run.json").is_file():
        return Run(RunFolder(path))
    known = shipped()
    if str(name) in known:
        return Run(RunFolder(known[str(name)]))
    if path.exists():
        raise ModelFileError(f"{path} is not a run: there is no run.json in it.", cure="Give the folder that `thalweg train` printed.")
    raise NotFound.among("run or network", str(name), known)


def models() -> list[dict[str, Any]]:
    """A row per model: name, task, paper, about, arguments."""
    return [
        {
            "name": entry.name,
            "task": entry.task,
            "about": entry.about,
            "paper": entry.paper,
            "arguments": {k: None if p.default is p.empty else p.default for k, p in entry.arguments.items()},
        }
        for entry in registry.models().values()
    ]


def tasks() -> list[dict[str, Any]]:
    """A row per task: name, about, default model and data."""
    return [
        {"name": name, "about": cls.about, "model": cls.default_model, "data": cls.default_data}
        for name, cls in registry.tasks().items()
    ]


def recipes() -> list[dict[str, Any]]:
    """A row per recipe."""
    return [asdict(recipe) for recipe in recipe_files.contents().values()]


def data_check(source: str, **choices: Any) -> Any:
    """What is in a data set: format, counts, sizes, bad files, duplicates. Has lines(), json() and picture()."""
    from .data.check import check

    return check(source, **choices)


def data_list() -> list[dict[str, Any]]:
    """A row per data set that has a name."""
    from .data.named import catalogue

    return catalogue()


def data_get(name: str, offline: bool = False) -> Path | None:
    """Fetches a named data set into the cache, if it is nowhere yet; its folder. Raises NotFound, ResourceError."""
    from .data.named import get

    return get(name, offline=offline, notice=tell)


def data_sample(name: str, count: int, out: Any) -> list[Path]:
    """Writes pictures of the test set of a data set as PNG files NAME-CLASS-NUMBER.png: one of each class in turn."""
    from .data.read import read

    data = read(name)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    rows = sorted(range(len(data.test)), key=lambda row: (int((data.test.labels[:row] == data.test.labels[row]).sum()), data.test.labels[row]))
    written = []
    for number, row in enumerate(rows[:count]):
        image = data.test.images[row]
        label = data.classes[data.test.labels[row]]
        path = folder / f"{data.name}-{number}-is-{label}.png".replace("/", "-")
        Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(path)
        written.append(path)
    return written


__all__ = ["Prediction", "Progress", "Run", "Training", "Unreadable", "load", "models", "recipes", "tasks", "train", "training"]
