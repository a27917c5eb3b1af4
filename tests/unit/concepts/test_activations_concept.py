"""Activation functions against formulas written out here; layers of them against closed forms and differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from thalweg.cli import main as cli
from thalweg.concepts.activations.compute import (
    ALL_ACTIVATIONS,
    DEFAULT_GAIN,
    ActivationSettings,
    activations,
    derivative,
    propagate,
    random_mlp,
)
from thalweg.errors import NotFoundError
from thalweg.layers.activations import build_activation


def sigma(x):
    return 1 / (1 + np.exp(-x))


def cumulative(x):
    """Cumulative normal distribution, by the error function."""
    return np.vectorize(lambda v: (1 + math.erf(v / math.sqrt(2))) / 2)(x)


def density(x):
    return np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


#: name -> (function, derivative), both valid away from kinks
EXPECTED = {
    "identity": (lambda x: x, np.ones_like),
    "step": (lambda x: np.where(x >= 0, 1.0, 0.0), np.zeros_like),
    "logistic": (sigma, lambda x: np.exp(-x) / (1 + np.exp(-x)) ** 2),
    "tanh": (lambda x: (np.exp(2 * x) - 1) / (np.exp(2 * x) + 1), lambda x: 1 / np.cosh(x) ** 2),
    "arctan": (np.arctan, lambda x: 1 / (1 + x**2)),
    "softsign": (lambda x: x / (1 + np.abs(x)), lambda x: (1 + np.abs(x)) ** -2.0),
    "relu": (lambda x: np.where(x > 0, x, 0), lambda x: np.where(x > 0, 1.0, 0.0)),
    "leaky-relu": (lambda x: np.where(x > 0, x, 0.01 * x), lambda x: np.where(x > 0, 1.0, 0.01)),
    "elu": (lambda x: np.where(x > 0, x, np.exp(x) - 1), lambda x: np.where(x > 0, 1.0, np.exp(x))),
    "gelu": (lambda x: x * cumulative(x), lambda x: cumulative(x) + x * density(x)),
    "silu": (lambda x: x * sigma(x), lambda x: sigma(x) * (1 + x * (1 - sigma(x)))),
    "softplus": (lambda x: np.log(1 + np.exp(x)), sigma),
}
#: derivative at 0, by convention where it jumps
AT_ZERO = {"step": 0.0, "relu": 0.0, "leaky-relu": 0.01, "elu": 1.0, "softsign": 1.0, "logistic": 0.25, "gelu": 0.5}
#: infimum and supremum; None: unbounded
RANGES = {
    "identity": (None, None),
    "step": (0, 1),
    "logistic": (0, 1),
    "tanh": (-1, 1),
    "arctan": (-math.pi / 2, math.pi / 2),
    "softsign": (-1, 1),
    "relu": (0, None),
    "leaky-relu": (None, None),
    "elu": (-1, None),
    "gelu": (-0.170, None),
    "silu": (-0.278, None),
    "softplus": (0, None),
}


def run_one(name, **settings):
    """The numbers of one activation function."""
    (function,) = activations(ActivationSettings([name], **settings)).numbers["functions"]
    return function


def test_every_function_has_expected_values():
    assert set(EXPECTED) == set(RANGES) == set(ALL_ACTIVATIONS) and len(ALL_ACTIVATIONS) == 12


@pytest.mark.parametrize("name", ALL_ACTIVATIONS)
def test_values_and_derivatives_match_the_formulas(name):
    numbers = run_one(name, depth=1, width=2)
    x = np.array(numbers["x"])
    expected_value, expected_derivative = EXPECTED[name]
    np.testing.assert_allclose(numbers["activation"], expected_value(x), atol=1e-9)
    smooth = np.full(x.shape, True)
    if name in ("step", "relu", "leaky-relu", "elu"):
        smooth = np.abs(x) > 1e-9
    np.testing.assert_allclose(np.array(numbers["derivative"])[smooth], expected_derivative(x)[smooth], atol=1e-9)
    assert 0.0 in x and x[0] == -4 and x[-1] == 4


@pytest.mark.parametrize("name", AT_ZERO)
def test_derivative_at_a_kink_follows_the_convention(name):
    at_zero = derivative(build_activation(name), torch.zeros(1, dtype=torch.float64))
    assert at_zero.item() == pytest.approx(AT_ZERO[name])


@pytest.mark.parametrize("name", ALL_ACTIVATIONS)
def test_values_stay_in_the_printed_range(name):
    values = build_activation(name)(torch.linspace(-60, 60, 240001, dtype=torch.float64))
    low, high = RANGES[name]
    printed = run_one(name, depth=1, width=2)["range"]
    if low is not None:
        tolerance = 2e-2 if name in ("arctan", "softsign") else 5e-4
        assert values.min().item() == pytest.approx(low, abs=tolerance)
        assert values.min() >= low - 5e-4
    if high is not None:
        assert values.max().item() == pytest.approx(high, abs=2e-2)
    if low is not None and name not in ("step", "arctan"):
        assert printed.replace("−", "-")[1:].startswith(f"{low:.3f}" if low % 1 else f"{low}")
    assert ("∞" in printed) == (high is None and low is not None)


def test_weights_are_initialized_like_a_linear_layer():
    layers = random_mlp(2, 7, DEFAULT_GAIN, torch.Generator().manual_seed(5))
    with torch.random.fork_rng():
        torch.manual_seed(5)
        for weight_NN, bias_N in layers:
            expected = nn.Linear(7, 7)
            torch.testing.assert_close(weight_NN.float(), expected.weight.detach())
            torch.testing.assert_close(bias_N.float(), expected.bias.detach())
    weight_NN, _ = random_mlp(1, 256, 1.5, torch.Generator().manual_seed(0))[0]
    assert weight_NN.std().item() * 16 == pytest.approx(1.5, rel=0.02)


@pytest.mark.parametrize("gain", [DEFAULT_GAIN, 1.0, 1.3])
def test_each_layer_of_a_linear_network_multiplies_by_the_gain_on_average(gain):
    runs = [run_one("identity", depth=4, width=128, gain=gain, seed=seed) for seed in range(12)]
    expected = gain ** (2 * np.arange(5))
    variances = np.mean([np.square(numbers["signal_std"]) for numbers in runs], 0)
    np.testing.assert_allclose(variances, expected, rtol=0.06)
    squared_norms = np.mean([np.square(numbers["gradient_norm"]) for numbers in runs], 0)
    np.testing.assert_allclose(squared_norms, expected[::-1], rtol=0.06)


def test_he_initialization_preserves_the_gradient_of_relu():
    runs = [run_one("relu", depth=10, width=256, gain=math.sqrt(2), seed=seed) for seed in range(4)]
    assert np.mean([numbers["gradient_norm"][0] ** 2 for numbers in runs]) == pytest.approx(1, abs=0.25)
    by_default = run_one("relu", depth=10, width=256)
    assert by_default["gradient_norm"][0] == pytest.approx((DEFAULT_GAIN / math.sqrt(2)) ** 10, rel=0.5)


@pytest.mark.parametrize("name", ["tanh", "gelu", "softplus", "silu"])
def test_signal_and_gradient_match_finite_differences(name):
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(3, 5, 5))
    biases = rng.normal(size=(3, 5))
    x = rng.normal(size=(6, 5))
    output_gradient = rng.normal(size=(6, 5))
    function = EXPECTED[name][0]

    def forward(h, first_layer=0):
        hidden = [h]
        for weight, bias in zip(weights[first_layer:], biases[first_layer:], strict=True):
            hidden.append(function(hidden[-1] @ weight.T + bias))
        return hidden

    layers = [(torch.tensor(w), torch.tensor(b)) for w, b in zip(weights, biases, strict=True)]
    result = propagate(build_activation(name), layers, torch.tensor(x), torch.tensor(output_gradient))
    hidden = forward(x)
    np.testing.assert_allclose(result.signal_std, [np.sqrt(h.var(0, ddof=1).mean()) for h in hidden], rtol=1e-9)
    for layer in range(3):
        gradient = np.zeros((6, 5))
        for index in np.ndindex(6, 5):
            step = np.zeros((6, 5))
            step[index] = 1e-5
            difference = forward(hidden[layer] + step, layer)[-1] - forward(hidden[layer] - step, layer)[-1]
            gradient[index] = (difference * output_gradient).sum() / 2e-5
        expected = np.linalg.norm(gradient) / np.linalg.norm(output_gradient)
        assert result.gradient_norm[layer] == pytest.approx(expected, rel=1e-6)
    assert result.gradient_norm[3] == 1


def test_step_blocks_the_gradient_and_passes_the_signal():
    numbers = run_one("step")
    assert numbers["gradient_norm"] == [0.0] * 20 + [1.0] and numbers["signal_std"][-1] > 0.1


def test_signals_below_rounding_are_zero_and_tiny_gradients_are_not():
    result = activations(ActivationSettings(["identity", "logistic"], depth=100, gain=0.01))
    identity, logistic = result.numbers["functions"]
    assert logistic["signal_std"][-1] == 0 and len(result.notes) == 2
    assert math.log10(identity["gradient_norm"][0]) == pytest.approx(-200, abs=3)


def test_frames_add_layers_and_end_with_all_of_them():
    frames = activations(ActivationSettings(["tanh", "relu"], depth=8)).frames
    assert frames[0].args[1:] == (False, 0, 0) and frames[1].args[1:] == (True, 0, 0)
    assert frames[-1].args[1:] == (True, 8, 8)
    assert len(activations(ActivationSettings(["tanh"], depth=1)).frames) == 4


def test_repeated_names_count_once_and_unknown_names_are_rejected(capsys):
    functions = activations(ActivationSettings(["relu", "tanh", "relu"], depth=1)).numbers["functions"]
    assert [function["name"] for function in functions] == ["relu", "tanh"]
    with pytest.raises(NotFoundError) as error:
        activations(ActivationSettings(["rellu"]))
    assert error.value.value == "rellu" and {*ALL_ACTIVATIONS, "all"} == set(error.value.allowed)
    assert cli.invoke(["explain", "activations", "--set", "functions=thanh"]) == 2
    assert "'tanh'" in capsys.readouterr().err
    assert cli.invoke(["explain", "activations", "--set", "gain=big"]) == 2
    assert "gain" in capsys.readouterr().err
    assert cli.invoke(["explain", "activations", "mine.png"]) == 2
    assert "mine.png" in capsys.readouterr().err
