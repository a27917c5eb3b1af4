"""Grad-CAM against its closed form, and on every family of models."""

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

#: model, image size and arguments, the layer whose maps are used, their size
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
    # the blocks after these return one pixel, though not in all of their branches and steps
    ("inception_v3", 96, {}, "Mixed_6e", (4, 4)),
    ("mobilenet_v3_small", 32, {}, "features.8", (2, 2)),
]
IDS = [f"{name}{more or ''}-{size}" for name, size, more, *_ in FAMILIES]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@cache
def build_gap_model() -> nn.Sequential:
    """Build convolutions, global average pooling and one linear layer."""
    torch.manual_seed(0)
    maps = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 6, 3), nn.ReLU(inplace=True)]
    return nn.Sequential(*maps, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)).eval()


def test_before_global_pooling_it_is_the_class_activation_map():
    """Zhou et al. 2016, equation 2, divided by the number of pixels in the average."""
    model = build_gap_model()
    x = torch.randn(1, 3, 16, 12)
    with torch.no_grad():
        maps_Chw = model[:5](x)[0]
        expected_Khw = torch.einsum("kc,chw->khw", model[7].weight, maps_Chw).relu() / maps_Chw[0].numel()
    assert (expected_Khw.amax((1, 2)) > 0).sum() >= 2
    for target, expected_hw in enumerate(expected_Khw):
        result = grad_cam(model, x, target)
        assert result.layer == "4"
        np.testing.assert_allclose(result.coarse_hw, expected_hw, rtol=1e-5, atol=1e-8)


def test_the_heat_is_the_upsampled_map():
    """With padded convolutions and poolings that cover all rows it equals PyTorch's bilinear interpolation."""
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(8, 4))
    result = grad_cam(model, torch.randn(1, 3, 16, 12), 2, model[2])
    coarse = torch.from_numpy(result.coarse_hw)[None, None]
    upsampled = F.interpolate(coarse, (16, 12), mode="bilinear")[0, 0]
    assert result.heat_HW.dtype == np.float32 and result.heat_HW.max() == 1 and result.heat_HW.min() >= 0
    np.testing.assert_allclose(result.heat_HW, upsampled / upsampled.max(), rtol=1e-5, atol=1e-7)


def test_upsampling_is_linear_between_cells_and_constant_beyond_them():
    centers = (np.array([7.5, 11.5]), np.array([2.0]))
    heat_HW = upsample_map(np.array([[1.0], [0.0]]), centers, (16, 3))
    expected_H = [1] * 8 + [0.875, 0.625, 0.375, 0.125] + [0] * 4
    np.testing.assert_allclose(heat_HW, np.repeat(np.array(expected_H)[:, None], 3, 1))


def measure_fields(model: nn.Module, layer: nn.Module, size: int, axis: int) -> np.ndarray:
    """Return the first and last row (h, 2), or column, of the image that the cells of a map depend on, by gradients.

    Over several images, because max pooling selects other pixels in each.
    """
    outputs: list[torch.Tensor] = []
    handle = layer.register_forward_hook(lambda _, inputs, output: outputs.append(output))
    used_hS = False
    for _ in range(12):
        x = torch.randn(1, 3, size, size, requires_grad=True)
        model(x)
        map_hw = outputs.pop()[0].sum(0)
        if axis == 1:
            map_hw = map_hw.T
        rows = []
        for cell in map_hw[:, map_hw.shape[1] // 2]:
            gradient_HW = torch.autograd.grad(cell, x, retain_graph=True)[0][0].abs().sum(0)
            rows.append(gradient_HW.sum(1 - axis) > 0)
        used_hS = torch.stack(rows) | used_hS
    handle.remove()
    return np.array([[used_S.nonzero().min(), used_S.nonzero().max()] for used_S in used_hS])


CENTERED = [
    ("lenet", 28, {}, "features.5"),
    ("lenet", 28, {"variant": "1998"}, "features.3"),
    ("airbench", 64, {"widths": (8, 8, 8)}, "features.2"),
    ("resnet18", 128, {"stem": "imagenet"}, "layer2.0"),
    ("squeezenet1_1", 64, {}, "features.6"),
    ("inception_v3", 107, {}, "Conv2d_4a_3x3"),
]


@pytest.mark.parametrize(("name", "size", "more", "layer"), CENTERED, ids=[f"{n}{m or ''}" for n, _, m, _ in CENTERED])
def test_cells_are_at_the_center_of_the_pixels_that_they_depend_on(name, size, more, layer):
    model = (
        registry.find_model(name)(in_channels=3, num_classes=5, image_size=size, **more).eval().requires_grad_(False)
    )
    module = model.get_submodule(layer)
    result = grad_cam(model, torch.randn(1, 3, size, size), 0, module)
    for axis, center_h in enumerate(cell_centers(model, torch.zeros(1, 3, size, size), result.coarse_hw.shape)):
        field_h2 = measure_fields(model, module, size, axis)
        extent_h = np.ptp(field_h2, 1)
        inside_h = extent_h == extent_h.max()  # at the edge a part of the field is in the padding, without gradients
        assert inside_h.sum() >= 2
        np.testing.assert_allclose(field_h2.mean(1)[inside_h], center_h[inside_h])


def test_cells_of_other_layers_are_evenly_spaced():
    model = nn.Sequential(nn.Upsample((5, 6)), nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.LazyLinear(2))
    rows, columns = cell_centers(model, torch.randn(1, 3, 20, 12), (5, 6))
    np.testing.assert_allclose(rows, [1.5, 5.5, 9.5, 13.5, 17.5])
    np.testing.assert_allclose(columns, [0.5, 2.5, 4.5, 6.5, 8.5, 10.5])


class ChannelsLast(nn.Module):
    """Channels last, as in Swin transformers."""

    def forward(self, x):
        return x.permute(0, 2, 3, 1)


def test_outputs_with_channels_last_are_no_maps():
    model = nn.Sequential(nn.Conv2d(3, 64, 4, stride=4), ChannelsLast(), nn.Flatten(), nn.Linear(64 * 16, 3))
    with pytest.raises(OptionError) as error:
        grad_cam(model, torch.randn(1, 3, 16, 16), 0)
    assert error.value.value == "1" and error.value.allowed == ("integrated-gradients",)
    wide = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 8 * 40, 3))
    assert grad_cam(wide, torch.randn(1, 3, 8, 40), 0).coarse_hw.shape == (8, 40)


