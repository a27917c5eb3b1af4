"""Judge images of the task `generate` by the features of a classifier: quality, diversity, memorization, classes.

Figures of different feature networks cannot be compared, so the network's name is among the details of every result.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.images.square_images import SquareImages, spread_rows
from ..errors import OptionError
from ..metrics.generative import (
    density_coverage,
    find_nearest,
    frechet_distance,
    kernel_distance,
    memorization,
    precision_recall,
)
from .base import Context, Metric

#: networks of this package by whose features images are compared, by the number of channels
FEATURE_NETWORKS = {1: "digits-lenet", 3: "cifar10-fast"}
#: images that are described by features at a time
BATCH_SIZE = 100
#: most images of each kind of which all distances or kernels are computed, because these are a matrix
MAX_NEIGHBORS = 5000
#: most images of each kind whose nearest training images are sought
MAX_MEMORIZED = 1000
#: most training images that are described by features; pixels are compared a hundred times as fast
MAX_DESCRIBED = 20_000
#: most images that a validation generates, and least: those of the grid
MAX_VALIDATION_SAMPLES = 1000
NUM_GRID = 64
#: neighbors that limit a ball of precision and recall, and of density and coverage
NUM_NEIGHBORS = 3
NUM_COVERAGE_NEIGHBORS = 5
#: sets of real images whose features are kept in memory
MAX_CACHED = 4
#: weights of red, green and blue in gray (ITU-R BT.601)
GRAY_WEIGHTS = (0.299, 0.587, 0.114)

METRICS = (
    Metric("frechet_distance", "Fréchet distance", higher_is_better=False),
    Metric("kernel_distance", "kernel distance", higher_is_better=False, in_curves=False),
    Metric("precision", "precision", unit="fraction"),
    Metric("recall", "recall", unit="fraction"),
    Metric("density", "density", in_curves=False),
    Metric("coverage", "coverage", unit="fraction"),
)

_cache: OrderedDict[tuple[str, str], np.ndarray] = OrderedDict()


@dataclass(frozen=True)
class FeatureNetwork:
    """A trained classifier, and what it must know of its images (`InputSpec`)."""

    name: str
    model: nn.Module
    spec: Any

    @torch.inference_mode()
    def extract(self, images_NHWC: np.ndarray) -> np.ndarray:
        """Compute features (N, D) float32 of images uint8: what the last layer of the network reads."""
        features = cast(nn.Module, self.model.features)
        device = next(self.model.parameters()).device
        mean_C11 = torch.tensor(self.spec.mean, device=device)[:, None, None]
        std_C11 = torch.tensor(self.spec.std, device=device)[:, None, None]
        rows = []
        for start in range(0, len(images_NHWC), BATCH_SIZE):
            image_BHWC = torch.from_numpy(images_NHWC[start : start + BATCH_SIZE].copy()).to(device)
            image_BCHW = _match_channels(image_BHWC.permute(0, 3, 1, 2).float() / 255, self.spec.channels)
            if tuple(image_BCHW.shape[2:]) != tuple(self.spec.size):
                image_BCHW = F.interpolate(image_BCHW, self.spec.size, mode="bilinear", antialias=True)
            rows.append(features((image_BCHW - mean_C11) / std_C11).float().flatten(1).cpu().numpy())
        return np.concatenate(rows)

    def extract_cached(self, images_NHWC: np.ndarray) -> np.ndarray:
        """Compute features of real images once per process."""
        key = (self.name, hashlib.sha256(np.ascontiguousarray(images_NHWC).tobytes()).hexdigest())
        if key not in _cache:
            _cache[key] = self.extract(images_NHWC)
            if len(_cache) > MAX_CACHED:
                _cache.popitem(last=False)
        return _cache[key]

    @torch.inference_mode()
    def classify(self, features_ND: np.ndarray) -> np.ndarray:
        """Return the most probable class (N,) of images by their features."""
        device = next(self.model.parameters()).device
        labels = []
        for part_BD in torch.from_numpy(features_ND).split(BATCH_SIZE):
            labels.append(cast(nn.Module, self.model.head)(part_BD.to(device)).argmax(1).cpu().numpy())
        return np.concatenate(labels)


def _match_channels(image_BCHW: Tensor, channels: int) -> Tensor:
    """Return gray images as gray color images, or color images as gray ones, where a network reads the other kind."""
    if image_BCHW.shape[1] == channels:
        return image_BCHW
    if channels == 3:
        return image_BCHW.expand(-1, 3, -1, -1)
    weight_C11 = torch.tensor(GRAY_WEIGHTS, device=image_BCHW.device)[:, None, None]
    return (image_BCHW * weight_C11).sum(1, keepdim=True)


def load_feature_network(context: Context, channels: int, name: str | None = None) -> FeatureNetwork | None:
    """Load a classifier by name; by default the bundled one for so many channels.

    Returns None where the context loads no models. Raises OptionError for a model that is no classifier.
    """
    if context.load is None:
        return None
    trained = context.load(name or FEATURE_NETWORKS[channels])
    model = trained.model
    if not isinstance(getattr(trained.spec, "classes", None), list) or not hasattr(model, "features"):
        raise OptionError(
            f"--feature-network: '{name}' is a model of the task {trained.task.name}; expected a classifier.",
            f"For example: --feature-network {FEATURE_NETWORKS[channels]}",
            option="feature_network",
            value=name,
        )
    return FeatureNetwork(name or FEATURE_NETWORKS[channels], model.to(context.device), trained.spec)


def compare_images(network: FeatureNetwork, real_NHWC: np.ndarray, fake_NHWC: np.ndarray) -> dict[str, float | None]:
    """Compute all metrics of generated images; None where there are too few images."""
    return compare_features(network.extract_cached(real_NHWC), network.extract(fake_NHWC))


def compare_features(real_ND: np.ndarray, fake_ND: np.ndarray) -> dict[str, float | None]:
    """Compute all metrics of generated images by their features; None where there are too few images."""
    metrics: dict[str, float | None] = dict.fromkeys(metric.name for metric in METRICS)
    if min(len(real_ND), len(fake_ND)) > 1:
        metrics["frechet_distance"] = frechet_distance(real_ND, fake_ND)
    count = count_neighbors(len(real_ND), len(fake_ND))
    real_ND = real_ND[spread_rows(len(real_ND), count)]
    fake_ND = fake_ND[:count]
    if count > 1:
        metrics["kernel_distance"] = kernel_distance(real_ND, fake_ND)
    if count > NUM_NEIGHBORS:
        scores = precision_recall(real_ND, fake_ND, NUM_NEIGHBORS)
        metrics["precision"] = scores.precision
        metrics["recall"] = scores.recall
    if count > NUM_COVERAGE_NEIGHBORS:
        filled = density_coverage(real_ND, fake_ND, NUM_COVERAGE_NEIGHBORS)
        metrics["density"] = filled.density
        metrics["coverage"] = filled.coverage
    return metrics


def count_neighbors(num_real: int, num_fake: int) -> int:
    """Return how many images of each kind precision and recall compare: equally many, at most 5,000."""
    return min(num_real, num_fake, MAX_NEIGHBORS)


def count_validation_samples(num_real: int, max_samples: int) -> int:
    """Return how many images a validation generates: twice the real ones, from a grid to 1,000, so that it is quick."""
    return min(max_samples, max(NUM_GRID, min(2 * num_real, MAX_VALIDATION_SAMPLES)))


@dataclass(frozen=True)
class TrainingNeighbors:
    """Finds the nearest of all training images (M, H, W, C): by features where these are few enough, else by pixels."""

    train_NHWC: np.ndarray
    network: FeatureNetwork | None

    @classmethod
    def of(cls, train_NHWC: np.ndarray, network: FeatureNetwork | None) -> TrainingNeighbors:
        """Choose the space for so many images."""
        return cls(train_NHWC, network if len(train_NHWC) <= MAX_DESCRIBED else None)

    @property
    def space(self) -> str:
        """By what distances are measured."""
        return "pixels" if self.network is None else f"features of {self.network.name}"

    def find(self, images_NHWC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the row (N,) of the nearest training image of each image, and its distance (N,).

        Pixels are on the scale of 0 to 1.
        """
        if self.network is not None:
            return find_nearest(self.network.extract(images_NHWC), self.network.extract_cached(self.train_NHWC))
        points_ND = images_NHWC.reshape(len(images_NHWC), -1)
        row_N, distance_N = find_nearest(points_ND, self.train_NHWC.reshape(len(self.train_NHWC), -1))
        return row_N, distance_N / 255


