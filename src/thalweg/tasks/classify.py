"""Which class is in the picture? One label per picture, probabilities for every class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..config.options import Options
from ..data.batches import BatchStream, InMemoryBatches
from ..data.images import synthetic as toy
from ..data.images.augment import build_augmentation
from ..data.images.dataset import ImageDataset, Split
from ..data.images.preprocess import (
    eval_batch_size,
    pad_to_square,
    predict_proba,
    preprocess_image,
    standardize_,
    to_normalized_float,
)
from ..losses.classification import LOSSES
from ..metrics.classification import MetricAccumulator
from ..objectives.base import Batch, Loss, Objective
from ..objectives.supervised import Supervised
from ..registry import register_task
from .base import InputSpec, Task


def class_weights(counts: Sequence[int]) -> Tensor:
    """(K,) weights of classes with which each counts as much as any other, and all examples together as before."""
    count_K = torch.tensor(counts, dtype=torch.float32)
    return torch.where(count_K > 0, count_K.sum() / ((count_K > 0).sum() * count_K), 0.0)


def channel_mean_std(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation (C,) of pictures (N, H, W, C) uint8 on the scale of 0 to 1, by counting the 256 levels.

    As floats, ten thousand pictures of 224 pixels would take six gigabytes.
    """
    count_CL = np.zeros((images.shape[3], 256), np.int64)
    for start in range(0, len(images), 64):
        for channel, count_L in enumerate(count_CL):
            count_L += np.bincount(images[start : start + 64, ..., channel].ravel(), minlength=256)
    share_CL, level_L = count_CL / max(1, count_CL[0].sum()), np.arange(256) / 255
    mean_C = share_CL @ level_L
    return mean_C, np.sqrt((share_CL * (level_L - mean_C[:, None]) ** 2).sum(1))


@dataclass(frozen=True)
class EvalResult:
    """What a network answered on a split: probabilities (N, K), and the scores made of them."""

    split: Split
    probabilities: np.ndarray
    scores: MetricAccumulator

    @property
    def details(self) -> dict[str, Any]:
        """What run.json holds of the test beside its metrics."""
        return {"per_class": self.scores.per_class, "confusion": self.scores.confusion.tolist()}

    def without(self, rows: np.ndarray) -> dict[str, Any]:
        """How many examples `rows` are, and the accuracy on all others; None where there are no others."""
        kept = np.setdiff1d(np.arange(len(self.split)), rows)
        right = self.probabilities[kept].argmax(1) == self.split.labels[kept] if len(kept) else np.empty(0)
        return {"examples": len(rows), "accuracy_without": float(right.mean()) if len(kept) else None}


