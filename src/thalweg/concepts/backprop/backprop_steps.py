"""The steps of backpropagation in words, and their formulas with the numbers written out.

Every line of a step comes in up to three lengths, longest first, so that a drawing takes the longest that fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...errors import pluralize
from ...plots.number_format import format_number

Layer = dict[str, Any]
Lines = list[list[str]]

_DERIVATIVE_FORMULAS = {
    "identity": "1",
    "step": "0",
    "logistic": "out · (1 − out)",
    "tanh": "1 − out²",
    "arctan": "1 / (1 + sum²)",
    "softsign": "1 / (1 + |sum|)²",
    "relu": "1 where the sum is above 0, else 0",
    "leaky-relu": "1 where the sum is above 0, else 0.01",
    "elu": "1 where the sum is above 0, else e to the sum",
    "gelu": "Φ(sum) + sum · φ(sum), with the normal distribution's Φ and φ",
    "silu": "σ + out · (1 − σ), with σ = logistic(sum)",
    "softplus": "logistic(sum)",
}


def _parenthesize(value: float) -> str:
    """The same as a factor or a summand: in brackets where it is negative."""
    return f"({format_number(value)})" if value < 0 else format_number(value)


def build_steps(numbers: dict[str, Any]) -> list[dict[str, Any]]:
    """The steps from the inputs to the curve, in order.

    Each is a mapping: `kind`, `layer` (its place, 0 the inputs; None where it is about all), `title`, `rule` (the
    formula in letters), `lines` (the formula with numbers, in several lengths each), `caption`.
    """
    layers = numbers["layers"]
    above = range(1, len(layers))
    found = [_inputs_step(numbers)]
    found += [_forward_step(layers, place) for place in above]
    found.append(_loss_step(numbers))
    for place in reversed(above):
        found += [_deltas_step(numbers, place), _gradients_step(numbers, place)]
    found += [_update_step(numbers), _updated_loss_step(numbers)]
    return found + ([_curve_step(numbers)] if len(numbers["curve"]["update"]) > 1 else [])


def _make_step(kind: str, place: int | None, title: str, rule: str, lines: Lines, caption: str) -> dict[str, Any]:
    return {"kind": kind, "layer": place, "title": title, "rule": rule, "lines": lines, "caption": caption}


def _abbreviate(names: Sequence[str], values: Sequence[float]) -> str:
    """'h1 0.5933, h2 0.5969', of many the first three."""
    told = [f"{name} {format_number(value, 4)}" for name, value in zip(names, values, strict=True)]
    return ", ".join(told if len(told) <= 4 else [*told[:3], "…"])


def _inputs_step(numbers: dict[str, Any]) -> dict[str, Any]:
    layers, targets = numbers["layers"], numbers["targets"]
    sizes = "-".join(str(len(layer["units"])) for layer in layers)
    count = sum(len(row) for layer in layers[1:] for row in layer["weights"])
    went_in = _abbreviate(layers[0]["units"], layers[0]["outputs"])
    wanted = _abbreviate(layers[-1]["units"], targets)
    lines = [
        [_incoming_weights(layer, unit), _incoming_weights(layer, unit, short=True)]
        for layer in layers[1:]
        for unit in range(len(layer["units"]))
    ]
    return _make_step(
        "inputs", 0, "What goes in, and what should come out", "the weights into each unit, and its bias", lines,
        f"A network of {sizes} units and {pluralize(count, 'weight')}. In goes {went_in}; "
        f"what should come out is {wanted}.",
    )  # fmt: skip


def _incoming_weights(layer: Layer, unit: int, short: bool = False) -> str:
    """The weights into a unit and its bias, or in short their names."""
    names, bias = layer["weight_names"][unit], _unit_value(layer["bias_names"], unit)
    if short:
        weights = names[0] if len(names) == 1 else f"{names[0]}–{names[-1]}"
        return f"into {layer['units'][unit]}: {weights}, {bias}"
    weights = ", ".join(f"{n} = {format_number(w)}" for n, w in zip(names, layer["weights"][unit], strict=True))
    return f"into {layer['units'][unit]}: {weights};  {bias} = {format_number(_unit_value(layer['biases'], unit))}"


def _forward_step(layers: Sequence[Layer], place: int) -> dict[str, Any]:
    below, layer = layers[place - 1], layers[place]
    lines = []
    for unit, name in enumerate(layer["units"]):
        # the one bias of a layer belongs to every unit of it
        bias, bias_name = _unit_value(layer["biases"], unit), _unit_value(layer["bias_names"], unit)
        products = " + ".join(
            f"{_parenthesize(w)} · {_parenthesize(y)}"
            for w, y in zip(layer["weights"][unit], below["outputs"], strict=True)
        )
        total, out = format_number(layer["sums"][unit]), format_number(layer["outputs"][unit])
        bent = f"out {name} = {layer['activation']}({total}) = {out}"
        names = [f"{w} · {_output_symbol(below, n)}" for n, w in enumerate(layer["weight_names"][unit])]
        short = " + ".join(names if len(names) < 3 else [names[0], "…", names[-1]])
        if layer["activation"] == "softmax":
            bent = f"out {name} = {out}"
        lines.append(
            [
                f"sum {name} = {products} + {_parenthesize(bias)} = {total}      {bent}",
                f"sum {name} = {short} + {bias_name} = {total}      {bent}",
                f"sum {name} = {total}      {bent}",
            ]
        )
    rule = f"sum = weights · values below + bias,   out = {layer['activation']}(sum)"
    if layer["activation"] == "softmax":
        rule = "sum = weights · values below + bias,   out = exp(sum) / (the exp(sum) of all outputs together)"
    told = _abbreviate(layer["units"], layer["outputs"])
    return _make_step(
        "forward", place, f"Forward: {layer['name']}", rule, lines,
        f"Each unit of {layer['name']} adds up what comes in times the weights, and its bias; "
        f"the activation {layer['activation']} makes the output of the sum: {told}.",
    )  # fmt: skip


def _unit_value(values: Sequence[Any], unit: int) -> Any:
    return values[unit] if len(values) > 1 else values[0]


def _output_symbol(below: Layer, unit: int) -> str:
    """What comes out of a unit below, in letters: an input is itself."""
    return below["units"][unit] if "sums" not in below else f"out {below['units'][unit]}"


def _loss_step(numbers: dict[str, Any]) -> dict[str, Any]:
    layer, lines = numbers["layers"][-1], []
    softmax = numbers["loss"] == "cross-entropy"
    for name, out, target, error in zip(
        layer["units"], layer["outputs"], numbers["targets"], numbers["errors"], strict=True
    ):
        if softmax:
            lines.append([f"E {name} = −{_parenthesize(target)} · ln {format_number(out)} = {format_number(error)}"])
        else:
            lines.append([f"E {name} = ½ ({format_number(target)} − {_parenthesize(out)})² = {format_number(error)}"])
    total = format_number(numbers["error"])
    if len(lines) > 1:
        lines.append([f"E = {' + '.join(_parenthesize(one) for one in numbers['errors'])} = {total}", f"E = {total}"])
    rule = "E = the sum of −target · ln out" if softmax else "E = the sum of ½ (target − out)²"
    caption = "The outputs are compared with the targets: the error is "
    return _make_step("errors", None, "The error", rule, lines, f"{caption}{format_number(numbers['error'], 8)}.")


def _format_derivative(layer: Layer, unit: int) -> str:
    """The slope of a unit's activation, written out where it follows from its output."""
    out = layer["outputs"][unit]
    if layer["activation"] == "logistic":
        return f"{format_number(out)} · (1 − {format_number(out)})"
    if layer["activation"] == "tanh":
        return f"(1 − {_parenthesize(out)}²)"
    return format_number(layer["slopes"][unit])