def test_every_layer_with_maps_can_be_used():
    """With the gradients of the layer's maps by finite differences."""
    model = build_gap_model().double()
    x = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    result = grad_cam(model, x, 1, model[0])
    step = 1e-6
    with torch.no_grad():
        maps_1Chw = model[0](x)
        gradients = []
        for channel in range(8):
            # the mean gradient over a map is the derivative by a constant added to the map, over its number of pixels
            moved = maps_1Chw.clone()
            moved[:, channel] += step
            difference = model[1:](moved) - model[1:](maps_1Chw.clone())
            gradients.append(difference[0, 1] / step / maps_1Chw[0, 0].numel())
        expected_hw = torch.einsum("c,chw->hw", torch.stack(gradients), maps_1Chw[0]).relu()
    model.float()
    assert result.layer == "0"
    np.testing.assert_allclose(result.coarse_hw, expected_hw, rtol=1e-3, atol=1e-6)


def test_evidence_against_a_class_gives_no_heat():
    model = nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    with torch.no_grad():
        model[0].weight.fill_(1)
        model[4].weight.copy_(torch.tensor([[1.0], [-1.0]]))
    x = torch.ones(1, 1, 6, 6)
    np.testing.assert_allclose(grad_cam(model, x, 0).heat_HW, 1, rtol=1e-5)
    assert not grad_cam(model, x, 1).heat_HW.any()


@pytest.mark.parametrize(("name", "size", "more", "layer", "shape"), FAMILIES, ids=IDS)
def test_the_last_maps_of_every_family_are_used(name, size, more, layer, shape):
    model = registry.find_model(name)(in_channels=3, num_classes=5, image_size=size, **more).eval()
    result = grad_cam(model, torch.randn(1, 3, size, size), 3)
    assert (result.layer, result.coarse_hw.shape, result.heat_HW.shape) == (layer, shape, (size, size))
    assert np.isfinite(result.heat_HW).all() and result.heat_HW.max() in (0, 1)


@pytest.mark.parametrize("name", ["mlp", "perceptron"])
def test_a_model_without_maps_is_rejected_with_another_method(name):
    model = registry.find_model(name)(in_channels=1, num_classes=5, image_size=28)
    with pytest.raises(OptionError) as error:
        grad_cam(model, torch.randn(1, 1, 28, 28), 0)
    assert error.value.allowed == ("integrated-gradients",)


def test_foreign_layers_and_layers_without_maps_are_rejected():
    x = torch.randn(1, 3, 16, 12)
    model = build_gap_model()
    for layer, value in ((nn.Conv2d(3, 3, 1), "Conv2d"), (model[7], "7")):
        with pytest.raises(OptionError) as error:
            grad_cam(model, x, 0, layer)
        assert error.value.value == value


def test_a_model_without_gradients_is_rejected_with_another_method():
    model = registry.find_model("lenet")(in_channels=1, num_classes=5, image_size=28, activation="step")
    with pytest.raises(OptionError) as error:
        grad_cam(model, torch.randn(1, 1, 28, 28), 0, model.features[0])
    assert error.value.allowed == ("occlusion",)
