"""The seven activations against their formulas, and their derivatives against finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from thalweg.errors import NotFoundError
from thalweg.layers.activations import ACTIVATIONS, MODERN_ACTIVATIONS, build_activation

POINTS = np.array([-30.0, -2.5, -1.0, -1e-3, 0.0, 1e-3, 0.7, 1.0, 4.0, 30.0])

FORMULAS = {
    "identity": lambda x: x,
    "step": lambda x: np.where(x >= 0, 1.0, 0.0),
    "logistic": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": lambda x: (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x)),
    "arctan": np.arctan,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "relu": lambda x: np.maximum(x, 0),
}


LATER = {
    "leaky-relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "gelu": lambda x: x / 2 * (1 + np.array([math.erf(v / math.sqrt(2)) for v in x])),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "softplus": lambda x: np.logaddexp(0, x),
}


def test_there_are_the_seven_of_the_talk_and_five_later_ones():
    assert list(ACTIVATIONS) == list(FORMULAS)
    assert list(MODERN_ACTIVATIONS) == list(LATER)


@pytest.mark.parametrize("name", [*FORMULAS, *LATER])
def test_values_are_those_of_the_formula(name):
    found = build_activation(name)(torch.tensor(POINTS)).numpy()
    np.testing.assert_allclose(found, {**FORMULAS, **LATER}[name](POINTS), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [n for n in [*FORMULAS, *LATER] if n != "step"])
def test_derivatives_are_those_of_finite_differences(name):
    """Away from 0, where ReLU has none."""
    x = torch.tensor([-3.0, -1.2, -0.4, 0.3, 0.9, 2.5], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(build_activation(name), x)


@pytest.mark.parametrize("name", FORMULAS)
def test_none_ever_falls(name):
    """So a maximum may be taken before or after it, as LeNet does."""
    y = build_activation(name)(torch.linspace(-6, 6, 1001, dtype=torch.float64))
    assert bool((y.diff() >= 0).all())


def test_nothing_below_a_step_learns():
    x = torch.ones(3, requires_grad=True)
    assert not build_activation("step")(x).requires_grad
    assert build_activation("step")(torch.ones(2, dtype=torch.float16)).dtype == torch.float16


def test_a_layer_says_its_name():
    assert "arctan" in repr(build_activation("arctan")) and "step" in repr(build_activation("step"))


def test_an_unknown_activation_is_answered_with_the_nearest():
    with pytest.raises(NotFoundError, match="no activation named 'sofsign'") as raised:
        build_activation("sofsign")
    assert "'softsign'" in raised.value.cure
