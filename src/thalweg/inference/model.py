"""Networks that can be asked: a finished run, one that comes with the package, or one with published weights.

load("runs/a")                          a run
load("digits-lenet")                    comes with the package
load("resnet152")                       with ImageNet's weights, fetched by that name
load("resnet18", weights="mine.pth")    with the weights of a file, or of another run
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext
from copy import copy
from dataclasses import replace
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .. import registry
from ..config import options as settings
from ..data.images.dataset import ImageDataset, Split
from ..data.images.image_decoding import RESIZE_NOTE
from ..data.images.preprocess import TTAModel, eval_batch_size, normalize_drawings
from ..errors import DataError, ModelFileError, NotFoundError, OptionError, ResourceError
from ..io.log import log_warning
from ..runs.run_dir import RunDir
from ..weights import files as foreign
from .predict import Prediction, UnreadableImage, check_finite, iter_sources
from .predict import predict_images as answer

if TYPE_CHECKING:
    from ..attribution.explain_image import Explanation
    from ..runs.initial_weights import InitialWeights
    from .export_onnx import ExportReport


#: from so many pictures on, a network is made ready for speed before it is asked
FUSE_FROM = 64


class TrainedModel:
    """A network with its task, the facts of what it was trained on, and the options it was trained with."""

    name: str
    content: dict[str, Any]

    def __init__(self, task: str, facts: dict[str, Any], options: settings.Options, offline: bool = False):
        self.task, self.facts = registry.find_task(task)(), facts
        self.options = replace(options, offline=offline or options.offline)
        self._network: torch.nn.Module | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def _built(self) -> torch.nn.Module:
        raise AssertionError("each kind of trained network builds its own")

    @property
    def model(self) -> torch.nn.Module:
        """The network with its weights, evaluating. Raises ModelFileError naming the first tensor that differs."""
        if self._network is None:
            self._network = self._built().to(memory_format=torch.channels_last).eval()
        return self._network

    def read(self, data: Any = None) -> ImageDataset:
        """Data whose classes this network knows, in its order of them. Raises DataError."""
        if data is None:
            raise DataError(f"{self.name} came without data.", cure="Name the data to evaluate on.")
        if not isinstance(data, ImageDataset):
            options = replace(self.options, data=os.fspath(data), size=self.facts["size"][0], fold=None)
            data = self.task.read(options, log_warning, self._form(), divided=False)
            data = normalize_drawings(data, self.facts) if self.facts["ink"] and not data.ink else data
            notes = tuple(
                note for note in data.notes if note != RESIZE_NOTE.format(options.size)
            )  # it cannot be otherwise
            for line in replace(data, notes=notes).told():
                log_warning(line)
        return self._known(data)

    def _form(self) -> dict[str, Any]:
        return {key: self.facts[key] for key in ("size", "channels", "resize") if key in self.facts}

    def _known(self, read: ImageDataset) -> ImageDataset:
        """The data with the labels that this network gives its classes, which may be more. Raises DataError."""
        classes = list(self.facts["classes"])
        if list(read.shape) != [*self.facts["size"], self.facts["channels"]]:
            raise DataError(
                f"{read.name} has pictures of {list(read.shape)} (height, width, channels); "
                f"{self.name} reads {[*self.facts['size'], self.facts['channels']]}.",
                cure="Give pictures of that size.",
            )
        if list(read.classes) == classes:
            return read
        if not set(read.classes) <= set(classes):
            raise DataError(
                f"{read.name} has the classes {', '.join(read.classes[:12])}; "
                f"{self.name} knows {', '.join(classes[:12])}{', …' if len(classes) > 12 else ''}.",
                cure="Give data whose classes are among these.",
            )
        label = np.array([classes.index(name) for name in read.classes], np.int64)
        splits = {part: Split(split.images, label[split.labels], split.sources) for part, split in read.splits.items()}
        return replace(read, classes=tuple(classes), **splits)

    def evaluate(self, data: Any = None, split: str | None = None, save: Any = None) -> dict[str, Any]:
        """{"split", "metrics", "data"} on the run's data or on other; pictures of it into the folder `save`, if given.

        `split` is train, valid, test or all; None is the test set, and all of other data that has no test set of its
        own. Raises OptionError for an unknown split, DataError for one without examples.
        """
        from ..runs.artifacts import save_images

        read = self.read(data)
        if split is None:
            divided = self._own(data) or isinstance(data, ImageDataset) or "test" in read.given
            split = "test" if divided else "all"
        if split not in (*read.splits, "all"):
            raise OptionError(f"--split {split} is none.", cure="Give train, valid, test or all.")
        chosen = read.whole if split == "all" else read.splits[split]
        if not len(chosen):
            raise DataError(f"{read.name} has no examples" + ("." if split == "all" else f" in its {split} set."))
        results, outcome = self.task.score(self.model, chosen, self.facts, torch.device("cpu"))
        if save is not None:
            drawn = self.task.pictures(self.model, read, self.facts, self.options, outcome, self._history())
            save_images(drawn, Path(save) / "pictures")
        return {"split": split, "metrics": results, "data": read.name}

    def _own(self, data: Any) -> bool:
        """Whether this is what the network was trained on: only what was held out of it says anything."""
        return data is None

    def _history(self) -> list[dict[str, Any]]:
        return []

    def predict(
        self, sources: Any, top: int = 5, batch: int | None = None, as_is: bool = False, **choices: Any
    ) -> Iterator[Prediction | UnreadableImage]:
        """An answer per source: files, folders, patterns, URLs, arrays, Pillow images; unreadable ones as such."""
        task, facts, batch = self.task, self.facts, batch or eval_batch_size(self.facts)
        again = not isinstance(sources, Iterator)  # what can be gone through only once is not counted
        many = again and sum(1 for _ in islice(iter_sources(sources), FUSE_FROM)) == FUSE_FROM
        network = self.model
        if many:
            from ..layers.fuse import optimize_for_inference

            network = optimize_for_inference(network, (batch, facts["channels"], *facts["size"]))
        return answer(
            sources,
            see=lambda source: task.example(source, facts, as_is),
            ask=lambda images: task.infer(network, {"image": images}, facts),
            classes=facts["classes"],
            top=top,
            batch=batch,
            **choices,
        )

    def look(self, source: Any) -> tuple[str, np.ndarray]:
        """The name of one picture, and it as the network sees it, (H, W, C) uint8.

        Raises DataError for several pictures, and for one that cannot be read.
        """
        found = list(islice(iter_sources(source), 2))
        if len(found) != 1:
            told = ", ".join(one.name for one in found) or "none"
            raise DataError(f"One picture can be explained, here are more or none: {told}.", cure="Give one picture.")
        (picture,) = found
        try:
            picture_HWC = self.task.example(picture.read(self.options.offline), self.facts)
        except (DataError, ResourceError) as error:
            raise type(error)(f"{picture.name}: {error.message}", error.cure) from error
        return picture.name, picture_HWC

    def explain(self, source: Any, target: str | None = None, methods: Any = None) -> Explanation:
        """What the network looked at in one picture when it answered, or would have to answer the class `target`.

        Raises DataError for a picture that cannot be read, NotFound for a class or method that there is not, NonFinite
        for a network that answers with what is no number.
        """
        from ..attribution.explain_image import METHODS, explain_image

        classes = list(self.facts["classes"])
        if target is not None and target not in classes:
            raise NotFoundError.for_unknown("class", target, classes)
        name, picture_HWC = self.look(source)
        asked = torch.from_numpy(picture_HWC[None].copy())
        check_finite(self.task.infer(self.model, {"image": asked}, self.facts).numpy(), name)
        x_1CHW = self.task.prepared(picture_HWC[None], self.facts, torch.device("cpu"))
        black_1CHW = self.task.prepared(np.zeros_like(picture_HWC)[None], self.facts, torch.device("cpu"))
        views = self.facts.get("views", "one")
        answering = TTAModel(self.model, views) if views != "one" else None
        methods = METHODS if methods is None else (methods,) if isinstance(methods, str) else tuple(methods)
        return explain_image(self.model, x_1CHW, picture_HWC, classes, methods, target, black_1CHW, answering)

    def export(self, format: str = "onnx", out: Any = None) -> ExportReport:
        """Writes the network with its preprocessing, and proves that it answers alike. Raises ExportError.

        The proof is on pictures of the test set, or on noise where the data is not at hand. Without `out` the file goes
        into the run, or here for a network that has no folder of the user's.
        """
        from .export_onnx import export_onnx

        if format != "onnx":
            raise OptionError(f"--format {format} is not known.", cure="Give onnx.")
        here = copy(self)
        here.options = replace(self.options, offline=True)  # nobody asked for the data by name
        try:
            samples = here.read().test.images[:64]
        except (DataError, NotFoundError, ResourceError) as error:
            log_warning(f"The proof is on noise, because the data is not at hand: {error.message}")
            shape = (16 if self.facts["size"][0] > 96 else 64, *self.facts["size"], self.facts["channels"])
            samples = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        return export_onnx(self.model, self.facts, Path(out) if out is not None else self._place(), samples)

    def _place(self) -> Path:
        """Where an export goes that was given no place."""
        return Path(f"{self.name}.onnx")


class Run(TrainedModel):
    """A finished run, or a network that comes with the package: evaluate, predict, explain, export."""

    def __init__(self, folder: RunDir, offline: bool = False):
        self.folder = folder
        self.content = folder.read()
        given = settings.parse_options(self.content["options"])
        super().__init__(self.content["task"], self.content["facts"], given, offline)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.path.name

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.folder.path

    @property
    def results(self) -> dict[str, Any]:
        """Validation and test metrics, steps, epochs, seconds; empty for a run that is not finished."""
        return self.content.get("results", {})

    def _built(self) -> torch.nn.Module:
        model = self.content.get("model") or self.options.model or self.task.default_model
        arguments = self.content.get("arguments") or {**self.task.arguments(self.facts), **self.options.arguments}
        network = registry.find_model(model, self.content["task"])(**arguments)
        foreign.load_strict(network, self.folder.weights(self.content), self.path / "weights.safetensors")
        return network

    def read(self, data: Any = None) -> ImageDataset:
        """The run's data, or other data whose classes it knows. Raises DataError."""
        if not self._own(data):
            return super().read(data)
        if self.content.get("data", {}).get("in_memory"):
            raise DataError(f"{self.path} was trained on data in memory.", cure="Give the data again.")
        return self._known(self.task.read(self.options, log_warning, self._form() if self.content.get("form") else {}))

    def _own(self, data: Any) -> bool:
        trained_on = self.options.data or self.task.default_data
        same = isinstance(data, (str, os.PathLike)) and os.path.realpath(data) == os.path.realpath(trained_on)
        return data is None or (same and not self.content.get("data", {}).get("in_memory"))

    def _history(self) -> list[dict[str, Any]]:
        return self.folder.metrics()

    def _place(self) -> Path:
        return Path(f"{self.name}.onnx") if self.path in bundled_models().values() else self.path / "model.onnx"

    def summary(self) -> list[str]:
        """The result in words."""
        test = self.results.get("test")
        if not test:
            return [f"{self.path}: not finished; go on with --resume."]
        accuracy, low, high = (100 * test[key] for key in ("accuracy", "accuracy_low", "accuracy_high"))
        told = f"test accuracy {accuracy:.2f} % (95 % interval {low:.2f} to {high:.2f})"
        lines = [f"{told} on {test['examples']:,} pictures, {self.results['seconds']:.1f} s"]
        if near := self.results.get("near_copies"):
            without = (
                "" if near["accuracy_without"] is None else f"; without them {100 * near['accuracy_without']:.2f} %"
            )
            lines.append(f"near copies of training pictures in the test set: {near['examples']:,}{without}")
        return lines + ([f"report: {self.path / 'report.html'}"] if (self.path / "report.html").is_file() else [])


