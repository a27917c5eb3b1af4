"""Models with published weights, against torchvision's names, shapes and outputs (benchmarks/parity)."""

from __future__ import annotations

import hashlib

import pytest
import torch
from torch import Tensor, nn

from thalweg import registry
from thalweg.errors import OptionError
from thalweg.layers.init import he_normal_
from thalweg.models.classify.inception_v3 import InceptionOutputs, inception_v3
from thalweg.models.classify.mobilenet_v3 import make_divisible
from thalweg.models.classify.resnet import STEMS, resnet18, resnet34

MODELS = registry.get_models("classify")
#: parameters and entries of torchvision 0.28's state dict for 1000 classes, and the SHA-256 of its sorted lines
#: "name [shape]"
PUBLISHED = [
    ("vgg11", 132_863_336, 22, "0aec3dcb5ca3ff49893b167daf7fefa4b4d747eed4f09079fd6863adc34e1079"),
    ("vgg13", 133_047_848, 26, "d849782b372c89d80226b80613f311b002e2e47ec1d1ae1099c6f47c3e2f00b6"),
    ("vgg16", 138_357_544, 32, "63f9f2f4402fbe843fedef2b2fc7efb7e6b3c3de8abb75666c03c196ac3b2421"),
    ("vgg19", 143_667_240, 38, "0b00b188366bf7d2511c70a442ab10b4b2e764ecaba2c0a0b1f0d92300e14ecf"),
    ("vgg11_bn", 132_868_840, 62, "0dccf15b7b0fc79f0edad329a175d0718d4c0e3468f294129714fb2e268f3516"),
    ("vgg13_bn", 133_053_736, 76, "da7080aa4bc4025b3f26d3d23cc5b76bda87d9f1618ec10eea328a42cae68d28"),
    ("vgg16_bn", 138_365_992, 97, "18b84a6aa4e8de83dfc8e4fa4b2ce6710145abbaf6755e7bb3009d55687acc3b"),
    ("vgg19_bn", 143_678_248, 118, "254e632428b4b8347b3e277ebd6a21e7669f47897dfd86aa16b1dbf52cd640bd"),
    ("resnet18", 11_689_512, 122, "6cb439dd8789c9fec30db85cd20f9566cb04693ea278e4348cdd110fa0388db6"),
    ("resnet34", 21_797_672, 218, "306c4e9d557830ce13b79a2bd03e436c69d7fb702e8e488289a1ffeeae3bda3f"),
    ("resnet50", 25_557_032, 320, "98fcefba1b06f509a0fbf50757db13659d4fb3dc3b1f43aef4ed2da77b133fbe"),
    ("resnet101", 44_549_160, 626, "1fee89e2d6e6dad68bb51c51d75743548f41da321bd59f7eb942cafe5ea1fb96"),
    ("resnet152", 60_192_808, 932, "5ae8a587e3be2fd0b2a2b64233520796bebfa702d0685363c6a38976ed4c2db5"),
    ("inception_v3", 27_161_264, 580, "16f37747594653a8cd2169f04a1bffa4e91716ad47d9f84e4d6a89fc36e18a52"),
    ("squeezenet1_0", 1_248_424, 52, "467cfc08be37f3ad5a89f088a1494e205ea5acf28876884519a9deca2009d050"),
    ("squeezenet1_1", 1_235_496, 52, "f7a26a157e1dce42a6083c6f0ee9e92ff8464c4b68eb4cd973f37e34575dfe8b"),
    ("mobilenet_v3_small", 2_542_856, 244, "9116f09c07de7c571c995f5e1e3a8f6a9c3c68f3e14df64442bb17a3001ea19b"),
    ("mobilenet_v3_large", 5_483_032, 312, "9be702a63b689480dca5c20035c79899bf024857045fec815707d220b82fc66a"),
]
#: torchvision's logits with the weights of `fill_weights` (`benchmarks/parity/run.py logits`): the last set of logits,
#: for the first of two images, the first four of ten classes, in double precision
LOGITS = [
    ("vgg11", 32, False, {"hidden": 8}, [1.12545928, 2.82024597, -2.02460307, -0.0900929593]),
    ("vgg11_bn", 32, False, {"hidden": 8}, [1.86992092, 3.07158933, -0.328388039, -1.31724229]),
    ("resnet18", 40, False, {"stem": "imagenet"}, [-42.3507169, 13.0170653, 4.74238748, 6.04702345]),
    ("resnet50", 40, False, {"stem": "imagenet"}, [-3385.73534, 2838.90352, -3305.81892, 1082.74524]),
    ("inception_v3", 75, False, {"transform_input": True}, [-0.530111989, -0.663701782, -0.0822676872, 2.85531127]),
    ("inception_v3", 299, True, {"dropout": 0.0}, [-1.51338096, -0.713950317, -0.763694808, 0.0314100104]),
    ("squeezenet1_0", 40, False, {}, [0.0, 0.203810805, 0.0, 0.622563631]),
    ("squeezenet1_1", 40, False, {}, [0.0884584776, 0.138079884, 0.0, 0.217560564]),
    ("mobilenet_v3_small", 40, False, {}, [-22.0902279, 5.69820829, -1.44052221, -9.11743826]),
    ("mobilenet_v3_large", 40, False, {}, [-74.4158749, 79.6239262, -61.028088, -14.0282674]),
]
#: model, smallest image size (torchvision's documentation)
MIN_SIZES = [
    ("vgg11", 32),
    ("vgg19_bn", 32),
    ("inception_v3", 75),
    ("squeezenet1_0", 21),
    ("squeezenet1_1", 17),
    ("mobilenet_v3_small", 1),
    ("mobilenet_v3_large", 1),
    ("resnet18", 1),
    ("resnet50", 1),
]


