"""The concept neuron against a dot product, a bias, and activation functions written out here."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.concepts.neuron.compute import Activation, NeuronSettings, neuron
from thalweg.errors import OptionError
from thalweg.layers.activations import ACTIVATIONS, MODERN_ACTIVATIONS

#: activation functions, written out
FORMULAS = {
    "identity": lambda s: s,
    "step": lambda s: float(s >= 0),
    "logistic": lambda s: 1 / (1 + math.exp(-s)) if s > -700 else 0.0,
    "tanh": math.tanh,
    "arctan": math.atan,
    "softsign": lambda s: s / (1 + abs(s)),
    "relu": lambda s: max(s, 0.0),
    "leaky-relu": lambda s: s if s > 0 else 0.01 * s,
    "elu": lambda s: s if s > 0 else math.expm1(s),
    "gelu": lambda s: s * (1 + math.erf(s / math.sqrt(2))) / 2,
    "silu": lambda s: s / (1 + math.exp(-s)) if s > -700 else 0.0,
    "softplus": lambda s: max(s, 0) + math.log1p(math.exp(-abs(s))),
}
NUMBER = st.floats(-5, 5)


@given(st.lists(st.tuples(NUMBER, NUMBER), min_size=1, max_size=12), NUMBER, st.sampled_from(sorted(FORMULAS)))
def test_a_neuron_is_weighted_sum_plus_bias_then_activation_function(pairs, bias, name):
    inputs = [x for x, _ in pairs]
    weights = [w for _, w in pairs]
    result = neuron(NeuronSettings(inputs, weights, bias, name))
    numbers = result.numbers
    pre_activation = sum(x * w for x, w in pairs) + bias
    assert numbers["pre_activation"] == pytest.approx(pre_activation, abs=1e-12)
    if name != "step" or abs(pre_activation) > 1e-12:
        assert numbers["activation"] == pytest.approx(FORMULAS[name](pre_activation), rel=1e-9, abs=1e-7)
    assert len(result.frames) == len(pairs) + 2
    assert numbers["partial_sums"][-1] == numbers["pre_activation"]


@given(NUMBER, NUMBER, NUMBER)
def test_surface_is_the_neuron_everywhere_and_pre_activation_is_zero_on_the_boundary(w1, w2, bias):
    surface = neuron(NeuronSettings([0.5, -0.5], [w1, w2], bias, "logistic")).numbers["surface"]
    axis = np.array(surface["axis"])
    expected = 1 / (1 + np.exp(-(w1 * axis[None, :] + w2 * axis[:, None] + bias)))
    np.testing.assert_allclose(np.array(surface["activation"]), expected, atol=1e-12)
    boundary = surface["boundary"]
    if not w1 and not w2:
        assert boundary is None
    elif math.hypot(w1, w2) > 1e-3:
        x, y = boundary["point"]
        direction_x, direction_y = boundary["direction"]
        for distance in (-1, 0, 2):
            on_boundary = w1 * (x + distance * direction_x) + w2 * (y + distance * direction_y) + bias
            assert on_boundary == pytest.approx(0, abs=1e-6)


def test_wrong_numbers_of_inputs_and_weights_are_rejected():
    with pytest.raises(OptionError) as error:
        neuron(NeuronSettings([1, 2, 3], [1, 2]))
    assert error.value.option == "weights" and error.value.value == [1, 2]
    with pytest.raises(OptionError) as error:
        neuron(NeuronSettings([1] * 13, [1] * 13))
    assert error.value.option == "inputs" and error.value.value == [1] * 13


def test_every_activation_function_of_the_package_is_available():
    assert set(get_args(Activation)) == {*ACTIVATIONS, *MODERN_ACTIVATIONS} == set(FORMULAS)
