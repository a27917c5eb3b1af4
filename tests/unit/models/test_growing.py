"""Networks that grow: an image fades in from the one before, and nothing else changes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from thalweg import registry
from thalweg.engine.ema import copy_for_ema, update_ema
from thalweg.models.generate.base import GanModel
from thalweg.models.generate.levels import Growth, read_growth

GROWING = ["progan", "stylegan"]


def build(name: str, growth: float | None = None, image_size: int = 16) -> GanModel:
    torch.manual_seed(0)
    builder = registry.get_models("generate")[name]
    model = builder(in_channels=3, image_size=image_size, latent_dim=6, width=4, max_width=8).eval()
    if growth is not None:
        grow(model, growth)
    return model


def grow(model: GanModel, growth: float) -> None:
    model.network.growth.fill_(growth)
    model.discriminator.growth.fill_(growth)


LATENTS = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(2))


def enlarge(image: Tensor, size: int) -> Tensor:
    """Average blocks of pixels so that `size` are left, and give all of a block their mean."""
    factor = image.shape[2] // size
    return F.avg_pool2d(image, factor).repeat_interleave(factor, 2).repeat_interleave(factor, 3)


@pytest.mark.parametrize(
    ("value", "level", "fade"),
    [(0.0, 0, 1.0), (0.25, 1, 0.25), (1.0, 1, 1.0), (1.5, 2, 0.5), (2.0, 2, 1.0), (7.0, 2, 1.0), (-1.0, 0, 1.0)],
)
def test_growth_names_the_last_level_and_how_much_of_it_counts(value, level, fade):
    assert read_growth(torch.tensor(value), 3) == Growth(level, fade)


@pytest.mark.parametrize("name", GROWING)
def test_a_model_that_nobody_grows_is_whole(name):
    model = build(name)
    assert model.network.growth == model.discriminator.growth == 2.0
    assert torch.equal(model(LATENTS), build(name, 2.0)(LATENTS))


@pytest.mark.parametrize("name", GROWING)
@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_small_network_makes_larger_pixels(name, level):
    images = build(name, float(level))(LATENTS)
    assert images.shape == (4, 3, 16, 16)
    torch.testing.assert_close(images, enlarge(images, 4 * 2**level))
    if level:
        assert not torch.allclose(images, enlarge(images, 4 * 2 ** (level - 1)), atol=1e-3)


@pytest.mark.parametrize("name", GROWING)
@pytest.mark.parametrize("level", [0, 1])
def test_an_image_fades_in_from_that_of_the_level_before(name, level):
    model = build(name)
    images = {}
    for fade in (0.0, 1e-6, 0.35, 1.0):
        grow(model, level + fade)
        images[fade] = model(LATENTS)
    torch.testing.assert_close(images[1e-6], images[0.0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(images[0.35], torch.lerp(images[0.0], images[1.0], 0.35), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", GROWING)
def test_a_level_in_full_reads_nothing_of_the_last_layers_before(name):
    model = build(name, 1.0)
    images = model(LATENTS)
    logits = model.discriminator(images)
    for level in (0, 2):
        torch.nn.init.normal_(model.network.output.to_color[level].weight)
        torch.nn.init.normal_(model.discriminator.from_color[level].weight)
    assert torch.equal(model(LATENTS), images) and torch.equal(model.discriminator(images), logits)
    grow(model, 1.5)
    assert not torch.allclose(model(LATENTS), images, atol=1e-3)


@pytest.mark.parametrize("name", GROWING)
def test_a_small_discriminator_sees_averages_of_pixels(name):
    model = build(name, 1.0)
    logits = model.discriminator(IMAGES)
    torch.testing.assert_close(model.discriminator(enlarge(IMAGES, 8)), logits, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(model.discriminator(enlarge(IMAGES, 4)), logits, atol=1e-4)
    grow(model, 1 + 1e-6)
    torch.testing.assert_close(model.discriminator(IMAGES), logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", GROWING)
def test_only_levels_in_use_are_trained(name):
    model = build(name, 0.5, image_size=32)
    (gradient,) = torch.autograd.grad(
        model.discriminator(image := model(LATENTS).detach().requires_grad_(True)).sum(), image, create_graph=True
    )
    gradient.square().sum().backward()
    model(LATENTS).sum().backward()
    used = {key for key, param in model.named_parameters() if param.grad is not None}
    assert any("to_color.0" in key for key in used) and any("to_color.1" in key for key in used)
    assert not any("color.2" in key or "color.3" in key or "blocks.1." in key for key in used)


@pytest.mark.parametrize("name", GROWING)
def test_the_state_has_all_levels_and_the_growth_from_the_start(name):
    small, large = build(name, 0.0), build(name, 1.35)
    assert small.state_dict().keys() == large.state_dict().keys()
    assert {"network.growth", "discriminator.growth"} <= small.state_dict().keys()
    small.load_state_dict(large.state_dict())
    assert torch.equal(small(LATENTS), large(LATENTS))


@pytest.mark.parametrize("name", GROWING)
def test_the_averaged_generator_grows_along(name):
    model = build(name, 0.0)
    average = copy_for_ema(model)
    grow(model, 1.35)
    update_ema(average, model, 0.5)
    assert torch.equal(average(LATENTS), model(LATENTS))
