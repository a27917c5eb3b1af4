"""Parts of the task `edit`: the generator and the reader of attributes by name, axes, and measured changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.base import DataRequest
from ..data.latents.attribute_table import read_attribute_table, regress
from ..data.latents.dataset import (
    SOURCE,
    GeneratorSource,
    LatentDataset,
    LatentSplit,
    check_source,
    draw_dataset,
    measure_images,
)
from ..data.latents.readers import (
    AttributeReader,
    ClassifierReader,
    FeatureReader,
    JoinedReader,
    MeasureReader,
    Normalize,
    check_channels,
)
from ..errors import OptionError
from ..metrics.editing import drift, effect, leakage, monotonicity
from ..models.edit.fit_axes import Axes, factorized_directions, fit_axes, principal_directions
from ..models.edit.linear_axes import LinearAxes
from ..models.generate.base import Generator
from ..models.generate.dcgan import dcgan
from ..objectives.base import Batch, Loss
from .base import Context
from .generate_support import FEATURE_NETWORKS, FeatureNetwork, to_bytes, to_signed_float

Method = Literal["supervised", "pca", "sefa"]

#: the bundled generator, and what is measured on gray images by default
DEFAULT_GENERATOR = "digits-dcgan"
DEFAULT_MEASURES = ("thickness", "slant", "width")
#: requested changes that are measured, and those by which effect and leakage are judged
STEPS = np.array([-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0])
MAX_JUDGED_STEP = 2
#: largest change of a training example
MAX_TRAINED_STEP = 2.5
#: seed of the changes of training examples, and of the toy generator
CHANGE_SEED = 7
TOY_SEED = 3
TOY_COUNTS = {"train": 160, "val": 24, "test": 48}

# B images, N latents, K axes, A attributes, T steps, W numbers in a style


# --- what is drawn, and how it is measured ----------------------------------------------------------------------------


def load_generator(context: Context, name: str) -> GeneratorSource:
    """Load a trained generator. Raises OptionError for a run of another task, NotFoundError for no run."""
    trained = _load(context, name)
    record = getattr(trained, "record", None)
    if trained.task.name != "generate" or record is None:
        raise OptionError(
            f"--generator: {name} is a model of {trained.task.name}; expected one of generate.",
            "Train one: thalweg train generate DATA --out G",
            option="generator",
            value=trained.task.name,
            allowed=["generate"],
        )
    generator = cast(Generator, trained.model.get_submodule("network")).to(context.device).requires_grad_(False)
    kwargs = dict(record.model_kwargs)
    return GeneratorSource(
        trained.name, record.model, kwargs, generator, trained.spec.channels, trained.spec.image_size
    )


def _load(context: Context, name: str) -> Any:
    if context.load is None:
        raise OptionError(f"{name} cannot be loaded here.", option="generator", value=name)
    return context.load(name)


def load_classifier(context: Context, name: str) -> Any:
    """Load a trained classifier. Raises OptionError for a run of another task."""
    trained = _load(context, name)
    if trained.task.name != "classify":
        raise OptionError(
            f"--classifier: {name} is a model of {trained.task.name}; expected one of classify.",
            "Train one: thalweg train classify DATA --out C",
            option="classifier",
            value=trained.task.name,
            allowed=["classify"],
        )
    return trained


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
    reader = FeatureReader(features, normalize, table.names, regression.weight_AD, regression.bias_A)
    r2 = dict(zip(table.names, regression.r2_A, strict=True))
    text = ", ".join(f"{name} {value:.2f}" for name, value in r2.items())
    context.log(f"attributes from features of {name}: held-out R2 {text}")
    return reader, {"feature_network": name, "table_images": len(images_NHWC), "held_out_r2": r2}


def make_toy_dataset() -> LatentDataset:
    """Draw latents of a DCGAN of 8x8 pixels whose weights are random."""
    kwargs = {"in_channels": 1, "image_size": 8, "latent_dim": 6, "width": 4}
    stream = torch.Generator().manual_seed(TOY_SEED)
    with torch.random.fork_rng(devices=[]):
        generator = cast(Generator, dcgan(**kwargs).get_submodule("network"))
    for param in generator.requires_grad_(False).parameters():
        scale = 0.5 if param.ndim > 1 else 0.1
        param.copy_(scale * torch.randn(param.shape, generator=stream) + (param.ndim == 1))
    source = GeneratorSource("toy", "dcgan", kwargs, generator.eval(), 1, 8)
    reader = JoinedReader([MeasureReader(["brightness", "width", "height"], 1)])
    return draw_dataset(source, reader, 0, TOY_SEED, "toy", counts=TOY_COUNTS)


# --- axes -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NamedAxes:
    """Axes, their names, and the attribute that each moves most."""

    axes: Axes
    names: list[str]
    targets: list[int]


def standardize(split: LatentSplit) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of each attribute."""
    return split.value_NA.mean(0, dtype=np.float64).tolist(), split.value_NA.std(0, dtype=np.float64).tolist()


