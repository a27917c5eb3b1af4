"""DCGAN: shapes, sizes by formula, initial weights, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from thalweg import registry
from thalweg.engine.config import TrainConfig
from thalweg.engine.ema import copy_for_ema, with_ema
from thalweg.engine.trainer import Trainer
from thalweg.errors import OptionError
from thalweg.models.generate.dcgan import dcgan
from thalweg.objectives.adversarial import Adversarial, AdversarialSettings


def build(**kwargs) -> nn.Module:
    torch.manual_seed(0)
    return dcgan(**{"in_channels": 1, "image_size": 16, "latent_dim": 10, "width": 4, **kwargs})


def count_params(channels: int, size: int, latent: int, width: int) -> tuple[int, int]:
    """Count the parameters of generator and discriminator by the formula of the paper's layers."""
    maps = width * size // 8
    generator = latent * maps * 16 + 2 * maps
    discriminator = channels * width * 16 + width + maps * 16 + 1
    while maps > width:
        generator += maps * (maps // 2) * 16 + maps
        discriminator += maps * (maps // 2) * 16 + maps
        maps //= 2
    return generator + width * channels * 16 + channels, discriminator


@pytest.mark.parametrize("size", [8, 16, 32, 64, 128])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_images_and_logits_have_the_promised_shapes(size, channels, norm):
    model = build(in_channels=channels, image_size=size, norm=norm)
    for count in (1, 3):
        images = model.eval()(torch.randn(count, 10))
        assert images.shape == (count, channels, size, size)
        assert images.abs().max() <= 1
        assert model.discriminator(images).shape == (count,)


@pytest.mark.parametrize(("channels", "size", "latent", "width"), [(1, 32, 100, 64), (3, 64, 7, 8), (3, 8, 5, 2)])
def test_parameters_are_those_of_the_formula(channels, size, latent, width):
    model = build(in_channels=channels, image_size=size, latent_dim=latent, width=width)
    generator, discriminator = count_params(channels, size, latent, width)
    assert sum(param.numel() for param in model.network.parameters()) == generator
    assert sum(param.numel() for param in model.discriminator.parameters()) == discriminator


def test_filters_begin_with_a_standard_deviation_of_two_hundredths():
    model = build(width=64, norm="batch")
    for layer in model.modules():
        if isinstance(layer, nn.ConvTranspose2d) or (isinstance(layer, nn.Conv2d) and layer.weight.numel() > 5000):
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1)
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.weight.mean().item() == pytest.approx(1.0, abs=0.02)
            assert not layer.bias.any()


def test_the_default_discriminator_judges_each_image_alone():
    """Without batch normalization, the gradient penalty of one image does not depend on the others."""
    model = build()
    images = torch.randn(4, 1, 16, 16)
    alone = torch.cat([model.discriminator(image[None]) for image in images])
    torch.testing.assert_close(model.discriminator(images), alone)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in model.discriminator.modules())
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in build(norm="batch").discriminator.modules())


def test_the_generator_is_what_is_averaged():
    model = build()
    average = copy_for_ema(model)
    view = with_ema(model, average)
    assert view.network is average and view.discriminator is model.discriminator
    assert model.network.latent_dim == 10


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_it_trains_with_a_gradient_penalty(norm):
    model = build(norm=norm)
    before = {name: value.clone() for name, value in model.named_parameters()}
    images = torch.rand(8, 1, 16, 16) * 2 - 1

    class Batches:
        steps_per_epoch = 4
        batch_size = 8
        device = torch.device("cpu")

        def __iter__(self):
            while True:
                yield {"image": images}

    config = TrainConfig(steps=4, lr=1e-3, momentum=0.5, schedule="constant", report_every=4)
    reports = list(Trainer(Adversarial(model, AdversarialSettings(penalty_interval=2)), Batches(), config))
    assert {"discriminator", "penalty", "generator"} <= set(reports[-1].losses)
    for name, value in model.named_parameters():
        assert not torch.equal(value, before[name]), name


@pytest.mark.parametrize(
    ("name", "value"),
    [("image_size", 4), ("image_size", 28), ("image_size", 2048), ("width", 0), ("latent_dim", 0), ("norm", "layer")],
)
def test_impossible_arguments_are_rejected(name, value):
    with pytest.raises(OptionError) as error:
        build(**{name: value})
    assert error.value.option == name and error.value.value == value


def test_names_of_weights_are_those_of_saved_models():
    state = build(norm="batch").state_dict()
    assert not any("mean_style" in name for name in state)  # which is zero, and was not there
    assert "network.mean_style" in build(num_classes=2).state_dict()
    generator = ["layers.0.weight", "layers.1.weight", "layers.3.weight", "layers.4.running_var", "layers.6.bias"]
    discriminator = ["layers.0.bias", "layers.2.weight", "layers.3.weight", "layers.5.weight", "layers.5.bias"]
    assert {f"network.{name}" for name in generator} | {f"discriminator.{name}" for name in discriminator} <= set(state)
    assert state["network.layers.0.weight"].shape == (10, 8, 4, 4)
    assert state["discriminator.layers.5.weight"].shape == (1, 8, 4, 4)


def test_the_registry_has_the_model():
    entry = registry.get_models("generate")["dcgan"]
    assert entry.paper == "arXiv:1511.06434" and entry.summary