def _output_delta(numbers: dict[str, Any], unit: int) -> str:
    """The delta of an output written out: its difference from the target, times the slope where there is one."""
    layer = numbers["layers"][-1]
    missed = f"{format_number(layer['outputs'][unit])} − {_parenthesize(numbers['targets'][unit])}"
    return missed if layer["slopes"] is None else f"({missed}) · {_format_derivative(layer, unit)}"


def _hidden_delta(layers: Sequence[Layer], place: int, unit: int) -> tuple[str, str]:
    """The delta of a hidden unit in letters, and written out."""
    layer, above = layers[place], layers[place + 1]
    products = [
        f"{_parenthesize(row[unit])} · {_parenthesize(d)}"
        for row, d in zip(above["weights"], above["deltas"], strict=True)
    ]
    names = [f"{row[unit]} δ{name}" for row, name in zip(above["weight_names"], above["units"], strict=True)]
    letters = " + ".join(names if len(names) < 4 else [names[0], "…", names[-1]])
    left, right = ("(", ")") if len(products) > 1 else ("", "")
    return f"{left}{letters}{right} · slope", f"{left}{' + '.join(products)}{right} · {_format_derivative(layer, unit)}"


def _deltas_step(numbers: dict[str, Any], place: int) -> dict[str, Any]:
    layers, layer = numbers["layers"], numbers["layers"][place]
    last, softmax = place == len(layers) - 1, layer["slopes"] is None
    if last:
        rule = letters = "out − target" if softmax else "(out − target) · slope"
        caption = "The delta of an output is how much the error changes with its sum"
    else:
        rule = "(weights · deltas above) · slope"
        caption = "The deltas above come back through the same weights, times the slope of the unit itself"
    lines = []
    for unit, (name, delta) in enumerate(zip(layer["units"], layer["deltas"], strict=True)):
        if last:
            written = _output_delta(numbers, unit)
        else:
            letters, written = _hidden_delta(layers, place, unit)
        start, end = f"δ{name} = ", f" = {format_number(delta)}"
        lines.append(
            [f"{start}{letters} = {written}{end}", f"{start}{written}{end}", f"{start}{letters}{end}", start + end[3:]]
        )
    slope = "" if softmax else f"     slope of {layer['activation']}: {_DERIVATIVE_FORMULAS[layer['activation']]}"
    return _make_step(
        "deltas", place, f"Backward: the deltas of {layer['name']}", f"δ = {rule}{slope}", lines,
        f"{caption}: {_abbreviate(['δ' + name for name in layer['units']], layer['deltas'])}.",
    )  # fmt: skip


