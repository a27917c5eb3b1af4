"""Sample images of the task `generate`: one by one, in a grid, along a path between seeds, and with mixed styles.

Every image is computed alone, because the size of a batch changes the last bits: the k-th depends on seed + k alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from ..config.parsing import Range
from ..errors import NonFiniteError, OptionError
from ..models.generate.base import Generator
from ..predictions.base import Prediction
from ..predictions.image import ImageAnimation, ImageGrid, ImagePrediction

#: images that are generated at a time where nothing but speed counts
BATCH_SIZE = 100
#: images by default, by the way of sampling
DEFAULT_COUNTS = {"single": 16, "grid": 16, "interpolate": 6, "mix": 6}
#: frames from one seed to the next
DEFAULT_FRAMES = 15
#: pairs of opposite latents whose styles are averaged to the center of truncation
NUM_CENTER_PAIRS = 2000
#: layers of style by what they decide on (Karras et al. 2019, arXiv:1812.04948, section 3.1): two at each size of maps,
#: 4x4 and 8x8 pose and shape, 16x16 and 32x32 features, all larger ones color and texture
CROSSOVERS = {"coarse": (0, 4), "middle": (4, 8), "fine": (8, None)}


@dataclass(frozen=True)
class GenerateSampleOptions:
    """Options of `thalweg sample`."""

    count: Annotated[
        int | None,
        "images; with mix, rows and as many columns  [default: 16; 6 to interpolate and to mix]",
        Range(1, 1_000_000),
    ] = None
    seed: Annotated[int, "seed of the first image; the next one's is one higher", Range(0, 2**32 - 1)] = 0
    way: Annotated[
        Literal["single", "grid", "interpolate", "mix"],
        "a file for each image, one image of all, an animation from seed to seed, or styles of two images mixed",
    ] = "single"
    truncation: Annotated[
        float, "distance from the mean image: below 1 more typical, above 1 more diverse", Range(0, 10)
    ] = 1.0
    class_name: Annotated[
        str | None, "class of a conditional generator  [default: one after the other, by the seed]"
    ] = None
    space: Annotated[
        Literal["z", "w"] | None, "interpolate between latents or between styles  [default: w, where there is one]"
    ] = None
    frames: Annotated[int | None, "frames from one seed to the next  [default: 15]", Range(1, 1000)] = None
    video: Annotated[bool, "write an MP4 beside the GIF; needs PyAV"] = False
    crossover: Annotated[
        str | None,
        "layers of the column's image: coarse, middle, fine, or the first of the last ones  [default: middle]",
    ] = None

    @property
    def num_images(self) -> int:
        """How many images are asked for."""
        return DEFAULT_COUNTS[self.way] if self.count is None else self.count


def draw_latents(first_seed: int, count: int, latent_dim: int) -> Tensor:
    """Draw latents (count, latent_dim) from N(0, 1); the k-th depends on `first_seed` + k alone."""
    rows = []
    for k in range(count):
        generator = torch.Generator().manual_seed(first_seed + k)
        rows.append(torch.randn(latent_dim, generator=generator))
    return torch.stack(rows)


def choose_labels(first_seed: int, count: int, num_classes: int) -> Tensor | None:
    """Return classes (count,) of images, one after the other, that depend on `first_seed` + k alone; None without."""
    if not num_classes:
        return None
    return torch.arange(first_seed, first_seed + count) % num_classes


def to_bytes(image_BCHW: Tensor) -> np.ndarray:
    """Convert images (B, C, H, W) in [-1, 1] to (B, H, W, C) uint8. Raises NonFiniteError."""
    if not bool(image_BCHW.isfinite().all()):
        raise NonFiniteError(
            "The generated images are NaN or inf; expected levels from -1 to 1.",
            "The weights are not finite, or too large: train again with a smaller --lr.",
        )
    levels_BCHW = ((image_BCHW.float() + 1) * 127.5).round().clamp(0, 255)
    return levels_BCHW.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def get_generator(model: nn.Module) -> Generator:
    """Return the generator of a model."""
    return cast(Generator, model.get_submodule("network"))


@torch.inference_mode()
def generate_images(model: nn.Module, first_seed: int, count: int, batch_size: int = BATCH_SIZE) -> np.ndarray:
    """Generate images (count, H, W, C) uint8 with a model in evaluation mode; the k-th is that of `first_seed` + k.

    The averaged generator normalizes with the running statistics of the trained one, which the average copies. With
    statistics recomputed from its own activations the Fréchet distance was 3 % smaller, too little for a pass of its
    own. Raises NonFiniteError.
    """
    generator = get_generator(model)
    latent_NL = draw_latents(first_seed, count, generator.latent_dim)
    label_N = choose_labels(first_seed, count, generator.num_classes)
    device = next(generator.parameters()).device
    images = []
    for start in range(0, count, batch_size):
        rows = slice(start, start + batch_size)
        label_B = None if label_N is None else label_N[rows].to(device)
        images.append(to_bytes(generator(latent_NL[rows].to(device), label_B)))
    return np.concatenate(images)


class Sampler:
    """Styles and images of a generator by seed, truncated, of one class or of all in turn."""

    def __init__(self, model: nn.Module, truncation: float = 1.0, label: int | None = None):
        self.generator = get_generator(model)
        self.truncation = truncation
        self.label = label
        self.device = next(self.generator.parameters()).device
        self._centers: dict[int | None, Tensor] = {}

    def latent(self, seed: int) -> Tensor:
        """Return the latent (1, L) of a seed."""
        return draw_latents(seed, 1, self.generator.latent_dim).to(self.device)

    def style(self, seed: int) -> Tensor:
        """Return the truncated style (1, W) of a seed."""
        return self.map_latent(self.latent(seed), self.label_of(seed))

    def label_of(self, seed: int) -> int | None:
        """Return the class of a seed; None where the generator is not conditional."""
        if not self.generator.num_classes:
            return None
        return seed % self.generator.num_classes if self.label is None else self.label

    @torch.inference_mode()
    def map_latent(self, latent_1L: Tensor, label: int | None) -> Tensor:
        """Return the style (1, W) of a latent, truncated: center + truncation (style - center)."""
        style_1W = self._map(latent_1L, label)
        if self.truncation == 1:
            return style_1W
        return self.center(label).lerp(style_1W, self.truncation)

    @torch.inference_mode()
    def center(self, label: int | None) -> Tensor:
        """Return the mean style (1, W): of the training, or of one class, of which the training keeps no mean.

        Where the style is the latent itself, its mean is that of latents, to which each has its opposite.
        """
        if self.generator.num_styles > 1 and label is None:
            return self.generator.mean_style[None]
        if label not in self._centers:
            latent_NL = draw_latents(0, 1, self.generator.latent_dim * NUM_CENTER_PAIRS).to(self.device)
            latent_NL = latent_NL.reshape(NUM_CENTER_PAIRS, -1)
            styles_2NW = self._map(torch.cat([latent_NL, -latent_NL]), label)
            half_NW, opposite_NW = styles_2NW.chunk(2)
            self._centers[label] = (half_NW + opposite_NW).mean(0, keepdim=True) / 2
        return self._centers[label]

    def _map(self, latent_BL: Tensor, label: int | None) -> Tensor:
        label_B = None
        if label is not None:
            label_B = torch.full((len(latent_BL),), label, device=self.device)
        return self.generator.map_latent(latent_BL, label_B)

    def draw(self, style_1W: Tensor) -> np.ndarray:
        """Return the image (H, W, C) uint8 of one style for all layers. Raises NonFiniteError."""
        return self.draw_layers(self.generator.repeat_style(style_1W))

    @torch.inference_mode()
    def draw_layers(self, style_1NW: Tensor) -> np.ndarray:
        """Return the image (H, W, C) uint8 of a style per layer. Raises NonFiniteError."""
        return to_bytes(self.generator.synthesize(style_1NW))[0]


def sample(model: nn.Module, spec: Any, options: GenerateSampleOptions) -> Iterator[Prediction]:
    """Yield images in the way that is asked for. Raises OptionError."""
    generator = get_generator(model)
    _refuse_unused(options)
    sampler = Sampler(model, options.truncation, find_class(options.class_name, spec, generator.num_classes))
    count = options.num_images
    last = options.seed + count - 1
    if options.way == "single":
        for k in range(count):
            seed = options.seed + k
            yield ImagePrediction(f"sample {k + 1}", sampler.draw(sampler.style(seed)), seed)
    elif options.way == "grid":
        images = [sampler.draw(sampler.style(seed)) for seed in range(options.seed, last + 1)]
        yield ImageGrid(f"samples of seeds {options.seed} to {last}", np.stack(images))
    elif options.way == "interpolate":
        title = f"interpolation of seeds {options.seed} to {last}"
        yield ImageAnimation(title, np.stack(list(interpolate(sampler, options))), options.video)
    else:
        yield mix(sampler, options)


def _refuse_unused(options: GenerateSampleOptions) -> None:
    """Raise OptionError for an option that does nothing in the way that is asked for."""
    owners = {"space": "interpolate", "frames": "interpolate", "video": "interpolate", "crossover": "mix"}
    for name, way in owners.items():
        if getattr(options, name) not in (None, False) and options.way != way:
            raise OptionError(
                f"--{name} is given, but --way is {options.way}; expected {way}.",
                f"Give --way {way}, or leave out --{name}.",
                option=name,
                value=getattr(options, name),
                allowed=[way],
            )


def find_class(class_name: str | None, spec: Any, num_classes: int) -> int | None:
    """Return the number of a class; None for none. Raises OptionError where there is no such class."""
    if class_name is None:
        return None
    classes = list(spec.classes) if num_classes else []
    if class_name in classes:
        return classes.index(class_name)
    if not classes:
        problem = "the generator was trained without classes"
        cure = "Train a conditional one, or leave out --class-name."
    else:
        problem = f"expected one of {', '.join(classes)}"
        cure = f"For example: --class-name {classes[0]}"
    raise OptionError(
        f"--class-name: '{class_name}'; {problem}.", cure, option="class_name", value=class_name, allowed=classes
    )


def interpolate(sampler: Sampler, options: GenerateSampleOptions) -> Iterator[np.ndarray]:
    """Yield frames (H, W, C) from each seed to the next, and from the last one back to the first.

    Latents move on a great circle, because the middle of a chord is shorter than latents are; styles move on straight
    lines. The first frame of each part is the sample of its seed. Raises OptionError for fewer than two seeds.
    """
    count = options.num_images
    if count < 2:
        raise OptionError(
            f"--count: {count}; interpolation expects 2 seeds or more.", option="count", value=count, allowed=[2]
        )
    frames = options.frames or DEFAULT_FRAMES
    space = options.space or ("w" if sampler.generator.num_styles > 1 else "z")
    for k in range(count):
        seeds = (options.seed + k, options.seed + (k + 1) % count)
        for frame in range(frames):
            yield sampler.draw(blend_styles(sampler, seeds, frame / frames, space))


def blend_styles(sampler: Sampler, seeds: tuple[int, int], t: float, space: str) -> Tensor:
    """Return the style (1, W) at the fraction `t` of the way from one seed to another."""
    if space == "w":
        return sampler.style(seeds[0]).lerp(sampler.style(seeds[1]), t)
    latent_1L = slerp(sampler.latent(seeds[0]), sampler.latent(seeds[1]), t)
    labels = [sampler.label_of(seed) for seed in seeds]
    style_1W = sampler.map_latent(latent_1L, labels[0])
    if labels[0] == labels[1]:
        return style_1W
    return style_1W.lerp(sampler.map_latent(latent_1L, labels[1]), t)


def slerp(a_BL: Tensor, b_BL: Tensor, t: float) -> Tensor:
    """Interpolate on the great circle (Shoemake 1985, doi:10.1145/325334.325242); lengths change evenly."""
    cosine_B1 = torch.cosine_similarity(a_BL.double(), b_BL.double(), dim=1).clamp(-1, 1)[:, None]
    angle_B1 = cosine_B1.acos()
    sine_B1 = angle_B1.sin()
    if bool((sine_B1 < 1e-6).any()):  # parallel: there is no one circle
        return a_BL.lerp(b_BL, t)
    weight_a_B1 = ((1 - t) * angle_B1).sin() / sine_B1
    weight_b_B1 = (t * angle_B1).sin() / sine_B1
    return weight_a_B1.to(a_BL.dtype) * a_BL + weight_b_B1.to(a_BL.dtype) * b_BL


def mix(sampler: Sampler, options: GenerateSampleOptions) -> ImageGrid:
    """Return the mixing grid: each row has an image of its own on the left, each column one on top.

    Where they meet, the layers of the crossover have the column's style and all others the row's. Noise is the same
    everywhere. Raises OptionError for generators with one style.
    """
    num_styles = sampler.generator.num_styles
    if num_styles == 1:
        raise OptionError(
            "--way: mix needs layers of style, and this generator has one style for all; expected a style model.",
            "Train one with --model stylegan2, or give --way interpolate.",
            option="way",
            value="mix",
            allowed=["single", "grid", "interpolate"],
        )
    layers = find_crossover(options.crossover, num_styles)
    count = options.num_images
    row_styles = [sampler.style(options.seed + k) for k in range(count)]
    column_styles = [sampler.style(options.seed + count + k) for k in range(count)]
    top = [sampler.draw(style_1W) for style_1W in column_styles]
    images = [np.full_like(top[0], 255), *top]
    for row_1W in row_styles:
        images.append(sampler.draw(row_1W))
        for column_1W in column_styles:
            images.append(sampler.draw_layers(mix_styles(sampler.generator, row_1W, column_1W, layers)))
    rows = f"{options.seed} to {options.seed + count - 1}"
    columns = f"{options.seed + count} to {options.seed + 2 * count - 1}"
    title = f"rows of seeds {rows}, layers from {layers.start} to before {layers.stop} of seeds {columns}"
    return ImageGrid(title, np.stack(images), count + 1)


def mix_styles(generator: Generator, row_1W: Tensor, column_1W: Tensor, layers: slice) -> Tensor:
    """Return styles (1, N, W): the column's in `layers`, the row's in all others."""
    style_1NW = generator.repeat_style(row_1W).clone()
    style_1NW[:, layers] = column_1W[:, None]
    return style_1NW


def find_crossover(crossover: str | None, num_styles: int) -> slice:
    """Return the layers that the column's image decides on. Raises OptionError where there are none such.

    A number k means all layers from k on: with 0 the column's image, with `num_styles` the row's. None means the middle
    ones; images of 8x8 pixels have coarse ones only, and None means the second half of these.
    """
    if crossover is None:
        crossover = "middle" if CROSSOVERS["middle"][0] < num_styles else str(num_styles // 2)
    if crossover.isdecimal() and int(crossover) <= num_styles:
        return slice(int(crossover), num_styles)
    names = [name for name, (first, _) in CROSSOVERS.items() if first < num_styles]
    if crossover in names:
        first, last = CROSSOVERS[crossover]
        return slice(first, min(num_styles, last or num_styles))
    raise OptionError(
        f"--crossover: '{crossover}'; expected {', '.join(names)}, or a layer from 0 to {num_styles}.",
        "Layers of a size that the images do not have cannot be mixed.",
        option="crossover",
        value=crossover,
        allowed=[*names, *map(str, range(num_styles + 1))],
    )