class PretrainedModel(TrainedModel):
    """A network of the registry with weights from elsewhere, as they are."""

    def __init__(self, start: InitialWeights, task: str = "classify", offline: bool = False):
        self.name, self.start = start.model, start
        self.entry = registry.find_model(start.model, task)
        count = len(start.classes) or start.outputs
        classes = list(start.classes) or [f"class {number}" for number in range(count)]
        usual = self.entry.arguments["size"].default
        channels = (start.channels if start.tensors else None) or 3
        half = [0.5] * channels
        plain = {"channels": channels, "size": [usual, usual], "mean": half, "std": half, "ink": False}
        if not start.form:
            log_warning(
                f"{start.where.name} says nothing of the form of pictures: {usual} x {usual}, -1 to 1, is assumed."
            )
        facts = {**plain, **start.form, "classes": classes}
        self.content = {"model": start.model, "task": task, "facts": facts}
        super().__init__(task, facts, settings.Options(model=start.model), offline)

    def _built(self) -> torch.nn.Module:
        with foreign.skip_init() if self.start.tensors else nullcontext():
            network = self.entry(**{**self.task.arguments(self.facts), **self.start.arguments, **self.start.building})
        if getattr(network, "replaced", False):
            raise OptionError(
                f"{self.name} was not trained on ImageNet's 1,000 classes.", cure="Fine-tune it: thalweg train."
            )
        if self.start.tensors:
            foreign.load_strict(network, self.start.tensors, self.start.where)
        return network


