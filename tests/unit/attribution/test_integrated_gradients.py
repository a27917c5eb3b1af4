"""Integrated gradients: exact where the integral is known, complete for every model."""

import numpy as np
import pytest
import torch
from torch import nn

from thalweg import load, registry
from thalweg.attribution.integrated_gradients import integrated_gradients
from thalweg.errors import OptionError

MODELS = [
    ("perceptron", 28, {}),
    ("mlp", 28, {}),
    ("lenet", 28, {}),
    ("convnet", 28, {}),
    ("resnet18", 64, {"stem": "imagenet"}),
    ("squeezenet1_1", 64, {}),
    ("vgg11_bn", 32, {"hidden": 16}),
    ("mobilenet_v3_small", 64, {}),
]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_attributions_of_a_linear_model_are_weight_times_difference():
    model = nn.Sequential(nn.Flatten(), nn.Linear(2 * 3 * 4, 5))
    x = torch.randn(1, 2, 3, 4)
    baseline = torch.randn(1, 2, 3, 4)
    result = integrated_gradients(model, x, 3, baseline, steps=1)
    weight_CHW = model[1].weight[3].detach().reshape(2, 3, 4)
    np.testing.assert_allclose(result.attributions_CHW, weight_CHW * (x - baseline)[0], rtol=1e-5, atol=1e-6)
    assert abs(result.gap) < 1e-5


class Powers(nn.Module):
    """(B, 1, H, W) -> (B, 2): the sum of the cubes, and the product of the first two pixels."""

    def forward(self, x_BCHW):
        """Return two logits."""
        flat = x_BCHW.flatten(1)
        return torch.stack([flat.pow(3).sum(1), flat[:, 0] * flat[:, 1]], 1)


def test_attributions_of_polynomials_are_the_integrals_by_hand():
    """A cube gets its own value; each factor of a product gets half of it."""
    x = torch.tensor([[[[2.0, -3.0], [0.5, 1.0]]]])
    cubes = integrated_gradients(Powers(), x, 0, steps=2)
    np.testing.assert_allclose(cubes.attributions_CHW, x[0] ** 3, rtol=1e-5)
    product = integrated_gradients(Powers(), x, 1, steps=2)
    np.testing.assert_allclose(product.attributions_CHW, [[[-3, -3], [0, 0]]], rtol=1e-5, atol=1e-7)
    assert product.change == pytest.approx(-6) and product.gap == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(("name", "size", "more"), MODELS, ids=[name for name, *_ in MODELS])
def test_attributions_add_up_to_the_change_of_the_logit(name, size, more):
    """In double precision: the logits of an untrained MobileNet differ by no more than float32 rounding."""
    torch.manual_seed(1)
    model = registry.find_model(name)(in_channels=3, num_classes=5, image_size=size, **more).eval().double()
    x, baseline = torch.randn(2, 1, 3, size, size, dtype=torch.float64)
    result = integrated_gradients(model, x, 2, baseline)
    with torch.no_grad():
        change = float(model(x)[0, 2] - model(baseline)[0, 2])
    assert result.change == pytest.approx(change, rel=1e-6)
    total = np.abs(result.attributions_CHW).sum(dtype=np.float64)
    assert result.attributions_CHW.sum(dtype=np.float64) == pytest.approx(change + result.gap, abs=1e-6 * total)
    assert abs(result.gap) < 0.01 * total


@pytest.mark.parametrize("name", ["digits-lenet", "digits-mlp"])
def test_attributions_of_trained_models_add_up_within_two_percent(name):
    """For the stroke of a handwritten one, from a black baseline."""
    model = load(name).model
    x = torch.full((1, 1, 28, 28), -0.42)
    black = x.clone()
    x[:, :, 4:24, 13:16] = 2.8
    result = integrated_gradients(model, x, 1, black)
    assert abs(result.gap) < 0.02 * result.change and result.change > 1
    assert (result.attributions_CHW[x[0] < 0] == 0).all()


def test_attributions_do_not_depend_on_the_batch_size():
    model = load("digits-lenet").model
    x = torch.randn(1, 1, 28, 28)
    small = integrated_gradients(model, x, 4, steps=10, batch_size=3)
    large = integrated_gradients(model, x, 4, steps=10, batch_size=10)
    np.testing.assert_allclose(small.attributions_CHW, large.attributions_CHW, rtol=1e-3, atol=1e-6)


def test_more_steps_shrink_the_gap():
    model = load("digits-lenet").model
    gaps = {2: 0.0, 64: 0.0}
    for x in 2 * torch.randn(4, 1, 1, 28, 28):
        for steps in gaps:
            gaps[steps] += abs(integrated_gradients(model, x, 7, steps=steps).gap)
    assert gaps[64] < 0.2 * gaps[2]


def test_the_image_as_its_own_baseline_gives_zero_attributions():
    model = load("digits-lenet").model
    x = torch.randn(1, 1, 28, 28)
    result = integrated_gradients(model, x, 7, x, steps=2)
    assert not result.attributions_CHW.any() and result.change == 0 and result.gap == 0


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"batch_size": 0}, {"baseline_1CHW": torch.zeros(1, 1, 8, 8)}])
def test_invalid_settings_are_rejected(wrong):
    with pytest.raises(OptionError) as error:
        integrated_gradients(load("digits-mlp").model, torch.zeros(1, 1, 28, 28), 0, **wrong)
    assert [error.value.option] == list(wrong)


def test_a_model_without_gradients_is_rejected_with_another_method():
    model = registry.find_model("mlp")(in_channels=1, num_classes=5, image_size=28, activation="step")
    with pytest.raises(OptionError) as error:
        integrated_gradients(model, torch.randn(1, 1, 28, 28), 0)
    assert error.value.allowed == ("occlusion",)
