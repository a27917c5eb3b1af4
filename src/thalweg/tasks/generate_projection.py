"""Find the style from which a generator makes an image that comes nearest to a given one.

As in Karras et al. 2020 (arXiv:1912.04958, section 5 and appendix D): Adam on one style for all layers, with noise that
fades, because the distance has many local minima. Differs: several starts, the best of random candidates, instead of
the mean style; and instead of features of a network that was trained on photos, the distance is the mean squared
difference of pixels at several sizes, from the image's own down to 4x4: no network is needed, and a small shift counts
less than by pixels alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config.parsing import Range
from ..data.images.input_spec import InputSpec, preprocess_image
from ..errors import NonFiniteError
from ..models.generate.base import Generator
from ..predictions.image import ImageProjection
from .generate_sampling import BATCH_SIZE, choose_labels, draw_latents, get_generator, to_bytes
from .generate_support import to_signed_float

#: random styles, of which the nearest are the starts
NUM_CANDIDATES = 200
#: step of Adam, in standard deviations of styles, and fractions of the steps in which it rises and falls
STEP_SIZE = 0.1
RISE = 0.05
FALL = 0.5
#: noise that is added to the style at first, in standard deviations, and the fraction of the steps in which it fades
NOISE = 0.3
FADE = 0.5
#: height and width of the smallest images that are compared
MIN_SIZE = 4


@dataclass(frozen=True)
class GeneratePredictOptions:
    """Options of `thalweg predict` for generators."""

    steps: Annotated[int, "steps of the search for the nearest image", Range(1, 100_000)] = 200
    starts: Annotated[int, "places to search from; the best one is shown", Range(1, 200)] = 4
    seed: Annotated[int, "seed of the starts", Range(0, 2**32 - 1)] = 0


def read_image(source: Any, spec: Any) -> np.ndarray:
    """Read an image as (H, W, C) uint8, cropped and resized as training images are. Raises DataError."""
    size = [spec.image_size, spec.image_size]
    values = [1.0] * spec.channels
    return preprocess_image(source, InputSpec([], spec.channels, size, mean=values, std=values))


def project_images(
    model: nn.Module, names: Sequence[str], images: Sequence[np.ndarray], options: GeneratePredictOptions
) -> list[ImageProjection]:
    """Project images one by one, so that no result depends on others. Raises NonFiniteError."""
    generator = get_generator(model)
    candidate_NW = _draw_candidates(generator, options.seed)
    candidate_NCHW = _render(generator, candidate_NW)
    results = []
    for name, image_HWC in zip(names, images, strict=True):
        target_1CHW = to_signed_float(torch.from_numpy(image_HWC.copy())[None]).to(candidate_NCHW.device)
        distance_N = measure_distance(candidate_NCHW, target_1CHW)
        best_S = distance_N.topk(min(options.starts, len(distance_N)), largest=False).indices
        std = candidate_NW.std(0).square().mean().sqrt().item()
        style_SW = _search(generator, candidate_NW[best_S], target_1CHW, std, options)
        results.append(_choose_best(generator, style_SW, name, image_HWC, target_1CHW))
    return results


@torch.inference_mode()
def _draw_candidates(generator: Generator, seed: int) -> Tensor:
    """Return styles (N, W) of random latents."""
    device = next(generator.parameters()).device
    latent_NL = draw_latents(seed, NUM_CANDIDATES, generator.latent_dim).to(device)
    label_N = choose_labels(seed, NUM_CANDIDATES, generator.num_classes)
    return generator.map_latent(latent_NL, None if label_N is None else label_N.to(device))


@torch.inference_mode()
def _render(generator: Generator, style_NW: Tensor) -> Tensor:
    parts = [generator.synthesize(generator.repeat_style(part_BW)) for part_BW in style_NW.split(BATCH_SIZE)]
    return torch.cat(parts)


def measure_distance(image_BCHW: Tensor, target_1CHW: Tensor) -> Tensor:
    """Return the mean squared differences (B,) on the scale of 0 to 1, averaged over sizes, each half the last one."""
    difference_BCHW = (image_BCHW.float() - target_1CHW) / 2
    distances = []
    while True:
        distances.append(difference_BCHW.square().mean((1, 2, 3)))
        if difference_BCHW.shape[3] // 2 < MIN_SIZE:
            return torch.stack(distances).mean(0)
        difference_BCHW = F.avg_pool2d(difference_BCHW, 2)


def _search(
    generator: Generator, start_SW: Tensor, target_1CHW: Tensor, std: float, options: GeneratePredictOptions
) -> Tensor:
    """Return the styles (S, W) that the steps lead to from each start. Raises NonFiniteError."""
    style_SW = start_SW.clone().requires_grad_()
    optimizer = torch.optim.Adam([style_SW], lr=STEP_SIZE * std, betas=(0.9, 0.999))
    random = torch.Generator().manual_seed(options.seed)
    for step in range(options.steps):
        t = step / options.steps
        optimizer.param_groups[0]["lr"] = STEP_SIZE * std * _scale_step(t)
        noise_SW = torch.randn(style_SW.shape, generator=random).to(style_SW.device)
        noisy_SW = style_SW + NOISE * std * max(0.0, 1 - t / FADE) ** 2 * noise_SW
        image_SCHW = generator.synthesize(generator.repeat_style(noisy_SW))
        distance = measure_distance(image_SCHW, target_1CHW).sum()
        (style_SW.grad,) = torch.autograd.grad(distance, [style_SW])
        optimizer.step()
    return style_SW.detach()


def _scale_step(t: float) -> float:
    """Return the factor of the step at the fraction `t` of the search: it rises evenly and falls as a cosine."""
    fall = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - t) / FALL))
    return fall * min(1.0, (t + 0.01) / RISE)


@torch.inference_mode()
def _choose_best(
    generator: Generator, style_SW: Tensor, name: str, image_HWC: np.ndarray, target_1CHW: Tensor
) -> ImageProjection:
    image_SCHW = _render(generator, style_SW)
    distance_S = measure_distance(image_SCHW, target_1CHW)
    if not bool(distance_S.isfinite().all()):
        raise NonFiniteError(
            f"{name}: the generated images are NaN or inf; expected levels from -1 to 1.",
            "The weights are not finite, or too large: train again with a smaller --lr.",
        )
    best = int(distance_S.argmin())
    result_HWC = to_bytes(image_SCHW[best : best + 1])[0]
    pixel_mse = float(np.square((result_HWC.astype(np.float64) - image_HWC) / 255).mean())
    return ImageProjection(
        name, image_HWC, result_HWC, style_SW[best].cpu().numpy(), math.sqrt(distance_S[best]), pixel_mse
    )
