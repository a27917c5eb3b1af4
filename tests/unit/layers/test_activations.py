"""Activations against their formulas, and their derivatives against finite differences."""

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

MODERN_FORMULAS = {
    "leaky-relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "gelu": lambda x: x / 2 * (1 + np.array([math.erf(v / math.sqrt(2)) for v in x])),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "softplus": lambda x: np.logaddexp(0, x),
}


def test_every_activation_has_a_formula():
    assert list(ACTIVATIONS) == list(FORMULAS)
    assert list(MODERN_ACTIVATIONS) == list(MODERN_FORMULAS)


@pytest.mark.parametrize("name", [*FORMULAS, *MODERN_FORMULAS])
def test_values_match_the_formula(name):
    values = build_activation(name)(torch.tensor(POINTS)).numpy()
    np.testing.assert_allclose(values, {**FORMULAS, **MODERN_FORMULAS}[name](POINTS), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in [*FORMULAS, *MODERN_FORMULAS] if name != "step"])
def test_derivatives_match_finite_differences(name):
    """Away from 0, where ReLU has no derivative."""
    x = torch.tensor([-3.0, -1.2, -0.4, 0.3, 0.9, 2.5], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(build_activation(name), x)


@pytest.mark.parametrize("name", FORMULAS)
def test_the_activations_of_the_talk_are_monotonic(name):
    """So max pooling before them, as in LeNet, equals max pooling after them."""
    y = build_activation(name)(torch.linspace(-6, 6, 1001, dtype=torch.float64))
    assert bool((y.diff() >= 0).all())


def test_a_step_has_no_gradient_and_keeps_the_precision():
    assert not build_activation("step")(torch.ones(3, requires_grad=True)).requires_grad
    assert build_activation("step")(torch.ones(2, dtype=torch.float16)).dtype == torch.float16


def test_the_printed_layer_shows_its_name():
    assert "arctan" in repr(build_activation("arctan")) and "step" in repr(build_activation("step"))


def test_an_unknown_activation_is_rejected_with_the_nearest_name():
    with pytest.raises(NotFoundError) as error:
        build_activation("sofsign")
    assert error.value.value == "sofsign" and set(error.value.allowed) == {*ACTIVATIONS, *MODERN_ACTIVATIONS}
    assert "'softsign'" in error.value.cure
