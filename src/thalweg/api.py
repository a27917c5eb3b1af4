"""The façade: all that the command line and the studio use, and what `import thalweg` offers.

train, training    a training, whole or step by step
explain            a concept, or what a network looked at
load, predict …    a finished run, or a network with published weights
weights_list …     published weights
data_check …       what is in a data set

What only one verb needs is imported by that verb.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import registry
from .config import recipes as recipe_files
from .errors import NotFoundError, OptionError
from .inference.model import Run, TrainedModel, bundled_models, load, resolve_name
from .inference.predict import Prediction, UnreadableImage, iter_sources
from .weights.store import download_weights, get_weights_path, list_weights

if TYPE_CHECKING:
    from PIL import Image

    from .training.build import TrainingRun


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
    from .io.log import log_warning

    begun = plan_training(task, data, recipe=recipe, out=out, resume=resume, **options)
    for line in begun.lines():
        log_warning(line)
    for progress in begun:
        if progress.valid:
            log_warning(
                f"epoch {progress.epoch:g} of {progress.epochs:g}: " + format_metrics(progress.losses, progress.valid)
            )
    return begun.run


def format_metrics(losses: dict[str, float], valid: dict[str, Any]) -> str:
    """Training loss and validation figures in one line."""
    told = [f"training {k} {v:.4f}" for k, v in losses.items() if k == "loss"]
    told += [f"validation {k} {v:.4f}" for k, v in valid.items() if k in ("loss", "accuracy") and v is not None]
    return ", ".join(told)


def plan_training(task: str = "classify", data: Any = None, **given: Any) -> TrainingRun:
    """A Training: planned, checked, not begun. Iterating it trains and yields Progress; then its `run` is there."""
    from .training.build import TrainingRun

    return TrainingRun(task, data, **given)


def predict(
    names: Sequence[str], sources: Any, weights: str | None = None, offline: bool = False, **choices: Any
) -> dict[str, Iterator[Prediction | UnreadableImage]]:
    """The answers of several networks to the same pictures, by name; every address is fetched once for all of them.

    Weights are fetched only if all names are known and there is a picture. Raises what `load` and `Trained.predict` do.
    """
    for name in names:
        resolve_name(name, weights)
    asked = list(iter_sources(sources, readers=len(names)))
    unreadable = [picture.content for picture in asked if isinstance(picture.content, UnreadableImage)]
    if asked and len(unreadable) == len(asked):
        return {name: iter(unreadable) for name in names}
    networks = {name: load(name, weights, offline) for name in names}
    return {name: network.predict(asked, offline=offline, **choices) for name, network in networks.items()}


def explain(
    name: Any = None,
    *subjects: Any,
    target: str | None = None,
    methods: Sequence[str] | None = None,
    offline: bool = False,
    **given: Any,
) -> Any:
    """A concept with these settings, or what a network looked at in a picture. Both have draw() and json().

    explain("neuron", weights=[2, -1])        a result: also save("neuron.html"); what it is about follows its name
    explain("squeezenet1_1", "dog.jpg")       a run, or a network with published weights; `target` is the class asked
                                              about (None: the likeliest); also pictures()

    `weights` is what `load` takes, but for concepts that have a setting of that name. Without a name: the concepts.
    Raises what `lessons.explained`, or `load` and `Trained.explain`, raise.
    """
    from .inference import explain_concept as lessons

    if name is None:
        return lessons.list_concepts()
    if is_concept(name):
        return lessons.explain_concept(name, subjects, given, offline)
    weights = given.pop("weights", None)
    if given or len(subjects) != 1:
        raise_unknown_name(name)
        raise OptionError(f"{name} is asked about one picture, and has no settings.", cure="explain(name, picture)")
    return load(name, weights, offline).explain(subjects[0], target, methods)


def list_concepts() -> list[dict[str, Any]]:
    """A row per concept, in the order of the talk."""
    from .inference import explain_concept as lessons

    return lessons.list_concepts()


def format_concepts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Concepts by chapter, a line each."""
    from .inference import explain_concept as lessons

    return lessons.format_concepts(rows)


def is_concept(name: Any) -> bool:
    """Whether a concept has that name."""
    return isinstance(name, str) and name in registry.get_concepts()


def concept_text(name: str) -> list[str]:
    """The text of a concept and its settings, in lines. Raises NotFound."""
    from .inference import explain_concept as lessons

    page = lessons.find_concept(name).page
    return [page.title, "", " ".join(page.body.split()), "", *lessons.settings_help(name), "", f"Source: {page.source}"]


