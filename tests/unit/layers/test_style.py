"""Layers that a style controls, against their formulas, and modulation against filters of each image."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from thalweg.layers.noise import Noise
from thalweg.layers.style import AdaptiveInstanceNorm, ModulatedConv2d, PixelNorm


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("shape", [(3, 16), (3, 16, 4, 4)])
def test_pixel_norm_divides_by_the_root_mean_square_over_channels(shape):
    x = torch.randn(shape) * 7
    expected = x / (x.pow(2).sum(1, keepdim=True) / 16).sqrt()
    torch.testing.assert_close(PixelNorm()(x), expected)
    assert not PixelNorm()(torch.zeros(shape)).any()


def test_adaptive_instance_norm_gives_maps_the_mean_and_deviation_of_the_style():
    layer = AdaptiveInstanceNorm(6, style_dim=10)
    x = torch.randn(2, 6, 8, 8) * 3 + 5
    style = torch.randn(2, 10)
    y = layer(x, style)
    scale, shift = (style @ layer.affine.weight.T / 10**0.5).split(6, 1)
    torch.testing.assert_close(y.mean((2, 3)), shift, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(y.std((2, 3), unbiased=False), (1 + scale).abs(), atol=1e-4, rtol=1e-4)
    normalized = (x - x.mean((2, 3), keepdim=True)) / x.std((2, 3), unbiased=False, keepdim=True)
    expected = (1 + scale)[..., None, None] * normalized + shift[..., None, None]
    torch.testing.assert_close(y, expected, atol=1e-4, rtol=1e-4)


def convolve_each_image(layer: ModulatedConv2d, x: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
    """The paper's form: filters of each image, all in one grouped convolution."""
    count, channels, height, width = x.shape
    num_out, _, size, _ = layer.weight.shape
    scale = style @ layer.affine.weight.T / style.shape[1] ** 0.5 + 1
    weight = layer.weight / (channels * size**2) ** 0.5 * scale[:, None, :, None, None]
    if layer.demodulate:
        weight = weight / (weight.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()
    grouped = x.reshape(1, count * channels, height, width)
    if layer.convolve.resample != "up":
        y = F.conv2d(grouped, weight.reshape(-1, channels, size, size), padding=size // 2, groups=count)
        return y.reshape(count, num_out, height, width)
    weight = weight.transpose(1, 2).reshape(-1, num_out, size, size)
    y = F.conv_transpose2d(grouped, weight, stride=2, groups=count)
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
    padding = 2 - size // 2
    y = F.pad(y, (padding,) * 4).reshape(count * num_out, 1, y.shape[2] + 2 * padding, -1)
    y = F.conv2d(F.conv2d(y, taps.reshape(1, 1, 4, 1)), taps.reshape(1, 1, 1, 4))
    return y.reshape(count, num_out, 2 * height, 2 * width)


@pytest.mark.parametrize("resample", ["none", "up"])
@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("kernel_size", [1, 3])
def test_a_modulated_convolution_is_one_with_filters_of_each_image(resample, demodulate, kernel_size):
    layer = ModulatedConv2d(6, 5, kernel_size, 7, demodulate, resample)
    x, style = torch.randn(3, 6, 8, 8), torch.randn(3, 7)
    expected = convolve_each_image(layer, x, style)
    torch.testing.assert_close(layer(x, style), expected, atol=1e-5, rtol=1e-5)


def test_demodulation_brings_maps_back_to_unit_variance():
    layer = ModulatedConv2d(64, 64, 3, 32)
    x = torch.randn(8, 64, 16, 16)
    for factor in (0.1, 1.0, 10.0):
        y = layer(x, torch.randn(8, 32) * factor)[..., 1:-1, 1:-1]
        assert y.std().item() == pytest.approx(1.0, rel=0.1)


def test_second_derivatives_of_modulation_are_those_of_finite_differences():
    layer = ModulatedConv2d(2, 2, 3, 3, resample="up")
    layer.weight.data *= 2
    x, style = torch.randn(1, 2, 3, 3), torch.randn(1, 3)

    def length(style: torch.Tensor) -> torch.Tensor:
        style = style.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(layer(x, style).square().sum(), style, create_graph=True)
        return gradient.square().sum()

    length(style).backward()
    index = (0, 1, 1, 2)
    analytic = layer.weight.grad[index].item()
    values = []
    for step in (1e-2, -1e-2):
        with torch.no_grad():
            layer.weight[index] += step
        values.append(length(style).item())
        with torch.no_grad():
            layer.weight[index] -= step
    assert (values[0] - values[1]) / 2e-2 == pytest.approx(analytic, rel=2e-2)


@pytest.mark.parametrize("channels", [1, 4])
def test_noise_is_random_in_training_and_fixed_in_evaluation(channels):
    layer = Noise(8, channels)
    x = torch.zeros(3, 4, 8, 8)
    assert torch.equal(layer(x), x)  # the strength begins at 0
    torch.nn.init.constant_(layer.strength_C11, 2.0)
    assert not torch.equal(layer(x), layer(x))
    assert layer(x).std().item() == pytest.approx(2.0, rel=0.2)
    state = torch.get_rng_state()
    layer.eval()
    y = layer(x)
    assert torch.equal(y, layer(x)) and torch.equal(state, torch.get_rng_state())
    assert torch.equal(y[0], y[2]) and torch.equal(y[:, 0], y[:, 3]) and y.any()
    assert layer.state_dict().keys() == {"strength_C11", "fixed_1SS"}
