"""The perceptron, the multilayer perceptron, the convnet and airbench, against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from thalweg.errors import NotFoundError, OptionError
from thalweg.models.classify.airbench import airbench
from thalweg.models.classify.convnet import convnet
from thalweg.models.classify.mlp import mlp
from thalweg.models.classify.perceptron import perceptron


def test_the_perceptron_is_a_weighted_sum_of_all_pixels():
    model = perceptron(in_channels=3, num_classes=4, image_size=5)
    x = torch.randn(2, 3, 5, 5)
    weight = model.head.weight.detach().numpy()
    bias = model.head.bias.detach().numpy()
    np.testing.assert_allclose(model(x).detach().numpy(), x.numpy().reshape(2, 75) @ weight.T + bias, atol=1e-5)


def test_the_mlp_alternates_weighted_sums_and_activations():
    model = mlp(in_channels=1, num_classes=3, image_size=4, widths=[7, 5], activation="tanh")
    x = torch.randn(2, 1, 4, 4)
    w = [param.detach().numpy() for param in model.parameters()]
    hidden = np.tanh(np.tanh(x.numpy().reshape(2, 16) @ w[0].T + w[1]) @ w[2].T + w[3])
    np.testing.assert_allclose(model(x).detach().numpy(), hidden @ w[4].T + w[5], atol=1e-6)


@pytest.mark.parametrize(("widths", "shapes"), [(6, [(6, 4), (6,), (2, 6), (2,)]), ((), [(2, 4), (2,)])])
def test_an_mlp_may_have_any_widths(widths, shapes):
    model = mlp(in_channels=1, num_classes=2, image_size=2, widths=widths)
    assert [tuple(param.shape) for param in model.parameters()] == shapes


def test_dropout_is_random_in_training_only():
    model = mlp(in_channels=1, num_classes=3, image_size=4, dropout=0.5)
    x = torch.randn(4, 1, 4, 4)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))
    assert not any(isinstance(m, nn.Dropout) for m in mlp(in_channels=1, num_classes=3).modules())


INVALID = [
    (mlp, "widths", (8, 0)),
    (mlp, "widths", (2.5,)),
    (mlp, "dropout", 1.0),
    (mlp, "dropout", -0.1),
    (convnet, "widths", ()),
    (convnet, "widths", (8, 0)),
    (convnet, "depth", 0),
    (convnet, "stem", 3),
    (airbench, "widths", ()),
    (airbench, "widths", (8, 0)),
    (airbench, "image_size", 8),
]


@pytest.mark.parametrize(("builder", "option", "value"), INVALID)
def test_invalid_arguments_are_rejected(builder, option, value):
    with pytest.raises(OptionError) as error:
        builder(in_channels=1, num_classes=2, **{option: value})
    assert (error.value.option, error.value.value) == (option, value)


def test_an_unknown_activation_is_rejected():
    with pytest.raises(NotFoundError) as error:
        mlp(in_channels=1, num_classes=2, activation="rule")
    assert error.value.value == "rule"


@pytest.mark.parametrize("stem", [1, 2])
@pytest.mark.parametrize("size", [8, 9, 15, 28, 33, 96])
def test_a_convnet_reads_every_size(size, stem):
    model = convnet(in_channels=3, num_classes=4, image_size=size, widths=(4, 6, 8, 8), depth=2, stem=stem)
    assert model(torch.zeros(2, 3, size, size)).shape == (2, 4)
    kinds = [type(m) for m in model.features if not isinstance(m, nn.MaxPool2d)]
    assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * (1 + 4 * 2) + [nn.AdaptiveMaxPool2d, nn.Flatten]


def test_a_convnet_may_have_one_stage():
    assert convnet(in_channels=1, num_classes=2, widths=5).head.in_features == 5


def test_whitened_patches_have_variance_one():
    model = airbench(in_channels=3, num_classes=2)
    images = torch.randn(50, 3, 32, 32) * torch.tensor([1.0, 2.0, 3.0])[:, None, None]
    model.init_whitening(images)
    maps = model.features[0](images)
    assert maps.shape == (50, 24, 31, 31)
    torch.testing.assert_close(maps.square().mean((0, 2, 3)), torch.ones(24), atol=2e-3, rtol=0)
    torch.testing.assert_close(maps[:, :12], -maps[:, 12:])
