"""Feature maps: which layers are selected, and that the maps are their outputs."""

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
    return registry.find_model(name)(in_channels=3, num_classes=5, image_size=size, **more).eval()


@pytest.mark.parametrize(("name", "size", "more", "layers"), FAMILIES, ids=[name for name, *_ in FAMILIES])
def test_layers_after_activations_and_whole_blocks_are_selected(name, size, more, layers):
    rows = feature_maps(build(name, size, more), torch.randn(1, 3, size, size))
    assert [row.name for row in rows] == layers


@pytest.mark.parametrize(("name", "size"), [("mobilenet_v3_small", 64), ("inception_v3", 107), ("resnet50", 32)])
def test_deep_models_show_twelve_layers_from_first_to_last(name, size):
    rows = feature_maps(build(name, size, {}), torch.randn(1, 3, size, size), max_maps=2)
    assert len(rows) == MAX_LAYERS and len({row.name for row in rows}) == MAX_LAYERS
    heights = [row.maps_NHW.shape[1] for row in rows]
    assert heights == sorted(heights, reverse=True) and heights[0] >= 8 * heights[-1]


def test_maps_are_the_outputs_of_the_layer_strongest_first():
    model = load("digits-lenet").model
    x = torch.randn(1, 1, 28, 28)
    first, second = feature_maps(model, x, max_maps=7)
    with torch.no_grad():
        first_CHW = F.relu(F.max_pool2d(model.features[0](x), 2))[0]
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


def test_maps_are_copied_before_later_layers_overwrite_them():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.ReLU(inplace=True), nn.Flatten())
    x = torch.randn(1, 1, 9, 9)
    first, _ = feature_maps(model, x)
    before = first.maps_NHW.copy()
    model[0].weight.data.zero_()
    model(x)
    assert np.array_equal(first.maps_NHW, before)
    assert first.maps_NHW.min() < 0


def test_a_model_without_maps_is_rejected_with_other_methods():
    with pytest.raises(OptionError) as error:
        feature_maps(load("digits-mlp").model, torch.randn(1, 1, 28, 28))
    assert error.value.allowed == ("integrated-gradients", "occlusion")