def bundled_models() -> dict[str, Path]:
    """The trained networks that come with the package, by name."""
    root = Path(str(resources.files("thalweg") / "bundled"))
    return {p.name: p for p in sorted(root.iterdir()) if (p / "run.json").is_file()}


def load(name: str | os.PathLike, weights: str | None = None, offline: bool = False) -> TrainedModel:
    """What can be asked under a name: a run's folder, a network that comes with the package, or a model.

    A model takes ImageNet's weights, or those that `weights` names: published ones, a file, a run's folder. Raises
    NotFound, ModelFileError, and ResourceError where weights are needed that are not here.
    """
    folder = resolve_name(name, weights)
    if folder is not None:
        return Run(RunDir(folder), offline)
    from ..runs import initial_weights as starting

    return PretrainedModel(
        starting.resolve(str(name), _default_weights(weights), offline, log_warning), offline=offline
    )


def resolve_name(name: str | os.PathLike, weights: str | None = None) -> Path | None:
    """The folder of the run that a name means; None where it means a model, which takes weights. Fetches nothing.

    Raises OptionError for an empty name, NotFound and ModelFileError for one under which nothing can be asked.
    """
    from ..weights import external_models as elsewhere
    from ..weights import store as files
    from ..weights.catalog import CATALOG

    name, known = os.fspath(name), bundled_models()
    if not name:
        raise OptionError("The name of a model is empty.", cure="Give a run's folder or the name of a model.")
    if weights is None and os.path.isfile(os.path.join(name, "run.json")):
        return Path(name)
    if weights is None and name in known:
        return known[name]
    pretrained = {model for model, _ in CATALOG}
    if weights is None and name not in {*pretrained, *registry.get_models()} and not elsewhere.split_name(name):
        if os.path.exists(name):
            raise _not_a_run_error(name)
        raise NotFoundError.for_unknown("run or network", name, {*known, *pretrained})
    registry.find_model(name)
    if not elsewhere.split_name(name) or weights not in (None, "imagenet"):
        files.validate_name(name, _default_weights(weights))
    return None


def _default_weights(weights: str | None) -> str:
    """The weights that are meant: an empty text, as a variable that is not set gives, is none of them."""
    return "imagenet" if weights is None else weights


def _not_a_run_error(path: str) -> ModelFileError:
    if os.path.isfile(path):
        return ModelFileError(
            f"{path} is a file, and no run.", cure=f"Weights need the name of a model: MODEL --weights {path}"
        )
    return ModelFileError(
        f"{path} is not a run: there is no run.json in it.", cure="Give the folder that `thalweg train` printed."
    )
