"""Backpropagation against the printed figures of Mazur's worked example, PyTorch's own layers, and differences."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import thalweg
from thalweg.cli import main as cli
from thalweg.concepts.backprop import backprop_math as chain_rule
from thalweg.concepts.backprop.backprop_math import DERIVATIVES, MLP, NON_SMOOTH
from thalweg.concepts.backprop.compute import BackpropSettings, backprop
from thalweg.errors import OptionError
from thalweg.layers.activations import ACTIVATIONS, MODERN_ACTIVATIONS, build_activation

ALL = sorted({**ACTIVATIONS, **MODERN_ACTIVATIONS})


@pytest.fixture(scope="module")
def example():
    """The numbers of the example that comes along."""
    return backprop(BackpropSettings()).numbers


# --- the worked example, as it is printed -----------------------------------------------------------------------------


def test_the_way_forward_has_the_printed_figures(example):
    _, hidden, output = example["layers"]
    assert hidden["sums"] == pytest.approx([0.3775, 0.3925], abs=1e-12)
    assert hidden["outputs"] == pytest.approx([0.593269992, 0.596884378], abs=1e-9)
    assert output["sums"][0] == pytest.approx(1.105905967, abs=1e-9)
    assert output["outputs"] == pytest.approx([0.75136507, 0.772928465], abs=1e-9)
    assert example["errors"] == pytest.approx([0.274811083, 0.023560026], abs=1e-9)
    assert example["error"] == pytest.approx(0.298371109, abs=1e-9)


def test_the_way_back_has_the_printed_figures(example):
    _, hidden, output = example["layers"]
    assert output["deltas"] == pytest.approx([0.138498562, -0.038098236], abs=1e-8)
    assert output["weight_gradients"][0][0] == pytest.approx(0.082167041, abs=1e-9)
    assert hidden["weight_gradients"][0][0] == pytest.approx(0.000438568, abs=1e-9)


def test_the_update_has_the_printed_figures(example):
    _, hidden, output = example["layers"]
    first, last = sum(hidden["weights_after"], []), sum(output["weights_after"], [])
    assert first == pytest.approx([0.149780716, 0.19956143, 0.24975114, 0.29950229], abs=1e-8)
    assert last == pytest.approx([0.35891648, 0.408666186, 0.511301270, 0.561370121], abs=1e-8)
    assert hidden["biases_after"] == [0.35] and output["biases_after"] == [0.6]
    # printed as 0.291027924, from weights that had been rounded
    assert example["error_after"] == pytest.approx(0.2910277737, abs=1e-10)


def test_ten_thousand_updates_bring_the_printed_error(example):
    assert example["curve"]["update"][0] == 0 and example["curve"]["update"][-1] == 10_000
    assert example["last"]["error"] == example["curve"]["error"][-1] == pytest.approx(0.0000351085, rel=1e-3)
    assert example["last"]["outputs"] == pytest.approx([0.015912196, 0.984065734], abs=1e-4)
    errors = example["curve"]["error"]
    assert backprop(BackpropSettings()).key_numbers["error after 10000 updates"] == "0.0000351"
    assert all(after < before for before, after in zip(errors, errors[1:], strict=False))


def test_the_formulas_have_the_numbers_in_them(example):
    lines = {line[0] for step in example["steps"] for line in step["lines"]}
    assert "∂E/∂w5 = δo1 · out h1 = (0.75137 − 0.01) · 0.75137 · (1 − 0.75137) · 0.59327 = 0.082167" in lines
    assert "∂E/∂w1 = δh1 · x1 = 0.0087714 · 0.05 = 0.00043857" in lines
    assert "w5 = 0.4 − 0.5 · 0.082167 = 0.35892" in lines
    assert "E o1 = ½ (0.01 − 0.75137)² = 0.27481" in lines


def test_steps_go_forward_then_back_and_every_weight_is_told(example):
    steps = [(step["kind"], step["layer"]) for step in example["steps"]]
    assert steps == [
        *(("inputs", 0), ("forward", 1), ("forward", 2), ("errors", None), ("deltas", 2), ("gradients", 2)),
        *(("deltas", 1), ("gradients", 1), ("update", None), ("after", None), ("curve", None)),
    ]
    told = " ".join(line[0] for step in example["steps"] if step["kind"] == "gradients" for line in step["lines"])
    assert all(f"∂E/∂w{place} = " in told for place in range(1, 9))


# --- the mathematics, against PyTorch and differences -----------------------------------------------------------------


@st.composite
def networks(draw):
    """(net, inputs, targets) with any activations, either loss, and biases that are shared or not."""
    layers = draw(st.lists(st.integers(1, 5), min_size=2, max_size=4))
    softmax = draw(st.booleans())
    layers[-1] += softmax
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def some(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    bends = [draw(st.sampled_from(ALL)) for _ in layers[1:]]
    net = MLP(
        [some(above, below) for below, above in zip(layers, layers[1:], strict=False)],
        [some(1 if draw(st.booleans()) else units) for units in layers[1:]],
        [*bends[:-1], "identity"] if softmax else bends,
        softmax,
    )
    return net, some(layers[0]), torch.softmax(some(layers[-1]), 0) if softmax else some(layers[-1])


def modules(net: MLP, softmax_apart: bool) -> nn.Sequential:
    """The same network of PyTorch's own layers."""
    parts = []
    for weights_JI, biases_J, bend in zip(net.weights, net.biases, net.bends, strict=True):
        layer = nn.Linear(*reversed(weights_JI.shape), dtype=torch.float64)
        layer.weight.data, layer.bias.data = weights_JI.clone(), biases_J.expand(len(weights_JI)).clone()
        parts += [layer, build_activation(bend)]
    return nn.Sequential(*parts[:-1] if softmax_apart else parts)