def _gradients_step(numbers: dict[str, Any], place: int) -> dict[str, Any]:
    below, layer, lines = numbers["layers"][place - 1], numbers["layers"][place], []
    last = place == len(numbers["layers"]) - 1
    for unit, name in enumerate(layer["units"]):
        delta = _parenthesize(layer["deltas"][unit])
        # the delta of an output is short enough to be written out again
        whole = _output_delta(numbers, unit) if last else delta
        if last and layer["slopes"] is None:
            whole = f"({whole})"
        for source, (weight, gradient) in enumerate(
            zip(layer["weight_names"][unit], layer["weight_gradients"][unit], strict=True)
        ):
            value, told = _parenthesize(below["outputs"][source]), format_number(gradient)
            letters = f"∂E/∂{weight} = δ{name} · {_output_symbol(below, source)}"
            lines.append(
                [
                    f"{letters} = {whole} · {value} = {told}",
                    f"{letters} = {delta} · {value} = {told}",
                    f"∂E/∂{weight} = {delta} · {value} = {told}",
                    f"{weight}: {told}",
                ]
            )
    lines += _format_bias_gradients(layer)
    names = [name for row in layer["weight_names"] for name in row]
    first = [value for row in layer["weight_gradients"] for value in row]
    return _make_step(
        "gradients", place, f"Backward: the gradients of the weights into {layer['name']}",
        "∂E/∂w = δ where the weight leads to · value that came in through it", lines,
        f"The gradient of a weight is the delta where it leads to times the value that came in through it: "
        f"{_abbreviate(names, first)}.",
    )  # fmt: skip