def find_axes(dataset: LatentDataset, method: Method, count: int) -> NamedAxes:
    """Find axes in closed form; those found without attributes are named by what they move most.

    Raises OptionError where the generator has no layer for `sefa`.
    """
    style_NW = torch.from_numpy(dataset.train.style_NW)
    mean, scale = standardize(dataset.train)
    value_NA = (torch.from_numpy(dataset.train.value_NA) - torch.tensor(mean)) / torch.tensor(scale)
    if method == "supervised":
        return NamedAxes(fit_axes(style_NW, value_NA), list(dataset.attributes), list(range(len(dataset.attributes))))
    generator = dataset.source.generator
    count = min(count, style_NW.shape[1])
    if method == "pca":
        direction_KW = principal_directions(style_NW, count)
    else:
        device = next(generator.parameters()).device
        direction_KW = factorized_directions(generator, style_NW.to(device), count).cpu()
    change_KA = _mean_changes(dataset, direction_KW) / np.array(scale)
    targets = np.abs(change_KA).argmax(1)
    sign_K = np.where(change_KA[np.arange(len(targets)), targets] < 0, -1.0, 1.0)
    direction_KW = direction_KW * torch.from_numpy(sign_K).float()[:, None]
    names = [f"{method}{k + 1}-{dataset.attributes[target]}" for k, target in enumerate(targets)]
    return NamedAxes(fit_axes(style_NW, value_NA, direction_KW), names, targets.tolist())


def _mean_changes(dataset: LatentDataset, direction_KW: Tensor) -> np.ndarray:
    """Return half the mean difference (K, A) of attributes between one step forward and one back."""
    generator = dataset.source.generator
    device = next(generator.parameters()).device
    style_NW = torch.from_numpy(dataset.val.style_NW).to(device)

    def synthesize(style_BW: Tensor) -> Tensor:
        return generator.synthesize(generator.repeat_style(style_BW))

    rows = []
    for direction_W in direction_KW.to(device):
        forward_NA = measure_images(synthesize, dataset.train.reader, style_NW + direction_W)
        back_NA = measure_images(synthesize, dataset.train.reader, style_NW - direction_W)
        rows.append((forward_NA - back_NA).mean(0) / 2)
    return np.stack(rows)


# --- training and measuring -------------------------------------------------------------------------------------------


def draw_changes(count: int, num_axes: int) -> Tensor:
    """Draw the requested change (N, K) of each training example: one axis, by up to 2.5 standard deviations."""
    stream = torch.Generator().manual_seed(CHANGE_SEED)
    axis_N = torch.randint(num_axes, (count,), generator=stream)
    step_N = (2 * torch.rand(count, generator=stream) - 1) * MAX_TRAINED_STEP
    return F.one_hot(axis_N, num_axes).float() * step_N[:, None]


def build_criterion(spec: Any, reader: nn.Module, device: torch.device) -> Callable[[LinearAxes, Batch], Loss]:
    """Build the loss: attributes of edited images against the values before, plus the change that was requested.

    Its minimum over the lengths of the axes would be too short, as of every regression with noise. Their gradient is
    therefore the error of the mean effect, whose root is an effect of 1 (Robbins and Monro 1951).
    """
    mean_A = torch.tensor(spec.means, device=device)
    scale_A = torch.tensor(spec.scales, device=device)
    target_KA = F.one_hot(torch.tensor(spec.targets), len(spec.attributes)).float().to(device)
    mean_square = MAX_TRAINED_STEP**2 / 3

    def criterion(model: LinearAxes, batch: Batch) -> Loss:
        style_BW = model.edit_style(batch["style"], batch["change"], model.length_K.detach())
        value_BA = (reader(model.synthesize(style_BW)) - mean_A) / scale_A
        goal_BA = (batch["value"] - mean_A) / scale_A + batch["change"] @ target_KA
        mean = F.smooth_l1_loss(value_BA, goal_BA, reduction="none").sum(1).mean()
        # (B, K): the error of each image's effect on the axis that it was changed along, 0 for the other axes
        error_BK = ((value_BA - goal_BA).detach() @ target_KA.T) * batch["change"] / mean_square
        calibration = (error_BK.mean(0) * model.length_K).sum()
        return Loss(mean + calibration - calibration.detach(), len(value_BA))

    return criterion


