"""Projection: a generated image is found again, results depend on nothing but the image and the seed."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers.style_generator import build_style_model
from thalweg.data.base import DataRequest
from thalweg.data.images.square_images import load_square_images
from thalweg.errors import DataError, NonFiniteError
from thalweg.tasks.generate_projection import (
    GeneratePredictOptions,
    measure_distance,
    project_images,
    read_image,
)
from thalweg.tasks.generate_sampling import Sampler, generate_images

SPEC = SimpleNamespace(channels=1, image_size=16, classes=[])
OPTIONS = GeneratePredictOptions(steps=100)


@pytest.mark.parametrize("num_styles", [1, 6])
def test_a_generated_image_is_found_again(num_styles):
    model = build_style_model(num_styles=num_styles)
    images = list(generate_images(model, 10_000, 4))
    others = generate_images(model, 20_000, 4)
    random_mse = np.square((np.stack(images).astype(float) - others) / 255).mean()
    results = project_images(model, list("abcd"), images, OPTIONS)
    assert [result.source for result in results] == list("abcd")
    for result, image in zip(results, images, strict=True):
        assert result.pixel_mse < random_mse / 100
        np.testing.assert_array_equal(result.target_HWC, image)
        assert result.pixel_mse == pytest.approx(np.square((result.image_HWC.astype(float) - image) / 255).mean())
        assert result.psnr == pytest.approx(-10 * np.log10(result.pixel_mse))
        redrawn = Sampler(model).draw(torch.from_numpy(result.style_W)[None])
        assert np.abs(redrawn.astype(int) - result.image_HWC).max() <= 1


def test_a_result_depends_on_its_image_and_the_seed_alone():
    model = build_style_model(num_classes=3)
    images = list(generate_images(model, 50, 3))
    many = project_images(model, list("abc"), images, OPTIONS)
    (alone,) = project_images(model, ["b"], images[1:2], OPTIONS)
    np.testing.assert_array_equal(alone.style_W, many[1].style_W)
    assert alone.json() == many[1].json()
    (other,) = project_images(model, ["b"], images[1:2], GeneratePredictOptions(steps=100, seed=1))
    assert other.style_W.tobytes() != alone.style_W.tobytes()


def test_more_steps_come_nearer():
    model = build_style_model()
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 1), np.uint8)
    distances = []
    for steps in (1, 10, 100):
        (result,) = project_images(model, ["x"], [image], GeneratePredictOptions(steps=steps))
        distances.append(result.distance)
    assert distances == sorted(distances, reverse=True) and distances[2] < distances[0]


def test_the_distance_is_the_mean_over_sizes_and_a_shift_counts_less_than_its_pixels():
    black = torch.full((1, 1, 16, 16), -1.0)
    white = torch.ones(1, 1, 16, 16)
    assert measure_distance(white, black).item() == 1
    line = black.clone()
    line[..., 6] = 1
    near = line.roll(1, 3)
    far = line.roll(6, 3)
    assert measure_distance(near, line) < measure_distance(far, line)
    expected = np.mean([np.square(level).mean() for level in (np.eye(16)[6] - np.eye(16)[7], np.zeros(8), np.zeros(4))])
    assert measure_distance(near, line).item() == pytest.approx(expected)


def test_pictures_are_cropped_and_resized_as_training_images_are(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 64, 3), np.uint8)
    for name, picture in zip("ab", pixels, strict=True):
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
    expected = load_square_images(DataRequest(str(tmp_path)), image_size=16, channels=1).all
    for source, image in zip(expected.sources, expected.images, strict=True):
        for given in (source, Image.open(source), np.asarray(Image.open(source))):
            np.testing.assert_array_equal(read_image(given, SPEC), image)
    with pytest.raises(DataError):
        read_image(b"no picture", SPEC)


def test_weights_that_are_not_finite_are_refused():
    model = build_style_model()
    with torch.no_grad():
        model.network.paint.fill_(float("nan"))
    with pytest.raises(NonFiniteError):
        project_images(model, ["x"], [np.zeros((16, 16, 1), np.uint8)], GeneratePredictOptions(steps=2))
