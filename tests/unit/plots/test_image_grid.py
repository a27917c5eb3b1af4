"""Grids of images: pixels survive enlargement, batches share one scale, filters have signed colors."""

import numpy as np
import pytest

from tests.helpers.figures import color_fraction, figure_texts
from tests.unit.plots.test_plots import RANDOM, images, mistakes
from thalweg.plots import style
from thalweg.plots.image_grid import (
    plot_augmented_batch,
    plot_examples,
    plot_filters,
    plot_image_grid,
    plot_worst_mistakes,
)


@pytest.mark.parametrize(
    ("count", "columns", "scale", "size"),
    [
        (13, None, None, (4 * 86 + 2, 4 * 86 + 2)),
        (13, 13, 1, (13 * 30 + 2, 30 + 2)),
        (2, 8, 3, (2 * 86 + 2, 86 + 2)),
        (1, None, None, (88, 88)),
        (0, None, None, (88, 88)),
    ],
)
def test_image_grid_has_gaps_of_2_pixels_and_tiles_of_at_least_64(count, columns, scale, size):
    grid = plot_image_grid(images(count), columns, scale)
    assert grid.mode == "RGB" and grid.size == size


@pytest.mark.parametrize("channels", [1, 3])
def test_image_grid_repeats_pixels_in_row_major_order(channels):
    samples = images(5, channels, 4, 6)
    pixels = np.asarray(plot_image_grid(samples, columns=2))
    for index, sample in enumerate(samples):
        top = 2 + index // 2 * (4 * 16 + 2)
        left = 2 + index % 2 * (6 * 16 + 2)
        tile = pixels[top : top + 64, left : left + 96]
        assert np.array_equal(tile[::16, ::16], np.broadcast_to(sample, (4, 6, 3)))
        assert np.array_equal(tile[15::16, 15::16], tile[::16, ::16])
        assert (pixels[top - 2 : top] == 255).all() and (pixels[:, left - 2 : left] == 255).all()


def test_image_grid_does_not_enlarge_large_images():
    assert plot_image_grid(images(1, 3, 64, 100)).size == (104, 68)


def test_examples_keep_the_pixels_of_small_images():
    image = np.zeros((1, 4, 4, 3), np.uint8)
    image[0, :2] = (200, 30, 60)
    pixels = np.asarray(plot_examples(image))
    is_red = (pixels == (200, 30, 60)).all(2)
    assert is_red.any() and is_red.sum() == (pixels == (0, 0, 0)).all(2).sum()


def test_a_batch_has_one_scale_from_black_to_white():
    values = np.full((2, 1, 4, 4), -1.0)
    values[1] = 0.0
    values[1, 0, 0] = 1.0
    assert {(0, 0, 0), (128, 128, 128)} <= {color for _, color in plot_augmented_batch(values).getcolors(1 << 24)}


def test_only_the_first_images_of_a_large_batch_are_drawn():
    values = RANDOM.normal(size=(100, 1, 4, 4))
    values[0, 0, 0, 0] = 9
    values[1, 0, 0, 0] = -9
    limited = np.asarray(plot_augmented_batch(values, limit=16))
    assert np.array_equal(limited, np.asarray(plot_augmented_batch(values[:16])))


@pytest.mark.parametrize(
    ("sign", "color", "other"), [(1, style.BLUE, style.VERMILLION), (-1, style.VERMILLION, style.BLUE)]
)
def test_filters_are_blue_where_positive_and_orange_where_negative(sign, color, other):
    image = plot_filters(sign * np.ones((1, 1, 3, 3)))
    assert color_fraction(image, color) > 0.1 and color_fraction(image, other) == 0


def test_filters_of_a_linear_layer_have_the_shape_of_its_input():
    weight = RANDOM.normal(size=(6, 3, 5, 4))
    linear = plot_filters(weight.reshape(6, -1), (3, 5, 4))
    assert np.array_equal(np.asarray(linear), np.asarray(plot_filters(weight)))


def test_mistakes_name_the_true_class_the_prediction_and_the_source():
    (caption,) = figure_texts(plot_worst_mistakes, *mistakes(1, ["cat", "dog"]))
    first, *_, last = caption.split("\n")
    assert first.startswith("cat") and first.endswith("dog") and last == "a/0.png"
