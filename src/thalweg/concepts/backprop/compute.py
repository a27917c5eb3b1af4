"""Backpropagation: every value and every gradient of a small network (Rumelhart, Hinton and Williams 1986).

The network that comes along is the widely known one of Mazur 2015, whose numbers many have computed by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from ...config.options import Range
from ...errors import OptionError, pluralize
from ...plots.number_format import format_number
from ...registry import register_concept
from ..base import ConceptResult, Frame, load_text
from ..neuron.compute import Activation
from . import backprop_math as chain_rule
from .backprop_math import MLP, BackwardPass, ForwardPass
from .backprop_steps import build_steps

_MAX_LAYERS = 4
#: as many points of the curve of the error are kept, evenly over all updates and evenly by magnitude
_NUM_LINEAR_POINTS, _NUM_LOG_POINTS = 240, 60

TEXT = load_text(__package__)


@dataclass(frozen=True)
class BackpropSettings:
    """What can be set. Weights go layer by layer, and in each unit by unit: all those into h1, then all into h2."""

    layers: Annotated[list[int], "units of every layer, the inputs first", Range(1, 8)] = (2, 2, 2)
    inputs: Annotated[list[float], "the numbers that go in", Range(-100, 100)] = (0.05, 0.10)
    targets: Annotated[list[float], "the numbers that should come out", Range(-100, 100)] = (0.01, 0.99)
    weights: Annotated[
        list[float] | Literal["random"],
        "all weights, or random: those into the first unit, those into the second, and so on",
        Range(-100, 100),
    ] = (0.15, 0.20, 0.25, 0.30, 0.40, 0.45, 0.50, 0.55)
    biases: Annotated[
        list[float] | Literal["random"],
        "one for each layer but the inputs, one for each unit, or random",
        Range(-100, 100),
    ] = (0.35, 0.60)
    hidden: Annotated[Activation, "the activation of the hidden layers"] = "logistic"
    output: Annotated[Activation, "the activation of the outputs; cross-entropy puts the softmax there"] = "logistic"
    loss: Annotated[
        Literal["squared-error", "cross-entropy"], "half the squared differences, or the softmax's cross-entropy"
    ] = "squared-error"
    rate: Annotated[float, "how far the weights go against their gradients", Range(0, 100)] = 0.5
    updates: Annotated[int, "how many updates the curve of the error shows", Range(0, 10_000)] = 10_000
    train_biases: Annotated[bool, "whether the biases are changed too"] = False
    seed: Annotated[int, "what random weights and biases are drawn from", Range(0, 2**31)] = 0


@register_concept(TEXT, BackpropSettings)
def backprop(settings: BackpropSettings) -> ConceptResult:
    """One example forward and backward through a network, one update, and the error over many.

    Raises OptionError for layers that cannot be drawn, for numbers that do not fit them, and for targets that are no
    probabilities where the loss is the cross-entropy.
    """
    layers = _layer_sizes(settings)
    inputs_I = _as_vector("inputs", settings.inputs, layers[0], "the first layer")
    targets_K = _parse_targets(settings, layers[-1])
    net = _build_mlp(settings, layers)
    before = chain_rule.forward(net, inputs_I, targets_K)
    gradients = chain_rule.backward(net, before, targets_K)
    once = chain_rule.gradient_step(net, gradients, settings.rate, settings.train_biases)
    after = chain_rule.forward(once, inputs_I, targets_K)
    curve, last, many = _training_curve(net, inputs_I, targets_K, settings)
    numbers = {
        "layers": _layer_records(net, before, gradients, once, after),
        "targets": targets_K.tolist(),
        "loss": settings.loss,
        "rate": settings.rate,
        "train_biases": settings.train_biases,
        "errors": before.errors.tolist(),
        "error": float(before.error),
        "errors_after": after.errors.tolist(),
        "error_after": float(after.error),
        "curve": curve,
        "last": _final_outputs(last, many),
        "check": _gradient_check(net, gradients, inputs_I, targets_K),
    }
    numbers["steps"] = build_steps(numbers)
    from .plot import plot_backprop as drawing

    frames = [Frame(one["caption"], drawing, (numbers, place)) for place, one in enumerate(numbers["steps"])]
    still = [one["kind"] for one in numbers["steps"]].index("update") - 1
    return ConceptResult(numbers, frames, _key_numbers(numbers), still, _collect_notes(settings, numbers))


# --- what was asked for, checked --------------------------------------------------------------------------------------


def _layer_sizes(settings: BackpropSettings) -> list[int]:
    layers = list(settings.layers)
    if not 2 <= len(layers) <= _MAX_LAYERS:
        raise OptionError(
            f"layers: {len(layers)} are not from 2 to {_MAX_LAYERS}.",
            cure="Give the inputs, the outputs and at most two hidden layers between, as 3,4,2.",
        )
    return layers


def _as_vector(name: str, given: Sequence[float], count: int, what: str) -> Tensor:
    """The numbers as a vector in double precision, if there are so many."""
    if len(given) != count:
        raise OptionError(
            f"{name}: there are {len(given)}, and {what} has {pluralize(count, 'unit')}.",
            cure=f"Give {pluralize(count, 'number')}, or other layers.",
        )
    return torch.tensor(list(given), dtype=torch.float64)


def _parse_targets(settings: BackpropSettings, count: int) -> Tensor:
    targets_K = _as_vector("targets", settings.targets, count, "the last layer")
    if settings.loss == "cross-entropy":
        if count == 1:
            raise OptionError("layers: the softmax of one output is always 1.", cure="Give two outputs or more.")
        total = float(targets_K.sum())
        if bool((targets_K < 0).any()) or abs(total - 1) > 1e-9:
            raise OptionError(
                f"targets: for the cross-entropy they are probabilities, and {_format_row(settings.targets)} are none.",
                cure="Give numbers of 0 or more that add up to 1.",
            )
    return targets_K


def _build_mlp(settings: BackpropSettings, layers: list[int]) -> MLP:
    """The network; what is random is drawn evenly from -1 to 1 and rounded, so that it can be computed by hand."""
    generator = torch.Generator().manual_seed(settings.seed)

    def drawn(count: int) -> Tensor:
        return (torch.rand(count, generator=generator, dtype=torch.float64) * 2 - 1).round(decimals=2)

    sizes, units = [below * above for below, above in pairwise(layers)], layers[1:]
    weights, biases = settings.weights, settings.biases
    if weights != "random" and len(weights) != sum(sizes):
        told = " + ".join(f"{below}·{above}" for below, above in pairwise(layers))
        raise OptionError(
            f"weights: there are {len(weights)}, and layers of {_format_row(layers)} have {told} = {sum(sizes)}.",
            cure=f"Give {sum(sizes)} of them, or weights=random.",
        )
    if biases != "random" and len(biases) not in (len(units), sum(units)):
        raise OptionError(
            f"biases: there are {len(biases)}, and layers of {_format_row(layers)} have {len(units)} or {sum(units)}.",
            cure=f"Give {len(units)} (one for each layer), {sum(units)} (one for each unit), or biases=random.",
        )
    weights_N = drawn(sum(sizes)) if weights == "random" else torch.tensor(list(weights), dtype=torch.float64)
    biases_N = drawn(sum(units)) if biases == "random" else torch.tensor(list(biases), dtype=torch.float64)
    return MLP(
        [w.view(above, below) for w, (below, above) in zip(weights_N.split(sizes), pairwise(layers), strict=True)],
        list(biases_N.split(units if len(biases_N) == sum(units) else 1)),
        [settings.hidden] * (len(units) - 1) + ["identity" if settings.loss == "cross-entropy" else settings.output],
        softmax=settings.loss == "cross-entropy",
    )


def _format_row(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)


# --- what came out ----------------------------------------------------------------------------------------------------


def _training_curve(
    net: MLP, inputs_I: Tensor, targets_K: Tensor, settings: BackpropSettings
) -> tuple[dict, MLP, ForwardPass]:
    """The error at some of the updates, the network after the last, and its values.

    It ends early where the error has grown beyond all measure.
    """
    kept = {round(one) for one in torch.linspace(0, settings.updates, _NUM_LINEAR_POINTS).tolist()}
    if settings.updates > 1:
        kept |= {round(one) for one in torch.logspace(0, 4, _NUM_LOG_POINTS).tolist()}
    curve: dict[str, Any] = {"update": [], "error": []}
    with torch.inference_mode():
        values = chain_rule.forward(net, inputs_I, targets_K)
        limit = 1e12 * (1 + float(values.error))
        for update in range(settings.updates + 1):
            error = float(values.error)
            gradients = chain_rule.backward(net, values, targets_K)
            following = chain_rule.gradient_step(net, gradients, settings.rate, settings.train_biases)
            ahead = chain_rule.forward(following, inputs_I, targets_K)
            ended = update < settings.updates and not float(ahead.error) <= limit
            if update in kept or ended:
                curve["update"].append(update)
                curve["error"].append(error)
            if ended or update == settings.updates:
                break
            net, values = following, ahead
        curve["ended"] = ended
    return curve, net, values


def _layer_records(
    net: MLP, before: ForwardPass, gradients: BackwardPass, once: MLP, after: ForwardPass
) -> list[dict[str, Any]]:
    """A mapping for each layer: names and numbers of its units, of the weights into them, and of its biases."""
    inputs = before.outputs[0].tolist()
    found = [{"name": "the inputs", "units": [f"x{place}" for place in range(1, len(inputs) + 1)], "outputs": inputs}]
    weight = bias = unit = 0
    layers = len(net.weights)
    for place, (weights_JI, biases_J) in enumerate(zip(net.weights, net.biases, strict=True)):
        count, below = weights_JI.shape
        last = place == layers - 1
        name = "the output layer" if last else ("the hidden layer" if layers == 2 else f"hidden layer {place + 1}")
        rows = range(weight, weight + count * below, below)
        found.append(
            {
                "name": name,
                "units": [f"o{n}" if last else f"h{n + unit}" for n in range(1, count + 1)],
                "activation": "softmax" if last and net.softmax else net.bends[place],
                "weight_names": [[f"w{row + n}" for n in range(1, below + 1)] for row in rows],
                "weights": weights_JI.tolist(),
                "bias_names": [f"b{bias + n}" for n in range(1, len(biases_J) + 1)],
                "biases": biases_J.tolist(),
                "sums": before.sums[place].tolist(),
                "outputs": before.outputs[place + 1].tolist(),
                "slopes": _activation_derivatives(net, before, place),
                "deltas": gradients.deltas[place].tolist(),
                "weight_gradients": gradients.weights[place].tolist(),
                "bias_gradients": gradients.biases[place].tolist(),
                "weights_after": once.weights[place].tolist(),
                "biases_after": once.biases[place].tolist(),
                "sums_after": after.sums[place].tolist(),
                "outputs_after": after.outputs[place + 1].tolist(),
            }
        )
        weight, bias, unit = weight + count * below, bias + len(biases_J), unit + count
    return found


def _activation_derivatives(net: MLP, values: ForwardPass, place: int) -> list[float] | None:
    """The derivatives of a layer's activation; None for the softmax, whose delta is without one."""
    if net.softmax and place == len(net.weights) - 1:
        return None
    return chain_rule.DERIVATIVES[net.bends[place]](values.sums[place], values.outputs[place + 1]).tolist()


