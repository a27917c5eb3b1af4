"""The concept memory: gradients against finite differences and measured figures, recall against chance."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from thalweg.concepts.memory.compute import (
    RECIPE_RESULT,
    MemorySettings,
    compute_curve,
    compute_memory,
    find_reach,
    memory,
)
from thalweg.concepts.memory.distance import RecallResult, make_sequences, train_recall
from thalweg.concepts.memory.gradients import VARIANTS, build_layer, measure_gradients
from thalweg.config.recipes import find_recipe
from thalweg.errors import OptionError

BY_NAME = {variant.name: variant for variant in VARIANTS}
#: measured before this concept existed (width 128, 512 steps): gradient at lags 10, 50 and 100
MEASURED = {
    "RNN, torch default": (5e-3, 1e-12, None),
    "RNN, orthogonal": (0.70, 0.10, 7e-3),
    "LSTM, torch default": (6e-3, 5e-11, 1e-20),
    "GRU, torch default": (7e-3, 1e-10, 4e-20),
    "LSTM, forget bias 1": (0.13, 2e-4, 2e-7),
    "LSTM, chrono": (0.38, 0.19, 0.12),
}


@pytest.mark.parametrize("name", BY_NAME)
def test_the_gradient_is_that_of_finite_differences(name):
    torch.manual_seed(0)
    layer = build_layer(BY_NAME[name], 2, 3, memory=8).double()
    x_BTC = torch.rand(2, 5, 2, dtype=torch.float64)
    direction_BD = torch.randn(2, 3, dtype=torch.float64)
    gradient_T = measure_gradients(layer, x_BTC, direction_BD)
    epsilon = 1e-6
    expected_BTC = torch.zeros_like(x_BTC)
    for index in range(x_BTC.numel()):
        values = []
        for sign in (1, -1):
            moved = x_BTC.clone()
            moved.view(-1)[index] += sign * epsilon
            with torch.no_grad():
                values.append((layer(moved)[0][:, -1] * direction_BD).sum())
        expected_BTC.view(-1)[index] = (values[0] - values[1]) / (2 * epsilon)
    torch.testing.assert_close(gradient_T, expected_BTC.norm(dim=2).mean(0).flip(0), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", MEASURED)
def test_the_curve_agrees_with_what_was_measured_before(name):
    curve = compute_curve(BY_NAME[name], MemorySettings(length=128))
    assert curve.relative[0] == 1 and len(curve.relative) == len(curve.lags) == 128
    for lag, measured in zip((10, 50, 100), MEASURED[name], strict=True):
        if measured is None:
            assert curve.relative[lag] < 1e-20
        else:
            # a product of so many factors differs from draw to draw by about a tenth per factor of ten
            tolerance = 3 * max(1.0, measured ** (-1 / 10))
            assert measured / tolerance < curve.relative[lag] < measured * tolerance, lag


def test_initializations_change_only_what_they_say():
    for name, changed in (
        ("RNN, orthogonal", {"weight_hh_l0"}),
        ("LSTM, forget bias 1", {"bias_ih_l0", "bias_hh_l0"}),
        ("LSTM, chrono", {"bias_ih_l0", "bias_hh_l0"}),
        ("GRU, torch default", set()),
    ):
        variant = BY_NAME[name]
        torch.manual_seed(1)
        plain = dict(variant.cell(2, 8, batch_first=True).named_parameters())
        torch.manual_seed(1)
        layer = dict(build_layer(variant, 2, 8, 100).named_parameters())
        assert {key for key in plain if not torch.equal(plain[key], layer[key])} == changed
    times_D = layer_times(build_layer(BY_NAME["LSTM, chrono"], 2, 512, 100))
    assert 1 <= times_D.min() < 3 and 95 < times_D.max() <= 99


def layer_times(layer: nn.RNNBase) -> torch.Tensor:
    """Return the times that the forget gates begin with."""
    width = layer.hidden_size
    return layer.get_parameter("bias_ih_l0").detach()[width : 2 * width].exp()


def test_the_symbol_to_recall_comes_first_and_nowhere_else():
    x_BTC, labels_B = make_sequences(64, 7, torch.Generator().manual_seed(0))
    symbols_BT = x_BTC.argmax(2)
    assert x_BTC.shape == (64, 8, 6) and (x_BTC.sum(2) == 1).all()
    assert torch.equal(symbols_BT[:, 0], labels_B) and (symbols_BT[:, 1:] >= 2).all()


def test_what_is_near_is_recalled_and_training_is_reproducible():
    before = torch.random.get_rng_state()
    result = train_recall(BY_NAME["LSTM, chrono"], 5, 16, 100, seed=1)
    assert result.accuracy > 0.95 and result.steps <= 100
    assert result == train_recall(BY_NAME["LSTM, chrono"], 5, 16, 100, seed=1)
    assert train_recall(BY_NAME["LSTM, torch default"], 60, 16, 20, seed=1).accuracy < 0.65
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_reach_ends_at_the_first_distance_that_fails():
    recall = [RecallResult("a", 10, 1.0, 5), RecallResult("a", 20, 0.5, 9), RecallResult("a", 30, 1.0, 9)]
    assert find_reach(recall, "a") == 10 and find_reach(recall[1:], "a") is None and find_reach(recall, "b") is None


def test_without_training_only_gradients_are_shown():
    result = memory(MemorySettings(length=20, width=8, steps=0))
    assert result.numbers["recall"] == [] and len(result.frames) == len(VARIANTS) + 1
    assert set(result.numbers["table"]["LSTM, chrono"]) == {10}
    assert not any(name.startswith("recall") for name in result.key_numbers)
    assert result.frames[-1].draw().size == result.frames[0].draw().size


def test_the_figure_that_is_quoted_is_that_of_the_recipe():
    assert "adding-600" in RECIPE_RESULT and "0.0029" in RECIPE_RESULT
    assert "MSE 0.0029" in find_recipe("adding-600").our_result


def test_too_many_distances_are_refused():
    with pytest.raises(OptionError, match="at most 8") as error:
        compute_memory(MemorySettings(distances=list(range(1, 20))))
    assert error.value.option == "distances"
