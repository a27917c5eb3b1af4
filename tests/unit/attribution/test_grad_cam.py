"""Grad-CAM against its closed form, and on every family of networks."""

from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg import registry
from thalweg.attribution.grad_cam import grad_cam
from thalweg.attribution.receptive_field import cell_centers, upsample_map
from thalweg.errors import OptionError

#: model, its size and arguments, the layer that is looked at, its maps' size
FAMILIES = [
    ("lenet", 28, {}, "features.5", (4, 4)),
    ("lenet", 28, {"variant": "1998"}, "features.7", (5, 5)),
    ("convnet", 28, {}, "features.13", (7, 7)),
    ("airbench", 32, {}, "features.4", (3, 3)),
    ("resnet18", 96, {"stem": "imagenet"}, "layer4.1", (3, 3)),
    ("squeezenet1_1", 64, {}, "classifier.2", (3, 3)),
    ("vgg11_bn", 64, {"hidden": 16}, "features.27", (4, 4)),
    ("mobilenet_v3_small", 64, {}, "features.12.2", (2, 2)),
    ("inception_v3", 139, {}, "Mixed_7c", (3, 3)),
    # what comes after these answers with one pixel, though not in all of its branches and steps
    ("inception_v3", 96, {}, "Mixed_6e", (4, 4)),
    ("mobilenet_v3_small", 32, {}, "features.8", (2, 2)),
]
IDS = [f"{name}{more or ''}-{size}" for name, size, more, *_ in FAMILIES]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@cache
def averaging() -> nn.Sequential:
    """Convolutions, the mean over every map, one linear layer."""
    torch.manual_seed(0)
    maps = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 6, 3), nn.ReLU(inplace=True)]
    return nn.Sequential(*maps, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)).eval()


def test_behind_averaging_and_a_linear_layer_it_is_the_class_activation_map():
    """Zhou et al. 2016, equation 2, over the number of pixels that are averaged."""
    network, x = averaging(), torch.randn(1, 3, 16, 12)
    with torch.no_grad():
        maps_Chw = network[:5](x)[0]
        expected_Khw = torch.einsum("kc,chw->khw", network[7].weight, maps_Chw).relu() / maps_Chw[0].numel()
    assert (expected_Khw.amax((1, 2)) > 0).sum() >= 2
    for target, expected_hw in enumerate(expected_Khw):
        found = grad_cam(network, x, target)
        assert found.layer == "4"
        np.testing.assert_allclose(found.coarse_hw, expected_hw, rtol=1e-5, atol=1e-8)


def test_the_heat_is_the_map_stretched_over_the_picture():
    """Where convolutions pad and all rows are pooled, by the bilinear interpolation of PyTorch."""
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), *averaging()[5:6], nn.Flatten())
    network.append(nn.Linear(8, 4))
    found = grad_cam(network, torch.randn(1, 3, 16, 12), 2, network[2])
    coarse = torch.from_numpy(found.coarse_hw)[None, None]
    stretched = F.interpolate(coarse, (16, 12), mode="bilinear")[0, 0]
    assert found.heat_HW.dtype == np.float32 and found.heat_HW.max() == 1 and found.heat_HW.min() >= 0
    np.testing.assert_allclose(found.heat_HW, stretched / stretched.max(), rtol=1e-5, atol=1e-7)


def test_a_cell_is_drawn_where_it_lies():
    """Beyond the outermost cells the map goes on as it ends, between two of them it is in proportion."""
    places = (np.array([7.5, 11.5]), np.array([2.0]))
    heat_HW = upsample_map(np.array([[1.0], [0.0]]), places, (16, 3))
    expected_H = [1] * 8 + [0.875, 0.625, 0.375, 0.125] + [0] * 4
    np.testing.assert_allclose(heat_HW, np.repeat(np.array(expected_H)[:, None], 3, 1))


