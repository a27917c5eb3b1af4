"""Images and grids as predictions: a line, rows, JSON, a drawing and files."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from thalweg.predictions.base import Prediction
from thalweg.predictions.image import ImageAnimation, ImageGrid, ImagePrediction, ImageProjection

RNG = np.random.default_rng(0)


def make(channels: int, height: int = 20, width: int = 32) -> ImagePrediction:
    return ImagePrediction("sample 4", RNG.integers(0, 256, (height, width, channels), np.uint8), 3)


def decode(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_is_a_prediction(channels):
    prediction = make(channels)
    assert isinstance(prediction, Prediction)
    assert prediction.brief() == prediction.colored(True) == ["sample 4, seed 3, 32x20"]
    assert prediction.json() == {"source": "sample 4", "seed": 3, "width": 32, "height": 20}
    assert prediction.rows() == [prediction.json()] and json.dumps(prediction.json(), allow_nan=False)
    assert prediction._repr_png_()[:4] == b"\x89PNG"


@pytest.mark.parametrize("channels", [1, 3])
def test_the_file_is_the_image_at_its_own_size(channels):
    prediction = make(channels)
    files = prediction.files()
    assert list(files) == [".png"]
    pixels = decode(files[".png"])
    np.testing.assert_array_equal(pixels if channels == 3 else pixels[..., None], prediction.image_HWC)


@pytest.mark.parametrize("channels", [1, 3])
def test_small_images_are_enlarged_without_smoothing(channels):
    prediction = make(channels)
    drawn = np.asarray(prediction.draw())
    assert drawn.shape[:2] == (140, 224)
    expected = prediction.image_HWC.repeat(7, 0).repeat(7, 1)
    np.testing.assert_array_equal(drawn if channels == 3 else drawn[..., None], expected)
    assert make(channels, 200, 130).draw().size == (130, 200)


def test_an_image_without_a_seed_has_none():
    prediction = ImagePrediction("frame", make(1).image_HWC)
    assert prediction.brief() == ["frame, 32x20"] and prediction.json()["seed"] is None


@pytest.mark.parametrize(("count", "noun"), [(1, "image"), (7, "images")])
def test_a_grid_shows_every_image(count, noun):
    images = RNG.integers(0, 256, (count, 16, 16, 1), np.uint8)
    grid = ImageGrid("samples", images)
    assert isinstance(grid, Prediction)
    assert grid.brief() == [f"samples, {count} {noun} of 16x16"]
    assert grid.rows() == [{"source": "samples", "images": count, "width": 16, "height": 16}]
    drawn = np.asarray(grid.draw())
    np.testing.assert_array_equal(drawn[2:66:4, 2:66:4], images[0].repeat(3, 2))
    np.testing.assert_array_equal(decode(grid.files()[".png"]), drawn)


# --- animations and projections ---------------------------------------------------------------------------------------


def make_animation(count: int = 6, with_video: bool = False) -> ImageAnimation:
    levels = np.linspace(40, 220, count).round().astype(np.uint8)
    return ImageAnimation("seeds", np.broadcast_to(levels[:, None, None, None], (count, 16, 16, 1)), with_video)


def test_an_animation_is_a_gif_of_all_frames_without_a_pause_at_the_end():
    animation = make_animation()
    assert isinstance(animation, Prediction)
    assert animation.brief() == ["seeds, 6 frames of 16x16"]
    assert animation.rows() == [animation.json()] == [{"source": "seeds", "frames": 6, "width": 16, "height": 16}]
    files = animation.files()
    assert list(files) == [".gif"]
    with Image.open(io.BytesIO(files[".gif"])) as gif:
        assert gif.n_frames == 6 and gif.size == (128, 128) and gif.info["loop"] == 0
        for index, expected in enumerate(animation.frames()):
            gif.seek(index)
            assert gif.info["duration"] == 100
            difference = np.asarray(gif.convert("RGB")).astype(int) - np.asarray(expected)
            assert np.abs(difference).max() <= 4


def test_an_animation_is_drawn_as_a_strip_from_its_first_frame():
    strip = make_animation(30).draw()
    assert strip.height < 80 and strip.width == 12 * (64 + 2) + 2
    assert strip.getpixel((10, 10)) == (40, 40, 40)


def test_a_video_is_written_beside_the_gif():
    av = pytest.importorskip("av")
    files = make_animation(with_video=True).files()
    assert list(files) == [".gif", ".mp4"]
    with av.open(io.BytesIO(files[".mp4"])) as container:
        assert sum(1 for _ in container.decode(video=0)) == 6


def test_a_projection_shows_both_images_and_saves_the_style():
    target, image = RNG.integers(0, 256, (2, 16, 16, 3), np.uint8)
    style = RNG.normal(size=7).astype(np.float32)
    projection = ImageProjection("photo.png", target, image, style, distance=0.5, pixel_mse=0.01)
    assert isinstance(projection, Prediction) and projection.psnr == pytest.approx(20)
    assert projection.brief() == ["pixel MSE 0.0100, PSNR 20.0 dB, distance 0.5000"]
    assert list(projection.json()) == ["source", "distance", "pixel_mse", "psnr"] and json.dumps(projection.json())
    files = projection.files()
    np.testing.assert_array_equal(np.load(io.BytesIO(files[".npy"])), style)
    np.testing.assert_array_equal(decode(files["-input.png"]), target)
    np.testing.assert_array_equal(decode(files["-projection.png"]), image)
    assert projection.draw().size == (2 * 66 + 2, 68)
    assert ImageProjection("same", target, target, style, 0.0, 0.0).psnr == 100