@dataclass(frozen=True)
class Changes:
    """Measured changes (K, T, N, A) in standard deviations by the requested `step_T`."""

    step_T: np.ndarray
    change_KTNA: np.ndarray

    def summarize(self, axis: int, target: int) -> dict[str, float]:
        """Return the figures of one axis."""
        judged_T = (self.step_T != 0) & (np.abs(self.step_T) <= MAX_JUDGED_STEP)
        change_TNA = self.change_KTNA[axis][judged_T]
        step_T = self.step_T[judged_T]
        return {
            "effect": effect(change_TNA[..., target], step_T),
            "leakage": leakage(change_TNA, step_T, target),
            "mean_leakage": drift(change_TNA, step_T, target),
            "monotonicity": monotonicity(self.change_KTNA[axis, ..., target], self.step_T),
        }


def measure_changes(
    model: LinearAxes, split: LatentSplit, spec: Any, step_T: np.ndarray, direction_KW: Tensor | None = None
) -> Changes:
    """Measure what each axis of a model in evaluation mode changes, or what other directions change."""
    device = next(model.parameters()).device
    style_NW = torch.from_numpy(split.style_NW).to(device)
    reader = split.reader.to(device)
    scale_A = np.array(spec.scales)

    def synthesize(style_BW: Tensor, change_BK: Tensor) -> Tensor:
        if direction_KW is None:
            return model(style_BW, change_BK)
        return model.synthesize(model.add(style_BW, change_BK @ direction_KW))

    num_axes = len(spec.axes)
    before_NA = measure_images(model.synthesize, reader, style_NW)
    change_KTNA = np.zeros((num_axes, len(step_T), *before_NA.shape))
    for axis in range(num_axes):
        for index, step in enumerate(step_T):
            if step == 0:
                continue
            change_NK = torch.zeros(len(style_NW), num_axes, device=device)
            change_NK[:, axis] = float(step)
            after_NA = measure_images(synthesize, reader, style_NW, change_NK)
            change_KTNA[axis, index] = (after_NA - before_NA) / scale_A
    return Changes(step_T, change_KTNA)


@torch.no_grad()
def make_strips(model: LinearAxes, style_NW: Tensor, axes: Sequence[int], steps: np.ndarray) -> np.ndarray:
    """Return images (R, T, H, W, C) uint8: row r is style r, changed along axis r by each step."""
    rows = []
    for style_W, axis in zip(style_NW, axes, strict=True):
        change_TK = torch.zeros(len(steps), len(model.length_K), device=style_NW.device)
        change_TK[:, axis] = torch.from_numpy(steps).float().to(style_NW.device)
        rows.append(to_bytes(model(style_W.expand(len(steps), -1), change_TK)))
    return np.stack(rows)


def measure_identity(
    model: LinearAxes, split: LatentSplit, spec: Any, network: FeatureNetwork | None
) -> list[float | None]:
    """Return for each axis how far +1 moves features of a network, relative to the distance of two images."""
    if network is None or len(split) < 2:
        return [None] * len(spec.axes)
    device = next(model.parameters()).device
    style_NW = torch.from_numpy(split.style_NW).to(device)

    def extract(change_NK: Tensor) -> np.ndarray:
        with torch.no_grad():
            return network.extract(to_bytes(model(style_NW, change_NK)))

    before_ND = extract(torch.zeros(len(style_NW), len(spec.axes), device=device))
    distance = np.linalg.norm(before_ND - np.roll(before_ND, 1, 0), axis=1).mean()
    results: list[float | None] = []
    for axis in range(len(spec.axes)):
        change_NK = torch.zeros(len(style_NW), len(spec.axes), device=device)
        change_NK[:, axis] = 1.0
        moved = np.linalg.norm(extract(change_NK) - before_ND, axis=1).mean()
        results.append(float(moved / max(distance, 1e-12)))
    return results
