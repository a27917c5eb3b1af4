"""Backpropagation against the published numbers of Mazur's example, PyTorch's own layers, and central differences."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import thalweg
from thalweg.cli import main as cli
from thalweg.concepts.backprop import backprop_math
from thalweg.concepts.backprop.backprop_math import DERIVATIVES, MLP, NON_SMOOTH
from thalweg.concepts.backprop.compute import BackpropSettings, backprop
from thalweg.errors import OptionError
from thalweg.layers.activations import ACTIVATIONS, MODERN_ACTIVATIONS, build_activation

ALL_ACTIVATIONS = sorted({**ACTIVATIONS, **MODERN_ACTIVATIONS})


@pytest.fixture(scope="module")
def example():
    """The numbers of the default example."""
    return backprop(BackpropSettings()).numbers


# --- the published example --------------------------------------------------------------------------------------------


def test_forward_pass_matches_published_numbers(example):
    _, hidden, output = example["layers"]
    assert hidden["pre_activations"] == pytest.approx([0.3775, 0.3925], abs=1e-12)
    assert hidden["activations"] == pytest.approx([0.593269992, 0.596884378], abs=1e-9)
    assert output["pre_activations"][0] == pytest.approx(1.105905967, abs=1e-9)
    assert output["activations"] == pytest.approx([0.75136507, 0.772928465], abs=1e-9)
    assert example["losses"] == pytest.approx([0.274811083, 0.023560026], abs=1e-9)
    assert example["loss"] == pytest.approx(0.298371109, abs=1e-9)


def test_backward_pass_matches_published_numbers(example):
    _, hidden, output = example["layers"]
    assert output["deltas"] == pytest.approx([0.138498562, -0.038098236], abs=1e-8)
    assert output["weight_gradients"][0][0] == pytest.approx(0.082167041, abs=1e-9)
    assert hidden["weight_gradients"][0][0] == pytest.approx(0.000438568, abs=1e-9)


def test_gradient_step_matches_published_numbers(example):
    _, hidden, output = example["layers"]
    first = sum(hidden["updated_weights"], [])
    last = sum(output["updated_weights"], [])
    assert first == pytest.approx([0.149780716, 0.19956143, 0.24975114, 0.29950229], abs=1e-8)
    assert last == pytest.approx([0.35891648, 0.408666186, 0.511301270, 0.561370121], abs=1e-8)
    assert hidden["updated_biases"] == [0.35]
    assert output["updated_biases"] == [0.6]
    # published as 0.291027924, from rounded weights
    assert example["updated_loss"] == pytest.approx(0.2910277737, abs=1e-10)


def test_loss_after_ten_thousand_steps_matches_published_number(example):
    curve = example["curve"]
    assert curve["step"][0] == 0
    assert curve["step"][-1] == 10_000
    assert example["final"]["loss"] == curve["loss"][-1] == pytest.approx(0.0000351085, rel=1e-3)
    assert example["final"]["outputs"] == pytest.approx([0.015912196, 0.984065734], abs=1e-4)
    assert "0.0000351" in backprop(BackpropSettings()).key_numbers.values()
    assert all(after < before for before, after in zip(curve["loss"], curve["loss"][1:], strict=False))


def test_formulas_are_written_out_with_numbers(example):
    lines = {line[0] for step in example["steps"] for line in step["lines"]}
    assert "∂E/∂w5 = δ_o1 · y_h1 = (0.75137 − 0.01) · 0.75137 · (1 − 0.75137) · 0.59327 = 0.082167" in lines
    assert "∂E/∂w1 = δ_h1 · x1 = 0.0087714 · 0.05 = 0.00043857" in lines
    assert "w5 = 0.4 − 0.5 · 0.082167 = 0.35892" in lines
    assert "E_o1 = ½ (0.01 − 0.75137)² = 0.27481" in lines


def test_steps_run_forward_then_backward_and_cover_every_weight(example):
    steps = [(step["kind"], step["layer"]) for step in example["steps"]]
    assert steps == [
        ("inputs", 0),
        ("forward", 1),
        ("forward", 2),
        ("loss", None),
        ("deltas", 2),
        ("gradients", 2),
        ("deltas", 1),
        ("gradients", 1),
        ("update", None),
        ("updated-loss", None),
        ("curve", None),
    ]
    text = " ".join(line[0] for step in example["steps"] if step["kind"] == "gradients" for line in step["lines"])
    assert all(f"∂E/∂w{number} = " in text for number in range(1, 9))


# --- the mathematics, against PyTorch and central differences ---------------------------------------------------------


@st.composite
def networks(draw):
    """(mlp, inputs, targets) with any activations, either loss, and biases that are shared or not."""
    sizes = draw(st.lists(st.integers(1, 5), min_size=2, max_size=4))
    softmax = draw(st.booleans())
    sizes[-1] += softmax
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    activations = [draw(st.sampled_from(ALL_ACTIVATIONS)) for _ in sizes[1:]]
    mlp = MLP(
        [randn(fan_out, fan_in) for fan_in, fan_out in zip(sizes, sizes[1:], strict=False)],
        [randn(1 if draw(st.booleans()) else units) for units in sizes[1:]],
        [*activations[:-1], "identity"] if softmax else activations,
        softmax,
    )
    inputs = randn(sizes[0])
    targets = randn(sizes[-1])
    return mlp, inputs, torch.softmax(targets, 0) if softmax else targets


def build_torch_model(mlp: MLP, without_output_activation: bool) -> nn.Sequential:
    """The same network built from PyTorch's own layers."""
    modules = []
    for weights_JI, biases_J, activation in zip(mlp.weights, mlp.biases, mlp.activations, strict=True):
        layer = nn.Linear(weights_JI.shape[1], weights_JI.shape[0], dtype=torch.float64)
        layer.weight.data = weights_JI.clone()
        layer.bias.data = biases_J.expand(len(weights_JI)).clone()
        modules += [layer, build_activation(activation)]
    return nn.Sequential(*modules[:-1] if without_output_activation else modules)