def measure_memorization(neighbors: TrainingNeighbors, fake_NHWC: np.ndarray, test: SquareImages) -> dict[str, Any]:
    """Return how often a generated image is nearer to a training image than a test image is, and what was compared."""
    test = test.spread(MAX_MEMORIZED)
    fake_NHWC = fake_NHWC[:MAX_MEMORIZED]
    _, fake_distance_N = neighbors.find(fake_NHWC)
    _, test_distance_N = neighbors.find(test.images)
    return {
        "space": neighbors.space,
        "memorization": memorization(fake_distance_N, test_distance_N),
        "generated_images": len(fake_NHWC),
        "test_images": len(test),
        "distance_generated": float(np.median(fake_distance_N)),
        "distance_test": float(np.median(test_distance_N)),
    }


def count_classes(network: FeatureNetwork, features_ND: np.ndarray) -> dict[str, float]:
    """Return the fraction of images that the classifier assigns to each of its classes."""
    classes = network.spec.classes
    fraction_K = np.bincount(network.classify(features_ND), minlength=len(classes)) / len(features_ND)
    return dict(zip(classes, fraction_K.tolist(), strict=True))


def summarize_classes(network: FeatureNetwork, real_ND: np.ndarray, fake_ND: np.ndarray) -> dict[str, Any]:
    """Return the fraction of each class among generated and real images, as the classifier sees them."""
    generated = count_classes(network, fake_ND)
    return {
        "classifier": network.name,
        "generated": generated,
        "real": count_classes(network, real_ND),
        "smallest": min(generated.values()),
        "largest": max(generated.values()),
    }


def measure_agreement(
    network: FeatureNetwork, features_ND: np.ndarray, label_N: np.ndarray, classes: Sequence[str]
) -> float | None:
    """Return the fraction of images that the classifier assigns to the class that they were asked to show.

    None where the classifier does not know all of the classes by name.
    """
    numbers = {name: number for number, name in enumerate(network.spec.classes)}
    if not classes or not set(classes) <= set(numbers):
        return None
    expected_K = np.array([numbers[name] for name in classes])
    return float((network.classify(features_ND) == expected_K[label_N]).mean())
