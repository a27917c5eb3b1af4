"""Equalized layers keep the scale of what passes, learn at the same speed, and resample as filters do."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from thalweg.layers.equalized import RELU_GAIN, EqualizedConv2d, EqualizedLinear


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def mean_square(x: torch.Tensor) -> float:
    return x.square().mean().item()


def test_the_scale_of_vectors_stays_through_depth():
    x = torch.randn(256, 512)
    for _ in range(6):
        x = F.relu(EqualizedLinear(512, 512, RELU_GAIN)(x))
    assert mean_square(x) == pytest.approx(1.0, rel=0.2)
    assert mean_square(EqualizedLinear(512, 512)(torch.randn(256, 512))) == pytest.approx(1.0, rel=0.1)


def test_the_scale_of_maps_stays_through_depth():
    scales = []
    for _ in range(12):  # one random network varies by 20 %
        x = torch.randn(2, 64, 16, 16)
        for _ in range(4):
            x = F.relu(EqualizedConv2d(64, 64, 3, RELU_GAIN)(x))
        scales.append(mean_square(x[..., 4:-4, 4:-4]))
    assert sum(scales) / 12 == pytest.approx(1.0, rel=0.2)


@pytest.mark.parametrize("resample", ["none", "up", "down"])
@pytest.mark.parametrize("kernel_size", [1, 3])
def test_the_scale_of_smooth_maps_stays_when_their_size_changes(resample, kernel_size):
    constant = torch.randn(8, 128, 1, 1).expand(-1, -1, 16, 16)
    y = EqualizedConv2d(128, 128, kernel_size, resample=resample)(constant)
    assert y.shape[2] == {"none": 16, "up": 32, "down": 8}[resample]
    assert mean_square(y[..., 3:-3, 3:-3]) == pytest.approx(1.0, rel=0.2)


def test_larger_maps_are_those_of_bilinear_upsampling_and_a_convolution():
    layer = EqualizedConv2d(3, 5, 3, gain=0.7, resample="up")
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(2, 3, 8, 8)
    enlarged = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    weight = layer.weight.flip(2, 3) * 0.7 / 27**0.5
    expected = F.conv2d(enlarged, weight, layer.bias, padding=1)
    torch.testing.assert_close(layer(x)[..., 3:-3, 3:-3], expected[..., 3:-3, 3:-3], atol=1e-5, rtol=1e-5)


def test_smaller_maps_are_those_of_a_convolution_and_a_filter():
    layer = EqualizedConv2d(3, 5, 3, resample="down")
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(2, 3, 16, 16)
    convolved = F.conv2d(x, layer.weight / 27**0.5, layer.bias, padding=1)
    expected = F.interpolate(convolved, scale_factor=0.5, mode="bilinear", antialias=True)
    torch.testing.assert_close(layer(x)[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("lr_multiplier", [1.0, 0.01])
def test_a_multiplier_scales_what_a_step_of_adam_changes_and_nothing_else(lr_multiplier):
    layer = EqualizedLinear(8, 4, initial_bias=0.5, lr_multiplier=lr_multiplier)
    x = torch.ones(1, 8)
    with torch.no_grad():
        layer.weight.copy_(torch.ones(4, 8) / lr_multiplier)
    before = layer(x)
    torch.testing.assert_close(before, torch.full((1, 4), 8 / 8**0.5 + 0.5))
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    before.sum().backward()
    optimizer.step()
    change = -0.1 * lr_multiplier * (8 / 8**0.5 + 1)
    torch.testing.assert_close(layer(x) - before, torch.full((1, 4), change), atol=1e-6, rtol=1e-3)


def test_weights_begin_at_one_whatever_the_layer():
    for layer in (EqualizedLinear(100, 200), EqualizedConv2d(20, 30, 3), EqualizedConv2d(50, 60, 1, 0.1)):
        assert layer.weight.std().item() == pytest.approx(1.0, rel=0.1)
    assert EqualizedLinear(2, 3, initial_bias=None).bias is None
    assert EqualizedConv2d(2, 3, 1, has_bias=False).bias is None
