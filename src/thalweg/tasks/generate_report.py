"""Evaluate a generator, and draw what the report shows of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from torch import nn

from ..data.images.square_images import SquareImageDataset, SquareImages, spread_rows
from ..plots.image_grid import plot_captioned_rows, plot_image_grid
from ..predictions.image import ImageGrid
from .base import Context, EvalResult, Plot
from .generate_metrics import (
    METRICS,
    NUM_GRID,
    FeatureNetwork,
    TrainingNeighbors,
    compare_features,
    compare_images,
    count_neighbors,
    count_validation_samples,
    load_feature_network,
    measure_agreement,
    measure_memorization,
    summarize_classes,
)
from .generate_sampling import (
    GenerateSampleOptions,
    Sampler,
    blend_styles,
    choose_labels,
    generate_images,
    get_generator,
    mix,
)

#: samples that are shown beside the nearest training images, and training images beside each
NUM_NEAREST = 8
#: images of a strip, rows of strips, and levels of truncation
NUM_STRIP = 10
NUM_ROWS = 4
TRUNCATIONS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)


@dataclass(frozen=True)
class Evidence:
    """What the report draws from: generated and real images (N, H, W, C), and the network that compared them."""

    fake_NHWC: np.ndarray
    real_NHWC: np.ndarray
    network: FeatureNetwork | None


def judge(
    model: nn.Module, split: SquareImages, spec: Any, options: Any, context: Context, num_samples: int
) -> EvalResult:
    """Compare generated images with real ones by the features of a classifier; samples are a grid.

    Args:
        model: A GanModel.
        split: The real images.
        spec: Channels and size of the images, and names of the classes.
        options: The task's TrainOptions: the name of the feature network.
        context: The seed of the first image, and the device.
        num_samples: Images that are generated, and most real ones.

    Returns:
        All metrics, None where there is no network; the network's name and the numbers of images are among the details.
    """
    model.eval()
    fake_NHWC = generate_images(model, context.seed, max(NUM_GRID, num_samples))
    grid_NHWC = fake_NHWC[:NUM_GRID]
    fake_NHWC = fake_NHWC[:num_samples]
    real = split.spread(num_samples)
    network = load_feature_network(context, spec.channels, options.feature_network)
    metrics: dict[str, float | int | None] = dict.fromkeys(metric.name for metric in METRICS)
    details: dict[str, Any] = {
        "feature_network": None if network is None else network.name,
        "real_images": len(real),
        "generated_images": num_samples,
        "precision_recall_images": count_neighbors(len(real), num_samples),
    }
    if network is not None and len(real):
        real_ND = network.extract_cached(real.images)
        fake_ND = network.extract(fake_NHWC)
        metrics |= compare_features(real_ND, fake_ND)
        details["classes"] = summarize_classes(network, real_ND, fake_ND)
        label_N = choose_labels(context.seed, num_samples, get_generator(model).num_classes)
        if label_N is not None:
            details["class_agreement"] = measure_agreement(network, fake_ND, label_N.numpy(), spec.classes)
    evidence = Evidence(fake_NHWC, real.images, network)
    return EvalResult(metrics, details, evidence, (ImageGrid("samples", grid_NHWC),))


def judge_with_training(dataset: SquareImageDataset, options: Any, result: EvalResult) -> dict[str, Any]:
    """Return figures that need the training images: memorization, and the metrics of these in place of generated."""
    num_samples = count_validation_samples(len(dataset.val), options.num_eval_samples)
    details: dict[str, Any] = {
        "validation_real_images": min(len(dataset.val), num_samples),
        "validation_generated_images": num_samples,
    }
    evidence: Evidence = result.evidence
    if evidence.network is not None and len(evidence.real_NHWC):
        train = dataset.train.spread(options.num_eval_samples)
        details["training_images"] = compare_images(evidence.network, evidence.real_NHWC, train.images)
    if len(dataset.test):
        neighbors = TrainingNeighbors.of(dataset.train.images, evidence.network)
        details["memorization"] = measure_memorization(neighbors, evidence.fake_NHWC, dataset.test)
    return details


def draw_plots(model: nn.Module, dataset: SquareImageDataset, result: EvalResult) -> list[Plot]:
    """Draw generated, real and nearest images, the way from seed to seed, truncation, and mixed styles."""
    evidence: Evidence = result.evidence
    fake_NHWC = evidence.fake_NHWC[:NUM_GRID]
    real_NHWC = evidence.real_NHWC
    real_NHWC = real_NHWC[spread_rows(len(real_NHWC), min(NUM_GRID, len(real_NHWC)))]
    plots = [
        Plot("samples", "Generated images", _describe_metrics(result), plot_image_grid(fake_NHWC)),
        Plot(
            "real",
            "Real images",
            "From the split that the generated images are compared with.",
            plot_image_grid(real_NHWC),
        ),
        _draw_nearest(evidence, dataset.train.images),
    ]
    sampler = Sampler(model)
    caption = "Each row goes from one seed to another, at even steps."
    plots.append(Plot("interpolation", "Interpolation", caption, _draw_interpolation(sampler)))
    if sampler.generator.num_styles > 1:
        levels = ", ".join(f"{level:g}" for level in TRUNCATIONS)
        caption = f"A seed per row, from the mean image on: truncation {levels}."
        plots.append(Plot("truncation", "Truncation", caption, _draw_truncation(model)))
        mixed = mix(sampler, GenerateSampleOptions(way="mix", crossover="coarse"))
        caption = (
            "Each image has the coarse layers of the image above its column, and the others of that left of its row."
        )
        plots.append(Plot("mixing", "Mixed styles", caption, mixed.draw()))
    return plots


def _describe_metrics(result: EvalResult) -> str:
    """Return the caption of the samples: what the figures say of them."""
    words = []
    for metric in METRICS:
        value = result.metrics.get(metric.name)
        if value is not None:
            words.append(f"{metric.label} {metric.format(value)}")
    if not words:
        return "One latent each, not selected."
    network = result.details.get("feature_network")
    return f"One latent each, not selected. By the features of {network}: {', '.join(words)}."


def _draw_nearest(evidence: Evidence, train_NHWC: np.ndarray) -> Plot:
    """Draw generated images above the training images that are nearest, and the same of real images."""
    fake_NHWC = evidence.fake_NHWC[:NUM_NEAREST]
    real_NHWC = evidence.real_NHWC
    real_NHWC = real_NHWC[spread_rows(len(real_NHWC), min(NUM_NEAREST, len(real_NHWC)))]
    neighbors = TrainingNeighbors.of(train_NHWC, evidence.network)
    rows = []
    for name, images_NHWC in (("generated", fake_NHWC), ("real", real_NHWC)):
        row_N, distance_N = neighbors.find(images_NHWC)
        rows.append((images_NHWC, [name] * len(images_NHWC)))
        rows.append((train_NHWC[row_N], [f"distance {distance:.3g}" for distance in distance_N]))
    caption = (
        f"Below each image the training image with the smallest distance of {neighbors.space}. Copies have the "
        "distance 0; what is new is as far from the training images as real images are that were not trained on."
    )
    return Plot("nearest", "Nearest training images", caption, plot_captioned_rows(rows))


def _draw_interpolation(sampler: Sampler) -> Image.Image:
    space = "w" if sampler.generator.num_styles > 1 else "z"
    images = []
    for row in range(NUM_ROWS):
        seeds = (2 * row, 2 * row + 1)
        for step in range(NUM_STRIP):
            images.append(sampler.draw(blend_styles(sampler, seeds, step / (NUM_STRIP - 1), space)))
    return plot_image_grid(np.stack(images), columns=NUM_STRIP)


def _draw_truncation(model: nn.Module) -> Image.Image:
    samplers = [Sampler(model, level) for level in TRUNCATIONS]
    images = [sampler.draw(sampler.style(seed)) for seed in range(NUM_ROWS) for sampler in samplers]
    return plot_image_grid(np.stack(images), columns=len(TRUNCATIONS))