def far_from_kinks(net: MLP, sums) -> bool:
    pairs = zip(net.bends, sums, strict=True)
    return all(float(s.abs().min()) > 1e-3 for bend, s in pairs if bend in (*NON_SMOOTH, "elu"))


@settings(max_examples=150, deadline=None)
@given(networks())
def test_gradients_by_hand_are_those_of_pytorch_and_of_differences(case):
    net, inputs, targets = case
    values = chain_rule.forward(net, inputs, targets)
    by_hand = chain_rule.backward(net, values, targets)
    ours = [*by_hand.weights, *by_hand.biases]
    scale = max(1.0, *(float(g.abs().max()) for g in ours))
    for mine, theirs in zip(ours, chain_rule.autograd_gradients(net, inputs, targets), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-13 * scale)
    if far_from_kinks(net, values.sums):
        for mine, theirs in zip(ours, chain_rule.numerical_gradients(net, inputs, targets), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6 * scale)


@settings(max_examples=60, deadline=None)
@given(networks())
def test_errors_and_gradients_are_those_of_pytorchs_own_layers_and_losses(case):
    net, inputs, targets = case
    model = modules(net, net.softmax)
    answers = model(inputs)
    if net.softmax:
        error = nn.functional.cross_entropy(answers, targets)
    else:
        error = nn.functional.mse_loss(answers, targets, reduction="sum") / 2
    values = chain_rule.forward(net, inputs, targets)
    torch.testing.assert_close(values.error, error.detach(), rtol=1e-12, atol=1e-14)
    if not error.requires_grad or "step" in net.bends:
        return
    error.backward()
    by_hand = chain_rule.backward(net, values, targets)
    linear = [layer for layer in model if isinstance(layer, nn.Linear)]
    for layer, weights, biases in zip(linear, by_hand.weights, by_hand.biases, strict=True):
        torch.testing.assert_close(weights, layer.weight.grad, rtol=1e-12, atol=1e-12)
        theirs = layer.bias.grad if len(biases) == len(layer.bias) else layer.bias.grad.sum().reshape(1)
        torch.testing.assert_close(biases, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_every_slope_is_that_of_its_activation(name):
    sums = torch.cat([torch.linspace(-30, 30, 601), torch.tensor([0.0, 20.0, 20.001])]).double().requires_grad_()
    outputs = build_activation(name)(sums)
    slopes = DERIVATIVES[name](sums.detach(), outputs.detach())
    theirs = torch.autograd.grad((outputs + 0 * sums).sum(), sums)[0]
    torch.testing.assert_close(slopes, theirs, rtol=1e-12, atol=1e-15)


def test_there_is_a_slope_for_every_activation():
    assert sorted(DERIVATIVES) == ALL


def test_updates_are_those_of_pytorchs_sgd_and_biases_are_trained_where_asked():
    asked = BackpropSettings(
        [3, 4, 2], [1, -0.5, 2], [0.3, 0.7], "random", "random", "tanh", loss="cross-entropy",
        rate=0.2, updates=25, train_biases=True, seed=3,
    )  # fmt: skip
    found = backprop(asked).numbers
    hidden, output = found["layers"][1:]
    net = MLP(
        [torch.tensor(layer["weights"], dtype=torch.float64) for layer in (hidden, output)],
        [torch.tensor(layer["biases"], dtype=torch.float64) for layer in (hidden, output)],
        ["tanh", "identity"],
        softmax=True,
    )
    model = modules(net, softmax_apart=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    inputs, targets = (torch.tensor(v, dtype=torch.float64) for v in (asked.inputs, asked.targets))
    for _ in range(25):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    assert found["last"]["error"] == pytest.approx(
        nn.functional.cross_entropy(model(inputs), targets).item(), rel=1e-12
    )
    for ours, layer in zip(found["last"]["biases"], (model[0], model[2]), strict=True):
        assert ours == pytest.approx(layer.bias.tolist(), rel=1e-12)
    assert hidden["biases"] != hidden["biases_after"] and sum(found["last"]["outputs"]) == pytest.approx(1)


def test_a_bias_that_a_layer_shares_gets_the_deltas_of_all_its_units():
    found = backprop(BackpropSettings(train_biases=True, updates=1)).numbers
    for layer in found["layers"][1:]:
        assert layer["bias_gradients"] == pytest.approx([sum(layer["deltas"])], rel=1e-15)
        assert layer["biases_after"] == pytest.approx([layer["biases"][0] - 0.5 * sum(layer["deltas"])])


def test_biases_may_be_given_for_every_unit_and_come_out_alike_where_they_are():
    shared, each = (
        backprop(BackpropSettings(updates=0)).numbers,
        backprop(BackpropSettings(biases=[0.35, 0.35, 0.6, 0.6], updates=0)),
    )
    assert each.numbers["error"] == shared["error"]
    assert [layer["bias_names"] for layer in each.numbers["layers"][1:]] == [["b1", "b2"], ["b3", "b4"]]


def test_the_largest_differences_are_among_the_figures(example):
    figures = {name: told.replace("−", "-") for name, told in backprop(BackpropSettings(updates=0)).key_numbers.items()}
    assert 0 <= float(figures["largest difference from autograd"]) < 1e-15
    assert 0 < float(figures["largest difference from central differences"]) < 1e-9
    assert example["check"]["largest_gradient"] == pytest.approx(0.138498562 - 0.038098236, abs=1e-8)


def test_with_inputs_of_50_the_hidden_layer_hardly_learns_as_the_page_says():
    first, last = backprop(BackpropSettings(inputs=[50, 50], updates=0)).numbers["layers"][1:]
    largest = [max(abs(g) for row in layer["weight_gradients"] for g in row) for layer in (first, last)]
    assert largest[0] < 1e-5 * largest[1]


# --- what may be asked ------------------------------------------------------------------------------------------------


def test_random_weights_follow_from_the_seed_and_can_be_written_down():
    one, same, other = (
        backprop(BackpropSettings(weights="random", biases="random", seed=seed, updates=0)).numbers["layers"][1:]
        for seed in (4, 4, 5)
    )
    assert one == same and one[0]["weights"] != other[0]["weights"]
    every = [w for layer in one for row in (*layer["weights"], layer["biases"]) for w in row]
    assert all(-1 <= w <= 1 and round(w, 2) == w for w in every) and len(set(every)) > 5


def test_without_updates_there_is_no_curve_and_with_one_there_is():
    assert backprop(BackpropSettings(updates=0)).numbers["steps"][-1]["kind"] == "after"
    found = backprop(BackpropSettings(updates=1)).numbers
    assert found["steps"][-1]["kind"] == "curve" and found["curve"]["error"] == [found["error"], found["error_after"]]


def test_a_rate_too_high_ends_the_curve_and_is_told():
    found = backprop(BackpropSettings([1, 1], [100.0], [1.0], [100.0], [0.0], output="identity", rate=100.0))
    assert "too high" in found.notes[0] and found.numbers["curve"]["ended"]
    json.dumps(found.numbers, allow_nan=False)
    found.frames[-1].draw()


def test_a_kink_is_told_because_differences_do_not_agree_there():
    found = backprop(BackpropSettings(biases=[-0.0175, 0.6], hidden="relu", weights=[0.15, 0.1, *[0.3] * 6], updates=0))
    assert found.numbers["layers"][1]["sums"][0] == pytest.approx(0, abs=1e-12)
    assert "relu has a kink" in found.notes[0]
    assert not backprop(BackpropSettings(hidden="relu", updates=0)).notes


@pytest.mark.parametrize(
    "given, told",
    [
        ({"inputs": "1,2,3"}, "inputs: there are 3, and the first layer has 2 units"),
        ({"targets": "1"}, "targets: there are 1, and the last layer has 2 units"),
        ({"weights": "1,2,3"}, "weights: there are 3, and layers of 2,2,2 have 2·2 + 2·2 = 8"),
        ({"biases": "1,2,3"}, "biases: there are 3, and layers of 2,2,2 have 2 or 4"),
        ({"layers": "2,2,2,2,2"}, "layers: 5 are not from 2 to 4"),
        ({"layers": "2"}, "layers: 1 are not from 2 to 4"),
        ({"layers": "2,9,2"}, "layers: 9 is not from 1 to 8"),
        ({"layers": "2,2.5,2"}, "backprop: layers: '2,2.5,2' is not values"),
        ({"loss": "cross-entropy", "targets": "0.5,0.6"}, "they are probabilities, and 0.5,0.6 are none"),
        ({"loss": "cross-entropy", "targets": "1.5,-0.5"}, "they are probabilities, and 1.5,-0.5 are none"),
        ({"loss": "cross-entropy", "layers": "2,2,1", "targets": "1"}, "the softmax of one output is always 1"),
        ({"hidden": "softmax"}, "hidden: 'softmax' is not identity, step"),
        ({"weights": "none"}, "weights: 'none' is not"),
        ({"updates": "10001"}, "updates: 10001 is not from 0 to 10000"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(given, told, capsys):
    words = [word for key, value in given.items() for word in ("--set", f"{key}={value}")]
    assert cli.invoke(["explain", "backprop", *words]) == 2
    error = capsys.readouterr().err
    assert told in error and "Give" in error


def test_it_is_refused_in_python_too():
    with pytest.raises(OptionError, match="weights: there are 8, and layers of 3,4,2"):
        backprop(BackpropSettings([3, 4, 2], [1, 2, 3]))


@pytest.mark.parametrize(
    "given",
    [
        {"layers": [8, 8, 8, 8], "inputs": [1] * 8, "targets": [0] * 8, "hidden": "gelu", "train_biases": True},
        {"layers": [1, 1], "inputs": [-100], "targets": [100], "output": "softplus"},
        {"layers": [4, 5, 5, 3], "inputs": [1, 2, 3, 4], "targets": [1, 0, 0], "loss": "cross-entropy"},
        {"layers": [1, 8, 1], "inputs": [0], "targets": [0], "hidden": "step", "output": "step"},
    ],
)
def test_networks_of_all_sizes_are_drawn(given, tmp_path):
    shown = thalweg.explain("backprop", weights="random", biases="random", updates=20, **given)
    frames = shown.result.frames
    assert len(frames) in range(8, 15) and all(len(frame.caption) <= 300 for frame in frames)
    assert {frame.draw().size for frame in frames[-4:]} == {(1800, 1280)}
    assert (
        json.loads(shown.save(tmp_path / "a.json").read_text(encoding="utf-8"))["numbers"]["check"]["autograd"] < 1e-9
    )
