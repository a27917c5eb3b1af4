"""Activations against formulas written out here, and layers of them against closed forms and finite differences."""

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
    """The normal distribution, by the error function."""
    return np.vectorize(lambda one: (1 + math.erf(one / math.sqrt(2))) / 2)(x)


def density(x):
    return np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


#: name -> value, derivative, both away from kinks
TRUE = {
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
#: where the derivative jumps or is taken by convention: what is used at 0
AT_ZERO = {"step": 0.0, "relu": 0.0, "leaky-relu": 0.01, "elu": 1.0, "softsign": 1.0, "logistic": 0.25, "gelu": 0.5}
#: least and greatest value, on a wide stretch of sums; None: as far as the sums go
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


def test_there_is_a_truth_for_each():
    assert set(TRUE) == set(RANGES) == set(ALL_ACTIVATIONS) and len(ALL_ACTIVATIONS) == 12


@pytest.mark.parametrize("name", ALL_ACTIVATIONS)
def test_values_and_slopes_are_those_of_the_formulas(name):
    (one,) = activations(ActivationSettings([name], depth=1, width=2)).numbers["functions"]
    x = np.array(one["x"])
    value, derivative = TRUE[name]
    np.testing.assert_allclose(one["values"], value(x), atol=1e-9)
    smooth = np.abs(x) > 1e-9 if name in ("step", "relu", "leaky-relu", "elu") else np.full(x.shape, True)
    np.testing.assert_allclose(np.array(one["slopes"])[smooth], derivative(x)[smooth], atol=1e-9)
    assert 0.0 in x and x[0] == -4 and x[-1] == 4


@pytest.mark.parametrize("name", AT_ZERO)
def test_at_a_kink_the_slope_is_the_usual_one(name):
    assert derivative(build_activation(name), torch.zeros(1, dtype=torch.float64)).item() == pytest.approx(
        AT_ZERO[name]
    )


@pytest.mark.parametrize("name", ALL_ACTIVATIONS)
def test_the_range_is_the_one_that_is_written(name):
    x = torch.linspace(-60, 60, 240001, dtype=torch.float64)
    values = build_activation(name)(x)
    low, high = RANGES[name]
    assert (
        values.min().item() == pytest.approx(low, abs=2e-2 if name in ("arctan", "softsign") else 5e-4) or low is None
    )
    assert values.max().item() == pytest.approx(high, abs=2e-2) or high is None
    assert low is None or values.min() >= low - 5e-4
    (one,) = activations(ActivationSettings([name], depth=1, width=2)).numbers["functions"]
    if low is not None and name not in ("step", "arctan"):
        assert one["range"].replace("−", "-")[1:].startswith(f"{low:.3f}" if low % 1 else f"{low}")
    assert ("∞" in one["range"]) == (high is None and low is not None)


def test_weights_begin_as_those_of_a_linear_layer():
    layers = random_mlp(2, 7, DEFAULT_GAIN, torch.Generator().manual_seed(5))
    with torch.random.fork_rng():
        torch.manual_seed(5)
        for weight_NN, bias_N in layers:
            true = nn.Linear(7, 7)
            torch.testing.assert_close(weight_NN.float(), true.weight.detach())
            torch.testing.assert_close(bias_N.float(), true.bias.detach())
    weight_NN, _ = random_mlp(1, 256, 1.5, torch.Generator().manual_seed(0))[0]
    assert weight_NN.std().item() * 16 == pytest.approx(1.5, rel=0.02)


@pytest.mark.parametrize("gain", [DEFAULT_GAIN, 1.0, 1.3])
def test_of_a_linear_network_each_layer_leaves_the_gain_in_expectation(gain):
    found = [
        activations(ActivationSettings(["identity"], depth=4, width=128, gain=gain, seed=seed)).numbers["functions"][0]
        for seed in range(12)
    ]
    expected = gain ** (2 * np.arange(5))
    np.testing.assert_allclose(np.mean([np.square(one["signal"]) for one in found], 0), expected, rtol=0.06)
    np.testing.assert_allclose(np.mean([np.square(one["gradient"]) for one in found], 0), expected[::-1], rtol=0.06)


def test_with_the_gain_of_he_relu_keeps_the_gradient():
    found = [
        activations(ActivationSettings(["relu"], depth=10, width=256, gain=math.sqrt(2), seed=seed)).numbers[
            "functions"
        ][0]
        for seed in range(4)
    ]
    assert np.mean([one["gradient"][0] ** 2 for one in found]) == pytest.approx(1, abs=0.25)
    usual = activations(ActivationSettings(["relu"], depth=10, width=256)).numbers["functions"][0]
    assert usual["gradient"][0] == pytest.approx((DEFAULT_GAIN / math.sqrt(2)) ** 10, rel=0.5)


@pytest.mark.parametrize("name", ["tanh", "gelu", "softplus", "silu"])
def test_signal_and_gradient_are_those_of_the_network_written_out(name):
    rng = np.random.default_rng(1)
    weights, biases = rng.normal(size=(3, 5, 5)), rng.normal(size=(3, 5))
    x, at_end = rng.normal(size=(6, 5)), rng.normal(size=(6, 5))
    value = TRUE[name][0]

    def forward(start, first=0):
        answers = [start]
        for weight, bias in list(zip(weights, biases, strict=True))[first:]:
            answers.append(value(answers[-1] @ weight.T + bias))
        return answers

    layers = [(torch.tensor(w), torch.tensor(b)) for w, b in zip(weights, biases, strict=True)]
    found = propagate(build_activation(name), layers, torch.tensor(x), torch.tensor(at_end))
    answers = forward(x)
    np.testing.assert_allclose(found["signal"], [np.sqrt(one.var(0, ddof=1).mean()) for one in answers], rtol=1e-9)
    for layer in range(3):
        gradient = np.zeros((6, 5))
        for place in np.ndindex(6, 5):
            nudge = np.zeros((6, 5))
            nudge[place] = 1e-5
            up, down = (forward(answers[layer] + sign * nudge, layer)[-1] for sign in (1, -1))
            gradient[place] = ((up - down) * at_end).sum() / 2e-5
        expected = np.linalg.norm(gradient) / np.linalg.norm(at_end)
        assert found["gradient"][layer] == pytest.approx(expected, rel=1e-6)
    assert found["gradient"][3] == 1


def test_the_step_lets_no_gradient_through_but_keeps_the_signal():
    (one,) = activations(ActivationSettings(["step"])).numbers["functions"]
    assert one["gradient"] == [0.0] * 20 + [1.0] and one["signal"][-1] > 0.1


def test_what_rounding_hides_is_zero_and_what_is_tiny_is_not():
    found = activations(ActivationSettings(["identity", "logistic"], depth=100, gain=0.01))
    identity, logistic = found.numbers["functions"]
    assert logistic["signal"][-1] == 0 and "rounding hides" in found.notes[0]
    assert math.log10(identity["gradient"][0]) == pytest.approx(-200, abs=3)


def test_frames_add_layers_and_end_with_all_of_them():
    found = activations(ActivationSettings(["tanh", "relu"], depth=8))
    assert found.frames[0].args[1:] == (False, 0, 0) and found.frames[1].args[1:] == (True, 0, 0)
    assert found.frames[-1].args[1:] == (True, 8, 8)
    assert len(activations(ActivationSettings(["tanh"], depth=1)).frames) == 4


def test_names_are_given_once_and_unknown_ones_are_refused(capsys):
    names = [
        one["name"] for one in activations(ActivationSettings(["relu", "tanh", "relu"], depth=1)).numbers["functions"]
    ]
    assert names == ["relu", "tanh"]
    with pytest.raises(NotFoundError, match="no activation named 'rellu'"):
        activations(ActivationSettings(["rellu"]))
    assert cli.invoke(["explain", "activations", "--set", "functions=thanh"]) == 2
    assert "'tanh'" in capsys.readouterr().err
    assert cli.invoke(["explain", "activations", "--set", "gain=big"]) == 2
    assert "gain" in capsys.readouterr().err
    assert cli.invoke(["explain", "activations", "mine.png"]) == 2
    assert "settings alone" in capsys.readouterr().err