def is_far_from_kinks(mlp: MLP, pre_activations) -> bool:
    pairs = zip(mlp.activations, pre_activations, strict=True)
    return all(float(s.abs().min()) > 1e-3 for name, s in pairs if name in (*NON_SMOOTH, "elu"))


@settings(max_examples=150, deadline=None)
@given(networks())
def test_gradients_match_autograd_and_central_differences(case):
    mlp, inputs, targets = case
    forward_pass = backprop_math.forward(mlp, inputs, targets)
    backward_pass = backprop_math.backward(mlp, forward_pass, targets)
    ours = [*backward_pass.weight_gradients, *backward_pass.bias_gradients]
    scale = max(1.0, *(float(g.abs().max()) for g in ours))
    for gradient, expected in zip(ours, backprop_math.autograd_gradients(mlp, inputs, targets), strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-13 * scale)
    if is_far_from_kinks(mlp, forward_pass.pre_activations):
        for gradient, expected in zip(ours, backprop_math.numerical_gradients(mlp, inputs, targets), strict=True):
            torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-6 * scale)


@settings(max_examples=60, deadline=None)
@given(networks())
def test_loss_and_gradients_match_the_layers_and_losses_of_pytorch(case):
    mlp, inputs, targets = case
    model = build_torch_model(mlp, without_output_activation=mlp.softmax)
    outputs = model(inputs)
    if mlp.softmax:
        loss = nn.functional.cross_entropy(outputs, targets)
    else:
        loss = nn.functional.mse_loss(outputs, targets, reduction="sum") / 2
    forward_pass = backprop_math.forward(mlp, inputs, targets)
    torch.testing.assert_close(forward_pass.loss, loss.detach(), rtol=1e-12, atol=1e-14)
    if not loss.requires_grad or "step" in mlp.activations:
        return
    loss.backward()
    backward_pass = backprop_math.backward(mlp, forward_pass, targets)
    linear = [layer for layer in model if isinstance(layer, nn.Linear)]
    for layer, weights, biases in zip(
        linear, backward_pass.weight_gradients, backward_pass.bias_gradients, strict=True
    ):
        torch.testing.assert_close(weights, layer.weight.grad, rtol=1e-12, atol=1e-12)
        expected = layer.bias.grad if len(biases) == len(layer.bias) else layer.bias.grad.sum().reshape(1)
        torch.testing.assert_close(biases, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ALL_ACTIVATIONS)
def test_every_derivative_matches_autograd(name):
    s = torch.cat([torch.linspace(-30, 30, 601), torch.tensor([0.0, 20.0, 20.001])]).double().requires_grad_()
    y = build_activation(name)(s)
    derivatives = DERIVATIVES[name](s.detach(), y.detach())
    expected = torch.autograd.grad((y + 0 * s).sum(), s)[0]
    torch.testing.assert_close(derivatives, expected, rtol=1e-12, atol=1e-15)