@register_task
class Classify(Task):
    """Pictures of any kind into classes."""

    name = "classify"
    about = "Which class is in the picture?"
    default_model = "convnet"
    default_data = "digits"
    judged_by = "accuracy"

    def read(
        self, options: Options, notice: Callable[[str], None], form: InputSpec | None = None, divided: bool = True
    ) -> ImageDataset:
        """The pictures of a folder, a file or a known name. Raises DataError."""
        from ..data.images.load import load_dataset

        form = form or {}
        size, resize = options.size, form.get("resize")
        if form:
            usual = form["size"][0]
            size = size or usual
            resize = resize and round(resize * size / usual)
        return pad_to_square(
            load_dataset(
                options.data or self.default_data,
                size=size,
                resize=resize,
                channels=form.get("channels"),
                fold=options.fold,
                divided=divided,
                valid=options.valid,
                strict=options.strict,
                offline=options.offline,
                notice=notice,
            )
        )

    def toy(self) -> ImageDataset:
        """Bars in four directions."""
        return toy.make_bars()

    def facts(self, data: ImageDataset) -> InputSpec:
        """Classes, size, and mean and deviation of the training pictures per channel, on the scale of 0 to 1."""
        mean_C, std_C = channel_mean_std(data.train.images[:: max(1, len(data.train) // 10_000)])
        return {
            "classes": list(data.classes),
            "channels": data.shape[2],
            "size": list(data.shape[:2]),
            "mean": [round(m, 6) for m in mean_C.tolist()],
            "std": [round(max(s, 1e-3), 6) for s in std_C.tolist()],
            "ink": data.ink,
            "counts": np.bincount(data.train.labels, minlength=len(data.classes)).tolist(),
        }

    def arguments(self, facts: InputSpec) -> dict[str, Any]:
        """Return in_channels, num_classes and image_size."""
        num_classes = len(facts["classes"])
        return {"in_channels": facts["channels"], "num_classes": num_classes, "image_size": facts["size"][0]}

    def initialise(self, network: nn.Module, data: ImageDataset, facts: InputSpec, device: Any) -> None:
        """Lets a network that can begin from data, such as one with whitening filters, see up to 5,000 pictures."""
        if hasattr(network, "initialise_from"):
            rows = slice(None, None, max(1, len(data.train) // 5000))
            images = torch.from_numpy(data.train.images[rows].copy()).to(device)
            network.initialise_from(to_normalized_float(images, facts))

    def objective(self, network: nn.Module, facts: InputSpec, options: Options) -> Objective:
        """Cross-entropy, or squared error, of one network; the part `accuracy` is that of the training batches."""
        function, smoothing = LOSSES[options.loss], options.smoothing
        device = next(network.parameters()).device
        weight_K = class_weights(facts["counts"]).to(device) if options.balance else None

        def criterion(network: nn.Module, batch: Batch) -> Loss:
            label_B = batch["label"]
            answer = network.head(batch["features"]) if "features" in batch else network(batch["image"])
            logits_BK, *auxiliary = answer if isinstance(answer, tuple) else (answer,)
            weight_B = None if weight_K is None else weight_K[label_B]
            loss = function(logits_BK.float(), label_B, smoothing, weight_B)
            for other_BK in auxiliary:  # Szegedy et al. 2016, arXiv:1512.00567, section 4; the share as torchvision's
                loss = loss + 0.4 * function(other_BK.float(), label_B, smoothing, weight_B)
            accuracy = (logits_BK.detach().argmax(1) == label_B).float().mean()
            return Loss(loss, len(label_B), {"accuracy": accuracy})

        return Supervised(network, criterion)

    def stream(self, split: Split, batch: int, seed: int, rank: int, ranks: int, device: Any) -> BatchStream:
        """The whole split on the device, as bytes."""
        images, labels = np.require(split.images, requirements="W"), np.require(split.labels, requirements="W")
        tensors = {"image": torch.from_numpy(images).to(device), "label": torch.from_numpy(labels).to(device)}
        return InMemoryBatches(tensors, batch, seed, rank, ranks)

    def augment(self, facts: InputSpec, options: Options) -> Callable[[Batch], Batch]:
        """Bytes (B, H, W, C) to normalised floats (B, C, H, W), changed at random as the options say."""
        change = build_augmentation(options.augment, facts["ink"])
        plain = not options.augment or options.augment == "none"

        def prepare(batch: Batch) -> Batch:
            if plain:
                return {**batch, "image": to_normalized_float(batch["image"], facts)}
            return {**batch, "image": standardize_(change(batch["image"].permute(0, 3, 1, 2)), facts, 1.0)}

        return prepare

    def infer(self, network: nn.Module, batch: Batch, facts: InputSpec) -> Tensor:
        """Probabilities (B, K) in single precision."""
        with torch.inference_mode():
            return predict_proba(network, to_normalized_float(batch["image"], facts), facts.get("views", "one"))

    def prepared(self, images: np.ndarray, facts: InputSpec, device: Any) -> Tensor:
        """Pictures (B, H, W, C) uint8 as the network reads them: (B, C, H, W), nothing random."""
        return to_normalized_float(torch.from_numpy(images.copy()).to(device), facts)

    def score(
        self, network: nn.Module, split: Split, facts: InputSpec, device: Any, features: Tensor | None = None
    ) -> tuple[dict[str, Any], EvalResult]:
        """Accuracy, top-5, loss, F1, calibration … of the network in evaluation mode."""
        network.eval()
        answers = []
        rows = eval_batch_size(facts, device)
        for start in range(0, len(split), rows):
            if features is not None:
                with torch.inference_mode():
                    found = network.head(features[start : start + rows]).float().softmax(1)
            else:
                images = torch.from_numpy(split.images[start : start + rows].copy()).to(device)
                found = self.infer(network, {"image": images}, facts)
            answers.append(found.cpu().numpy())
        probabilities = np.concatenate(answers) if answers else np.empty((0, len(facts["classes"])), np.float32)
        scores = MetricAccumulator(len(facts["classes"]))
        scores.add(probabilities, split.labels)
        return scores.results(), EvalResult(split, probabilities, scores)

    def pictures(self, network, data, facts, options, outcome, history) -> dict[str, Image.Image]:
        """Learning curves, confusion, worst mistakes, a batch as the network saw it, first filters, calibration."""
        from ..plots.class_scores import plot_calibration, plot_per_class
        from ..plots.confusion import plot_confusion
        from ..plots.curves import plot_curves
        from ..plots.image_grid import plot_augmented_batch, plot_filters, plot_worst_mistakes

        classes, scores, split = facts["classes"], outcome.scores, outcome.split
        worst = scores.worst(24)
        answers = outcome.probabilities[worst]
        rows = np.arange(min(48, len(data.train)))
        torch.manual_seed(options.seed)
        seen = self.augment(facts, options)({"image": torch.from_numpy(data.train.images[rows])})["image"]
        drawn = {
            "curves": plot_curves(history),
            "confusion": plot_confusion(scores.confusion, classes),
            "classes": plot_per_class(scores.per_class, classes),
            "mistakes": plot_worst_mistakes(
                split.images[worst],
                split.labels[worst],
                answers.argmax(1),
                answers.max(1, initial=0),
                [split.sources[row] for row in worst],
                classes,
            ),
            "calibration": plot_calibration(scores.bins),
            "batch": plot_augmented_batch(seen.numpy(), [classes[k] for k in data.train.labels[rows]]),
        }
        first = next(w for w in network.parameters() if w.ndim > 1).detach().float().cpu().numpy()
        shape = (facts["channels"], *facts["size"]) if first.ndim == 2 else None
        drawn["filters"] = plot_filters(first, shape)
        return drawn

    def example(self, source: Any, facts: InputSpec, as_is: bool = False) -> np.ndarray:
        """A file, bytes, Pillow image or array as (H, W, C) uint8 of the network's size. Raises DataError."""
        return preprocess_image(source, facts, as_is)
