"""Feature maps: which layers are shown, and that what is shown is what they answered."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg import load, registry
from thalweg.attribution.feature_maps import MAX_LAYERS, feature_maps
from thalweg.errors import OptionError

FAMILIES = [
    ("lenet", 28, {}, ["features.2", "features.5"]),
    ("convnet", 28, {}, ["features.2", "features.5", "features.9", "features.13"]),
    ("airbench", 32, {}, ["features.1", "features.2", "features.3", "features.4"]),
    ("resnet18", 96, {"stem": "imagenet"}, ["relu", *(f"layer{s}.{b}" for s in (1, 2, 3, 4) for b in (0, 1))]),
    ("squeezenet1_1", 64, {}, [*(f"features.{n}" for n in (1, 3, 4, 6, 7, 9, 10, 11, 12)), "classifier.2"]),
    ("vgg11_bn", 64, {"hidden": 16}, [f"features.{n}" for n in (2, 6, 10, 13, 17, 20, 24, 27)]),
]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def build(name: str, size: int, more: dict) -> nn.Module:
    torch.manual_seed(0)
    return registry.find_model(name)(channels=3, classes=5, size=size, **more).eval()


@pytest.mark.parametrize(("name", "size", "more", "layers"), FAMILIES, ids=[name for name, *_ in FAMILIES])
def test_the_answers_behind_activations_and_of_whole_blocks_are_shown(name, size, more, layers):
    assert [one.name for one in feature_maps(build(name, size, more), torch.randn(1, 3, size, size))] == layers


@pytest.mark.parametrize(("name", "size"), [("mobilenet_v3_small", 64), ("inception_v3", 107), ("resnet50", 32)])
def test_of_deep_networks_twelve_layers_are_shown_from_the_first_to_the_last(name, size):
    found = feature_maps(build(name, size, {}), torch.randn(1, 3, size, size), most=2)
    assert len(found) == MAX_LAYERS and len({one.name for one in found}) == MAX_LAYERS
    sides = [one.maps_NHW.shape[1] for one in found]
    assert sides == sorted(sides, reverse=True) and sides[0] >= 8 * sides[-1]


def test_maps_are_what_the_layer_answered_strongest_first():
    network, x = load("digits-lenet").model, torch.randn(1, 1, 28, 28)
    first, second = feature_maps(network, x, most=7)
    with torch.no_grad():
        first_CHW = F.relu(F.max_pool2d(network.features[0](x), 2))[0]
        strength_C = first_CHW.square().mean((1, 2))
    assert (first.kind, first.channels, first.maps_NHW.shape) == ("ReLU", 20, (7, 12, 12))
    assert first.channel_N.tolist() == strength_C.argsort(descending=True)[:7].tolist()
    np.testing.assert_allclose(first.maps_NHW, first_CHW[first.channel_N], rtol=1e-5, atol=1e-6)
    assert second.channels == 50 and len(second.channel_N) == 7
    assert first.json() == {
        "name": "features.2",
        "kind": "ReLU",
        "channels": 20,
        "size": [12, 12],
        "strongest": first.channel_N.tolist(),
    }


def test_what_later_layers_write_into_a_map_cannot_be_seen():
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.ReLU(inplace=True), nn.Flatten())
    x = torch.randn(1, 1, 9, 9)
    first, _ = feature_maps(network, x)
    kept = first.maps_NHW.copy()
    network[0].weight.data.zero_()
    network(x)
    assert np.array_equal(first.maps_NHW, kept)
    assert first.maps_NHW.min() < 0


def test_a_network_without_maps_is_refused():
    with pytest.raises(OptionError, match="no convolution that answers with maps"):
        feature_maps(load("digits-mlp").model, torch.randn(1, 1, 28, 28))
