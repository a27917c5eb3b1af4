"""Change attributes of generated images one by one (TL-GAN, Guan 2018; InterFaceGAN, arXiv:1907.10786)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from ..config.json_record import FieldError
from ..config.parsing import Range
from ..data.base import DataRequest, take_dataset
from ..data.batches import InMemoryBatches
from ..data.latents.dataset import SOURCE, LatentDataset, LatentSplit, draw_dataset
from ..engine.freezing import refuse_freezing
from ..errors import DataError, OptionError, did_you_mean
from ..models.edit.linear_axes import LinearAxes
from ..objectives.supervised import Supervised
from ..plots.editing import plot_effects, plot_requested_measured
from ..predictions.base import Prediction
from ..predictions.image import ImagePrediction
from ..predictions.image_strips import ImageStrips
from ..registry import register_task
from .base import CardText, Context, EvalResult, Metric, Plot, Setup, Task
from .edit_support import (
    DEFAULT_GENERATOR,
    MAX_JUDGED_STEP,
    STEPS,
    Changes,
    Method,
    build_criterion,
    build_reader,
    draw_changes,
    find_axes,
    load_generator,
    make_strips,
    make_toy_dataset,
    measure_changes,
    measure_identity,
    standardize,
)
from .generate_support import draw_latents, load_feature_network, to_bytes

DEFAULT_LATENTS = 2000
DEFAULT_EPOCHS = 12
#: largest change that may be asked for, in standard deviations
MAX_CHANGE = 20.0
#: rows of a strip of the report
NUM_STRIP_ROWS = 5

# N latents, K axes, A attributes, W numbers in a style


@dataclass(frozen=True)
class EditSpec:
    """The generator, the attributes that were measured, and the axes; kept in run.json."""

    generator: Annotated[str, "model of the generator"]
    generator_kwargs: Annotated[dict[str, Any], "arguments of that model"]
    channels: Annotated[int, "1 (gray) or 3 (RGB)", Range(1, 3)]
    method: Annotated[Method, "how the axes were found"]
    attributes: Annotated[list[str], "attributes that are measured"]
    means: Annotated[list[float], "mean of each attribute", Range(-1e30, 1e30)]
    scales: Annotated[list[float], "standard deviation of each attribute", Range(0, 1e30, above=True)]
    axes: Annotated[list[str], "names of the axes"]
    targets: Annotated[list[int], "index of the attribute that each axis moves", Range(0, 100_000)]

    def __post_init__(self) -> None:
        for name in ("generator_kwargs", "attributes", "axes"):
            if not getattr(self, name):
                raise FieldError(name, "at least one")
        for name, other in (("means", "attributes"), ("scales", "attributes"), ("targets", "axes")):
            if len(getattr(self, name)) != len(getattr(self, other)):
                raise FieldError(name, f"as many as {other}")
        if max(self.targets) >= len(self.attributes):
            raise FieldError("targets", f"less than {len(self.attributes)}")


@dataclass(frozen=True)
class EditTrainOptions:
    """Options of `thalweg train edit`."""

    generator: Annotated[str | None, f"run folder or bundled generator  [default: {DEFAULT_GENERATOR}]"] = None
    classifier: Annotated[str | None, "run folder or bundled classifier: its classes are attributes"] = None
    attributes: Annotated[
        str | None, "CSV of file names and numbers for the images in DATA, by default in its own folder"
    ] = None
    measure: Annotated[
        list[str] | None,
        "attributes by formula: brightness, height, slant, thickness, width  [default: thickness,slant,width]",
    ] = None
    axes: Annotated[Method, "by attributes, or without: principal components, or weights of the generator"] = (
        "supervised"
    )
    num_axes: Annotated[int, "axes that pca and sefa find", Range(1, 1000)] = 6
    num_latents: Annotated[
        int | None, f"latents that are drawn to train on  [default: {DEFAULT_LATENTS}]", Range(50, 10_000_000)
    ] = None


@dataclass(frozen=True)
class EditSampleOptions:
    """Options of `thalweg sample`."""

    count: Annotated[int, "images, or rows of a strip", Range(1, 1_000_000)] = 4
    seed: Annotated[int, "seed of the first image; the next one's is one higher", Range(0, 2**32 - 1)] = 0
    set: Annotated[dict[str, float], "change of an attribute in standard deviations, repeatable"] = field(
        default_factory=dict
    )
    way: Annotated[
        Literal["single", "strip", "sweep"], "images; a row of one attribute per image; or all attributes of each image"
    ] = "single"
    attribute: Annotated[str | None, "attribute of a strip  [default: the first]"] = None


@register_task
class Edit(Task):
    """Attributes of generated images as sliders."""

    name = "edit"
    description = "How would this generated image look with more of an attribute?"
    default_model = "linear_axes"
    default_data = SOURCE
    metrics = (
        Metric("leakage", "leakage", higher_is_better=False, unit="fraction"),
        Metric("effect", "effect of +1"),
        Metric("monotonicity", "monotonicity"),
        Metric("identity_drift", "identity drift", higher_is_better=False, unit="fraction"),
    )
    input_type = None
    DataSpec = EditSpec
    TrainOptions = EditTrainOptions
    SampleOptions = EditSampleOptions

    def load_data(
        self, request: DataRequest, options: EditTrainOptions, context: Context, spec: EditSpec | None = None
    ) -> LatentDataset:
        """Draw latents of the generator, and measure their images. Raises OptionError, DataError, NotFoundError."""
        names = ("generator", "classifier", "attributes", "measure", "num_latents")
        dataset = take_dataset(request, LatentDataset, {name: getattr(options, name) for name in names})
        if dataset is None:
            source = load_generator(context, options.generator or DEFAULT_GENERATOR)
            reader, notes = build_reader(options, context, source, request)
            count = options.num_latents or DEFAULT_LATENTS
            dataset = draw_dataset(
                source, reader, count, context.seed, notes=tuple(notes.items()), progress=request.progress
            )
        if spec is not None and (list(dataset.attributes), dataset.source.model) != (spec.attributes, spec.generator):
            raise DataError(
                f"{dataset.name} has the attributes {', '.join(dataset.attributes)} of a {dataset.source.model}; "
                f"the model knows {', '.join(spec.attributes)} of a {spec.generator}.",
                "Give the generator and the attributes that it was trained with.",
                value=list(dataset.attributes),
                allowed=spec.attributes,
            )
        return dataset

    def toy_dataset(self) -> LatentDataset:
        """Draw latents of a small generator with random weights."""
        return make_toy_dataset()

    def data_spec(self, dataset: LatentDataset, options: EditTrainOptions) -> EditSpec:
        """Return generator, attributes and names of axes. Raises OptionError for a generator without sefa axes."""
        means, scales = standardize(dataset.train)
        axes = find_axes(dataset, options.axes, options.num_axes)
        source = dataset.source
        return EditSpec(
            generator=source.model,
            generator_kwargs=source.kwargs,
            channels=source.channels,
            method=options.axes,
            attributes=list(dataset.attributes),
            means=means,
            scales=scales,
            axes=axes.names,
            targets=axes.targets,
        )

    def model_kwargs(self, spec: EditSpec) -> dict[str, Any]:
        """Return the generator, and numbers of axes and attributes."""
        return {
            "generator": spec.generator,
            "generator_kwargs": spec.generator_kwargs,
            "num_axes": len(spec.axes),
            "num_attributes": len(spec.attributes),
            "has_fixed_directions": spec.method != "supervised",
        }

    def init_from_data(self, model: nn.Module, dataset: LatentDataset, spec: EditSpec, context: Context) -> None:
        """Take over the generator's weights, and begin with axes in closed form."""
        editor = cast(LinearAxes, model)
        editor.generator.load_state_dict(dataset.source.generator.state_dict())
        editor.set_axes(find_axes(dataset, spec.method, len(spec.axes)).axes)

    def default_options(self, dataset: LatentDataset, spec: EditSpec, options: Any, common: Any) -> dict[str, Any]:
        """Return what axes are trained with: the generator's images at full precision, and a falling learning rate."""
        values: dict[str, Any] = {
            "batch_size": 64,
            "optimizer": "adam",
            "schedule": "cosine",
            "ema_decay": 0.0,
            "precision": "float32",
        }
        if common.steps is None and common.time_budget is None:
            values["epochs"] = DEFAULT_EPOCHS
        if common.optimizer in (None, "adam", "adamw"):
            values["lr"] = 0.01
        return values

    def setup(
        self,
        model: nn.Module,
        dataset: LatentDataset,
        spec: EditSpec,
        options: EditTrainOptions,
        batch_size: int,
        context: Context,
    ) -> Setup:
        """Train the axes through the generator, until images change as requested. Raises OptionError."""
        refuse_freezing(context.options, "the generator is always frozen, and axes have no layers")
        train = dataset.train
        tensors = {
            "style": torch.from_numpy(train.style_NW).to(context.device),
            "value": torch.from_numpy(train.value_NA).to(context.device),
            "change": draw_changes(len(train), len(spec.axes)).to(context.device),
        }
        batches = InMemoryBatches(tensors, batch_size, context.seed, context.rank, context.world_size)
        criterion = build_criterion(spec, train.reader.to(context.device), context.device)
        return Setup(Supervised(model, criterion), batches, lambda batch: batch)

    def evaluate(
        self, model: nn.Module, split: LatentSplit, spec: EditSpec, options: Any, context: Context
    ) -> EvalResult:
        """Measure how attributes follow requested changes; details hold figures by axis, and before training."""
        editor = cast(LinearAxes, model.eval())
        changes = measure_changes(editor, split, spec, STEPS)
        network = load_feature_network(context, spec.channels)
        drifts = measure_identity(editor, split, spec, network)
        judged = STEPS[(STEPS != 0) & (np.abs(STEPS) <= MAX_JUDGED_STEP)]
        before = {
            "orthogonal": measure_changes(editor, split, spec, judged, editor.orthogonal_KW),
            "raw": measure_changes(editor, split, spec, judged, editor.raw_KW),
        }
        by_axis: dict[str, dict[str, Any]] = {}
        for index, (name, target) in enumerate(zip(spec.axes, spec.targets, strict=True)):
            figures: dict[str, Any] = {"attribute": spec.attributes[target], **changes.summarize(index, target)}
            figures["leakage_before_training"] = before["orthogonal"].summarize(index, target)["leakage"]
            figures["leakage_before_orthogonalization"] = before["raw"].summarize(index, target)["leakage"]
            figures["identity_drift"] = drifts[index]
            by_axis[name] = figures
        metrics = {}
        for metric in self.metrics:
            values = [figures[metric.name] for figures in by_axis.values() if figures[metric.name] is not None]
            metrics[metric.name] = float(np.mean(values)) if values else None
        details = {"axes": by_axis, "readout_r2": _readout_r2(editor, split, spec), "latents": len(split)}
        strips = self._strips(editor, torch.from_numpy(split.style_NW[:1]), spec, range(len(spec.axes)), "samples")
        return EvalResult(metrics, details, (changes, before["raw"], split), (strips,))

    def _strips(self, model: LinearAxes, style_NW: Tensor, spec: EditSpec, axes: Any, source: str) -> ImageStrips:
        """Change one image along several axes, or several images along one."""
        style_NW = style_NW.to(next(model.parameters()).device)
        count = max(len(style_NW), len(axes))
        chosen = list(axes) * (count // len(axes))
        names = [spec.axes[axis] for axis in chosen]
        images = make_strips(model, style_NW.expand(count, -1), chosen, STEPS)
        return ImageStrips(source, images, names, STEPS.tolist())

    def final_details(
        self, model: nn.Module, dataset: LatentDataset, spec: EditSpec, options: Any, result: EvalResult
    ) -> dict[str, Any]:
        """Return the correlations of attributes, and figures of where they come from."""
        correlation_AA = np.corrcoef(dataset.train.value_NA.T).reshape(len(spec.attributes), -1)
        return {"attribute_correlation": correlation_AA.round(4).tolist(), **dict(dataset.notes)}

    def plots(
        self,
        model: nn.Module,
        dataset: LatentDataset,
        spec: EditSpec,
        options: Any,
        result: EvalResult,
        history: list[dict[str, Any]],
    ) -> list[Plot]:
        """Draw requested against measured changes, what each axis moves before and after, and strips of images."""
        changes, raw, split = cast("tuple[Changes, Changes, LatentSplit]", result.evidence)
        correlation_AA = np.corrcoef(dataset.train.value_NA.T).reshape(len(spec.attributes), -1)
        slopes = [_slopes(raw), _slopes(changes)]
        titles = ["Correlation of attributes", "Moved by axes, before", "Moved by axes, after"]
        rows = [spec.attributes, spec.axes, spec.axes]
        follow = plot_requested_measured(changes.step_T, changes.change_KTNA.mean(2), spec.targets, spec.axes)
        effects = plot_effects([correlation_AA, *slopes], titles, rows, spec.attributes)
        plots = [
            Plot("changes", "Requested and measured change", "Means over the images of the test split.", follow),
            Plot("axes", "What each axis moves", "Per +1: before orthogonalization and training, and after.", effects),
        ]
        for axis, name in enumerate(spec.axes):
            strips = self._strips(
                cast(LinearAxes, model), torch.from_numpy(split.style_NW[:NUM_STRIP_ROWS]), spec, [axis], name
            )
            plots.append(Plot(f"strip-{axis + 1}", f"{name}, from -3 to +3", "One image per row.", strips.draw()))
        return plots

    def sample(self, model: nn.Module, spec: EditSpec, options: EditSampleOptions) -> Iterator[Prediction]:
        """Yield edited images; the k-th is that of seed + k. Raises OptionError for an unknown attribute."""
        change_1K = torch.zeros(1, len(spec.axes))
        for name, value in options.set.items():
            change_1K[0, find_axis(spec, name, "set")] = check_change(name, value)
        axis = 0 if options.attribute is None else find_axis(spec, options.attribute, "attribute")
        return self._sample(cast(LinearAxes, model.eval()), spec, options, change_1K, axis)

    @torch.no_grad()
    def _sample(
        self, model: LinearAxes, spec: EditSpec, options: EditSampleOptions, change_1K: Tensor, axis: int
    ) -> Iterator[Prediction]:
        device = next(model.parameters()).device
        styles = []
        for k in range(options.count):
            seed = options.seed + k
            style_1W = draw_style(model, seed)
            style_1W = model.edit_style(style_1W, change_1K.to(device))
            if options.way == "single":
                yield ImagePrediction(f"sample {k + 1}", to_bytes(model.synthesize(style_1W))[0], seed)
            elif options.way == "sweep":
                yield self._strips(model, style_1W, spec, range(len(spec.axes)), f"sample {k + 1}, seed {seed}")
            else:
                styles.append(style_1W)
        if styles:
            yield self._strips(model, torch.cat(styles), spec, [axis], f"samples of seeds {options.seed} and up")

    def card_text(self, spec: EditSpec, options: Any, results: Mapping[str, Any]) -> CardText:
        """Say in words what the model does and where its limits are."""
        first = spec.axes[0]
        return CardText(
            summary=f"It changes {', '.join(spec.axes)} of images that a {spec.generator} generates.",
            limitations=(
                "It edits images of its own generator, not photographs.",
                "Attributes are what a formula or another model says of them; both may be wrong, and far from 0 images "
                "leave what the generator was trained on.",
                "Attributes that go together in the training images of the generator are hard to change alone.",
            ),
            preprocessing=("+1 is one standard deviation of an attribute over generated images.",),
            usage_command=f"thalweg sample RUN --set {first}=+2 --seed 0 --save edited/",
            usage_python=f'for image in thalweg.load("RUN").sample(set={{"{first}": 2}}):\n'
            '    image.draw().save(f"{image.seed}.png")',
        )


def find_axis(spec: EditSpec, name: str, option: str) -> int:
    """Return the index of an axis by name. Raises OptionError with the names."""
    if name not in spec.axes:
        raise OptionError(
            f"--{option}: there is no attribute '{name}'; this model changes {', '.join(spec.axes)}.",
            did_you_mean(name, spec.axes),
            option=option,
            value=name,
            allowed=spec.axes,
        )
    return spec.axes.index(name)


def check_change(name: str, value: float) -> float:
    """Return a requested change. Raises OptionError for one that leaves everything that was trained."""
    if abs(value) > MAX_CHANGE:
        raise OptionError(
            f"--set {name}={value:g} is out of range; expected -{MAX_CHANGE:g} to {MAX_CHANGE:g}.",
            "Changes are in standard deviations; +2 is a lot.",
            option="set",
            value=value,
            allowed=[-MAX_CHANGE, MAX_CHANGE],
        )
    return value


def draw_style(model: LinearAxes, seed: int) -> Tensor:
    """Return the style (1, W) of a seed; of a conditional generator, classes take turns."""
    generator = model.generator
    device = next(model.parameters()).device
    latent_1L = draw_latents(seed, 1, generator.latent_dim).to(device)
    label_1 = torch.tensor([seed % generator.num_classes], device=device) if generator.num_classes else None
    return generator.map_latent(latent_1L, label_1)


def _slopes(changes: Changes) -> np.ndarray:
    """Return the mean change (K, A) of each attribute per step, by least squares over the judged steps."""
    is_judged_T = np.abs(changes.step_T) <= MAX_JUDGED_STEP
    step_T = changes.step_T[is_judged_T]
    return np.einsum("t,kta->ka", step_T, changes.change_KTNA.mean(2)[:, is_judged_T]) / np.square(step_T).sum()


def _readout_r2(model: LinearAxes, split: LatentSplit, spec: EditSpec) -> dict[str, float]:
    """Return how much of each attribute's variance the linear read-out of styles predicts, on this split."""
    value_NA = (split.value_NA - np.array(spec.means)) / np.array(spec.scales)
    centered_NW = split.style_NW - model.center_W.cpu().numpy()
    error_NA = centered_NW @ model.readout_AW.cpu().numpy().T - value_NA
    spread_A = np.maximum(value_NA.var(0), 1e-12)
    r2_A = 1 - np.square(error_NA).mean(0) / spread_A
    return dict(zip(spec.attributes, r2_A.tolist(), strict=True))
