"""Filters that change the size of maps: against interpolation, and what they may not change."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from thalweg.layers.resample import Blur, Downsample, Upsample

TAPS = [(1, 3, 3, 1), (1, 2, 1)]


@pytest.mark.parametrize("taps", TAPS)
@pytest.mark.parametrize("layer", [Upsample, Downsample])
def test_a_constant_image_keeps_its_value_up_to_the_border(layer, taps):
    x = torch.full((2, 3, 8, 8), 0.7)
    y = layer(taps)(x)
    assert y.shape[2:] == ((16, 16) if layer is Upsample else (4, 4))
    torch.testing.assert_close(y, torch.full_like(y, 0.7))


def test_four_taps_are_bilinear_interpolation():
    x = torch.randn(2, 3, 6, 6)
    up = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(Upsample()(x), up, atol=1e-6, rtol=1e-5)
    down = F.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True)
    torch.testing.assert_close(Downsample()(x)[..., 1:-1, 1:-1], down[..., 1:-1, 1:-1], atol=1e-6, rtol=1e-5)


def test_three_taps_interpolate_between_neighbors():
    x = torch.tensor([1.0, 5.0, 9.0]).expand(1, 1, 3, 3)
    up = torch.tensor([1.0, 1.0, 3.0, 5.0, 7.0, 9.0])
    torch.testing.assert_close(Upsample((1, 2, 1))(x), up.expand(1, 1, 6, 6))
    wide = torch.tensor([0.0, 4.0, 8.0, 0.0]).expand(1, 1, 4, 4)
    torch.testing.assert_close(Downsample((1, 2, 1))(wide), torch.tensor([4.0, 2.0]).expand(1, 1, 2, 2))


@pytest.mark.parametrize("taps", TAPS)
def test_up_and_down_again_moves_nothing(taps):
    x = torch.zeros(1, 1, 9, 9)
    x[..., 4, 4] = 1
    y = Downsample(taps)(Upsample(taps)(x))
    torch.testing.assert_close(y, y.flip(2))
    torch.testing.assert_close(y, y.flip(3))
    assert y.argmax() == x.argmax() and y.sum().item() == pytest.approx(1.0)


def test_a_blur_continues_maps_with_zeros():
    x = torch.ones(1, 2, 4, 4)
    y = Blur(padding=1, gain=4.0)(x)
    assert y.shape == (1, 2, 3, 3)
    assert y[0, 0, 1, 1].item() == pytest.approx(4.0)
    assert y[0, 0, 0, 0].item() == pytest.approx(4.0 * (7 / 8) ** 2)


def test_derivatives_are_those_of_finite_differences_twice():
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    for layer in (Upsample((1, 2, 1)), Downsample((1, 2, 1)), Upsample(), Downsample()):
        assert torch.autograd.gradcheck(lambda x, layer=layer: layer.double()(x).square(), x)
        assert torch.autograd.gradgradcheck(lambda x, layer=layer: layer(x).square(), x)