def _format_bias_gradients(layer: Layer) -> Lines:
    """A bias has the delta of its unit; one that several units share has the sum of their deltas."""
    shared = len(layer["biases"]) < len(layer["units"])
    lines = []
    for place, (name, gradient) in enumerate(zip(layer["bias_names"], layer["bias_gradients"], strict=True)):
        told = format_number(gradient)
        letters = " + ".join(f"δ{unit}" for unit in layer["units"]) if shared else f"δ{layer['units'][place]}"
        written = f" = {' + '.join(map(_parenthesize, layer['deltas']))}" if shared else ""
        lines.append([f"∂E/∂{name} = {letters}{written} = {told}", f"∂E/∂{name} = {told}", f"{name}: {told}"])
    return lines


def _update_step(numbers: dict[str, Any]) -> dict[str, Any]:
    lines, rate = [], format_number(numbers["rate"])
    for layer in numbers["layers"][1:]:
        rows = [layer[key] for key in ("weight_names", "weights", "weight_gradients", "weights_after")]
        told = [[one for row in values for one in row] for values in rows]
        if numbers["train_biases"]:
            more = [layer[key] for key in ("bias_names", "biases", "bias_gradients", "biases_after")]
            told = [[*values, *others] for values, others in zip(told, more, strict=True)]
        for name, value, gradient, after in zip(*told, strict=True):
            lines.append(
                [
                    f"{name} = {format_number(value)} − {rate} · {_parenthesize(gradient)} = {format_number(after)}",
                    f"{name}: {format_number(value)} → {format_number(after)}",
                    f"{name}: {format_number(after)}",
                ]
            )
    layer = numbers["layers"][-1]
    name, value, after = layer["weight_names"][0][0], layer["weights"][0][0], layer["weights_after"][0][0]
    biases = "the biases too" if numbers["train_biases"] else "the biases are kept as they are"
    return _make_step(
        "update", None, "The update: every weight goes against its gradient", "w ← w − rate · ∂E/∂w", lines,
        f"Every weight goes against its gradient, {rate} times as far, {biases}: "
        f"{name} from {format_number(value)} to {format_number(after, 8)}.",
    )  # fmt: skip


def _updated_loss_step(numbers: dict[str, Any]) -> dict[str, Any]:
    layer, lines = numbers["layers"][-1], []
    for unit, name in enumerate(layer["units"]):
        old, new = format_number(layer["outputs"][unit]), format_number(layer["outputs_after"][unit])
        error = format_number(numbers["errors_after"][unit])
        target = format_number(numbers["targets"][unit])
        lines.append(
            [f"out {name}: {old} → {new}, target {target}      E {name} = {error}", f"out {name}: {old} → {new}"]
        )
    before, after = numbers["error"], numbers["error_after"]
    change = "smaller" if after < before else ("larger" if after > before else "the same")
    lines.append([f"E: {format_number(before, 8)} → {format_number(after, 8)}"])
    return _make_step(
        "after", None, f"Forward again: the error is {change}", "", lines,
        f"The same inputs go through the new weights: the error was {format_number(before, 10)} and is "
        f"{format_number(after, 10)} after one update.",
    )  # fmt: skip


def _curve_step(numbers: dict[str, Any]) -> dict[str, Any]:
    curve, last = numbers["curve"], numbers["last"]
    told = _abbreviate(numbers["layers"][-1]["units"], last["outputs"])
    done = curve["update"][-1]
    updates = "1 update" if done == 1 else f"{done} updates"
    return _make_step(
        "curve", None, f"The error over {updates}", "", [],
        f"The same steps again and again: after {updates} the error is {format_number(last['error'], 4)}, "
        f"and the outputs are {told}.",
    )  # fmt: skip
