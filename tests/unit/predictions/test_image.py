"""Images and grids as predictions: a line, rows, JSON, a drawing and files."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from thalweg.predictions.base import Prediction
from thalweg.predictions.image import ImageGrid, ImagePrediction

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
