"""Make images that look like those of a data set (Goodfellow et al. 2014, arXiv:1406.2661)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from torch import nn

from ..config.json_record import FieldError
from ..config.parsing import Range
from ..data.base import DataRequest, take_dataset
from ..data.batches import InMemoryBatches
from ..data.images.unlabeled import (
    SIZES,
    UnlabeledDataset,
    UnlabeledImages,
    check_classes,
    check_format,
    load_unlabeled,
    make_shapes,
    require_classes,
)
from ..engine.freezing import refuse_freezing
from ..errors import OptionError
from ..predictions.base import Prediction
from ..predictions.image import ImageGrid, ImagePrediction
from ..registry import register_task
from .base import CardText, Context, EvalResult, Metric, Plot, Setup, Task
from .generate_support import (
    FEATURE_NETWORKS,
    NUM_GRID,
    Evidence,
    build_transform,
    compare_images,
    count_neighbors,
    count_validation_samples,
    describe_card,
    draw_plots,
    generate_images,
    load_feature_network,
    suggest_next,
    warn_of_accuracy,
)
from .generate_training import GenerateTrainOptions, build_objective, choose_common_options, load_tensors


@dataclass(frozen=True)
class GenerateSpec:
    """Format of the images; kept in run.json."""

    channels: Annotated[int, "1 (gray) or 3 (RGB)", Range(1, 3)]
    image_size: Annotated[int, "height and width in pixels", Range(SIZES[0], SIZES[-1])]
    classes: Annotated[list[str], "class names by label; none: images without a class"] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.channels not in FEATURE_NETWORKS:
            raise FieldError("channels", "1 or 3")
        if self.image_size not in SIZES:
            raise FieldError("image_size", f"one of {', '.join(map(str, SIZES))}")


@dataclass(frozen=True)
class GenerateSampleOptions:
    """Options of `thalweg sample`."""

    count: Annotated[int, "images", Range(1, 1_000_000)] = 16
    seed: Annotated[int, "seed of the first image; the next one's is one higher", Range(0, 2**32 - 1)] = 0
    grid: Annotated[bool, "show all in one image"] = False


@register_task
class Generate(Task):
    """Images from noise."""

    name = "generate"
    description = "What could images like these look like?"
    default_model = "dcgan"
    default_data = "digits"
    metrics = (
        Metric("frechet_distance", "Fréchet distance", higher_is_better=False),
        Metric("precision", "precision", unit="fraction"),
        Metric("recall", "recall", unit="fraction"),
    )
    input_type = None
    DataSpec = GenerateSpec
    TrainOptions = GenerateTrainOptions
    SampleOptions = GenerateSampleOptions

    def load_data(
        self, request: DataRequest, options: GenerateTrainOptions, context: Context, spec: GenerateSpec | None = None
    ) -> UnlabeledDataset:
        """Read a folder of images or whatever a classifier reads; classes on demand. Raises DataError."""
        dataset = take_dataset(request, UnlabeledDataset, {"image_size": options.image_size})
        if spec is not None:
            if dataset is None:
                dataset = load_unlabeled(request, spec.image_size, spec.channels, bool(spec.classes))
            return check_classes(check_format(dataset, spec.image_size, spec.channels), spec.classes)
        if dataset is not None:
            return dataset
        return load_unlabeled(request, options.image_size, has_classes=options.conditional)

    def toy_dataset(self) -> UnlabeledDataset:
        """Draw discs and squares, which are its classes."""
        return make_shapes()

    def data_spec(self, dataset: UnlabeledDataset, options: GenerateTrainOptions) -> GenerateSpec:
        """Return channels, size, and classes on demand. Raises DataError where there are none."""
        classes = require_classes(dataset) if options.conditional else []
        return GenerateSpec(channels=dataset.shape[2], image_size=dataset.shape[0], classes=classes)

    def spec_for_transfer(self, old: GenerateSpec, new: GenerateSpec) -> GenerateSpec:
        """Return the format of the weights: data is read in it. Raises OptionError where they know no classes."""
        if new.classes and not old.classes:
            raise OptionError(
                "--conditional: the weights generate images without a class.",
                "Leave out --conditional, or --weights.",
                option="conditional",
                value=True,
            )
        return old

    def spec_from_weights(self, weights: Any) -> GenerateSpec:
        """Return the format that comes with the weights of a run."""
        return GenerateSpec(**weights.spec_values)

    def model_kwargs(self, spec: GenerateSpec) -> dict[str, Any]:
        """Return channels, size, and the number of classes where there are any."""
        kwargs: dict[str, Any] = {"in_channels": spec.channels, "image_size": spec.image_size}
        return {**kwargs, "num_classes": len(spec.classes)} if spec.classes else kwargs

    def default_options(
        self, dataset: UnlabeledDataset, spec: GenerateSpec, options: Any, common: Any
    ) -> dict[str, Any]:
        """Return what adversarial networks are trained with."""
        return choose_common_options(len(dataset.train), common, self.default_model)

    def setup(
        self,
        model: nn.Module,
        dataset: UnlabeledDataset,
        spec: GenerateSpec,
        options: GenerateTrainOptions,
        batch_size: int,
        context: Context,
    ) -> Setup:
        """Train both networks in turn. Raises OptionError, and DataError for fewer images than a batch."""
        refuse_freezing(context.options, "generator and discriminator are trained as a whole")
        tensors = load_tensors(dataset, bool(spec.classes), batch_size, context.device)
        batches = InMemoryBatches(tensors, batch_size, context.seed, context.rank, context.world_size)
        objective = build_objective(model, options, context)

        def validate(model: nn.Module) -> EvalResult:
            num_samples = count_validation_samples(len(dataset.val), options.num_eval_samples)
            result = self._compare(model, dataset.val, spec, context, num_samples)
            for line in warn_of_accuracy(float(objective.accuracy)):
                context.log(line)
            return result

        return Setup(objective, batches, build_transform(options.mirror), validate)

    def evaluate(
        self,
        model: nn.Module,
        split: UnlabeledImages,
        spec: GenerateSpec,
        options: GenerateTrainOptions,
        context: Context,
    ) -> EvalResult:
        """Compare generated images with real ones by the features of a bundled network; samples are a grid."""
        return self._compare(model, split, spec, context, options.num_eval_samples)

    def _compare(
        self, model: nn.Module, split: UnlabeledImages, spec: GenerateSpec, context: Context, num_samples: int
    ) -> EvalResult:
        model.eval()
        fake_NHWC = generate_images(model, context.seed, max(NUM_GRID, num_samples))
        grid = fake_NHWC[:NUM_GRID]
        real = split.spread(num_samples)
        metrics: dict[str, float | int | None] = dict.fromkeys(metric.name for metric in self.metrics)
        network = load_feature_network(context, spec.channels)
        if network is not None and len(real):
            metrics |= compare_images(network, real.images, fake_NHWC[:num_samples])
        details = {
            "feature_network": None if network is None else network.name,
            "real_images": len(real),
            "generated_images": num_samples,
            "precision_recall_images": count_neighbors(len(real), num_samples),
        }
        evidence = Evidence(grid, real.images, network)
        return EvalResult(metrics, details, evidence, (ImageGrid("samples", grid),))

    def final_details(
        self, model: nn.Module, dataset: UnlabeledDataset, spec: Any, options: Any, result: EvalResult
    ) -> dict[str, Any]:
        """Return how many images a validation compares, and the metrics of training images in place of generated."""
        num_samples = count_validation_samples(len(dataset.val), options.num_eval_samples)
        details: dict[str, Any] = {
            "validation_real_images": min(len(dataset.val), num_samples),
            "validation_generated_images": num_samples,
        }
        network = result.evidence.network
        if network is not None and len(result.evidence.real_NHWC):
            train = dataset.train.spread(options.num_eval_samples)
            details["training_images"] = compare_images(network, result.evidence.real_NHWC, train.images)
        return details

    def plots(
        self, model: nn.Module, dataset: Any, spec: Any, options: Any, result: EvalResult, history: list[dict[str, Any]]
    ) -> list[Plot]:
        """Draw generated images, real ones, and the training images nearest to generated ones."""
        return draw_plots(result.evidence, dataset.train.images)

    def sample(self, model: nn.Module, spec: GenerateSpec, options: GenerateSampleOptions) -> Iterator[Prediction]:
        """Yield images; the k-th is that of seed + k. One at a time, because a batch's size changes the last bits."""
        images = []
        for k in range(options.count):
            seed = options.seed + k
            image_HWC = generate_images(model, seed, 1)[0]
            if options.grid:
                images.append(image_HWC)
            else:
                yield ImagePrediction(f"sample {k + 1}", image_HWC, seed)
        if images:
            yield ImageGrid(f"samples of seeds {options.seed} to {options.seed + options.count - 1}", np.stack(images))

    def advice(self, history: list[dict[str, Any]], options: Any, common: Any) -> list[str]:
        """Say where training collapsed, and what to try."""
        return suggest_next(history)

    def card_text(self, spec: GenerateSpec, options: Any, results: Mapping[str, Any]) -> CardText:
        """Say in words what the model does and where its limits are."""
        return describe_card(spec.channels, spec.image_size)
