"""Parts of the task `edit`: the generator by name, and what reads the attributes of its images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ..data.base import SPLITS, DataRequest
from ..data.latents.attribute_table import read_attribute_table, regress
from ..data.latents.dataset import SOURCE, GeneratorSource, LatentDataset, LatentSplit, build_dataset, check_source
from ..errors import OptionError
from ..models.edit.measure_images import BATCH_SIZE, hash_weights, measure_images, measure_latents
from ..models.edit.readers import (
    AttributeReader,
    ClassifierReader,
    FeatureReader,
    JoinedReader,
    MeasureReader,
    Normalize,
    check_channels,
)
from ..models.generate.base import Generator
from ..models.generate.dcgan import dcgan
from .base import Context
from .edit_spec import DEFAULT_MEASURES
from .generate_metrics import FEATURE_NETWORKS
from .generate_support import to_signed_float

#: seed, size and counts of the toy data
TOY_SEED = 3
TOY_KWARGS: dict[str, Any] = {"in_channels": 1, "image_size": 8, "latent_dim": 6, "width": 4}
TOY_COUNTS = {"train": 160, "val": 24, "test": 48}


def load_generator(context: Context, name: str) -> GeneratorSource:
    """Load a trained generator. Raises OptionError for a run of another task, NotFoundError for no run."""
    trained = _load(context, name, "generator", "generate")
    record = getattr(trained, "record", None)
    if record is None:
        raise OptionError(f"--generator: {name} is no run; expected a trained one.", option="generator", value=name)
    generator = cast(Generator, trained.model.get_submodule("network")).to(context.device).requires_grad_(False)
    kwargs = dict(record.model_kwargs)
    return GeneratorSource(
        trained.name, record.model, kwargs, generator, trained.spec.channels, trained.spec.image_size
    )


def _load(context: Context, name: str, option: str, task: str) -> Any:
    """Load a model of a task. Raises OptionError for a model of another task, NotFoundError for none."""
    if context.load is None:
        raise OptionError(f"{name} cannot be loaded here.", option=option, value=name)
    trained = context.load(name)
    if trained.task.name != task:
        raise OptionError(
            f"--{option}: {name} is a model of {trained.task.name}; expected one of {task}.",
            f"Train one: thalweg train {task} DATA --out RUN",
            option=option,
            value=trained.task.name,
            allowed=[task],
        )
    return trained


def load_classifier(context: Context, name: str) -> Any:
    """Load a trained classifier. Raises OptionError for a run of another task."""
    return _load(context, name, "classifier", "classify")


def build_reader(
    options: Any, context: Context, source: GeneratorSource, request: DataRequest
) -> tuple[AttributeReader, dict[str, Any]]:
    """Build what reads the attributes that the options name, and figures of it.

    Args:
        options: The task's TrainOptions.
        context: Where this runs.
        source: The generator.
        request: Its source is the folder of the images of a table.

    Returns:
        The reader, and figures such as the held-out R2 of the attributes of a table.

    Raises:
        OptionError: For a classifier that does not fit, an unknown measure, or nothing to measure.
        DataError: For a table that cannot be used.
    """
    readers: list[AttributeReader] = []
    notes: dict[str, Any] = {}
    if options.attributes is not None:
        reader, notes = _read_table(options, context, source, request)
        readers.append(reader)
    else:
        check_source(request)
        if options.classifier is not None:
            trained = load_classifier(context, options.classifier)
            readers.append(ClassifierReader(trained.model, trained.spec, source.channels))
    measures = options.measure
    if measures is None and not readers:
        if source.channels != 1:
            raise OptionError(
                f"{source.name} makes color images; expected what to measure on them.",
                "Give --classifier C, --attributes FILE.csv, or --measure brightness.",
                option="classifier",
                value=source.channels,
            )
        measures = list(DEFAULT_MEASURES)
    if measures:
        readers.append(MeasureReader(measures, source.channels))
    reader = JoinedReader(readers).to(context.device)
    return reader.requires_grad_(False).eval(), notes


def _read_table(
    options: Any, context: Context, source: GeneratorSource, request: DataRequest
) -> tuple[AttributeReader, dict[str, Any]]:
    """Fit the attributes of a table from features of the classifier, by default a bundled one."""
    name = options.classifier or FEATURE_NETWORKS[source.channels]
    trained = load_classifier(context, name)
    check_channels("classifier", trained.spec, source.channels)
    path = Path(options.attributes)
    folder = path.parent if str(request.source) == SOURCE else Path(str(request.source))
    table = read_attribute_table(path, folder)
    images_NHWC = table.load_images(source.channels, (source.image_size, source.image_size))
    normalize = Normalize(trained.spec)
    features = cast(Callable[[Tensor], Tensor], trained.model.requires_grad_(False).eval().features)

    def extract(images_NHWC: np.ndarray) -> np.ndarray:
        signed = to_signed_float(torch.from_numpy(images_NHWC))
        return measure_images(lambda image_BCHW: image_BCHW, lambda image: features(normalize(image)), signed)

    regression = regress(extract, table, images_NHWC)
    reader = FeatureReader(
        features, normalize, table.names, torch.from_numpy(regression.weight_AD), torch.from_numpy(regression.bias_A)
    )
    r2 = dict(zip(table.names, regression.r2_A, strict=True))
    text = ", ".join(f"{name} {value:.2f}" for name, value in r2.items())
    context.log(f"attributes from features of {name}: held-out R2 {text}")
    return reader, {"feature_network": name, "table_images": len(images_NHWC), "held_out_r2": r2}


def draw_dataset(
    source: GeneratorSource,
    reader: AttributeReader,
    counts: dict[str, int],
    seed: int,
    notes: tuple[tuple[str, Any], ...] = (),
    progress: Callable[[int, int], None] | None = None,
) -> LatentDataset:
    """Draw latents and measure their images.

    Args:
        source: The generator.
        reader: What measures.
        counts: Latents of each split.
        seed: Seed of all latents.
        notes: Figures of the reader.
        progress: Called with the latents drawn and their number.

    Returns:
        The dataset.

    Raises:
        DataError: For an attribute that is the same on all images, or not finite.
    """
    total = sum(counts.values())
    splits = {}
    done = 0
    for index, name in enumerate(SPLITS):
        stream = torch.Generator().manual_seed((seed << 2) + index)
        styles: list[Tensor] = []
        values: list[Tensor] = []
        for start in range(0, counts[name], BATCH_SIZE):
            size = min(BATCH_SIZE, counts[name] - start)
            style_BW, value_BA = measure_latents(source.generator, reader, stream, size)
            styles.append(style_BW)
            values.append(value_BA)
            done += size
            if progress is not None:
                progress(done, total)
        splits[name] = LatentSplit(torch.cat(styles).numpy(), torch.cat(values).numpy(), source, reader)
    digest = f"{hash_weights(source.generator)} {hash_weights(reader)}"
    return build_dataset(splits, digest, seed, notes)


def make_toy_dataset() -> LatentDataset:
    """Draw latents of a DCGAN of 8x8 pixels whose weights are random."""
    stream = torch.Generator().manual_seed(TOY_SEED)
    with torch.random.fork_rng(devices=[]):
        generator = cast(Generator, dcgan(**TOY_KWARGS).get_submodule("network"))
    for param in generator.requires_grad_(False).parameters():
        scale = 0.5 if param.ndim > 1 else 0.1
        param.copy_(scale * torch.randn(param.shape, generator=stream) + (param.ndim == 1))
    source = GeneratorSource("toy", "dcgan", TOY_KWARGS, generator.eval(), 1, 8)
    reader = JoinedReader([MeasureReader(["brightness", "width", "height"], 1)])
    return draw_dataset(source, reader, TOY_COUNTS, TOY_SEED)
