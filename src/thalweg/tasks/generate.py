"""Make images that look like those of a data set (Goodfellow et al. 2014, arXiv:1406.2661)."""

from __future__ import annotations

import math
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
from ..data.images.unlabeled import SIZES, UnlabeledDataset, UnlabeledImages, check_format, load_unlabeled, make_shapes
from ..engine.freezing import refuse_freezing
from ..errors import DataError
from ..objectives.adversarial import Adversarial
from ..predictions.base import Prediction
from ..predictions.image import ImageGrid
from ..registry import register_task
from .base import CardText, Context, EvalResult, InputType, Plot, Setup, Task
from .generate_metrics import FEATURE_NETWORKS, METRICS, NUM_GRID, count_validation_samples, load_feature_network
from .generate_projection import GeneratePredictOptions, project_images, read_image
from .generate_report import draw_plots, judge, judge_with_training
from .generate_sampling import GenerateSampleOptions, sample
from .generate_support import CollapseWatch, build_transform, describe_card, suggest_next

#: training images that a run of unstated length shows the discriminator, and the epochs it stays between
DEFAULT_IMAGES = 50_000
MIN_EPOCHS = 3
MAX_EPOCHS = 400
MAX_BATCH_SIZE = 32


@dataclass(frozen=True)
class GenerateSpec:
    """Format of the images; kept in run.json."""

    channels: Annotated[int, "1 (gray) or 3 (RGB)", Range(1, 3)]
    image_size: Annotated[int, "height and width in pixels", Range(SIZES[0], SIZES[-1])]
    classes: Annotated[list[str], "class names of a conditional generator"] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.channels not in FEATURE_NETWORKS:
            raise FieldError("channels", "1 or 3")
        if self.image_size not in SIZES:
            raise FieldError("image_size", f"one of {', '.join(map(str, SIZES))}")


@dataclass(frozen=True)
class GenerateTrainOptions:
    """Options of `thalweg train generate`."""

    image_size: Annotated[
        int | None, "height and width, a power of two  [default: 32; 16 for sets of smaller images]", Range(1, 4096)
    ] = None
    r1: Annotated[float, "weight of the gradient penalty of the discriminator; 0 for none", Range(0, 1e6)] = 1.0
    r1_interval: Annotated[int, "steps from one gradient penalty to the next", Range(1, 10_000)] = 16
    mirror: Annotated[bool, "mirror half of the training images"] = False
    num_eval_samples: Annotated[
        int, "images that the final test generates; a validation makes at most 1,000", Range(2, 1_000_000)
    ] = 10_000
    feature_network: Annotated[
        str | None,
        "a run or a model: classifier by whose features images are judged  [default: digits-lenet, cifar10-fast]",
    ] = None


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
    ) -> UnlabeledDataset:
        """Read a folder of images, flat or nested, or whatever a classifier reads, without labels. Raises DataError."""
        dataset = take_dataset(request, UnlabeledDataset, {"image_size": options.image_size})
        if dataset is not None:
            return check_format(dataset, spec.image_size, spec.channels) if spec is not None else dataset
        if spec is not None:
            return load_unlabeled(request, spec.image_size, spec.channels)
        return load_unlabeled(request, options.image_size)

    def toy_dataset(self) -> UnlabeledDataset:
        """Draw discs and squares."""
        return make_shapes()

    def data_spec(self, dataset: UnlabeledDataset, options: GenerateTrainOptions) -> GenerateSpec:
        """Return channels and size."""
        return GenerateSpec(channels=dataset.shape[2], image_size=dataset.shape[0])

    def spec_for_transfer(self, old: GenerateSpec, new: GenerateSpec) -> GenerateSpec:
        """Return the format of the weights: data is read in it."""
        return old

    def spec_from_weights(self, weights: Any) -> GenerateSpec:
        """Return the format that comes with the weights of a run."""
        return GenerateSpec(**weights.spec_values)

    def model_kwargs(self, spec: GenerateSpec) -> dict[str, Any]:
        """Return channels and size."""
        return {"in_channels": spec.channels, "image_size": spec.image_size}

    def default_options(
        self, dataset: UnlabeledDataset, spec: GenerateSpec, options: Any, common: Any
    ) -> dict[str, Any]:
        """Return what adversarial networks are trained with, in float32: second derivatives need its precision."""
        count = max(1, len(dataset.train))
        values: dict[str, Any] = {
            "batch_size": min(MAX_BATCH_SIZE, 2 ** int(math.log2(count))),
            "epochs": min(MAX_EPOCHS, max(MIN_EPOCHS, math.ceil(DEFAULT_IMAGES / count))),
            "optimizer": "adam",
            "schedule": "constant",
            "ema_decay": 0.999,
            "precision": "float32",
            # the players can lose their balance late in a run: on MNIST from a distance of 17 after epoch 3 to 48
            "keep_best": True,
        }
        if common.optimizer in (None, "adam", "adamw"):
            values |= {"lr": 2e-3, "momentum": 0.5}
        return values

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
        if options.feature_network is not None:  # refuse a name that is no classifier before anything is trained
            load_feature_network(context, spec.channels, options.feature_network)
        count = len(dataset.train)
        if count < batch_size:
            raise DataError(
                f"{dataset.name}: {count} training images; expected at least a batch of {batch_size}.",
                f"Give --batch-size {count} or less, or more images.",
                value=count,
                allowed=[batch_size],
            )
        images = torch.from_numpy(np.require(dataset.train.images, requirements="W")).to(context.device)
        batches = InMemoryBatches({"image": images}, batch_size, context.seed, context.rank, context.world_size)
        objective = Adversarial(model, options.r1, options.r1_interval)
        watch = CollapseWatch()

        def validate(model: nn.Module) -> EvalResult:
            num_samples = count_validation_samples(len(dataset.val), options.num_eval_samples)
            result = judge(model, dataset.val, spec, options, context, num_samples)
            return replace(result, warnings=watch.check(result.metrics))

        examples = {"real": ImageGrid("real images", dataset.train.spread(NUM_GRID).images)}
        return Setup(objective, batches, build_transform(options.mirror), validate, examples=examples)

    def evaluate(
        self,
        model: nn.Module,
        split: UnlabeledImages,
        spec: GenerateSpec,
        options: GenerateTrainOptions,
        context: Context,
    ) -> EvalResult:
        """Compare generated images with real ones by the features of a classifier; samples are a grid."""
        return judge(model, split, spec, options, context, options.num_eval_samples)

    def final_details(
        self, model: nn.Module, dataset: UnlabeledDataset, spec: Any, options: Any, result: EvalResult
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

    def advice(self, history: list[dict[str, Any]], options: Any, common: Any) -> list[str]:
        """Say where training collapsed, and what to try."""
        return suggest_next(history)

    def card_text(self, spec: GenerateSpec, options: Any, results: Mapping[str, Any]) -> CardText:
        """Say in words what the model does and where its limits are."""
        return describe_card(spec.channels, spec.image_size, results.get("feature_network"))
