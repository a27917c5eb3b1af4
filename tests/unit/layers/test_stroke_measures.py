"""Measures of strokes on drawings of known thickness, slant, width and height."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from thalweg.layers.stroke_measures import (
    MEASURES,
    measure_brightness,
    measure_height,
    measure_slant,
    measure_thickness,
    measure_width,
)

SIZE = 64


def draw_bar(width: float, height: float, slant: float = 0.0) -> Tensor:
    """Draw a bar (1, S, S) that leans to the right by an angle in degrees; edges are blurred to the part of a pixel."""
    y, x = torch.meshgrid(torch.arange(SIZE) - SIZE / 2 + 0.5, torch.arange(SIZE) - SIZE / 2 + 0.5, indexing="ij")
    x = x + y * math.tan(math.radians(slant))
    inside_x = (width / 2 - x.abs() + 0.5).clamp(0, 1)
    inside_y = (height / 2 - y.abs() + 0.5).clamp(0, 1)
    return (inside_x * inside_y)[None]


def draw_ring(radius: float, thickness: float) -> Tensor:
    """Draw a ring (1, S, S)."""
    y, x = torch.meshgrid(torch.arange(SIZE) - SIZE / 2 + 0.5, torch.arange(SIZE) - SIZE / 2 + 0.5, indexing="ij")
    distance = (torch.hypot(x, y) - radius).abs()
    return (thickness / 2 - distance + 0.5).clamp(0, 1)[None]


@pytest.mark.parametrize(("width", "height"), [(4, 30), (10, 20), (8, 8)])
def test_width_height_and_brightness_of_a_bar(width, height):
    bar = draw_bar(width, height)
    assert measure_width(bar).item() == pytest.approx(width, abs=0.1)
    assert measure_height(bar).item() == pytest.approx(height, abs=0.1)
    assert measure_brightness(bar).item() == pytest.approx(width * height / SIZE**2, rel=0.01)
    assert measure_slant(bar).item() == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("slant", [-30, -10, 5, 20])
def test_slant_is_the_angle_and_width_does_not_feel_it(slant):
    bar = draw_bar(6, 32, slant)
    assert measure_slant(bar).item() == pytest.approx(slant, abs=0.3)
    assert measure_width(bar).item() == pytest.approx(6, abs=0.3)


@pytest.mark.parametrize("thickness", [2, 3, 5, 8])
def test_thickness_of_a_ring_and_of_a_long_stroke(thickness):
    assert measure_thickness(draw_ring(18, thickness)).item() == pytest.approx(thickness, rel=0.06)
    # the ends of a stroke belong to its outline
    expected = thickness * 50 / (50 + thickness)
    assert measure_thickness(draw_bar(thickness, 50)).item() == pytest.approx(expected, rel=0.06)


def test_measures_are_smooth_and_finite_on_an_empty_image():
    image = torch.cat([torch.zeros(1, 8, 8), torch.rand(1, 8, 8)]).requires_grad_(True)
    for measure in MEASURES.values():
        values_B = measure(image)
        (gradient,) = torch.autograd.grad(values_B.sum(), image)
        assert values_B.isfinite().all() and gradient.isfinite().all() and gradient[1].any()