def _final_outputs(net: MLP, values: ForwardPass) -> dict[str, Any]:
    return {
        "weights": [w.tolist() for w in net.weights],
        "biases": [b.tolist() for b in net.biases],
        "outputs": values.outputs[-1].tolist(),
        "error": float(values.error),
    }


def _gradient_check(net: MLP, gradients: BackwardPass, inputs_I: Tensor, targets_K: Tensor) -> dict[str, Any]:
    """The largest differences from autograd and from central differences, and the largest gradient to measure them."""
    ours = torch.cat([g.flatten() for g in (*gradients.weights, *gradients.biases)])
    found: dict[str, Any] = {"largest_gradient": float(ours.abs().max())}
    for name, gradient in (
        ("autograd", chain_rule.autograd_gradients),
        ("central_differences", chain_rule.numerical_gradients),
    ):
        theirs = torch.cat([g.flatten() for g in gradient(net, inputs_I, targets_K)])
        found[name] = float((ours - theirs).abs().max())
    return found


def _key_numbers(numbers: dict[str, Any]) -> dict[str, str]:
    curve, check = numbers["curve"], numbers["check"]
    figures = {
        "error before": f"{numbers['error']:.10g}",
        "error after one update": f"{numbers['error_after']:.10g}",
    }
    done = curve["update"][-1]
    if done > 1:
        figures[f"error after {done} updates"] = format_number(numbers["last"]["error"], 4)
    return figures | {
        "largest gradient": format_number(check["largest_gradient"], 4),
        "largest difference from autograd": format_number(check["autograd"], 2),
        "largest difference from central differences": format_number(check["central_differences"], 2),
    }


def _collect_notes(settings: BackpropSettings, numbers: dict[str, Any]) -> list[str]:
    notes = []
    if settings.loss == "cross-entropy":
        notes.append("The outputs have the softmax, as the cross-entropy needs; the setting output plays no part.")
    if numbers["curve"]["ended"]:
        notes.append(
            f"The rate {format_number(settings.rate)} is too high: from update {numbers['curve']['update'][-1] + 1} on the error "
            "is beyond all measure. The curve ends before it."
        )
    for layer in numbers["layers"][1:]:
        if layer["activation"] in chain_rule.NON_SMOOTH and min(map(abs, layer["sums"])) < 1e-3:
            notes.append(
                f"A sum of {layer['name']} is where {layer['activation']} has a kink or a jump; "
                "central differences need not agree with the gradient there."
            )
    return notes
