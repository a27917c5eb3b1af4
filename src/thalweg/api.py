"""The façade: all that the command line and the studio use, and what `import thalweg` offers.

train, training    a training, whole or step by step
load               a finished run, or a network that comes with the package
data_check …       what is in a data set
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from . import options as settings
from . import recipes as recipe_files
from . import registry
from .data.dataset import Data
from .data.read import tell
from .errors import DataError, ModelFileError, NotFound, OptionError, ResourceError
from .leave import write_pictures
from .predict import Prediction, Unreadable
from .predict import predict as answer
from .run import RunFolder
from .session import Progress
from .training import Planned

if TYPE_CHECKING:
    from .export import Export


def train(
    task: str = "classify",
    data: Any = None,
    *,
    recipe: str | None = None,
    out: Any = None,
    resume: bool = False,
    **options: Any,
) -> Run:
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


class Training(Planned):
    """A training that is planned but not begun. Iterating it trains and yields Progress; then `run` is there."""

    @property
    def run(self) -> Run:
        """The finished run."""
        return Run(self.folder)

    def summary(self) -> list[str]:
        """The result in words."""
        return self.run.summary()


def training(task: str = "classify", data: Any = None, **given: Any) -> Training:
    """A Training: planned, checked, not begun."""
    return Training(task, data, **given)


class Run:
    """A finished run, or a network that comes with the package: evaluate, predict, export."""

    def __init__(self, folder: RunFolder):
        self.folder = folder
        self.content = folder.read()
        for key in ("task", "options", "facts"):
            if key not in self.content:
                raise ModelFileError(
                    f"{folder.path / 'run.json'}: '{key}' is missing.", cure="Train again, or restore it from a copy."
                )
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
        """The network with its weights, evaluating. Raises ModelFileError naming the first tensor that differs."""
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
        if data is None and self.content.get("data", {}).get("in_memory"):
            raise DataError(f"{self.path} was trained on data in memory.", cure="Give the data again.")
        options = (
            self.options if data is None else replace(self.options, data=os.fspath(data), size=self.facts["size"][0])
        )
        read = self.task.read(options, tell)
        if list(read.classes) != list(self.facts["classes"]):
            raise DataError(
                f"{read.name} has the classes {', '.join(read.classes[:12])}; "
                f"this run knows {', '.join(self.facts['classes'][:12])}.",
                cure="Give data with the same classes.",
            )
        if list(read.shape) != [*self.facts["size"], self.facts["channels"]]:
            raise DataError(
                f"{read.name} has pictures of {list(read.shape)} (height, width, channels); "
                f"this run reads {[*self.facts['size'], self.facts['channels']]}.",
                cure="Give pictures of that size.",
            )
        return read

    def evaluate(self, data: Any = None, split: str = "test", save: Any = None) -> dict[str, Any]:
        """{"split", "metrics", "data"} on the run's data or on other; pictures of it into the folder `save`, if given.

        Raises OptionError for an unknown split, DataError for one without examples.
        """
        read = self.read(data)
        if split not in read.splits:
            raise OptionError(f"--split {split} is none.", cure="Give train, valid or test.")
        if not len(read.splits[split]):
            raise DataError(f"{read.name} has no examples in its {split} set.")
        results, outcome = self.task.score(self.network, read.splits[split], self.facts, torch.device("cpu"))
        if save is not None:
            history = self.folder.metrics()
            drawn = self.task.pictures(self.network, read, self.facts, self.options, outcome, history)
            write_pictures(RunFolder(save), drawn)
        return {"split": split, "metrics": results, "data": read.name}

    def predict(
        self, sources: Any, top: int = 5, batch: int = 64, as_is: bool = False, **choices: Any
    ) -> Iterator[Prediction | Unreadable]:
        """An answer per source: files, folders, patterns, URLs, arrays, Pillow images; unreadable ones as such."""
        network, task, facts = self.network, self.task, self.facts
        return answer(
            sources,
            see=lambda source: task.example(source, facts, as_is),
            ask=lambda images: task.infer(network, {"image": images}, facts),
            classes=facts["classes"],
            top=top,
            batch=batch,
            **choices,
        )

    def export(self, format: str = "onnx", out: Any = None) -> Export:
        """Writes the network with its preprocessing, and proves that it answers alike. Raises ExportError.

        The proof is on pictures of the test set, or on noise where the data is not at hand. Without `out` the file goes
        into the run, or here for a network that comes with the package.
        """
        from .export import export_onnx

        if format != "onnx":
            raise OptionError(f"--format {format} is not known.", cure="Give onnx.")
        try:
            samples = self.read().test.images[:64]
        except (DataError, NotFound, ResourceError) as error:
            tell(f"The proof is on noise, because the data is not at hand: {error.message}")
            shape = (64, *self.facts["size"], self.facts["channels"])
            samples = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        here = self.path in shipped().values()
        path = Path(out) if out is not None else Path(f"{self.path.name}.onnx") if here else self.path / "model.onnx"
        return export_onnx(self.network, self.facts, path, samples)

    def summary(self) -> list[str]:
        """The result in words."""
        test = self.results.get("test")
        if not test:
            return [f"{self.path}: not finished; go on with --resume."]
        accuracy, low, high = (100 * test[key] for key in ("accuracy", "accuracy_low", "accuracy_high"))
        told = f"test accuracy {accuracy:.2f} % (95 % interval {low:.2f} to {high:.2f})"
        lines = [f"{told} on {test['examples']:,} pictures, {self.results['seconds']:.1f} s"]
        return lines + ([f"report: {self.path / 'report.html'}"] if (self.path / "report.html").is_file() else [])


def load_exactly(network: torch.nn.Module, tensors: dict[str, torch.Tensor], where: Path) -> None:
    """Loads weights whose names and shapes are the network's. Raises ModelFileError naming the first that differs."""
    wanted = network.state_dict()
    for name, value in wanted.items():
        if name not in tensors:
            raise ModelFileError(f"{where}: the tensor '{name}' is missing.")
        if tensors[name].shape != value.shape:
            raise ModelFileError(
                f"{where}: '{name}' is {tuple(tensors[name].shape)}, the network's is {tuple(value.shape)}."
            )
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
        raise ModelFileError(
            f"{path} is not a run: there is no run.json in it.", cure="Give the folder that `thalweg train` printed."
        )
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
    rows = sorted(
        range(len(data.test)),
        key=lambda row: (int((data.test.labels[:row] == data.test.labels[row]).sum()), data.test.labels[row]),
    )
    written = []
    for number, row in enumerate(rows[:count]):
        image = data.test.images[row]
        label = data.classes[data.test.labels[row]]
        path = folder / f"{data.name}-{number}-is-{label}.png".replace("/", "-")
        Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(path)
        written.append(path)
    return written


__all__ = [
    "Prediction",
    "Progress",
    "Run",
    "Training",
    "Unreadable",
    "load",
    "models",
    "recipes",
    "tasks",
    "train",
    "training",
]
