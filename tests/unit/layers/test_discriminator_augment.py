"""Augmentation that the discriminator sees: nothing at probability 0, differentiable, and of the stated kind."""

from __future__ import annotations

import pytest
import torch

from thalweg.layers import discriminator_augment
from thalweg.layers.discriminator_augment import (
    MAX_PROBABILITY,
    _draw_affine,
    _draw_color,
    ada_augment,
    adapt_probability,
    diff_augment,
)

AUGMENTS = [diff_augment, ada_augment]


def draw(count: int = 6, channels: int = 3, size: int = 16) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.rand(count, channels, size, size) * 2 - 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("augment", AUGMENTS)
def test_at_probability_0_images_stay_bit_for_bit(augment, channels):
    image = draw(channels=channels)
    assert torch.equal(augment(image, 0.0), image)
    assert torch.equal(augment(image, torch.zeros(())), image)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("augment", AUGMENTS)
def test_every_image_changes_in_its_own_way_and_repeatably(augment, channels):
    image = draw(1, channels).expand(8, -1, -1, -1)
    torch.manual_seed(1)
    augmented = augment(image, 1.0)
    assert augmented.shape == image.shape and augmented.isfinite().all()
    assert len({part.numpy().tobytes() for part in augmented}) == 8
    torch.manual_seed(1)
    assert torch.equal(augment(image, 1.0), augmented)


@pytest.mark.parametrize("augment", AUGMENTS)
def test_gradients_reach_images_and_can_be_penalized(augment):
    """Also twice, as a gradient penalty needs it."""
    image = draw(4, size=8).double().requires_grad_(True)

    def score(image: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(2)
        return augment(image, 0.7).square().flatten(1).sum(1)

    (gradient,) = torch.autograd.grad(score(image).sum(), image, create_graph=True)
    step = 1e-6 * torch.randn_like(image)
    difference = (score(image + step) - score(image - step)).sum() / 2
    torch.testing.assert_close((gradient * step).sum(), difference, atol=1e-9, rtol=1e-4)
    gradient.square().sum().backward()
    assert image.grad.isfinite().all() and image.grad.abs().sum() > 0


@pytest.mark.parametrize("augment", AUGMENTS)
def test_as_many_images_change_as_is_likely(augment):
    """Without color there are 2 changes of DiffAugment and 8 of ADA, some of which leave an image as it is."""
    torch.manual_seed(0)
    image = draw(400, 1, 8)
    is_same = (augment(image, 0.05) == image).flatten(1).all(1).float().mean().item()
    assert 0.6 < is_same < 0.95


def test_gray_images_keep_their_levels():
    """Colors of gray images would show in what is generated: quarter turns, mirrors and shifts only move pixels."""
    image = draw(50, 1)
    assert ada_augment(image, 1.0).abs().max() <= 1


def test_gray_stays_gray_in_color():
    """Hue and saturation turn around the gray axis."""
    gray = draw(40, 1).expand(-1, 3, -1, -1)
    for augment in AUGMENTS:
        augmented = augment(gray, 1.0)
        torch.testing.assert_close(augmented, augmented.mean(1, keepdim=True).expand_as(gray), atol=1e-5, rtol=1e-4)


def test_drawn_maps_are_affine_and_can_be_undone():
    torch.manual_seed(0)
    for matrix in (_draw_affine(draw(200), 0.9)[0], _draw_color(200, 0.9, torch.device("cpu"))[0]):
        last = torch.zeros(matrix.shape[2])
        last[-1] = 1.0
        torch.testing.assert_close(matrix[:, -1], last.expand(200, -1))
        assert matrix.det().abs().min() > 1e-3


def test_images_are_scaled_before_they_are_translated(monkeypatch):
    """The order of the paper: where the center of an image ends up does not depend on its scale."""
    monkeypatch.setattr(discriminator_augment, "SCALE_STD", 1.0)
    monkeypatch.setattr(discriminator_augment, "TRANSLATION", 0.0)
    torch.manual_seed(0)
    center = _draw_affine(draw(2000), 1.0)[0].inverse()[:, :2, 2]
    assert center.std().item() == pytest.approx(2 * discriminator_augment.TRANSLATION_STD, rel=0.05)


def test_translations_move_whole_pixels_and_fill_with_gray():
    image = torch.ones(200, 1, 16, 16)
    torch.manual_seed(0)
    kept = torch.zeros_like(image, dtype=torch.bool)
    augmented = diff_augment(image, 1.0)
    for index, part in enumerate(augmented):
        levels = part.unique()
        assert len(levels) <= 2 and 0.0 in levels  # one color, and the blank
        kept[index] = part != 0
    fraction = kept.float().mean((1, 2, 3))
    assert 0.4 < fraction.min() and fraction.max() < 1 and fraction.mean() == pytest.approx(0.70, abs=0.03)


def test_the_probability_moves_at_the_stated_speed():
    """From 0 to 1 in 500,000 images: 3,125 changes of 128 images move it by 0.8."""
    probability = torch.zeros(())
    for _ in range(1000):
        probability = adapt_probability(probability, torch.tensor(0.9), 128, 0.6, 500_000)
    assert probability.item() == pytest.approx(1000 * 128 / 500_000, rel=1e-4)
    for sign, expected in ((1.0, MAX_PROBABILITY), (0.2, 0.0)):
        for _ in range(5):
            probability = adapt_probability(probability, torch.tensor(sign), 400_000, 0.6, 500_000)
        assert probability.item() == pytest.approx(expected)
