"""The perceptron, the multilayer perceptron and the convnet, against what their formulas say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from thalweg.errors import NotFoundError, OptionError
from thalweg.models.classify.convnet import convnet
from thalweg.models.classify.mlp import mlp
from thalweg.models.classify.perceptron import perceptron


def test_the_perceptron_is_a_weighted_sum_of_all_pixels():
    network, x = perceptron(in_channels=3, num_classes=4, image_size=5), torch.randn(2, 3, 5, 5)
    weight, bias = network.head.weight.detach().numpy(), network.head.bias.detach().numpy()
    np.testing.assert_allclose(network(x).detach().numpy(), x.numpy().reshape(2, 75) @ weight.T + bias, atol=1e-5)


def test_the_mlp_is_sums_and_activations_in_turn():
    network, x = mlp(in_channels=1, num_classes=3, image_size=4, widths=[7, 5], activation="tanh"), torch.randn(2, 1, 4, 4)
    w = [p.detach().numpy() for p in network.parameters()]
    hidden = np.tanh(np.tanh(x.numpy().reshape(2, 16) @ w[0].T + w[1]) @ w[2].T + w[3])
    np.testing.assert_allclose(network(x).detach().numpy(), hidden @ w[4].T + w[5], atol=1e-6)


def test_an_mlp_may_have_any_widths():
    assert [tuple(w.shape) for w in mlp(in_channels=1, num_classes=2, image_size=2, widths=6).parameters() if w.ndim == 2] == [
        (6, 4),
        (2, 6),
    ]
    assert [tuple(w.shape) for w in mlp(in_channels=1, num_classes=2, image_size=2, widths=()).parameters()] == [(2, 4), (2,)]


def test_dropout_leaves_out_neurons_in_training_only():
    network, x = mlp(in_channels=1, num_classes=3, image_size=4, dropout=0.5), torch.randn(4, 1, 4, 4)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))
    assert not any(isinstance(m, nn.Dropout) for m in mlp(in_channels=1, num_classes=3).modules())


@pytest.mark.parametrize("wrong", [{"widths": [8, 0]}, {"widths": [2.5]}, {"dropout": 1.0}, {"dropout": -0.1}])
def test_an_mlp_that_cannot_be_is_refused(wrong):
    with pytest.raises(OptionError):
        mlp(in_channels=1, num_classes=2, **wrong)


def test_an_activation_that_is_none_is_refused():
    with pytest.raises(NotFoundError, match="activation"):
        mlp(in_channels=1, num_classes=2, activation="rule")


@pytest.mark.parametrize("wrong", [{"widths": []}, {"widths": [8, 0]}, {"depth": 0}, {"stem": 3}])
def test_a_convnet_that_cannot_be_is_refused(wrong):
    with pytest.raises(OptionError, match="widths"):
        convnet(in_channels=1, num_classes=2, **wrong)


@pytest.mark.parametrize("stem", [1, 2])
@pytest.mark.parametrize("size", [8, 9, 15, 28, 33, 96])
def test_a_convnet_reads_every_size(size, stem):
    network = convnet(in_channels=3, num_classes=4, image_size=size, widths=(4, 6, 8, 8), depth=2, stem=stem)
    assert network(torch.zeros(2, 3, size, size)).shape == (2, 4)
    kinds = [type(m) for m in network.features if not isinstance(m, nn.MaxPool2d)]
    assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * (1 + 4 * 2) + [nn.AdaptiveMaxPool2d, nn.Flatten]


def test_a_convnet_of_one_width():
    assert convnet(in_channels=1, num_classes=2, widths=5).head.in_features == 5
