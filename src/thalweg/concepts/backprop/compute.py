"""Backpropagation: every value and every gradient of a small MLP (Rumelhart, Hinton and Williams 1986).

The default network is the well-known example of Mazur 2015, so the numbers can be compared with published ones.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Annotated, Literal

import torch
from torch import Tensor

from ...config.parsing import Range
from ...errors import OptionError, pluralize
from ...plots.number_format import format_number
from ...registry import register_concept
from ..base import ConceptResult, Frame, load_text
from ..neuron.compute import Activation
from .backprop_math import (
    MLP,
    NON_SMOOTH,
    BackwardPass,
    ForwardPass,
    autograd_gradients,
    backward,
    compute_derivative,
    forward,
    gradient_step,
    numerical_gradients,
)
from .backprop_steps import build_steps
from .records import BackpropRecord, FinalState, GradientCheck, LayerRecord, LossCurve

_MAX_LAYERS = 4
#: points of the loss curve, evenly spaced and logarithmically spaced
_NUM_LINEAR_POINTS = 240
_NUM_LOG_POINTS = 60
#: Mazur's example
_EXAMPLE_INPUTS = (0.05, 0.10)
_EXAMPLE_TARGETS = (0.01, 0.99)
_EXAMPLE_WEIGHTS = (0.15, 0.20, 0.25, 0.30, 0.40, 0.45, 0.50, 0.55)
_EXAMPLE_BIASES = (0.35, 0.60)
#: the curve ends if the loss grows by more than this factor
_MAX_LOSS_GROWTH = 1e12

TEXT = load_text(__package__)


@dataclass(frozen=True)
class BackpropSettings:
    """Settings. Weights are listed layer by layer and unit by unit: all weights into h1, then all into h2.

    `auto` is the value of Mazur's example if it fits the layers; otherwise targets are one-hot, the rest random.
    """

    layers: Annotated[list[int], "units of each layer, input layer first", Range(1, 8)] = field(
        default_factory=lambda: [2, 2, 2]
    )
    inputs: Annotated[list[float] | Literal["auto"], "input values", Range(-100, 100)] = "auto"
    targets: Annotated[list[float] | Literal["auto"], "target value of each output", Range(-100, 100)] = "auto"
    weights: Annotated[
        list[float] | Literal["random", "auto"], "all weights, unit by unit, or random", Range(-100, 100)
    ] = "auto"
    biases: Annotated[
        list[float] | Literal["random", "auto"], "one bias per layer, one per unit, or random", Range(-100, 100)
    ] = "auto"
    hidden_activation: Annotated[Activation, "activation of the hidden layers"] = "logistic"
    output_activation: Annotated[Activation, "activation of the output layer; ignored with cross-entropy"] = "logistic"
    loss: Annotated[
        Literal["squared-error", "cross-entropy"], "half the sum of squared errors, or softmax with cross-entropy"
    ] = "squared-error"
    lr: Annotated[float, "learning rate", Range(0, 100)] = 0.5
    steps: Annotated[int, "gradient steps of the loss curve", Range(0, 10_000)] = 10_000
    train_biases: Annotated[bool, "also update the biases"] = False
    seed: Annotated[int, "seed of random weights and biases", Range(0, 2**31)] = 0


@register_concept(TEXT, BackpropSettings)
def backprop(settings: BackpropSettings) -> ConceptResult:
    """Run one example forward and backward through an MLP, apply one gradient step, and train it for many.

    Raises:
        OptionError: too many layers, numbers that do not fit the layers, or targets that are no probabilities where
            the loss is the cross-entropy.
    """
    sizes = _layer_sizes(settings)
    generator = torch.Generator().manual_seed(settings.seed)
    mlp = _build_mlp(settings, sizes, generator)
    inputs_I = _parse_inputs(settings, sizes[0], generator)
    targets_K = _parse_targets(settings, sizes[-1])

    forward_pass = forward(mlp, inputs_I, targets_K)
    gradients = backward(mlp, forward_pass, targets_K)
    updated_mlp = gradient_step(mlp, gradients, settings.lr, settings.train_biases)
    updated_pass = forward(updated_mlp, inputs_I, targets_K)
    curve, final = _train(mlp, inputs_I, targets_K, settings)

    record = BackpropRecord(
        layers=_record_layers((mlp, updated_mlp), (forward_pass, updated_pass), gradients),
        targets=targets_K.tolist(),
        loss_function=settings.loss,
        lr=settings.lr,
        train_biases=settings.train_biases,
        losses=forward_pass.losses.tolist(),
        loss=float(forward_pass.loss),
        updated_losses=updated_pass.losses.tolist(),
        updated_loss=float(updated_pass.loss),
        curve=curve,
        final=final,
        gradient_check=_check_gradients(mlp, gradients, inputs_I, targets_K),
    )
    record = replace(record, steps=build_steps(record))
    kinds = [step.kind for step in record.steps]
    return ConceptResult(
        asdict(record),
        _build_frames(record),
        _key_numbers(record),
        key_frame=kinds.index("update") - 1,
        notes=_collect_notes(settings, record),
    )


# --- settings ---------------------------------------------------------------------------------------------------------


def _layer_sizes(settings: BackpropSettings) -> list[int]:
    sizes = list(settings.layers)
    if not 2 <= len(sizes) <= _MAX_LAYERS:
        raise OptionError(
            f"layers: got {len(sizes)} layers; expected 2 to {_MAX_LAYERS}.",
            cure="Give input layer, at most two hidden layers and output layer, such as 3,4,2.",
            option="layers",
            value=sizes,
        )
    return sizes


def _to_vector(option: str, values: Sequence[float], count: int) -> Tensor:
    """Return `values` as a float64 vector. Raises OptionError if there are not `count` of them."""
    if len(values) != count:
        layer = "input" if option == "inputs" else "output"
        raise OptionError(
            f"{option}: got {pluralize(len(values), 'value')}; the {layer} layer has {pluralize(count, 'unit')}.",
            cure=f"Give {pluralize(count, 'number')}, or change layers.",
            option=option,
            value=list(values),
        )
    return torch.tensor(list(values), dtype=torch.float64)


def _parse_inputs(settings: BackpropSettings, count: int, generator: torch.Generator) -> Tensor:
    if settings.inputs != "auto":
        return _to_vector("inputs", settings.inputs, count)
    if count == len(_EXAMPLE_INPUTS):
        return _to_vector("inputs", _EXAMPLE_INPUTS, count)
    return _draw_values(count, generator)


def _parse_targets(settings: BackpropSettings, count: int) -> Tensor:
    values = settings.targets
    if values == "auto":
        values = [1.0] + [0.0] * (count - 1)
        if count == len(_EXAMPLE_TARGETS):
            values = _EXAMPLE_TARGETS
    targets_K = _to_vector("targets", values, count)
    if settings.loss != "cross-entropy":
        return targets_K
    if count == 1:
        raise OptionError(
            "layers: softmax of a single output is always 1.",
            cure="Give at least two outputs.",
            option="layers",
            value=list(settings.layers),
        )
    total = float(targets_K.sum())
    if bool((targets_K < 0).any()) or abs(total - 1) > 1e-9:
        raise OptionError(
            f"targets: {_format_list(values)} are not probabilities, which cross-entropy needs.",
            cure="Give numbers of at least 0 that add up to 1.",
            option="targets",
            value=list(values),
        )
    return targets_K


def _build_mlp(settings: BackpropSettings, sizes: list[int], generator: torch.Generator) -> MLP:
    """Build the MLP. Random weights are drawn before random biases."""
    units = sizes[1:]
    num_weights = list(map(operator.mul, sizes[:-1], units))
    weights_N = _parse_weights(settings, sizes, sum(num_weights), generator)
    biases_N = _parse_biases(settings, sizes, generator)

    weights = []
    for weights_M, (fan_in, fan_out) in zip(weights_N.split(num_weights), pairwise(sizes), strict=True):
        weights.append(weights_M.view(fan_out, fan_in))
    per_layer = [1] * len(units)
    if len(biases_N) == sum(units):
        per_layer = units
    biases = biases_N.split(per_layer)
    is_cross_entropy = settings.loss == "cross-entropy"
    activations: list[str] = [settings.hidden_activation] * (len(units) - 1) + [settings.output_activation]
    if is_cross_entropy:
        activations[-1] = "identity"
    return MLP(weights, list(biases), activations, softmax=is_cross_entropy)


def _parse_weights(settings: BackpropSettings, sizes: list[int], count: int, generator: torch.Generator) -> Tensor:
    weights = settings.weights
    if weights == "auto":
        weights = "random"
        if count == len(_EXAMPLE_WEIGHTS):
            weights = _EXAMPLE_WEIGHTS
    if isinstance(weights, str):
        return _draw_values(count, generator)
    if len(weights) != count:
        products = " + ".join(f"{fan_in}·{fan_out}" for fan_in, fan_out in pairwise(sizes))
        raise OptionError(
            f"weights: got {len(weights)}; layers of {_format_list(sizes)} have {products} = {count}.",
            cure=f"Give {count} weights, or weights=random.",
            option="weights",
            value=list(weights),
        )
    return torch.tensor(list(weights), dtype=torch.float64)


def _parse_biases(settings: BackpropSettings, sizes: list[int], generator: torch.Generator) -> Tensor:
    biases = settings.biases
    per_layer = len(sizes) - 1
    per_unit = sum(sizes[1:])
    if biases == "auto":
        biases = "random"
        if len(_EXAMPLE_BIASES) in (per_layer, per_unit):
            biases = _EXAMPLE_BIASES
    if isinstance(biases, str):
        return _draw_values(per_unit, generator)
    if len(biases) not in (per_layer, per_unit):
        raise OptionError(
            f"biases: got {len(biases)}; layers of {_format_list(sizes)} have {per_layer} or {per_unit}.",
            cure=f"Give {per_layer} (one per layer), {per_unit} (one per unit), or biases=random.",
            option="biases",
            value=list(biases),
            allowed=[per_layer, per_unit],
        )
    return torch.tensor(list(biases), dtype=torch.float64)


def _draw_values(count: int, generator: torch.Generator) -> Tensor:
    """Draw uniform values in [-1, 1] with two decimals, so that they are easy to copy."""
    return (torch.rand(count, generator=generator, dtype=torch.float64) * 2 - 1).round(decimals=2)


def _format_list(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)


# --- results ----------------------------------------------------------------------------------------------------------


def _train(mlp: MLP, inputs_I: Tensor, targets_K: Tensor, settings: BackpropSettings) -> tuple[LossCurve, FinalState]:
    """Run gradient descent on the one example. Stop early if the loss diverges."""
    recorded_steps = set(map(round, torch.linspace(0, settings.steps, _NUM_LINEAR_POINTS).tolist()))
    if settings.steps > 1:
        recorded_steps.update(map(round, torch.logspace(0, 4, _NUM_LOG_POINTS).tolist()))
    steps: list[int] = []
    losses: list[float] = []
    diverged = False
    with torch.inference_mode():
        forward_pass = forward(mlp, inputs_I, targets_K)
        max_loss = _MAX_LOSS_GROWTH * (1 + float(forward_pass.loss))
        for step in range(settings.steps + 1):
            gradients = backward(mlp, forward_pass, targets_K)
            next_mlp = gradient_step(mlp, gradients, settings.lr, settings.train_biases)
            next_pass = forward(next_mlp, inputs_I, targets_K)
            # "not <=" is also true for NaN
            diverged = step < settings.steps and not float(next_pass.loss) <= max_loss
            if step in recorded_steps or diverged:
                steps.append(step)
                losses.append(float(forward_pass.loss))
            if diverged or step == settings.steps:
                break
            mlp = next_mlp
            forward_pass = next_pass
    final = FinalState(
        weights=list(map(Tensor.tolist, mlp.weights)),
        biases=list(map(Tensor.tolist, mlp.biases)),
        outputs=forward_pass.activations[-1].tolist(),
        loss=float(forward_pass.loss),
    )
    return LossCurve(steps, losses, diverged), final


def _record_layers(
    models: tuple[MLP, MLP], passes: tuple[ForwardPass, ForwardPass], gradients: BackwardPass
) -> list[LayerRecord]:
    """Record names and numbers of each layer, from the models and forward passes before and after the update."""
    mlp, updated_mlp = models
    forward_pass, updated_pass = passes
    inputs = forward_pass.activations[0].tolist()
    records = [LayerRecord("the input layer", _number("x", len(inputs)), inputs)]
    num_weights = 0
    num_biases = 0
    num_units = 0
    for layer, (weights_JI, biases) in enumerate(zip(mlp.weights, mlp.biases, strict=True)):
        units, fan_in = weights_JI.shape
        unit_names = _number("h", units, num_units)
        activation = mlp.activations[layer]
        derivatives = compute_derivative(mlp, forward_pass, layer).tolist()
        if layer == len(mlp.weights) - 1:
            unit_names = _number("o", units)
            if mlp.softmax:
                activation = "softmax"
                derivatives = None
        records.append(
            LayerRecord(
                name=_name_layer(layer, len(mlp.weights)),
                units=unit_names,
                activations=forward_pass.activations[layer + 1].tolist(),
                activation=activation,
                weight_names=[_number("w", fan_in, num_weights + j * fan_in) for j in range(units)],
                weights=weights_JI.tolist(),
                bias_names=_number("b", len(biases), num_biases),
                biases=biases.tolist(),
                pre_activations=forward_pass.pre_activations[layer].tolist(),
                derivatives=derivatives,
                deltas=gradients.deltas[layer].tolist(),
                weight_gradients=gradients.weight_gradients[layer].tolist(),
                bias_gradients=gradients.bias_gradients[layer].tolist(),
                updated_weights=updated_mlp.weights[layer].tolist(),
                updated_biases=updated_mlp.biases[layer].tolist(),
                updated_pre_activations=updated_pass.pre_activations[layer].tolist(),
                updated_activations=updated_pass.activations[layer + 1].tolist(),
            )
        )
        num_weights += units * fan_in
        num_biases += len(biases)
        num_units += units
    return records


def _name_layer(layer: int, num_layers: int) -> str:
    if layer == num_layers - 1:
        return "the output layer"
    if num_layers == 2:
        return "the hidden layer"
    return f"hidden layer {layer + 1}"


def _number(letter: str, count: int, start: int = 0) -> list[str]:
    """Return names such as ['w5', 'w6'], counted from `start` + 1."""
    return [f"{letter}{start + i + 1}" for i in range(count)]


def _check_gradients(mlp: MLP, gradients: BackwardPass, inputs_I: Tensor, targets_K: Tensor) -> GradientCheck:
    """Compare the gradients with those of autograd and of central differences."""
    gradients_N = _concatenate([*gradients.weight_gradients, *gradients.bias_gradients])
    autograd_N = _concatenate(autograd_gradients(mlp, inputs_I, targets_K))
    numerical_N = _concatenate(numerical_gradients(mlp, inputs_I, targets_K))
    return GradientCheck(
        max_gradient=float(gradients_N.abs().max()),
        autograd=float((gradients_N - autograd_N).abs().max()),
        central_differences=float((gradients_N - numerical_N).abs().max()),
    )


def _concatenate(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(map(torch.flatten, tensors)))


def _build_frames(record: BackpropRecord) -> list[Frame]:
    from .plot import plot_backprop

    frames = []
    for index, step in enumerate(record.steps):
        frames.append(Frame(step.caption, plot_backprop, (record, index)))
    return frames


def _key_numbers(record: BackpropRecord) -> dict[str, str]:
    check = record.gradient_check
    key_numbers = {
        "loss": f"{record.loss:.10g}",
        "loss after 1 gradient step": f"{record.updated_loss:.10g}",
    }
    last_step = record.curve.step[-1]
    if last_step > 1:
        key_numbers[f"loss after {last_step} gradient steps"] = format_number(record.final.loss, 4)
    key_numbers["largest gradient"] = format_number(check.max_gradient, 4)
    key_numbers["max difference from autograd"] = format_number(check.autograd, 2)
    key_numbers["max difference from central differences"] = format_number(check.central_differences, 2)
    return key_numbers


def _collect_notes(settings: BackpropSettings, record: BackpropRecord) -> list[str]:
    notes = []
    if settings.loss == "cross-entropy":
        notes.append("The output layer uses softmax with cross-entropy; output_activation is ignored.")
    if record.curve.diverged:
        notes.append(
            f"Training diverges: the learning rate {format_number(settings.lr)} is too high. The curve ends at step "
            f"{record.curve.step[-1]}, before the loss explodes."
        )
    for layer in record.layers[1:]:
        if layer.activation in NON_SMOOTH and min(map(abs, layer.pre_activations)) < 1e-3:
            notes.append(
                f"A pre-activation of {layer.name} is at the kink or jump of {layer.activation}; "
                "central differences may differ from the gradient there."
            )
    return notes