def fields(network: nn.Module, layer: nn.Module, size: int, axis: int) -> np.ndarray:
    """First and last row (h, 2), or column, of the picture on which the cells of a map depend, by their slopes.

    For several pictures, because which pixel is the largest of a pooling differs.
    """
    held: list[torch.Tensor] = []
    handle = layer.register_forward_hook(lambda _, inputs, output: held.append(output))
    touched_hS = False
    for _ in range(12):
        x = torch.randn(1, 3, size, size, requires_grad=True)
        network(x)
        map_hw = held.pop()[0].sum(0) if axis == 0 else held.pop()[0].sum(0).T
        middle_h = map_hw[:, map_hw.shape[1] // 2]
        slopes = [torch.autograd.grad(cell, x, retain_graph=True)[0][0].abs().sum(0) for cell in middle_h]
        touched_hS = torch.stack([one.sum(1 - axis) > 0 for one in slopes]) | touched_hS
    handle.remove()
    return np.array([[one.nonzero().min(), one.nonzero().max()] for one in touched_hS])


CENTRED = [
    ("lenet", 28, {}, "features.5"),
    ("lenet", 28, {"variant": "1998"}, "features.3"),
    ("airbench", 64, {"widths": (8, 8, 8)}, "features.2"),
    ("resnet18", 128, {"stem": "imagenet"}, "layer2.0"),
    ("squeezenet1_1", 64, {}, "features.6"),
    ("inception_v3", 107, {}, "Conv2d_4a_3x3"),
]


@pytest.mark.parametrize(("name", "size", "more", "layer"), CENTRED, ids=[f"{n}{m or ''}" for n, _, m, _ in CENTRED])
def test_cells_lie_in_the_middle_of_all_pixels_that_they_depend_on(name, size, more, layer):
    torch.manual_seed(0)
    network = registry.find_model(name)(channels=3, classes=5, size=size, **more).eval().requires_grad_(False)
    looked_at = network.get_submodule(layer)
    found = grad_cam(network, torch.randn(1, 3, size, size), 0, looked_at)
    for axis, places in enumerate(cell_centers(network, torch.zeros(1, 3, size, size), found.coarse_hw.shape)):
        fields_h2 = fields(network, looked_at, size, axis)
        reach_h = np.ptp(fields_h2, 1)
        whole_h = reach_h == reach_h.max()  # of a cell at the edge, what lies in the padding cannot be seen
        assert whole_h.sum() >= 2
        np.testing.assert_allclose(fields_h2.mean(1)[whole_h], places[whole_h])


def test_cells_of_another_origin_are_spread_evenly():
    network = nn.Sequential(nn.Upsample((5, 6)), nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.LazyLinear(2))
    rows, columns = cell_centers(network, torch.randn(1, 3, 20, 12), (5, 6))
    np.testing.assert_allclose(rows, [1.5, 5.5, 9.5, 13.5, 17.5])
    np.testing.assert_allclose(columns, [0.5, 2.5, 4.5, 6.5, 8.5, 10.5])


class Last(nn.Module):
    """Channels last, as in Swin's transformers."""

    def forward(self, x):
        return x.permute(0, 2, 3, 1)


def test_channels_that_come_last_are_no_maps():
    network = nn.Sequential(nn.Conv2d(3, 64, 4, stride=4), Last(), nn.Flatten(), nn.Linear(64 * 16, 3))
    with pytest.raises(OptionError, match="layer '1' makes no maps: 4 x 64 of a picture of 16 x 16"):
        grad_cam(network, torch.randn(1, 3, 16, 16), 0)
    wide = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 8 * 40, 3))
    assert grad_cam(wide, torch.randn(1, 3, 8, 40), 0).coarse_hw.shape == (8, 40)


def test_any_layer_with_maps_can_be_looked_at():
    """The slopes of the layer's maps by finite differences."""
    network, x = averaging().double(), torch.randn(1, 3, 8, 8, dtype=torch.float64)
    found = grad_cam(network, x, 1, network[0])
    with torch.no_grad():
        maps_1Chw, step = network[0](x), 1e-6
        slope_C = []
        for channel in range(8):
            # the mean slope over a map is the slope for moving the whole map, over its number of pixels
            moved = maps_1Chw.clone()
            moved[:, channel] += step
            rise = network[1:](moved) - network[1:](maps_1Chw.clone())
            slope_C.append(rise[0, 1] / step / maps_1Chw[0, 0].numel())
        expected_hw = torch.einsum("c,chw->hw", torch.stack(slope_C), maps_1Chw[0]).relu()
    network.float()
    assert found.layer == "0"
    np.testing.assert_allclose(found.coarse_hw, expected_hw, rtol=1e-3, atol=1e-6)


def test_maps_that_speak_against_a_class_leave_no_heat():
    network = nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    with torch.no_grad():
        network[0].weight.fill_(1)
        network[4].weight.copy_(torch.tensor([[1.0], [-1.0]]))
    x = torch.ones(1, 1, 6, 6)
    np.testing.assert_allclose(grad_cam(network, x, 0).heat_HW, 1, rtol=1e-5)
    assert not grad_cam(network, x, 1).heat_HW.any()


@pytest.mark.parametrize(("name", "size", "more", "layer", "shape"), FAMILIES, ids=IDS)
def test_the_last_maps_of_every_family_are_found(name, size, more, layer, shape):
    torch.manual_seed(0)
    network = registry.find_model(name)(channels=3, classes=5, size=size, **more).eval()
    found = grad_cam(network, torch.randn(1, 3, size, size), 3)
    assert (found.layer, found.coarse_hw.shape, found.heat_HW.shape) == (layer, shape, (size, size))
    assert np.isfinite(found.heat_HW).all() and found.heat_HW.max() in (0, 1)


@pytest.mark.parametrize("name", ["mlp", "perceptron"])
def test_a_network_without_maps_is_refused_with_another_method(name):
    network = registry.find_model(name)(channels=1, classes=5, size=28)
    with pytest.raises(OptionError, match="no convolution .*\n  Use the method 'integrated-gradients'"):
        grad_cam(network, torch.randn(1, 1, 28, 28), 0)


def test_layers_that_cannot_be_looked_at_are_refused():
    x = torch.randn(1, 3, 16, 12)
    with pytest.raises(OptionError, match="no part of the network"):
        grad_cam(averaging(), x, 0, nn.Conv2d(3, 3, 1))
    with pytest.raises(OptionError, match="layer '7' makes no maps"):
        grad_cam(averaging(), x, 0, averaging()[7])


def test_an_activation_without_slope_is_named():
    network = registry.find_model("lenet")(channels=1, classes=5, size=28, activation="step")
    with pytest.raises(OptionError, match="no slope.\n  Use the method 'occlusion'"):
        grad_cam(network, torch.randn(1, 1, 28, 28), 0, network.features[0])
