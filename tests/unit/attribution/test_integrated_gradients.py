"""Integrated gradients: exact where the integral is known, complete everywhere."""

import numpy as np
import pytest
import torch
from torch import nn

from thalweg import load, registry
from thalweg.attribution.integrated_gradients import integrated_gradients
from thalweg.errors import OptionError

NETWORKS = [
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


def test_of_a_linear_network_every_share_is_weight_times_difference():
    network = nn.Sequential(nn.Flatten(), nn.Linear(2 * 3 * 4, 5))
    x, baseline = torch.randn(1, 2, 3, 4), torch.randn(1, 2, 3, 4)
    found = integrated_gradients(network, x, 3, baseline, steps=1)
    weight_CHW = network[1].weight[3].detach().reshape(2, 3, 4)
    np.testing.assert_allclose(found.attributions_CHW, weight_CHW * (x - baseline)[0], rtol=1e-5, atol=1e-6)
    assert abs(found.gap) < 1e-5


class Powers(nn.Module):
    """(B, 1, H, W) -> (B, 2): the sum of the cubes, and the product of the first two pixels."""

    def forward(self, x_BCHW):
        """Two logits."""
        flat = x_BCHW.flatten(1)
        return torch.stack([flat.pow(3).sum(1), flat[:, 0] * flat[:, 1]], 1)


def test_of_polynomials_it_is_the_integral_on_paper():
    """A cube keeps itself; the two factors of a product share it in halves."""
    x = torch.tensor([[[[2.0, -3.0], [0.5, 1.0]]]])
    cubes = integrated_gradients(Powers(), x, 0, steps=2)
    np.testing.assert_allclose(cubes.attributions_CHW, x[0] ** 3, rtol=1e-5)
    product = integrated_gradients(Powers(), x, 1, steps=2)
    np.testing.assert_allclose(product.attributions_CHW, [[[-3, -3], [0, 0]]], rtol=1e-5, atol=1e-7)
    assert product.change == pytest.approx(-6) and product.gap == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(("name", "size", "more"), NETWORKS, ids=[name for name, *_ in NETWORKS])
def test_the_shares_add_up_to_the_change_of_the_logit(name, size, more):
    """In double precision: a new MobileNet's answers hardly differ, and in single precision that is all rounding."""
    torch.manual_seed(1)
    network = registry.find_model(name)(channels=3, classes=5, size=size, **more).eval().double()
    x, baseline = torch.randn(2, 1, 3, size, size, dtype=torch.float64)
    found = integrated_gradients(network, x, 2, baseline)
    with torch.no_grad():
        change = float(network(x)[0, 2] - network(baseline)[0, 2])
    assert found.change == pytest.approx(change, rel=1e-6)
    total = np.abs(found.attributions_CHW).sum(dtype=np.float64)
    assert found.attributions_CHW.sum(dtype=np.float64) == pytest.approx(change + found.gap, abs=1e-6 * total)
    assert abs(found.gap) < 0.01 * total


@pytest.mark.parametrize("name", ["digits-lenet", "digits-mlp"])
def test_trained_networks_add_up_within_two_percent(name):
    """A stroke, as a one is written, from black."""
    network, x = load(name).model, torch.full((1, 1, 28, 28), -0.42)
    black = x.clone()
    x[:, :, 4:24, 13:16] = 2.8
    found = integrated_gradients(network, x, 1, black)
    assert abs(found.gap) < 0.02 * found.change and found.change > 1
    assert (found.attributions_CHW[x[0] < 0] == 0).all()


def test_how_many_are_asked_at_once_cannot_be_seen():
    network, x = load("digits-lenet").model, torch.randn(1, 1, 28, 28)
    one, other = (integrated_gradients(network, x, 4, steps=10, batch=batch) for batch in (3, 10))
    np.testing.assert_allclose(one.attributions_CHW, other.attributions_CHW, rtol=1e-3, atol=1e-6)


def test_more_steps_come_closer():
    network, x = load("digits-lenet").model, 2 * torch.randn(4, 1, 1, 28, 28)
    gaps = [[abs(integrated_gradients(network, one, 7, steps=steps).gap) for one in x] for steps in (2, 64)]
    assert sum(gaps[1]) < 0.2 * sum(gaps[0])


def test_the_picture_itself_as_baseline_leaves_nothing_to_share():
    network, x = load("digits-lenet").model, torch.randn(1, 1, 28, 28)
    found = integrated_gradients(network, x, 7, x, steps=2)
    assert not found.attributions_CHW.any() and found.change == 0 and found.gap == 0


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"batch": 0}, {"baseline_1CHW": torch.zeros(1, 1, 8, 8)}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(OptionError, match="at least 1|baseline of the picture's shape"):
        integrated_gradients(load("digits-mlp").model, torch.zeros(1, 1, 28, 28), 0, **wrong)


def test_an_activation_without_slope_is_named():
    network = registry.find_model("mlp")(channels=1, classes=5, size=28, activation="step")
    with pytest.raises(OptionError, match="no slope.\n  Use the method 'occlusion'"):
        integrated_gradients(network, torch.randn(1, 1, 28, 28), 0)
