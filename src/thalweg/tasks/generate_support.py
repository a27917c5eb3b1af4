"""Parts of the task `generate`: latents by seed, images of a generator, and features of images by a bundled network."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.images.unlabeled import spread_rows
from ..errors import NonFiniteError
from ..metrics.generative import frechet_distance, precision_recall
from ..objectives.base import Batch
from ..plots.image_grid import plot_image_grid
from .base import CardText, Context, Plot

#: networks of this package by whose features images are compared, by the number of channels
FEATURE_NETWORKS = {1: "digits-lenet", 3: "cifar10-fast"}
#: images that are generated, or described by features, at a time
BATCH_SIZE = 100
#: most images of each kind among which neighbors are sought, because their distances are a matrix
MAX_NEIGHBORS = 5000
#: most images that a validation generates
MAX_VALIDATION_SAMPLES = 1000
#: neighbors that limit a ball of precision and recall
NUM_NEIGHBORS = 3
#: images of a grid, and samples that are shown beside the nearest training images
NUM_GRID = 64
NUM_NEAREST = 8
#: sets of real images whose features are kept in memory
MAX_CACHED = 4

#: fraction of images told apart from which on the generator learns little, and recall below which samples are alike
HIGH_ACCURACY = 0.99
LOW_RECALL = 0.05

_cache: OrderedDict[tuple[str, str], np.ndarray] = OrderedDict()


def draw_latents(first_seed: int, count: int, latent_dim: int) -> Tensor:
    """Draw latents (count, latent_dim) from N(0, 1); the k-th depends on `first_seed` + k alone."""
    rows = []
    for k in range(count):
        generator = torch.Generator().manual_seed(first_seed + k)
        rows.append(torch.randn(latent_dim, generator=generator))
    return torch.stack(rows)


def to_bytes(image_BCHW: Tensor) -> np.ndarray:
    """Convert images (B, C, H, W) in [-1, 1] to (B, H, W, C) uint8."""
    levels_BCHW = ((image_BCHW.float() + 1) * 127.5).round().clamp(0, 255)
    return levels_BCHW.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def to_signed_float(image_BHWC: Tensor) -> Tensor:
    """Convert images (B, H, W, C) uint8 to (B, C, H, W) in [-1, 1]."""
    return image_BHWC.permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.inference_mode()
def generate_images(model: nn.Module, first_seed: int, count: int, batch_size: int = BATCH_SIZE) -> np.ndarray:
    """Generate images (count, H, W, C) uint8 with a model in evaluation mode; the k-th is that of `first_seed` + k.

    The averaged generator normalizes with the running statistics of the trained one, which the average copies. With
    statistics recomputed from its own activations the Fréchet distance was 3 % smaller, too little for a pass of its
    own. Raises NonFiniteError.
    """
    generator = model.get_submodule("network")
    latent_NL = draw_latents(first_seed, count, cast(int, generator.latent_dim))
    device = next(generator.parameters()).device
    images = []
    for start in range(0, count, batch_size):
        image_BCHW = generator(latent_NL[start : start + batch_size].to(device))
        if not bool(image_BCHW.isfinite().all()):
            raise NonFiniteError(
                "The generated images are NaN or inf; expected levels from -1 to 1.",
                "The weights are not finite, or too large: train again with a smaller --lr.",
            )
        images.append(to_bytes(image_BCHW))
    return np.concatenate(images)


@dataclass(frozen=True)
class FeatureNetwork:
    """A trained classifier of this package, and what it must know of its images (`InputSpec`)."""

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
            image_BCHW = image_BHWC.permute(0, 3, 1, 2).float() / 255
            if tuple(image_BCHW.shape[2:]) != tuple(self.spec.size):
                image_BCHW = F.interpolate(image_BCHW, self.spec.size, mode="bilinear", antialias=True)
            rows.append(features((image_BCHW - mean_C11) / std_C11).float().cpu().numpy())
        return np.concatenate(rows)

    def extract_cached(self, images_NHWC: np.ndarray) -> np.ndarray:
        """Compute features of real images once per process."""
        key = (self.name, hashlib.sha256(np.ascontiguousarray(images_NHWC).tobytes()).hexdigest())
        if key not in _cache:
            _cache[key] = self.extract(images_NHWC)
            if len(_cache) > MAX_CACHED:
                _cache.popitem(last=False)
        return _cache[key]


@dataclass(frozen=True)
class Evidence:
    """What the report draws from: generated and real images (N, H, W, C), and the network that compared them."""

    fake_NHWC: np.ndarray
    real_NHWC: np.ndarray
    network: FeatureNetwork | None


def load_feature_network(context: Context, channels: int) -> FeatureNetwork | None:
    """Load the bundled network for images of that many channels; None where the context loads no models."""
    if context.load is None:
        return None
    name = FEATURE_NETWORKS[channels]
    trained = context.load(name)
    return FeatureNetwork(name, trained.model.to(context.device), trained.spec)


def compare_images(network: FeatureNetwork, real_NHWC: np.ndarray, fake_NHWC: np.ndarray) -> dict[str, float | None]:
    """Compute Fréchet distance, precision and recall; None where there are too few images."""
    real_ND = network.extract_cached(real_NHWC)
    fake_ND = network.extract(fake_NHWC)
    metrics: dict[str, float | None] = {"frechet_distance": None, "precision": None, "recall": None}
    if min(len(real_ND), len(fake_ND)) > 1:
        metrics["frechet_distance"] = frechet_distance(real_ND, fake_ND)
    count = count_neighbors(len(real_ND), len(fake_ND))
    if count > NUM_NEIGHBORS:
        rows = spread_rows(len(real_ND), count)
        scores = precision_recall(real_ND[rows], fake_ND[:count], NUM_NEIGHBORS)
        metrics["precision"] = scores.precision
        metrics["recall"] = scores.recall
    return metrics


def count_neighbors(num_real: int, num_fake: int) -> int:
    """Return how many images of each kind precision and recall compare: equally many, at most 5,000."""
    return min(num_real, num_fake, MAX_NEIGHBORS)


def count_validation_samples(num_real: int, max_samples: int) -> int:
    """Return how many images a validation generates: twice the real ones, from a grid to 1,000, so that it is quick."""
    return min(max_samples, max(NUM_GRID, min(2 * num_real, MAX_VALIDATION_SAMPLES)))


def find_nearest(images_NHWC: np.ndarray, references_MHWC: np.ndarray, chunk: int = 5000) -> np.ndarray:
    """Return for each image the row (N,) of the reference with the smallest squared difference of pixels."""
    flat_ND = images_NHWC.reshape(len(images_NHWC), -1).astype(np.float32)
    distances = []
    for start in range(0, len(references_MHWC), chunk):
        reference_CD = references_MHWC[start : start + chunk].reshape(-1, flat_ND.shape[1]).astype(np.float32)
        distances.append(np.square(reference_CD).sum(1) - 2 * flat_ND @ reference_CD.T)
    return np.concatenate(distances, 1).argmin(1)


def draw_plots(evidence: Evidence, train_NHWC: np.ndarray) -> list[Plot]:
    """Draw generated images, real ones, and the training images nearest to generated ones."""
    fake_NHWC = evidence.fake_NHWC
    real_NHWC = evidence.real_NHWC
    real_NHWC = real_NHWC[spread_rows(len(real_NHWC), min(NUM_GRID, len(real_NHWC)))]
    nearest_NHWC = train_NHWC[find_nearest(fake_NHWC[:NUM_NEAREST], train_NHWC)]
    pairs = np.concatenate([fake_NHWC[:NUM_NEAREST], nearest_NHWC])
    caption = "Above generated images, below the training images with the smallest difference of pixels."
    return [
        Plot("samples", "Generated images", "One latent each, not selected.", plot_image_grid(fake_NHWC)),
        Plot("real", "Real images", "From the test split.", plot_image_grid(real_NHWC)),
        Plot("nearest", "Nearest training images", caption, plot_image_grid(pairs, columns=NUM_NEAREST)),
    ]


def build_transform(mirror: bool) -> Callable[[Batch], Batch]:
    """Build the function from bytes (B, H, W, C) to images (B, C, H, W) in [-1, 1], half of them mirrored if asked."""

    def transform(batch: Batch) -> Batch:
        image_BCHW = to_signed_float(batch["image"])
        if mirror:
            is_mirrored_B = torch.rand(len(image_BCHW), device=image_BCHW.device) < 0.5
            image_BCHW = torch.where(is_mirrored_B[:, None, None, None], image_BCHW.flip(3), image_BCHW)
        return {**batch, "image": image_BCHW}

    return transform


def suggest_next(history: list[dict[str, Any]]) -> list[str]:
    """Say where the discriminator wins, or where samples cover little of the real images, and what to try."""
    lines = []
    accuracies = [row["discriminator/accuracy"] for row in history if row.get("discriminator/accuracy") is not None]
    recalls = [row["recall"] for row in history if row.get("recall") is not None]
    if accuracies:
        lines += warn_of_accuracy(accuracies[-1])
    if recalls and recalls[-1] < LOW_RECALL:
        lines.append(
            f"the samples cover {100 * recalls[-1]:.1f} % of the validation images: the generator collapsed, or is not "
            "trained enough; look at samples/, then try more --epochs, or a larger --r1"
        )
    return lines


def warn_of_accuracy(accuracy: float) -> list[str]:
    """Say where the discriminator tells nearly all images apart, whatever its loss, and what to try."""
    if accuracy < HIGH_ACCURACY:
        return []
    return [
        f"the discriminator wins: it tells {100 * accuracy:.1f} % of the images apart, so the generator learns little; "
        "try a larger --r1, a smaller --lr, --augment ada, or more images"
    ]


def describe_card(channels: int, image_size: int) -> CardText:
    """Say in words what a generator does and where its limits are."""
    color = "gray" if channels == 1 else "color"
    network = FEATURE_NETWORKS[channels]
    return CardText(
        summary=f"It turns random numbers into {color} images of {image_size}x{image_size} pixels that resemble its "
        "training images.",
        limitations=(
            "It imitates its training images: what they rarely or never show, it rarely or never makes. Where there "
            "were few, its images may be close to theirs; the report shows the nearest ones.",
            f"Fréchet distance, precision and recall are computed from features of {network}: compare them between "
            "models of this package on the same data, not with published figures.",
        ),
        preprocessing=("Images are cropped to the center square, resized, and scaled to [-1, 1].",),
        usage_command="thalweg sample RUN --count 16 --seed 0 --save samples/",
        usage_python='for image in thalweg.load("RUN").sample(count=3):\n    image.draw().save(f"{image.seed}.png")',
    )
