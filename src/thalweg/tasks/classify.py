"""Which class is in the image? One label per image, probabilities for every class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ..attribution.explain_image import METHODS, Explanation, InputImage, explain_image
from ..config.parsing import Range
from ..config.size import Size
from ..data.base import DataRequest, take_dataset
from ..data.batches import FeatureViewBatches
from ..data.images.dataset import ImageDataset, ImageSplit, channel_mean_std
from ..data.images.duplicates import leaked_test_rows
from ..data.images.input_spec import (
    InputSpec,
    eval_batch_size,
    load_for_model,
    preprocess_image,
    to_normalized_float,
)
from ..data.images.named_datasets import list_named_images
from ..data.images.synthetic import make_bars
from ..data.images.transfer import adapt_to_model, transfer_spec
from ..data.images.validate import DatasetReport, check_dataset
from ..errors import NotFoundError
from ..layers.fuse import optimize_for_inference
from ..layers.tta import TTAModel, predict_proba
from ..objectives.supervised import Supervised
from ..plots.classification_report import plot_report
from ..predictions.base import Prediction
from ..predictions.label import LabelPrediction
from ..registry import register_task
from .base import CardText, Context, EvalResult, ExportSpec, InputType, Metric, Plot, Setup, Task
from .classify_batches import (
    Evidence,
    build_batches,
    choose_storage,
    collect_evidence,
    images_for_init,
    predict_split,
    storage_of,
)
from .classify_export import build_export_spec
from .classify_photos import choose_tta, suggest_weights
from .classify_pictures import augment_batch, plot_operations
from .classify_support import (
    build_criterion,
    build_transform,
    cached_features,
    check_finite,
    choose_defaults,
    describe_card,
    resolve_augment,
    suggest_next,
)


@dataclass(frozen=True)
class ClassifyOptions:
    """Training options that only classification understands."""

    loss: Annotated[Literal["cross-entropy", "squared-error"], "loss function"] = "cross-entropy"
    label_smoothing: Annotated[float, "label smoothing", Range(0, 1, below=True)] = 0.0
    balance_classes: Annotated[bool, "weight classes so that rare ones count as much as frequent ones"] = False
    augment: Annotated[
        str,
        "comma-separated, with amounts as shift=3: crop, flip, color, trivial, randaugment, erase, mixup, cutmix for "
        "photos; shift, rotate, scale, shear, elastic, thickness, cutout; or none  "
        "[default: none; crop,flip,trivial for small sets of photos]",
    ] = "auto"
    tta: Annotated[
        Literal["auto", "none", "flip", "flip-shift", "zoom"],
        "test-time augmentation: average over mirrored, and over shifted copies; or see the center enlarged  "
        "[default: none; zoom after --augment crop]",
    ] = "auto"
    image_size: Annotated[int | Size | None, "size of the model's input in pixels", Range(1, 4096)] = None
    fold: Annotated[str | None, "validate on one of K equal parts of the training set, as 2/5"] = None
    cache_features: Annotated[bool, "cache backbone features when only the head is trained"] = True
    feature_views: Annotated[int, "random augmented views per image in the feature cache", Range(1, 1000)] = 1
    check_leakage: Annotated[bool, "also score without test images that nearly are training images"] = False
    storage: Annotated[Literal["auto", "memory", "disk"], "where images are kept while training"] = "auto"
    cache_images: Annotated[bool, "keep small copies of images on disk, which are faster to decode"] = False
    decode_threads: Annotated[int | None, "threads that decode images  [default: all]", Range(1, 1024)] = None


@dataclass(frozen=True)
class ClassifyPredictOptions:
    """Options of `thalweg predict` for classifiers."""

    top_k: Annotated[int | None, "classes to show  [default: all of up to 10, else 5]", Range(1, 100_000)] = None
    raw: Annotated[bool, "do not normalize drawings to the form that the model was trained on"] = False


@dataclass(frozen=True)
class ExplainOptions:
    """Options of `thalweg explain RUN image`."""

    target_class: Annotated[str | None, "class to explain  [default: the most probable]"] = None
    methods: Annotated[list[str] | None, f"any of {', '.join(METHODS)}  [default: all]"] = None


@register_task
class Classify(Task):
    """Images of any kind into classes."""

    name = "classify"
    description = "Which class is in the image?"
    default_model = "convnet"
    default_data = "digits"
    named_data = staticmethod(list_named_images)
    metrics = (
        Metric("accuracy", "accuracy", unit="fraction"),
        Metric("loss", "loss", higher_is_better=False, unit="nats"),
        Metric("macro_f1", "macro F1", unit="fraction"),
        Metric("macro_precision", "macro precision", unit="fraction", in_curves=False),
        Metric("macro_recall", "macro recall", unit="fraction", in_curves=False),
        Metric("top5", "top-5 accuracy", unit="fraction", in_curves=False),
        Metric("calibration_error", "calibration error", higher_is_better=False, unit="fraction", in_curves=False),
    )
    input_type = InputType.IMAGE
    DataSpec = InputSpec
    TrainOptions = ClassifyOptions
    PredictOptions = ClassifyPredictOptions
    ExplainOptions = ExplainOptions
    resumable_options = frozenset({"decode_threads"})

    def load_data(
        self, request: DataRequest, options: ClassifyOptions, context: Context, spec: InputSpec | None = None
    ) -> ImageDataset:
        """Read the images of a folder, a file, arrays or a named data set. Raises DataError."""
        size = options.image_size
        storage = None if options.storage == "auto" else options.storage
        take_dataset(request, ImageDataset, {"image_size": size, "fold": options.fold, "storage": storage})
        fold = options.fold if request.make_splits else None
        request = replace(request, fold=fold)
        dataset = load_for_model(request, size, spec, choose_storage(request, options, context))
        return dataset if spec is None or request.for_training else adapt_to_model(dataset, spec)

    def toy_dataset(self) -> ImageDataset:
        """Make bars in four directions."""
        return make_bars()

    def data_spec(self, dataset: ImageDataset, options: ClassifyOptions) -> InputSpec:
        """Describe classes, size, and mean and std of the training images per channel, on the scale of 0 to 1."""
        images = dataset.train.images
        height, width, channels = images.shape[1:]
        mean_C, std_C = channel_mean_std(images)
        return InputSpec(
            classes=list(dataset.classes),
            channels=channels,
            size=[height, width],
            mean=[round(mean, 6) for mean in mean_C.tolist()],
            std=[round(max(std, 1e-3), 6) for std in std_C.tolist()],
            handwriting=dataset.is_handwriting,
            tta="none" if options.tta == "auto" else options.tta,
            class_counts=np.bincount(dataset.train.labels, minlength=len(dataset.classes)).tolist(),
        )

    def model_kwargs(self, spec: InputSpec) -> dict[str, Any]:
        """Return channels, number of classes and image size."""
        height, width = spec.size
        size = height if height == width else (height, width)
        return {"in_channels": spec.channels, "num_classes": len(spec.classes), "image_size": size}

    def default_options(
        self, dataset: ImageDataset, spec: InputSpec, options: ClassifyOptions, common: Any
    ) -> dict[str, Any]:
        """Choose a batch by the size of set and images; float32 where features may come from the cache."""
        return choose_defaults(dataset, spec, options, common)

    def init_from_data(self, model: nn.Module, dataset: ImageDataset, spec: InputSpec, context: Context) -> None:
        """Show some images to a model that initializes itself from data, such as one with whitening filters."""
        initialize = getattr(model, "init_whitening", None)
        if initialize is not None:
            initialize(self.to_input(images_for_init(dataset.train.images), spec, context.device))

    def setup(
        self,
        model: nn.Module,
        dataset: ImageDataset,
        spec: InputSpec,
        options: ClassifyOptions,
        batch_size: int,
        context: Context,
    ) -> Setup:
        """Minimize the loss of one model over images in memory, or over cached features of a frozen backbone."""
        objective = Supervised(model, build_criterion(spec, options, context.device))
        options = replace(options, augment=resolve_augment(options, dataset, spec, context.options))
        features = cached_features(model, dataset, spec, options, context)
        record: dict[str, Any] = {"cached_features": features is not None}
        if features is None:
            source = build_batches(dataset.train, options, batch_size, context)
            transform = build_transform(source.augment, spec)
            return Setup(objective, source.stream, transform, record=record | source.record, notes=source.notes)

        def validate(model: nn.Module) -> EvalResult:
            head = model.get_submodule("head").eval()
            with torch.inference_mode():
                probabilities_NK = head(features["val"][0]).softmax(1).float().cpu().numpy()
            rows = np.arange(len(dataset.val))
            return _to_result(collect_evidence(dataset.val, probabilities_NK, rows))

        labels = torch.from_numpy(np.require(dataset.train.labels, requirements="W")).to(context.device)
        tensors = {"features": features["train"], "label": labels}
        batches = FeatureViewBatches(tensors, batch_size, context.seed, context.rank, context.world_size)
        record["storage"] = storage_of(dataset.train.images)
        return Setup(objective, batches, lambda batch: batch, validate, record)

    def evaluate(
        self, model: nn.Module, split: ImageSplit, spec: InputSpec, options: ClassifyOptions, context: Context
    ) -> EvalResult:
        """Compute accuracy, top-5, loss, F1, calibration … in evaluation mode."""

        def predict(images: np.ndarray) -> Tensor:
            return predict_proba(model, self.to_input(images, spec, context.device), spec.tta)

        model.eval()
        return _to_result(predict_split(split, spec, predict, context))

    def final_details(
        self, model: nn.Module, dataset: ImageDataset, spec: InputSpec, options: ClassifyOptions, result: EvalResult
    ) -> dict[str, Any]:
        """Score again without test images that nearly are training images, where that was asked for."""
        if not options.check_leakage:
            return {}
        rows = leaked_test_rows(dataset.train, dataset.test)
        evidence = result.evidence
        is_right = evidence.probabilities.argmax(1) == evidence.split.labels
        is_right = is_right[~np.isin(evidence.rows, rows)]
        accuracy = float(is_right.mean()) if len(is_right) else None
        return {"near_duplicates": {"examples": len(rows), "accuracy_without": accuracy}}

    def plots(
        self,
        model: nn.Module,
        dataset: ImageDataset,
        spec: InputSpec,
        options: ClassifyOptions,
        result: EvalResult,
        history: list[dict[str, Any]],
    ) -> list[Plot]:
        """Draw confusion, worst mistakes, calibration, a batch as the model saw it, each operation, and filters."""
        augment = resolve_augment(options, dataset, spec)
        batch = augment_batch(dataset, spec, augment)
        plots = [Plot(*part) for part in plot_report(model, spec, result.evidence, batch)]
        return plots + plot_operations(dataset, spec, augment)

    def preprocess(self, source: Any, spec: InputSpec, options: ClassifyPredictOptions) -> np.ndarray:
        """Turn a file, bytes, Pillow image or array into (H, W, C) uint8 of the model's size. Raises DataError."""
        return preprocess_image(source, spec, options.raw)

    def predict(
        self,
        model: nn.Module,
        names: Sequence[str],
        examples: Sequence[np.ndarray],
        spec: InputSpec,
        options: ClassifyPredictOptions,
    ) -> list[Prediction]:
        """Predict the probabilities of a batch. Raises NonFiniteError where they are NaN."""
        with torch.inference_mode():
            x_BCHW = self.to_input(np.stack(examples), spec)
            probabilities_BK = predict_proba(model, x_BCHW, spec.tta).numpy()
        predictions: list[Prediction] = []
        for name, probabilities, example in zip(names, probabilities_BK, examples, strict=True):
            check_finite(probabilities, name)
            predictions.append(LabelPrediction(name, tuple(spec.classes), probabilities, example, options.top_k))
        return predictions

    def to_input(self, images: np.ndarray, spec: InputSpec, device: torch.device | str = "cpu") -> Tensor:
        """Convert images (B, H, W, C) uint8 to the model's input (B, C, H, W)."""
        return to_normalized_float(torch.from_numpy(images.copy()).to(device), spec)

    def eval_batch_size(self, spec: InputSpec, device: torch.device) -> int:
        """Return how many images are predicted at a time."""
        return eval_batch_size(spec, device)

    def for_inference(self, model: nn.Module, spec: InputSpec, batch_size: int) -> nn.Module:
        """Fold batch norm and fuse activations."""
        height, width = spec.size
        return optimize_for_inference(model, (batch_size, spec.channels, height, width))

    def example_input(self, spec: InputSpec, count: int) -> Tensor:
        """Return black images."""
        return torch.zeros(count, spec.channels, *spec.size)

    def reset_on_transfer(self, old: InputSpec, new: InputSpec) -> bool:
        """The head is trained anew for other classes."""
        return bool(old.classes) and list(old.classes) != list(new.classes)

    def spec_for_transfer(self, old: InputSpec, new: InputSpec) -> InputSpec:
        """Keep the normalization that the weights were trained with."""
        return transfer_spec(old, new)

    def spec_from_weights(self, weights: Any) -> InputSpec:
        """Read the spec that comes with published weights, or guess one from the tensors."""
        return InputSpec(**weights.spec_values)

    def spec_for_training(
        self, spec: InputSpec, dataset: ImageDataset, options: ClassifyOptions, common: Any
    ) -> InputSpec:
        """Zoom in on images where training sees random crops."""
        return replace(spec, tta=choose_tta(dataset, spec, options, common))

    def dataset_report(self, request: DataRequest, options: ClassifyOptions, context: Context) -> DatasetReport:
        """Count classes and sizes; find unreadable files, duplicates and contradicting labels."""
        return check_dataset(request, options.image_size)

    def advice(
        self, history: list[dict[str, Any]], spec: InputSpec, options: ClassifyOptions, common: Any
    ) -> list[str]:
        """Suggest pretrained weights for a small set of photos; say when the model memorizes the training set."""
        return suggest_weights(history, spec, common) + suggest_next(history, options.augment, common)

    def card_text(self, spec: InputSpec, options: ClassifyOptions, results: Mapping[str, Any]) -> CardText:
        """Describe classes, limits and preprocessing."""
        return describe_card(spec, results)

    def explain(self, model: nn.Module, source: Any, spec: InputSpec, options: ExplainOptions) -> Explanation:
        """Show what the classifier looked at in one image. Raises NotFoundError for an unknown class or method."""
        if options.target_class is not None and options.target_class not in spec.classes:
            raise NotFoundError.for_unknown("class", options.target_class, spec.classes)
        image_HWC = preprocess_image(source, spec)
        x_1CHW = self.to_input(image_HWC[None], spec)
        black_1CHW = self.to_input(np.zeros_like(image_HWC)[None], spec)
        with torch.inference_mode():
            check_finite(predict_proba(model, x_1CHW, spec.tta).numpy(), "image")
        predictor = TTAModel(model, spec.tta) if spec.tta != "none" else None
        methods = METHODS if options.methods is None else tuple(options.methods)
        image = InputImage(x_1CHW, image_HWC, black_1CHW)
        return explain_image(model, image, list(spec.classes), methods, options.target_class, predictor)

    def export_spec(self, model: nn.Module, spec: InputSpec, samples: ImageSplit | None) -> ExportSpec:
        """Export with the preprocessing inside; prove it on image files made of the samples."""
        return build_export_spec(model, spec, None if samples is None else samples.images[:64])


def _to_result(evidence: Evidence) -> EvalResult:
    scores = evidence.scores
    details = {"per_class": scores.per_class, "confusion": scores.confusion.tolist()}
    return EvalResult(scores.results(), details, evidence)
