"""Make images that look like those of a data set (Goodfellow et al. 2014, arXiv:1406.2661)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import numpy as np
import torch
from torch import nn

from ..config.json_record import FieldError
from ..config.parsing import Range
from ..data.base import DataRequest, take_dataset
from ..data.batches import InMemoryBatches
from ..data.images.square_images import (
    SIZES,
    SquareImageDataset,
    SquareImages,
    check_classes,
    check_format,
    load_square_images,
    make_shapes,
    require_classes,
)
from ..engine.freezing import refuse_freezing
from ..errors import OptionError
from ..predictions.base import Prediction
from ..predictions.image import ImageGrid
from ..registry import register_task
from .base import CardText, Context, EvalResult, InputType, Plot, Setup, Task
from .generate_metrics import FEATURE_NETWORKS, METRICS, NUM_GRID, count_validation_samples, load_feature_network
from .generate_projection import GeneratePredictOptions, project_images, read_image
from .generate_report import draw_plots, judge, judge_with_training
from .generate_sampling import GenerateSampleOptions, sample
from .generate_support import CollapseWatch, build_transform, describe_card, suggest_next
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
class GenerateEvaluateOptions:
    """Options of `thalweg evaluate` for generators."""

    feature_network: Annotated[
        str | None, "a run or a model: classifier by whose features images are judged  [default: that of the training]"
    ] = None
    num_eval_samples: Annotated[
        int | None, "images to generate  [default: as many as in the training's test]", Range(2, 1_000_000)
    ] = None


@register_task
class Generate(Task):
    """Images from noise."""

    name = "generate"
    description = "What could images like these look like?"
    default_model = "dcgan"
    default_data = "digits"
    metrics = METRICS
    input_type = InputType.IMAGE
    DataSpec = GenerateSpec
    TrainOptions = GenerateTrainOptions
    EvaluateOptions = GenerateEvaluateOptions
    PredictOptions = GeneratePredictOptions
    SampleOptions = GenerateSampleOptions

    def load_data(
        self, request: DataRequest, options: GenerateTrainOptions, context: Context, spec: GenerateSpec | None = None
    ) -> SquareImageDataset:
        """Read a folder of images or whatever a classifier reads; classes on demand. Raises DataError."""
        dataset = take_dataset(request, SquareImageDataset, {"image_size": options.image_size})
        if spec is not None:
            if dataset is None:
                dataset = load_square_images(request, spec.image_size, spec.channels, bool(spec.classes))
            return check_classes(check_format(dataset, spec.image_size, spec.channels), spec.classes)
        if dataset is not None:
            return dataset
        return load_square_images(request, options.image_size, has_classes=options.conditional)

    def toy_dataset(self) -> SquareImageDataset:
        """Draw discs and squares, which are its classes."""
        return make_shapes()

    def data_spec(self, dataset: SquareImageDataset, options: GenerateTrainOptions) -> GenerateSpec:
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
        self, dataset: SquareImageDataset, spec: GenerateSpec, options: Any, common: Any
    ) -> dict[str, Any]:
        """Return what adversarial networks are trained with."""
        return choose_common_options(len(dataset.train), common, self.default_model)

    def setup(
        self,
        model: nn.Module,
        dataset: SquareImageDataset,
        spec: GenerateSpec,
        options: GenerateTrainOptions,
        batch_size: int,
        context: Context,
    ) -> Setup:
        """Train both networks in turn. Raises OptionError, and DataError for fewer images than a batch."""
        refuse_freezing(context.options, "generator and discriminator are trained as a whole")
        if options.feature_network is not None:  # refuse a name that is no classifier before anything is trained
            load_feature_network(context, spec.channels, options.feature_network)
        tensors = load_tensors(dataset, bool(spec.classes), batch_size, context.device)
        batches = InMemoryBatches(tensors, batch_size, context.seed, context.rank, context.world_size)
        objective = build_objective(model, options, context)
        watch = CollapseWatch()

        def validate(model: nn.Module) -> EvalResult:
            num_samples = count_validation_samples(len(dataset.val), options.num_eval_samples)
            result = judge(model, dataset.val, spec, options, context, num_samples)
            accuracy = None if objective.settings.gradient_penalty else float(objective.accuracy)
            return replace(result, warnings=watch.check(result.metrics, accuracy))

        examples = {"real": ImageGrid("real images", dataset.train.spread(NUM_GRID).images)}
        return Setup(objective, batches, build_transform(options.mirror), validate, examples=examples)

    def evaluate(
        self,
        model: nn.Module,
        split: SquareImages,
        spec: GenerateSpec,
        options: GenerateTrainOptions,
        context: Context,
    ) -> EvalResult:
        """Compare generated images with real ones by the features of a classifier; samples are a grid."""
        return judge(model, split, spec, options, context, options.num_eval_samples)

    def final_details(
        self, model: nn.Module, dataset: SquareImageDataset, spec: Any, options: Any, result: EvalResult
    ) -> dict[str, Any]:
        """Return memorization, how many images a validation compares, and the metrics of training images."""
        return judge_with_training(dataset, options, result)

    def plots(
        self, model: nn.Module, dataset: Any, spec: Any, options: Any, result: EvalResult, history: list[dict[str, Any]]
    ) -> list[Plot]:
        """Draw generated, real and nearest images, interpolation, truncation and mixed styles."""
        return draw_plots(model, dataset, result)

    def preprocess(self, source: Any, spec: GenerateSpec, options: GeneratePredictOptions) -> np.ndarray:
        """Read an image, cropped and resized as training images are. Raises DataError."""
        return read_image(source, spec)

    def predict(
        self,
        model: nn.Module,
        names: Sequence[str],
        examples: Sequence[np.ndarray],
        spec: GenerateSpec,
        options: GeneratePredictOptions,
    ) -> list[Prediction]:
        """Find the style whose image comes nearest to each picture."""
        return [*project_images(model, names, examples, options)]

    def eval_batch_size(self, spec: GenerateSpec, device: torch.device) -> int:
        """Return how many pictures share the random candidates; each is projected alone."""
        return 4

    def sample(self, model: nn.Module, spec: GenerateSpec, options: GenerateSampleOptions) -> Iterator[Prediction]:
        """Yield images, a grid, an animation or mixed styles; the k-th image is that of seed + k."""
        return sample(model, spec, options)

    def advice(self, history: list[dict[str, Any]], spec: Any, options: Any, common: Any) -> list[str]:
        """Say where training collapsed, and what to try."""
        return suggest_next(history)

    def card_text(self, spec: GenerateSpec, options: Any, results: Mapping[str, Any]) -> CardText:
        """Say in words what the model does and where its limits are."""
        return describe_card(spec.channels, spec.image_size, results.get("feature_network"))
