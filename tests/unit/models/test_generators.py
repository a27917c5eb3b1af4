"""Laws of all models that generate images, and the numbers of parameters that their papers state."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from thalweg import registry
from thalweg.errors import OptionError
from thalweg.models.generate.base import GanModel
from thalweg.models.generate.r3gan import ResidualBlock

MODELS = registry.get_models("generate")
MAPPED = ["stylegan", "stylegan2"]
#: arguments that make a model small
SMALL = {"latent_dim": 6, "width": 4, "max_width": 8}
NUM_CLASSES = 3


def build(name: str, in_channels: int = 3, image_size: int = 8, **kwargs) -> GanModel:
    torch.manual_seed(0)
    return MODELS[name](in_channels=in_channels, image_size=image_size, **{**SMALL, **kwargs})


def draw_latents(count: int, seed: int = 1) -> Tensor:
    return torch.randn(count, SMALL["latent_dim"], generator=torch.Generator().manual_seed(seed))


def wake_noise(model: nn.Module) -> None:
    """Give noise a strength, and zero-initialized layers weights, as training does."""
    for name, param in model.named_parameters():
        if "strength" in name or "reduce" in name:
            nn.init.normal_(param)


# --- shapes and sizes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [8, 16, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", MODELS)
def test_images_and_logits_have_the_promised_shapes(name, channels, size):
    model = build(name, channels, size).eval()
    for count in (1, 3, 4):
        images = model(draw_latents(count))
        assert images.shape == (count, channels, size, size)
        assert model.discriminator(images).shape == (count,)


@pytest.mark.parametrize("num_classes", [0, NUM_CLASSES])
@pytest.mark.parametrize("name", MODELS)
def test_the_way_from_latents_to_images_leads_over_styles(name, num_classes):
    model = build(name, num_classes=num_classes).eval()
    network = model.network
    label = torch.tensor([0, 2]) if num_classes else None
    style = network.map_latent(draw_latents(2), label)
    assert style.shape == (2, network.style_dim)
    assert network.mean_style.shape == (network.style_dim,) and "mean_style" in dict(network.named_buffers())
    styles = network.repeat_style(style)
    assert styles.shape == (2, network.num_styles, network.style_dim)
    assert torch.equal(network.synthesize(styles), model(draw_latents(2), label))
    assert network.num_classes == num_classes
    assert network.num_styles == (4 if name in MAPPED else 1)


@pytest.mark.parametrize(
    ("name", "arguments", "generator", "discriminator"),
    [
        # the sums that the authors' programs print for 1024 pixels
        ("progan", {"width": 16, "max_width": 512, "latent_dim": 512}, 23_079_115, 23_087_249),
        ("stylegan", {"width": 16, "max_width": 512, "latent_dim": 512}, 26_219_627, 23_087_249),
        (
            "stylegan2",
            {"width": 32, "max_width": 512, "latent_dim": 512, "mapping_depth": 8},
            30_370_060,
            29_012_513,
        ),
    ],
)
def test_parameters_are_those_of_the_paper(name, arguments, generator, discriminator):
    with torch.device("meta"):
        model = MODELS[name](in_channels=3, image_size=1024, **arguments)
    assert sum(param.numel() for param in model.network.parameters()) == generator
    assert sum(param.numel() for param in model.discriminator.parameters()) == discriminator


@pytest.mark.parametrize("name", MODELS)
def test_channels_end_at_the_maximum(name):
    """Also at the largest size, where they would double eight times."""
    with torch.device("meta"):
        model = build(name, image_size=1024, width=2, max_width=16)
    filters = [param for param in model.parameters() if param.ndim == 4]
    assert max(max(param.shape[:2]) for param in filters) <= 32  # twice as many inside of a residual block


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("image_size", 4),
        ("image_size", 28),
        ("image_size", 2048),
        ("width", 0),
        ("max_width", 0),
        ("latent_dim", 0),
        ("in_channels", 0),
        ("num_classes", -1),
    ],
)
@pytest.mark.parametrize("name", MODELS)
def test_impossible_arguments_are_rejected(name, argument, value):
    with pytest.raises(OptionError) as error:
        build(name, **{argument: value})
    assert error.value.option == argument and error.value.value == value
    if argument == "image_size":
        assert error.value.allowed == (8, 16, 32, 64, 128, 256, 512, 1024)


@pytest.mark.parametrize("name", MODELS)
def test_defaults_of_training_are_common_options(name):
    from thalweg.config.options import TrainOptions

    entry = MODELS[name]
    TrainOptions(**entry.training)
    assert entry.paper and entry.summary
    values = build(name).training_values
    assert values.loss in ("logistic", "wasserstein", "relativistic")
    assert values.r1 > 0 or values.gradient_penalty > 0


# --- derivatives ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_classes", [0, NUM_CLASSES])
@pytest.mark.parametrize("name", MODELS)
def test_a_gradient_penalty_trains_every_discriminator(name, num_classes):
    model = build(name, image_size=16, num_classes=num_classes)
    wake_noise(model)
    discriminator = model.discriminator
    images = torch.randn(4, 3, 16, 16, requires_grad=True)
    label = torch.tensor([0, 1, 2, 0]) if num_classes else None
    logits = discriminator(images, label)
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    gradient.square().sum().backward()
    for key, param in discriminator.named_parameters():
        if "weight" in key and "from_color" not in key:
            assert param.grad is not None and param.grad.isfinite().all() and param.grad.any(), key


@pytest.mark.parametrize("name", MAPPED)
def test_path_lengths_have_derivatives(name):
    network = build(name, image_size=16).network
    style = network.repeat_style(network.map_latent(draw_latents(2)))
    images = network.synthesize(style)
    (gradient,) = torch.autograd.grad((images * torch.randn_like(images)).sum(), style, create_graph=True)
    gradient.square().sum(2).mean(1).sqrt().sum().backward()
    assert network.mapping.layers[0].weight.grad.any()


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_is_trained(name):
    model = build(name, image_size=16, num_classes=NUM_CLASSES)
    wake_noise(model)
    label = torch.tensor([0, 1, 2, 0])
    model.discriminator(model(draw_latents(4), label), label).square().sum().backward()
    unused = {key for key, param in model.named_parameters() if param.grad is None}
    growing = {"network.output.to_color", "discriminator.from_color"} if name in ("progan", "stylegan") else set()
    assert {key.rsplit(".", 2)[0] for key in unused} == growing  # those of the smaller sizes


@pytest.mark.parametrize("name", MODELS)
def test_half_the_digits_give_nearly_the_same(name):
    model = build(name, image_size=16).eval()
    latents = draw_latents(4)
    images = model(latents)
    logits = model.discriminator(images)
    with torch.autocast("cpu", torch.bfloat16):
        rough_images = model(latents)
        rough_logits = model.discriminator(images)
    assert (rough_images - images).abs().mean() < 0.03 * images.std()
    assert (rough_logits - logits).abs().max() < 0.1 * max(1.0, logits.abs().max().item())


# --- classes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_a_class_changes_images_and_logits(name):
    model = build(name, num_classes=NUM_CLASSES).eval()
    latents = draw_latents(1).expand(NUM_CLASSES, -1)
    images = model(latents, torch.arange(NUM_CLASSES))
    assert len(images.flatten(1).unique(dim=0)) == NUM_CLASSES
    same = images[:1].expand(NUM_CLASSES, -1, -1, -1)
    assert len(model.discriminator(same, torch.arange(NUM_CLASSES)).unique()) == NUM_CLASSES


@pytest.mark.parametrize("name", MODELS)
def test_a_conditional_model_needs_classes_and_another_reads_none(name):
    model = build(name, num_classes=NUM_CLASSES).eval()
    for call in (lambda: model(draw_latents(2)), lambda: model.discriminator(torch.zeros(2, 3, 8, 8))):
        with pytest.raises(OptionError) as error:
            call()
        assert error.value.option == "label" and error.value.allowed == [0, 1, 2]
    plain = build(name).eval()
    label = torch.tensor([0, 1])
    assert torch.equal(plain(draw_latents(2), label), plain(draw_latents(2)))


# --- styles -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_an_image_depends_on_its_latent_alone(name):
    model = build(name, image_size=16).eval()
    wake_noise(model)
    latents = draw_latents(3)
    state = torch.get_rng_state()
    images = model(latents)
    torch.testing.assert_close(model(latents[1:2]), images[1:2], atol=1e-5, rtol=1e-5)
    assert torch.equal(model(latents), images) and torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("name", MODELS)
def test_styles_at_the_mean_give_equal_images(name):
    network = build(name).eval().network
    style = network.map_latent(draw_latents(3))
    images = network.synthesize(network.repeat_style(torch.lerp(network.mean_style, style, 0.0)))
    assert torch.equal(images[0], images[1]) and torch.equal(images[0], images[2])
    half = network.synthesize(network.repeat_style(torch.lerp(network.mean_style, style, 0.5)))
    if name != "progan":  # which normalizes what it reads
        assert not torch.allclose(half, network.synthesize(network.repeat_style(style)), atol=1e-3)


@pytest.mark.parametrize(("name", "num_classes"), [("stylegan", 0), ("stylegan2", 0), ("dcgan", 3), ("progan", 3)])
def test_the_mean_style_follows_the_styles_of_training(name, num_classes):
    network = build(name, num_classes=num_classes).network
    label = torch.tensor([0, 1, 2, 0]) if num_classes else None
    expected = torch.zeros(network.style_dim)
    for seed in range(3):
        style = network.map_latent(draw_latents(4, seed), label)
        expected = 0.995 * expected + 0.005 * style.detach().mean(0)
    torch.testing.assert_close(network.mean_style, expected)
    assert not network.mean_style.requires_grad
    network.eval().map_latent(draw_latents(4), label)
    torch.testing.assert_close(network.mean_style, expected)


@pytest.mark.parametrize("name", [name for name in MODELS if name not in MAPPED])
def test_the_mean_of_latents_is_zero(name):
    model = build(name)
    model(draw_latents(4))
    assert not model.network.mean_style.any()


@pytest.mark.parametrize("name", MAPPED)
def test_styles_mix_by_layer(name):
    network = build(name, image_size=16).eval().network
    wake_noise(network)
    a, b = (network.repeat_style(network.map_latent(draw_latents(2, seed))) for seed in (1, 2))
    assert network.num_styles == 6
    images = []
    for crossover in range(network.num_styles + 1):
        images.append(network.synthesize(torch.cat([a[:, :crossover], b[:, crossover:]], 1)))
    torch.testing.assert_close(images[0], network.synthesize(b))
    torch.testing.assert_close(images[-1], network.synthesize(a))
    for previous, image in zip(images, images[1:], strict=False):
        assert (previous - image).abs().max() > 1e-3  # every layer reads its own style


# --- what is particular to one model ----------------------------------------------------------------------------------


def test_r3gan_is_linear_at_first():
    network = build("r3gan", image_size=32, width=4, max_width=16, blocks=2).network
    latents = draw_latents(3)
    x = latents
    count = 0
    for layer in network.layers:
        if isinstance(layer, ResidualBlock):
            count += 1
        else:
            x = layer(x)
    assert count == 8
    torch.testing.assert_close(network(latents), x)
    torch.testing.assert_close(network(latents[:1] + 2 * latents[1:2]), x[:1] + 2 * x[1:2], atol=1e-5, rtol=1e-5)
    wake_noise(network)
    assert not torch.allclose(network(latents), x, atol=1e-2)


def test_r3gan_groups_sixteen_channels():
    with torch.device("meta"):
        model = MODELS["r3gan"](in_channels=3, image_size=256, width=96, max_width=768, blocks=2)
    groups = [layer.groups for layer in model.network.modules() if isinstance(layer, nn.Conv2d) and layer.groups > 1]
    assert groups == [96] * 8 + [48] * 2 + [24] * 2 + [12] * 2  # of the paper's model for faces


def test_penalties_of_r3gan_follow_the_size():
    values = [build("r3gan", image_size=size).training_values for size in (8, 32, 64, 256)]
    assert [value.r1 for value in values] == [0.25, 0.25, 2.0, 128.0]
    assert all(value.r2 == value.r1 and value.penalty_interval == 1 for value in values)