def raise_unknown_name(name: Any) -> None:
    """Raises NotFound, with the nearest concepts, for a name that neither a concept nor a run nor a network has."""
    try:
        resolve_name(name)
    except NotFoundError as error:
        from .errors import did_you_mean

        cures = (did_you_mean(str(name), registry.get_concepts()), error.cure)
        near = " ".join(cure for cure in cures if cure.startswith("Did"))
        error.cure = near or f"{error.cure} Of concepts: {cures[0]}"
        raise


def write_images(pictures: Mapping[str, Image.Image], folder: Any) -> list[Path]:
    """Writes pictures as NAME.png into a folder that is made if need be; their files. Raises ResourceError."""
    from .runs.artifacts import save_images

    return save_images(pictures, folder)


def list_models() -> list[dict[str, Any]]:
    """A row per model: name, task, paper, about, arguments."""
    return [
        {
            "name": entry.name,
            "task": entry.task,
            "about": entry.about,
            "paper": entry.paper,
            "arguments": {k: None if p.default is p.empty else p.default for k, p in entry.arguments.items()},
        }
        for entry in registry.get_models().values()
    ]


def list_layer_groups(name: str) -> list[dict[str, Any]]:
    """A row per part of a model, from the picture on: what `freeze` and `unfreeze` count. Raises NotFound."""
    from .engine.freezing import layer_groups
    from .inference.inputs import network

    entry = registry.find_model(name)
    side, channels, classes = network.default_shape(entry)
    found = layer_groups(network.meta_builder(entry)(side, channels, classes))
    return [
        {
            "part": part.name,
            "layers": " ".join(type(layer).__name__ for layer in part.layers),
            "parameters": sum(weight.numel() for weight in part.params),
            "unfreeze": len(found) - 1 - number,
        }
        for number, part in enumerate(found)
    ]


def layer_summary(name: str) -> dict[str, Any]:
    """A model layer by layer, for one picture of the size that it is made for, and all layers in total. NotFound.

    Networks made for ImageNet have 1,000 classes here, others ten. `picture` is its shape: channels, height, width.
    """
    from .attribution.layer_summary import sum_rows, summarize_layers
    from .inference.inputs import network

    entry = registry.find_model(name)
    side, channels, classes = network.default_shape(entry)
    picture = (channels, side, side)
    rows = summarize_layers(network.meta_builder(entry)(side, channels, classes), picture).rows
    told = [
        {
            "layer": row.name,
            "kind": row.kind,
            "answer": row.shape,
            "parameters": row.parameters,
            "multiply_adds": row.multiply_adds,
            "sees": row.field,
        }
        for row in [*rows, sum_rows(rows, "all")]
    ]
    return {"model": name, "picture": picture, "classes": classes, "layers": told[:-1], "total": told[-1]}


def list_tasks() -> list[dict[str, Any]]:
    """A row per task: name, about, default model and data."""
    return [
        {"name": name, "about": cls.about, "model": cls.default_model, "data": cls.default_data}
        for name, cls in registry.get_tasks().items()
    ]


def list_recipes() -> list[dict[str, Any]]:
    """A row per recipe."""
    return [asdict(recipe) for recipe in recipe_files.load_recipes().values()]


def check_dataset(source: str, **choices: Any) -> Any:
    """What is in a data set: format, counts, sizes, bad files, duplicates. Has lines(), json() and picture()."""
    from .data.images.validate import check_dataset

    return check_dataset(source, **choices)


def list_datasets() -> list[dict[str, Any]]:
    """A row per data set that has a name."""
    from .data.images.named_datasets import list_datasets

    return list_datasets()


def download_dataset(name: str, offline: bool = False) -> Path | None:
    """Fetches a named data set into the cache, if it is nowhere yet; its folder. Raises NotFound, ResourceError."""
    from .data.images.named_datasets import ensure_downloaded
    from .io.log import log_warning

    return ensure_downloaded(name, offline=offline, notice=log_warning)


def export_samples(name: str, count: int, out: Any) -> list[Path]:
    """Writes pictures of the test set of a data set as PNG files NAME-CLASS-NUMBER.png: one of each class in turn."""
    from PIL import Image

    from .data.images.load import load_dataset

    data = load_dataset(name)
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
    "Run",
    "TrainedModel",
    "UnreadableImage",
    "explain",
    "load",
    "list_models",
    "predict",
    "list_recipes",
    "bundled_models",
    "list_tasks",
    "train",
    "plan_training",
    "list_weights",
    "download_weights",
    "get_weights_path",
]
