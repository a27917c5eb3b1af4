"""Images that a model made: one, a grid of them, an animation, or the nearest to a given one."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from .base import DisplayedPrediction, encode_png, to_image

#: shorter side, in pixels, from which on an image is drawn at its own size
MIN_DRAWN_SIZE = 128
#: most frames of the strip that is drawn of an animation
MAX_STRIP = 12


@dataclass(frozen=True, repr=False)
class ImagePrediction(DisplayedPrediction):
    """One image (H, W, C) uint8; `seed` is what it was generated from, None where that is no seed."""

    source: str
    image_HWC: np.ndarray = field(repr=False)
    seed: int | None = None

    def __repr__(self) -> str:
        return f"<{self.brief()[0]}>"

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        height, width = self.image_HWC.shape[:2]
        return width, height

    @property
    def image(self) -> Image.Image:
        """The image at its own size."""
        return to_image(self.image_HWC)

    def brief(self) -> list[str]:
        """Return one line: "sample 4, seed 3, 32x32"."""
        width, height = self.size
        if self.seed is None:
            return [f"{self.source}, {width}x{height}"]
        return [f"{self.source}, seed {self.seed}, {width}x{height}"]

    def rows(self) -> list[dict[str, Any]]:
        """Return one row."""
        return [self.json()]

    def json(self) -> dict[str, Any]:
        """Return {"source", "seed", "width", "height"}."""
        width, height = self.size
        return {"source": self.source, "seed": self.seed, "width": width, "height": height}

    def draw(self) -> Image.Image:
        """Return the image, enlarged without smoothing if it is small."""
        width, height = self.size
        scale = max(1, math.ceil(MIN_DRAWN_SIZE / min(width, height)))
        return self.image.resize((width * scale, height * scale), Image.Resampling.NEAREST)

    def files(self) -> dict[str, bytes]:
        """Return the image at its own size."""
        return {".png": encode_png(self.image)}


@dataclass(frozen=True, repr=False)
class ImageGrid(DisplayedPrediction):
    """Images (N, H, W, C) uint8 that are shown together, in a square or in so many columns."""

    source: str
    images_NHWC: np.ndarray = field(repr=False)
    columns: int | None = None

    def __repr__(self) -> str:
        return f"<{self.brief()[0]}>"

    def brief(self) -> list[str]:
        """Return one line: "samples, 64 images of 32x32"."""
        count, height, width = self.images_NHWC.shape[:3]
        noun = "image" if count == 1 else "images"
        return [f"{self.source}, {count} {noun} of {width}x{height}"]

    def rows(self) -> list[dict[str, Any]]:
        """Return one row."""
        return [self.json()]

    def json(self) -> dict[str, Any]:
        """Return {"source", "images", "width", "height"}; the size is that of one image."""
        count, height, width = self.images_NHWC.shape[:3]
        return {"source": self.source, "images": count, "width": width, "height": height}

    def draw(self) -> Image.Image:
        """Draw the images in a grid, enlarged without smoothing if they are small."""
        from ..plots.image_grid import plot_image_grid

        return plot_image_grid(self.images_NHWC, self.columns)

    def files(self) -> dict[str, bytes]:
        """Return the drawing."""
        return {".png": encode_png(self.draw())}


@dataclass(frozen=True, repr=False)
class ImageAnimation(DisplayedPrediction):
    """Frames (T, H, W, C) uint8 of an endless animation: a GIF, and an MP4 where `with_video` asks for one."""

    source: str
    frames_THWC: np.ndarray = field(repr=False)
    with_video: bool = False

    def __repr__(self) -> str:
        return f"<{self.brief()[0]}>"

    def brief(self) -> list[str]:
        """Return one line: "seeds 0 to 3, 64 frames of 32x32"."""
        count, height, width = self.frames_THWC.shape[:3]
        return [f"{self.source}, {count} {'frame' if count == 1 else 'frames'} of {width}x{height}"]

    def rows(self) -> list[dict[str, Any]]:
        """Return one row."""
        return [self.json()]

    def json(self) -> dict[str, Any]:
        """Return {"source", "frames", "width", "height"}."""
        count, height, width = self.frames_THWC.shape[:3]
        return {"source": self.source, "frames": count, "width": width, "height": height}

    def frames(self) -> list[Image.Image]:
        """Return the frames, enlarged without smoothing if they are small."""
        return [ImagePrediction(self.source, frame_HWC).draw().convert("RGB") for frame_HWC in self.frames_THWC]

    def draw(self) -> Image.Image:
        """Draw a strip of frames, evenly spaced from the first on."""
        from ..plots.image_grid import plot_image_grid

        count = len(self.frames_THWC)
        rows = np.arange(min(count, MAX_STRIP)) * count // min(count, MAX_STRIP)
        return plot_image_grid(self.frames_THWC[rows], columns=len(rows))

    def files(self) -> dict[str, bytes]:
        """Return the animation. Raises ResourceError where an MP4 is wanted and PyAV is not installed."""
        from ..plots.animation import LOOP, encode_gif, encode_mp4

        frames = self.frames()
        files = {".gif": encode_gif(frames, LOOP)}
        if self.with_video:
            files[".mp4"] = encode_mp4(frames, LOOP)
        return files


@dataclass(frozen=True, repr=False)
class ImageProjection(DisplayedPrediction):
    """The image of a generator that comes nearest to a given one.

    Attributes:
        source: Name of the given image.
        target_HWC: The given image, cropped and resized, uint8.
        image_HWC: The generated image, uint8.
        style_W: The style that it is generated from.
        distance: Root of what was minimized.
        pixel_mse: Mean squared difference of pixels on the scale of 0 to 1.
    """

    source: str
    target_HWC: np.ndarray = field(repr=False)
    image_HWC: np.ndarray = field(repr=False)
    style_W: np.ndarray = field(repr=False)
    distance: float
    pixel_mse: float

    def __repr__(self) -> str:
        return f"<{self.source}: {self.brief()[0]}>"

    @property
    def psnr(self) -> float:
        """Peak signal-to-noise ratio in dB; at most 100, which equal images have."""
        return -10 * math.log10(max(self.pixel_mse, 1e-10))

    def brief(self) -> list[str]:
        """Return one line: "pixel MSE 0.0123, PSNR 19.1 dB, distance 0.0456"."""
        return [f"pixel MSE {self.pixel_mse:.4f}, PSNR {self.psnr:.1f} dB, distance {self.distance:.4f}"]

    def rows(self) -> list[dict[str, Any]]:
        """Return one row."""
        return [self.json()]

    def json(self) -> dict[str, Any]:
        """Return {"source", "distance", "pixel_mse", "psnr"}; the style is in the file."""
        return {"source": self.source, "distance": self.distance, "pixel_mse": self.pixel_mse, "psnr": self.psnr}

    def draw(self) -> Image.Image:
        """Draw the given image beside the generated one."""
        from ..plots.image_grid import plot_image_grid

        return plot_image_grid(np.stack([self.target_HWC, self.image_HWC]), columns=2)

    def files(self) -> dict[str, bytes]:
        """Return the drawing, both images at their own size, and the style as an array of numpy."""
        file = io.BytesIO()
        np.save(file, self.style_W, allow_pickle=False)
        return {
            ".png": encode_png(self.draw()),
            "-input.png": encode_png(to_image(self.target_HWC)),
            "-projection.png": encode_png(to_image(self.image_HWC)),
            ".npy": file.getvalue(),
        }