def fill_weights(model: nn.Module) -> nn.Module:
    """Set weights that depend only on their names and shapes, as benchmarks/parity/compare.py does."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in sorted(model.state_dict().items()):
            if tensor.is_floating_point():
                half_range = (6 / tensor[0].numel()) ** 0.5 if tensor.ndim > 1 else 0.5
                center = 1.0 if tensor.ndim == 1 and name.endswith(("weight", "var")) else 0.0
                tensor.copy_((2 * torch.rand(tensor.shape, generator=generator) - 1) * half_range + center)
    return model


def build(name: str, num_classes: int = 1000, device: str = "cpu", in_channels: int = 3, **more) -> nn.Module:
    with torch.device(device):
        return MODELS[name](in_channels=in_channels, num_classes=num_classes, **more)


@pytest.mark.parametrize(("name", "parameters", "entries", "digest"), PUBLISHED, ids=[row[0] for row in PUBLISHED])
def test_names_and_shapes_match_published_weights(name, parameters, entries, digest):
    model = build(name, device="meta")
    assert sum(param.numel() for param in model.parameters()) == parameters
    state = model.state_dict()
    assert len(state) == entries
    lines = "".join(sorted(f"{key} {list(value.shape)}\n" for key, value in state.items()))
    assert hashlib.sha256(lines.encode()).hexdigest() == digest


@pytest.mark.parametrize(("name", "size", "training", "more", "expected"), LOGITS)
def test_logits_match_torchvision(name, size, training, more, expected):
    model = fill_weights(build(name, num_classes=10, device="meta", image_size=size, **more).to_empty(device="cpu"))
    x = torch.linspace(-2, 2, 3 * size * size).reshape(1, 3, size, size).sin()
    with torch.no_grad():  # in double precision, because the order of sums differs between CPUs
        outputs = model.double().train(training)(torch.cat([x, x.flip(-1)]).double())
    last = outputs if isinstance(outputs, Tensor) else outputs[-1]
    torch.testing.assert_close(last[0, :4], torch.tensor(expected, dtype=torch.float64), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(("name", "min_size"), MIN_SIZES)
def test_a_model_reads_its_smallest_size_and_rejects_smaller_ones(name, min_size):
    more = {"hidden": 8} if name.startswith("vgg") else {}
    model = build(name, num_classes=3, image_size=min_size, **more).eval()
    with torch.no_grad():
        assert model(torch.zeros(1, 3, min_size, min_size)).shape == (1, 3)
        if min_size > 1:
            with pytest.raises(RuntimeError):
                model(torch.zeros(1, 3, min_size - 1, min_size - 1))
    with pytest.raises(OptionError) as error:
        build(name, num_classes=3, image_size=min_size - 1)
    assert (error.value.option, error.value.value) == ("image_size", min_size - 1)
    assert f"--image-size {min_size}" in error.value.cure


@pytest.mark.parametrize("name", [row[0] for row in PUBLISHED])
def test_channels_and_classes_change_only_the_first_and_the_last_layer(name):
    plain = build(name, device="meta").state_dict()
    other = build(name, 7, "meta", in_channels=1).state_dict()
    changed = [key for key in plain if plain[key].shape != other[key].shape]
    assert list(plain) == list(other)
    allowed = {"AuxLogits.fc.weight", "AuxLogits.fc.bias"}
    assert changed[0] == next(iter(plain)) and set(changed[1:]) - allowed == set(list(plain)[-2:])


# --- ResNets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "stem", "small"),
    [(32, "auto", True), (64, "auto", True), (65, "auto", False), (32, "imagenet", False), (224, "small", True)],
)
def test_the_small_stem_keeps_the_size_up_to_the_first_stage(size, stem, small):
    with torch.device("meta"):
        model = resnet18(in_channels=3, num_classes=2, image_size=size, stem=stem)
        first = model.maxpool(model.conv1(torch.zeros(1, 3, size, size)))
    assert model.conv1.kernel_size == ((3, 3) if small else (7, 7))
    assert first.shape[2:] == ((size, size) if small else (-(-size // 4), -(-size // 4)))


def test_both_stems_have_weights_of_the_same_names():
    with torch.device("meta"):
        small = resnet34(3, 1000, image_size=32).state_dict()
        large = resnet34(3, 1000).state_dict()
    assert [key for key in large if large[key].shape != small[key].shape] == ["conv1.weight"]
    assert list(small) == list(large)


def test_an_unknown_stem_is_rejected():
    with pytest.raises(OptionError) as error:
        resnet18(in_channels=3, num_classes=2, stem="big")
    assert (error.value.option, error.value.value, error.value.allowed) == ("stem", "big", STEMS)


# --- VGG, Inception, MobileNet, initialization -----------------------------------------------------------------------


def test_a_vgg_needs_a_hidden_neuron():
    with pytest.raises(OptionError) as error:
        build("vgg11", hidden=0)
    assert (error.value.option, error.value.value) == ("hidden", 0)


@pytest.mark.parametrize("name", ["vgg16", "inception_v3", "squeezenet1_1", "mobilenet_v3_small"])
def test_a_dropout_above_1_is_rejected(name):
    with pytest.raises(OptionError) as error:
        build(name, device="meta", dropout=1.5)
    assert error.value.value["dropout"] == 1.5


@pytest.mark.parametrize("size", [75, 299])
def test_inception_has_auxiliary_logits_in_training_only(size):
    with torch.device("meta"):
        model = inception_v3(in_channels=3, num_classes=5, image_size=size)
        x = torch.zeros(2, 3, size, size)
        outputs = model.train()(x)
        assert isinstance(outputs, InceptionOutputs) and outputs.logits.shape == outputs.aux_logits.shape == (2, 5)
        assert model.eval()(x).shape == (2, 5)
        plain = inception_v3(in_channels=3, num_classes=5, image_size=size, aux_logits=False)
        assert plain.train()(x).shape == (2, 5)
    assert not [key for key in plain.state_dict() if key.startswith("AuxLogits")]


def test_transform_input_rescales_pixels_to_minus_one_to_one():
    plain = build("inception_v3", 3, image_size=75, transform_input=False).eval()
    rescaling = build("inception_v3", 3, image_size=75, transform_input=True).eval()
    rescaling.load_state_dict(plain.state_dict())
    pixels = torch.rand(2, 3, 75, 75)
    mean = torch.tensor([0.485, 0.456, 0.406])
    std = torch.tensor([0.229, 0.224, 0.225])
    normalized = (pixels - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        torch.testing.assert_close(rescaling(normalized), plain(2 * pixels - 1), rtol=1e-4, atol=1e-5)
        assert (plain(normalized) - rescaling(normalized)).abs().max() > 1e-3
    with pytest.raises(OptionError) as error:
        inception_v3(in_channels=1, num_classes=3, transform_input=True)
    assert (error.value.option, error.value.value) == ("transform_input", 1)


@pytest.mark.parametrize(("channels", "rounded"), [(1, 8), (4, 8), (11, 16), (12, 16), (18, 24), (20, 24), (240, 240)])
def test_channels_are_rounded_to_eights_and_lose_at_most_a_tenth(channels, rounded):
    assert make_divisible(channels) == rounded and rounded >= 0.9 * channels


@pytest.mark.parametrize(("mode", "fan"), [("fan_in", 64 * 9), ("fan_out", 256 * 9)])
def test_convolutions_have_the_initial_variance_of_he(mode, fan):
    layer = nn.Sequential(nn.Conv2d(64, 256, 3))
    assert he_normal_(layer, mode) is layer
    assert layer[0].weight.var().item() == pytest.approx(2 / fan, rel=0.02) and not layer[0].bias.any()


def test_the_last_convolution_of_squeezenet_has_small_initial_weights():
    model = build("squeezenet1_1")
    assert model.head[1].weight.std().item() == pytest.approx(0.01, rel=0.02)
