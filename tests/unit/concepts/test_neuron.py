"""A neuron against what it is: a dot product, a bias, and a function written out here."""

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

#: the activations, written out
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
def test_it_multiplies_adds_and_bends(pairs, bias, name):
    inputs, weights = map(list, zip(*pairs, strict=True))
    found = neuron(NeuronSettings(inputs, weights, bias, name))
    total = sum(x * w for x, w in pairs) + bias
    assert found.numbers["sum"] == pytest.approx(total, abs=1e-12)
    if name != "step" or abs(total) > 1e-12:
        assert found.numbers["output"] == pytest.approx(FORMULAS[name](total), rel=1e-9, abs=1e-7)
    assert len(found.frames) == len(pairs) + 2 and found.numbers["running_sums"][-1] == found.numbers["sum"]


@given(NUMBER, NUMBER, NUMBER)
def test_the_line_is_where_the_sum_is_zero_and_the_surface_is_the_neuron_everywhere(a, b, bias):
    found = neuron(NeuronSettings([0.5, -0.5], [a, b], bias, "logistic")).numbers
    axis, surface = np.array(found["axis"]), np.array(found["surface"])
    true = 1 / (1 + np.exp(-(a * axis[None, :] + b * axis[:, None] + bias)))
    np.testing.assert_allclose(surface, true, atol=1e-12)
    if not a and not b:
        assert found["line"] is None
    elif math.hypot(a, b) > 1e-3:
        (px, py), (dx, dy) = found["line"]["point"], found["line"]["direction"]
        for step in (-1, 0, 2):
            assert a * (px + step * dx) + b * (py + step * dy) + bias == pytest.approx(0, abs=1e-6)


def test_inputs_without_weights_are_refused():
    with pytest.raises(OptionError, match="3 inputs and 2 weights"):
        neuron(NeuronSettings([1, 2, 3], [1, 2]))
    with pytest.raises(OptionError, match="13 inputs are more than"):
        neuron(NeuronSettings([1] * 13, [1] * 13))


def test_every_activation_of_the_package_can_be_chosen():
    assert set(get_args(Activation)) == {*ACTIVATIONS, *MODERN_ACTIVATIONS} == set(FORMULAS)
