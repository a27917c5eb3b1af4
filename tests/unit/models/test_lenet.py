"""LeNet against the paper and against loops."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from thalweg.errors import OptionError
from thalweg.models.classify.lenet import C3_CONNECTIONS, ScaledTanh, SparseConv2d, Subsampling, lenet

# Table I of the paper: X where the map of S2 (row) is an input of the map of C3 (column)
TABLE_1 = """
X...XXX..XXXX.XX
XX...XXX..XXXX.X
XXX...XXX..X.XXX
.XXX..XXXX..X.XX
..XXX..XXXX.XX.X
...XXX..XXXX.XXX
""".split()


def count_parameters(module: nn.Module) -> int:
    return sum(w.numel() for w in module.parameters())


def test_the_connections_of_c3_match_table_1():
    rows = ["".join("X" if row in in_channels else "." for in_channels in C3_CONNECTIONS) for row in range(6)]
    assert rows == TABLE_1


def test_every_layer_has_the_free_parameters_of_the_paper():
    c1, _, s2, _, c3, _, s4, _, c5, _, _, f6, _ = lenet(in_channels=1, num_classes=10, variant="1998").features
    connected = int(c3.mask.sum()) * 25 + len(c3.bias)
    counts = [count_parameters(layer) for layer in (c1, s2, s4, c5, f6)]
    assert [*counts[:2], connected, *counts[2:]] == [156, 12, 1516, 32, 48120, 10164]
    assert sum([156, 12, 1516, 32, 48120, 10164]) == 60_000  # section II.B: "only 60,000 trainable free parameters"


def test_maps_have_the_sizes_of_figure_2():
    x = torch.zeros(2, 1, 32, 32)
    sizes = []
    for layer in lenet(in_channels=1, num_classes=10, image_size=32, variant="1998").features:
        x = layer(x)
        if not isinstance(layer, (ScaledTanh, nn.Flatten)):
            sizes.append(tuple(x.shape[1:]))
    assert sizes == [(6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (120, 1, 1), (84,)]


@pytest.mark.parametrize(("size", "padding"), [(28, 2), (32, 0)])
def test_images_are_padded_to_32(size, padding):
    assert lenet(in_channels=1, num_classes=10, image_size=size, variant="1998").features[0].padding == (
        padding,
        padding,
    )


def test_the_sparse_convolution_equals_a_loop_over_its_connections():
    layer = SparseConv2d().double()
    x = torch.randn(2, 6, 9, 8, dtype=torch.float64)
    outputs = layer(x)
    assert outputs.shape == (2, 16, 5, 4)
    for out in range(16):
        expected = layer.bias[out].expand(2, 5, 4)
        for source in C3_CONNECTIONS[out]:
            for dy in range(5):
                for dx in range(5):
                    expected = expected + layer.weight[out, source, dy, dx] * x[:, source, dy : dy + 5, dx : dx + 4]
        torch.testing.assert_close(outputs[:, out], expected)


def test_weights_without_a_connection_have_no_gradient():
    layer = SparseConv2d()
    layer(torch.randn(2, 6, 7, 7)).square().sum().backward()
    assert bool((layer.weight.grad[layer.mask.expand_as(layer.weight) == 0] == 0).all())
    assert bool((layer.weight.grad[layer.mask.expand_as(layer.weight) == 1] != 0).all())
    assert "mask" not in layer.state_dict()


def test_subsampling_is_a_sum_of_four_pixels_times_a_weight_plus_a_bias():
    layer = Subsampling(3)
    x = torch.randn(2, 3, 4, 6)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([0.25, 0.5, -1.0]))
        layer.bias.copy_(torch.tensor([0.0, 1.0, 2.0]))
    outputs = layer(x)
    assert outputs.shape == (2, 3, 2, 3)
    for b in range(2):
        for c in range(3):
            for y in range(2):
                for z in range(3):
                    total = x[b, c, 2 * y : 2 * y + 2, 2 * z : 2 * z + 2].sum()
                    torch.testing.assert_close(outputs[b, c, y, z], layer.weight[c] * total + layer.bias[c])


def test_the_scaled_tanh_maps_1_to_1():
    x = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(ScaledTanh()(x), x, atol=2e-5, rtol=0)
    assert 1.7 < float(ScaledTanh()(torch.tensor(50.0))) < 1.72


@pytest.mark.parametrize(
    ("layer", "shape"), [(ScaledTanh(), (2, 3)), (Subsampling(2), (1, 2, 4, 4)), (SparseConv2d(), (1, 6, 6, 5))]
)
def test_derivatives_match_finite_differences(layer, shape):
    layer = layer.double()
    names = [name for name, _ in layer.named_parameters()]
    weights = [w.detach().clone().requires_grad_(True) for w in layer.parameters()]
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)

    def function(x, *weights):
        return torch.func.functional_call(layer, dict(zip(names, weights, strict=True)), (x,))

    assert torch.autograd.gradcheck(function, (x, *weights), fast_mode=True)


def test_the_talk_variant_has_its_layers():
    c1, pool, _, c2, _, _, _, hidden, _ = lenet(in_channels=1, num_classes=10, activation="tanh").features
    assert [tuple(layer.weight.shape) for layer in (c1, c2, hidden)] == [(20, 1, 5, 5), (50, 20, 5, 5), (500, 800)]
    assert isinstance(pool, nn.MaxPool2d) and pool.kernel_size == 2


@pytest.mark.parametrize("name", ["identity", "step", "logistic", "tanh", "arctan", "softsign", "relu"])
def test_pooling_before_the_activation_equals_pooling_after_it(name):
    features = lenet(in_channels=1, num_classes=10, activation=name).features
    swapped = nn.Sequential(*[features[i] for i in (0, 2, 1, 3, 5, 4, 6, 7, 8)])
    x = torch.randn(2, 1, 28, 28)
    torch.testing.assert_close(features(x), swapped(x))


@pytest.mark.parametrize("size", range(1, 40))
def test_the_talk_variant_reads_every_size(size):
    model = lenet(in_channels=1, num_classes=3, image_size=size, filters=(2, 3), hidden=4)
    assert model(torch.zeros(2, 1, size, size)).shape == (2, 3)


@pytest.mark.parametrize(
    ("option", "value", "more"),
    [
        ("variant", "2024", {}),
        ("image_size", 20, {"variant": "1998"}),
        ("filters", (0, 50), {}),
        ("filters", (20,), {}),
        ("hidden", 0, {}),
    ],
)
def test_invalid_arguments_are_rejected(option, value, more):
    with pytest.raises(OptionError) as error:
        lenet(in_channels=1, num_classes=10, **{option: value}, **more)
    assert (error.value.option, error.value.value) == (option, value)


def test_the_variant_may_be_a_number():
    assert lenet(in_channels=1, num_classes=10, variant=1998).head.in_features == 84
