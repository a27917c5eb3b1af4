"""The steps of backpropagation in words, and their formulas with numbers.

Letters: s pre-activations, y activations, t targets, E the loss, δ deltas. Every line of a step comes in several
lengths, longest first, so that the plot can take the longest that fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TypeVar

from ...errors import pluralize
from ...plots.number_format import format_number
from .records import BackpropRecord, LayerRecord, Step

T = TypeVar("T")

#: f′ in letters
_DERIVATIVE_FORMULAS = {
    "identity": "1",
    "step": "0",
    "logistic": "y · (1 − y)",
    "tanh": "1 − y²",
    "arctan": "1 / (1 + s²)",
    "softsign": "1 / (1 + |s|)²",
    "relu": "1 if s > 0, else 0",
    "leaky-relu": "1 if s > 0, else 0.01",
    "elu": "1 if s > 0, else exp(s)",
    "gelu": "Φ(s) + s · φ(s), with the normal distribution's Φ and φ",
    "silu": "σ + y · (1 − σ), with σ = logistic(s)",
    "softplus": "logistic(s)",
}


def build_steps(record: BackpropRecord) -> list[Step]:
    """Return all steps in order: inputs, forward pass, loss, backward pass, update, loss curve."""
    layers = record.layers
    indices = range(1, len(layers))
    steps = [_inputs_step(record)]
    for index in indices:
        steps.append(_forward_step(layers[index - 1], layers[index], index))
    steps.append(_loss_step(record))
    for index in reversed(indices):
        steps.append(_deltas_step(record, index))
        steps.append(_gradients_step(record, index))
    steps.append(_update_step(record))
    steps.append(_updated_loss_step(record))
    if len(record.curve.step) > 1:
        steps.append(_curve_step(record))
    return steps


# --- forward pass -----------------------------------------------------------------------------------------------------


def _inputs_step(record: BackpropRecord) -> Step:
    layers = record.layers
    sizes = "-".join(str(len(layer.units)) for layer in layers)
    count = 0
    for layer in layers[1:]:
        count += sum(map(len, layer.weights))
    inputs = _abbreviate(layers[0].units, layers[0].activations)
    targets = _abbreviate(layers[-1].units, record.targets)
    lines = []
    for layer in layers[1:]:
        for j in range(len(layer.units)):
            lines.append([_format_incoming(layer, j), _name_incoming(layer, j)])
    return Step(
        kind="inputs",
        layer=0,
        title="Inputs, targets and initial weights",
        rule="weights and bias of each unit",
        lines=lines,
        caption=f"A network of {sizes} units with {pluralize(count, 'weight')}. Inputs: {inputs}; targets: {targets}.",
    )


def _format_incoming(layer: LayerRecord, j: int) -> str:
    """Format the weights and the bias of unit `j`."""
    pairs = zip(layer.weight_names[j], layer.weights[j], strict=True)
    weights = []
    for name, weight in pairs:
        weights.append(f"{name} = {format_number(weight)}")
    bias = _per_unit(layer.biases, j)
    return f"into {layer.units[j]}: {', '.join(weights)};  {_per_unit(layer.bias_names, j)} = {format_number(bias)}"


def _name_incoming(layer: LayerRecord, j: int) -> str:
    """Name the weights and the bias of unit `j`, without values."""
    names = layer.weight_names[j]
    weights = names[0]
    if len(names) > 1:
        weights = f"{names[0]}–{names[-1]}"
    return f"into {layer.units[j]}: {weights}, {_per_unit(layer.bias_names, j)}"


def _forward_step(below: LayerRecord, layer: LayerRecord, index: int) -> Step:
    lines = []
    for j in range(len(layer.units)):
        lines.append(_forward_lines(below, layer, j))
    rule = f"s = Σ w · y + b,   y = {layer.activation}(s)"
    if layer.activation == "softmax":
        rule = "s = Σ w · y + b,   y = exp(s) / Σ exp(s)"
    return Step(
        kind="forward",
        layer=index,
        title=f"Forward pass: {layer.name}",
        rule=rule,
        lines=lines,
        caption=f"Each unit of {layer.name} computes its pre-activation s, the weighted sum of its inputs plus the "
        f"bias, and applies the activation {layer.activation}: {_abbreviate(layer.units, layer.activations)}.",
    )


def _forward_lines(below: LayerRecord, layer: LayerRecord, j: int) -> list[str]:
    """Write out pre-activation and activation of unit `j`, in three lengths."""
    unit = layer.units[j]
    products = []
    letters = []
    for i, weight in enumerate(layer.weights[j]):
        products.append(f"{_parenthesize(weight)} · {_parenthesize(below.activations[i])}")
        letters.append(f"{layer.weight_names[j][i]} · {_activation_symbol(below, i)}")
    if len(letters) > 2:
        letters = [letters[0], "…", letters[-1]]
    s = format_number(layer.pre_activations[j])
    y = format_number(layer.activations[j])
    activation = f"y_{unit} = {layer.activation}({s}) = {y}"
    if layer.activation == "softmax":
        activation = f"y_{unit} = {y}"
    bias = _parenthesize(_per_unit(layer.biases, j))
    bias_name = _per_unit(layer.bias_names, j)
    return [
        f"s_{unit} = {' + '.join(products)} + {bias} = {s}      {activation}",
        f"s_{unit} = {' + '.join(letters)} + {bias_name} = {s}      {activation}",
        f"s_{unit} = {s}      {activation}",
    ]


def _loss_step(record: BackpropRecord) -> Step:
    layer = record.layers[-1]
    is_cross_entropy = record.loss_function == "cross-entropy"
    lines = []
    for unit, y, t, loss in zip(layer.units, layer.activations, record.targets, record.losses, strict=True):
        if is_cross_entropy:
            lines.append([f"E_{unit} = −{_parenthesize(t)} · ln {format_number(y)} = {format_number(loss)}"])
        else:
            lines.append([f"E_{unit} = ½ ({format_number(t)} − {_parenthesize(y)})² = {format_number(loss)}"])
    rule = "E = Σ ½ (t − y)²"
    if is_cross_entropy:
        rule = "E = −Σ t · ln y"
    total = format_number(record.loss)
    if len(lines) > 1:
        lines.append([f"E = {' + '.join(map(_parenthesize, record.losses))} = {total}", f"E = {total}"])
    return Step(
        kind="loss",
        layer=None,
        title="The loss",
        rule=rule,
        lines=lines,
        caption=f"The loss compares the outputs with the targets: it is {format_number(record.loss, 8)}.",
    )


# --- backward pass ----------------------------------------------------------------------------------------------------


def _deltas_step(record: BackpropRecord, index: int) -> Step:
    layer = record.layers[index]
    if index == len(record.layers) - 1:
        rule = "δ = y − t" if layer.derivatives is None else "δ = (y − t) · f′(s)"
        caption = "The delta of an output is the derivative of the loss by its pre-activation"
    else:
        rule = "δ = (Σ w · δ of the layer above) · f′(s)"
        caption = "The deltas above flow back through the same weights, times the derivative of the activation"
    if layer.derivatives is not None:
        rule += f"     {layer.activation}: f′ = {_DERIVATIVE_FORMULAS[layer.activation]}"
    lines = []
    for j, (unit, delta) in enumerate(zip(layer.units, layer.deltas, strict=True)):
        letters, written = _format_delta(record, index, j)
        value = format_number(delta)
        lines.append(
            [
                f"δ_{unit} = {letters} = {written} = {value}",
                f"δ_{unit} = {written} = {value}",
                f"δ_{unit} = {letters} = {value}",
                f"δ_{unit} = {value}",
            ]
        )
    deltas = _abbreviate(_name_deltas(layer), layer.deltas)
    return Step("deltas", index, f"Backward pass: deltas of {layer.name}", rule, lines, f"{caption}: {deltas}.")


def _name_deltas(layer: LayerRecord) -> list[str]:
    return [f"δ_{unit}" for unit in layer.units]


def _format_delta(record: BackpropRecord, index: int, j: int) -> tuple[str, str]:
    """Return the delta of unit `j` of a layer in letters, and with numbers."""
    layer = record.layers[index]
    if index < len(record.layers) - 1:
        return _format_hidden_delta(layer, record.layers[index + 1], j)
    letters = "y − t" if layer.derivatives is None else "(y − t) · f′"
    return letters, _format_output_delta(record, j)


def _format_output_delta(record: BackpropRecord, j: int) -> str:
    """Write out the delta of an output: y − t, times f′ unless it is softmax."""
    layer = record.layers[-1]
    difference = f"{format_number(layer.activations[j])} − {_parenthesize(record.targets[j])}"
    if layer.derivatives is None:
        return difference
    return f"({difference}) · {_format_derivative(layer, j)}"


def _format_hidden_delta(layer: LayerRecord, above: LayerRecord, j: int) -> tuple[str, str]:
    """Return the delta of a hidden unit in letters, and with numbers."""
    products = []
    letters = []
    for k, delta in enumerate(above.deltas):
        products.append(f"{_parenthesize(above.weights[k][j])} · {_parenthesize(delta)}")
        letters.append(f"{above.weight_names[k][j]} δ_{above.units[k]}")
    if len(letters) > 3:
        letters = [letters[0], "…", letters[-1]]
    sum_in_letters = " + ".join(letters)
    total = " + ".join(products)
    if len(products) > 1:
        sum_in_letters = f"({sum_in_letters})"
        total = f"({total})"
    return f"{sum_in_letters} · f′", f"{total} · {_format_derivative(layer, j)}"


def _format_derivative(layer: LayerRecord, j: int) -> str:
    """Format f′ of a unit, written out if it follows from the activation alone."""
    y = layer.activations[j]
    if layer.activation == "logistic":
        return f"{format_number(y)} · (1 − {format_number(y)})"
    if layer.activation == "tanh":
        return f"(1 − {_parenthesize(y)}²)"
    assert layer.derivatives is not None
    return format_number(layer.derivatives[j])


def _gradients_step(record: BackpropRecord, index: int) -> Step:
    layer = record.layers[index]
    lines = []
    for j in range(len(layer.units)):
        lines += _format_weight_gradients(record, index, j)
    lines += _format_bias_gradients(layer)
    names = list(chain.from_iterable(layer.weight_names))
    gradients = list(chain.from_iterable(layer.weight_gradients))
    return Step(
        kind="gradients",
        layer=index,
        title=f"Backward pass: gradients of the weights into {layer.name}",
        rule="∂E/∂w = δ of the unit above · y of the unit below",
        lines=lines,
        caption="The gradient of a weight is the delta of the unit above it times the activation of the unit below it: "
        f"{_abbreviate(names, gradients)}.",
    )


def _format_weight_gradients(record: BackpropRecord, index: int, j: int) -> list[list[str]]:
    """Write out the gradients of the weights into unit `j`, each in four lengths."""
    layer = record.layers[index]
    below = record.layers[index - 1]
    delta = _parenthesize(layer.deltas[j])
    written_delta = delta
    if index == len(record.layers) - 1:
        # the delta of an output is short enough to be written out again
        written_delta = _format_output_delta(record, j)
        if layer.derivatives is None:
            written_delta = f"({written_delta})"
    lines = []
    for i, gradient in enumerate(layer.weight_gradients[j]):
        weight = layer.weight_names[j][i]
        y = _parenthesize(below.activations[i])
        value = format_number(gradient)
        letters = f"∂E/∂{weight} = δ_{layer.units[j]} · {_activation_symbol(below, i)}"
        lines.append(
            [
                f"{letters} = {written_delta} · {y} = {value}",
                f"{letters} = {delta} · {y} = {value}",
                f"∂E/∂{weight} = {delta} · {y} = {value}",
                f"{weight}: {value}",
            ]
        )
    return lines


def _format_bias_gradients(layer: LayerRecord) -> list[list[str]]:
    """Write out the gradients of the biases: the delta of the unit, or the sum of all deltas for a shared bias."""
    is_shared = len(layer.biases) < len(layer.units)
    lines = []
    for j, (name, gradient) in enumerate(zip(layer.bias_names, layer.bias_gradients, strict=True)):
        value = format_number(gradient)
        letters = f"δ_{layer.units[j]}"
        written = ""
        if is_shared:
            letters = " + ".join(_name_deltas(layer))
            written = f" = {' + '.join(map(_parenthesize, layer.deltas))}"
        lines.append([f"∂E/∂{name} = {letters}{written} = {value}", f"∂E/∂{name} = {value}", f"{name}: {value}"])
    return lines


# --- gradient step ----------------------------------------------------------------------------------------------------


def _update_step(record: BackpropRecord) -> Step:
    lr = format_number(record.lr)
    lines = []
    for layer in record.layers[1:]:
        for name, value, gradient, updated in _list_updates(layer, record.train_biases):
            new = format_number(updated)
            lines.append(
                [
                    f"{name} = {format_number(value)} − {lr} · {_parenthesize(gradient)} = {new}",
                    f"{name}: {format_number(value)} → {new}",
                    f"{name}: {new}",
                ]
            )
    layer = record.layers[-1]
    biases = "so does every bias" if record.train_biases else "the biases stay fixed"
    return Step(
        kind="update",
        layer=None,
        title="Gradient step: every weight moves against its gradient",
        rule="w ← w − η · ∂E/∂w",
        lines=lines,
        caption=f"Every weight moves against its gradient with the learning rate {lr}; {biases}: "
        f"{layer.weight_names[0][0]} from {format_number(layer.weights[0][0])} "
        f"to {format_number(layer.updated_weights[0][0], 8)}.",
    )


def _list_updates(layer: LayerRecord, train_biases: bool) -> list[tuple[str, float, float, float]]:
    """List (name, value, gradient, new value) of every weight, and of every bias if they are trained."""
    updates = []
    for rows in zip(layer.weight_names, layer.weights, layer.weight_gradients, layer.updated_weights, strict=True):
        updates += zip(*rows, strict=True)
    if train_biases:
        updates += zip(layer.bias_names, layer.biases, layer.bias_gradients, layer.updated_biases, strict=True)
    return updates


def _updated_loss_step(record: BackpropRecord) -> Step:
    layer = record.layers[-1]
    lines = []
    for j, unit in enumerate(layer.units):
        change = f"y_{unit}: {format_number(layer.activations[j])} → {format_number(layer.updated_activations[j])}"
        target = format_number(record.targets[j])
        loss = format_number(record.updated_losses[j])
        lines.append([f"{change}, target {target}      E_{unit} = {loss}", change])
    lines.append([f"E: {format_number(record.loss, 8)} → {format_number(record.updated_loss, 8)}"])
    change = "is the same"
    if record.updated_loss < record.loss:
        change = "has decreased"
    elif record.updated_loss > record.loss:
        change = "has increased"
    return Step(
        kind="updated-loss",
        layer=None,
        title=f"Second forward pass: the loss {change}",
        rule="",
        lines=lines,
        caption=f"The same inputs with the updated weights: the loss was {format_number(record.loss, 10)} and is "
        f"{format_number(record.updated_loss, 10)} after one gradient step.",
    )


def _curve_step(record: BackpropRecord) -> Step:
    outputs = _abbreviate(record.layers[-1].units, record.final.outputs)
    steps = pluralize(record.curve.step[-1], "gradient step").replace(",", "")
    return Step(
        kind="curve",
        layer=None,
        title=f"The loss over {steps}",
        rule="",
        lines=[],
        caption=f"After {steps} the loss is {format_number(record.final.loss, 4)} and the outputs are {outputs}.",
    )


# --- formatting -------------------------------------------------------------------------------------------------------


def _parenthesize(value: float) -> str:
    """Format a factor or summand: in parentheses if it is negative."""
    text = format_number(value)
    if value < 0:
        return f"({text})"
    return text


def _abbreviate(names: Sequence[str], values: Sequence[float]) -> str:
    """Format 'h1 0.5933, h2 0.5969'; more than four become the first three and '…'."""
    pairs = []
    for name, value in zip(names, values, strict=True):
        pairs.append(f"{name} {format_number(value, 4)}")
    if len(pairs) > 4:
        pairs = [*pairs[:3], "…"]
    return ", ".join(pairs)


def _per_unit(values: Sequence[T], j: int) -> T:
    """Return the value of unit `j`; a single value is shared by all units."""
    if len(values) == 1:
        return values[0]
    return values[j]


def _activation_symbol(below: LayerRecord, i: int) -> str:
    """Return the letter for the activation of unit `i` below: 'y_h1', or 'x1' for an input."""
    unit = below.units[i]
    if not below.pre_activations:
        return unit
    return f"y_{unit}"