def test_every_activation_has_a_derivative():
    assert sorted(DERIVATIVES) == ALL_ACTIVATIONS


def test_training_matches_the_sgd_of_pytorch_and_updates_biases_on_request():
    options = BackpropSettings(
        layers=[3, 4, 2],
        inputs=[1, -0.5, 2],
        targets=[0.3, 0.7],
        weights="random",
        biases="random",
        hidden_activation="tanh",
        loss="cross-entropy",
        lr=0.2,
        steps=25,
        train_biases=True,
        seed=3,
    )
    numbers = backprop(options).numbers
    hidden, output = numbers["layers"][1:]
    mlp = MLP(
        [torch.tensor(layer["weights"], dtype=torch.float64) for layer in (hidden, output)],
        [torch.tensor(layer["biases"], dtype=torch.float64) for layer in (hidden, output)],
        ["tanh", "identity"],
        softmax=True,
    )
    model = build_torch_model(mlp, without_output_activation=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    inputs = torch.tensor(options.inputs, dtype=torch.float64)
    targets = torch.tensor(options.targets, dtype=torch.float64)
    for _ in range(25):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    final = numbers["final"]
    assert final["loss"] == pytest.approx(nn.functional.cross_entropy(model(inputs), targets).item(), rel=1e-12)
    for biases, layer in zip(final["biases"], (model[0], model[2]), strict=True):
        assert biases == pytest.approx(layer.bias.tolist(), rel=1e-12)
    assert hidden["biases"] != hidden["updated_biases"]
    assert sum(final["outputs"]) == pytest.approx(1)


def test_gradient_of_a_shared_bias_is_the_sum_of_the_deltas():
    numbers = backprop(BackpropSettings(train_biases=True, steps=1)).numbers
    for layer in numbers["layers"][1:]:
        assert layer["bias_gradients"] == pytest.approx([sum(layer["deltas"])], rel=1e-15)
        assert layer["updated_biases"] == pytest.approx([layer["biases"][0] - 0.5 * sum(layer["deltas"])])


def test_equal_biases_per_unit_give_the_loss_of_a_shared_bias():
    shared = backprop(BackpropSettings(steps=0)).numbers
    per_unit = backprop(BackpropSettings(biases=[0.35, 0.35, 0.6, 0.6], steps=0)).numbers
    assert per_unit["loss"] == shared["loss"]
    assert [layer["bias_names"] for layer in per_unit["layers"][1:]] == [["b1", "b2"], ["b3", "b4"]]


def test_gradient_check_is_among_the_numbers(example):
    check = example["gradient_check"]
    assert 0 <= check["autograd"] < 1e-15
    assert 0 < check["central_differences"] < 1e-9
    assert check["max_gradient"] == pytest.approx(0.138498562 - 0.038098236, abs=1e-8)
    key_numbers = backprop(BackpropSettings(steps=0)).key_numbers
    shown = [float(text.replace("−", "-")) for text in key_numbers.values()]
    assert shown[-1] == pytest.approx(check["central_differences"], rel=0.1)


def test_hidden_gradients_vanish_for_inputs_of_50_as_the_text_says():
    first, last = backprop(BackpropSettings(inputs=[50, 50], steps=0)).numbers["layers"][1:]
    largest = [max(abs(g) for row in layer["weight_gradients"] for g in row) for layer in (first, last)]
    assert largest[0] < 1e-5 * largest[1]


# --- settings ---------------------------------------------------------------------------------------------------------


def test_random_weights_depend_on_the_seed_only_and_have_two_decimals():
    first, same, other = (
        backprop(BackpropSettings(weights="random", biases="random", seed=seed, steps=0)).numbers["layers"][1:]
        for seed in (4, 4, 5)
    )
    assert first == same
    assert first[0]["weights"] != other[0]["weights"]
    values = [w for layer in first for row in (*layer["weights"], layer["biases"]) for w in row]
    assert all(-1 <= w <= 1 and round(w, 2) == w for w in values)
    assert len(set(values)) > 5


@pytest.mark.parametrize("layers", [[3, 4, 2], [1, 1], [2, 3], [4, 2], [8, 8, 8, 8]])
@pytest.mark.parametrize("loss", ["squared-error", "cross-entropy"])
def test_any_layers_run_without_further_settings(layers, loss):
    if loss == "cross-entropy" and layers[-1] == 1:
        return
    numbers = backprop(BackpropSettings(layers=layers, loss=loss, steps=2)).numbers
    assert [len(layer["units"]) for layer in numbers["layers"]] == layers
    assert numbers["updated_loss"] < numbers["loss"]


def test_loss_curve_needs_at_least_one_step():
    assert backprop(BackpropSettings(steps=0)).numbers["steps"][-1]["kind"] == "updated-loss"
    numbers = backprop(BackpropSettings(steps=1)).numbers
    assert numbers["steps"][-1]["kind"] == "curve"
    assert numbers["curve"]["loss"] == [numbers["loss"], numbers["updated_loss"]]


def test_divergence_ends_the_curve_with_a_note():
    result = backprop(BackpropSettings([1, 1], [100.0], [1.0], [100.0], [0.0], output_activation="identity", lr=100.0))
    assert result.numbers["curve"]["diverged"]
    assert len(result.notes) == 1
    json.dumps(result.numbers, allow_nan=False)
    result.frames[-1].draw()


def test_pre_activation_at_a_kink_gives_a_note():
    settings_at_kink = BackpropSettings(
        biases=[-0.0175, 0.6], hidden_activation="relu", weights=[0.15, 0.1, *[0.3] * 6], steps=0
    )
    result = backprop(settings_at_kink)
    assert result.numbers["layers"][1]["pre_activations"][0] == pytest.approx(0, abs=1e-12)
    assert len(result.notes) == 1
    assert not backprop(BackpropSettings(hidden_activation="relu", steps=0)).notes


@pytest.mark.parametrize(
    ("changes", "option", "value"),
    [
        ({"inputs": [1, 2, 3]}, "inputs", [1, 2, 3]),
        ({"targets": [1]}, "targets", [1]),
        ({"weights": [1, 2, 3]}, "weights", [1, 2, 3]),
        ({"layers": [3, 4, 2], "weights": [1] * 8}, "weights", [1] * 8),
        ({"biases": [1, 2, 3]}, "biases", [1, 2, 3]),
        ({"layers": [2, 2, 2, 2, 2]}, "layers", [2, 2, 2, 2, 2]),
        ({"layers": [2]}, "layers", [2]),
        ({"loss": "cross-entropy", "targets": [0.5, 0.6]}, "targets", [0.5, 0.6]),
        ({"loss": "cross-entropy", "targets": [1.5, -0.5]}, "targets", [1.5, -0.5]),
        ({"loss": "cross-entropy", "layers": [2, 2, 1], "targets": [1]}, "layers", [2, 2, 1]),
    ],
)
def test_settings_that_do_not_fit_are_rejected(changes, option, value):
    with pytest.raises(OptionError) as error:
        backprop(BackpropSettings(**changes))
    assert (error.value.option, error.value.value) == (option, value)
    assert error.value.cure


@pytest.mark.parametrize(
    "setting", ["layers=2,9,2", "layers=2,2.5,2", "hidden_activation=softmax", "weights=none", "steps=10001", "lr=-1"]
)
def test_values_out_of_range_are_rejected_on_the_command_line(setting, capsys):
    assert cli.invoke(["explain", "backprop", "--set", setting]) == 2
    assert setting.partition("=")[0].replace("_", "-") in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        {
            "layers": [8, 8, 8, 8],
            "inputs": [1] * 8,
            "targets": [0] * 8,
            "hidden_activation": "gelu",
            "train_biases": True,
        },
        {"layers": [1, 1], "inputs": [-100], "targets": [100], "output_activation": "softplus"},
        {"layers": [4, 5, 5, 3], "inputs": [1, 2, 3, 4], "targets": [1, 0, 0], "loss": "cross-entropy"},
        {"layers": [1, 8, 1], "inputs": [0], "targets": [0], "hidden_activation": "step", "output_activation": "step"},
    ],
)
def test_networks_of_all_sizes_are_drawn(options, tmp_path):
    rendered = thalweg.explain("backprop", weights="random", biases="random", steps=20, **options)
    frames = rendered.result.frames
    assert len(frames) in range(8, 15)
    assert all(len(frame.caption) <= 300 for frame in frames)
    assert {frame.draw().size for frame in frames[-4:]} == {(1800, 1280)}
    saved = json.loads(rendered.save(tmp_path / "a.json").read_text(encoding="utf-8"))
    assert saved["numbers"]["gradient_check"]["autograd"] < 1e-9
