"""Change attributes of generated images one by one (TL-GAN, Guan 2018; InterFaceGAN, arXiv:1907.10786)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..data.base import DataRequest, take_dataset
from ..data.batches import InMemoryBatches
from ..data.latents.dataset import NUM_TEST, NUM_VAL, SOURCE, LatentDataset, LatentSplit
from ..engine.freezing import refuse_freezing
from ..errors import DataError
from ..models.edit.linear_axes import LinearAxes
from ..objectives.supervised import Supervised
from ..predictions.base import Prediction
from ..predictions.image import ImagePrediction
from ..registry import register_task
from .base import CardText, Context, EvalResult, Metric, Plot, Setup, Task
from .edit_measure import (
    Evidence,
    build_criterion,
    correlate,
    draw_changes,
    draw_plots,
    draw_strip,
    draw_style,
    draw_sweep,
    evaluate_axes,
    find_axes,
    standardize,
)
from .edit_spec import (
    DEFAULT_GENERATOR,
    DEFAULT_LATENTS,
    EditSampleOptions,
    EditSpec,
    EditTrainOptions,
    check_change,
    find_axis,
)
from .edit_support import build_reader, draw_dataset, load_generator, make_toy_dataset
from .generate_metrics import load_feature_network
from .generate_sampling import to_bytes

DEFAULT_EPOCHS = 12

# N latents, K axes, A attributes, W numbers in a style


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
            counts = {"train": options.num_latents or DEFAULT_LATENTS, "val": NUM_VAL, "test": NUM_TEST}
            dataset = draw_dataset(source, reader, counts, context.seed, tuple(notes.items()), request.progress)
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

        def validate(model: nn.Module) -> EvalResult:
            return evaluate_axes(cast(LinearAxes, model.eval()), dataset.val, spec)

        return Setup(Supervised(model, cast(Any, criterion)), batches, lambda batch: batch, validate)

    def evaluate(
        self, model: nn.Module, split: LatentSplit, spec: EditSpec, options: Any, context: Context
    ) -> EvalResult:
        """Measure how attributes follow requested changes; details hold figures by axis, and before training."""
        network = load_feature_network(context, spec.channels)
        return evaluate_axes(cast(LinearAxes, model.eval()), split, spec, network)

    def final_details(
        self, model: nn.Module, dataset: LatentDataset, spec: EditSpec, options: Any, result: EvalResult
    ) -> dict[str, Any]:
        """Return the correlations of attributes, and figures of where they come from."""
        return {"attribute_correlation": correlate(dataset.train).round(4).tolist(), **dict(dataset.notes)}

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
        return draw_plots(cast(LinearAxes, model), dataset.train, spec, cast(Evidence, result.evidence))

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
                yield draw_sweep(model, style_1W, spec, f"sample {k + 1}", seed)
            else:
                styles.append(style_1W)
        if styles:
            names = [f"seed {options.seed + k}" for k in range(options.count)]
            yield draw_strip(model, torch.cat(styles), axis, spec.axes[axis], names)

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
            usage_python=f'for image in run.sample(set={{"{first}": 2}}):\n'
            '    image.draw().save(f"{image.seed}.png")',
        )
