"""What single units answer: which layers there are, the strongest answer of each unit to each picture, and to what.

A unit is a map of a convolution or a neuron of a dense layer. N pictures, B of a batch, C units, T best pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import OptionError
from .feature_maps import select_layers
from .hooks import CapturedLayer, eval_mode, forward_hooks, input_gradient, is_passthrough, single_image

#: layers shown at most, of maps and of neurons
MAX_MAP_LAYERS, MAX_DENSE_LAYERS = 5, 3
#: random draws that chance is the mean of
NUM_DRAWS = 1000

Item = TypeVar("Item")


def all_layers(network: nn.Module, x_1CHW: Tensor) -> list[CapturedLayer]:
    """All layers that answer with a number or a map for each unit, in the order of their answers; size (C, H, W)."""
    names = {layer: name for name, layer in network.named_modules() if layer is not network}
    found: list[CapturedLayer] = []

    def note(layer: nn.Module, _, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim in (2, 4):
            found.append(CapturedLayer(names[layer], layer, (*output.shape[1:], 1, 1)[:3], None))

    with eval_mode(network), forward_hooks(names, note), torch.no_grad():
        network(single_image(x_1CHW))
    return found


def representative_layers(every: Sequence[CapturedLayer]) -> list[CapturedLayer]:
    """The layers that tell most, evenly spread over the depth: maps behind activations, neurons behind theirs."""
    maps = select_layers([one for one in every if min(one.size[1:]) > 1 and not is_passthrough(one.layer)])
    dense: list[CapturedLayer] = []
    for one in every:
        if isinstance(one.layer, nn.Linear):
            dense.append(one)
        elif dense and one.size[1:] == (1, 1) and not is_passthrough(one.layer):
            dense[-1] = one
    return [*pick_evenly(maps, MAX_MAP_LAYERS), *pick_evenly(dense, MAX_DENSE_LAYERS)]


def pick_evenly(items: Sequence[Item], most: int) -> list[Item]:
    """At most so many of the items, evenly spread, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[place] for place in torch.linspace(0, len(items) - 1, most).round().int().tolist()]


def capture(
    network: nn.Module,
    x_BCHW: Tensor,
    layers: Mapping[str, nn.Module],
    keep: Callable[[Tensor], Any],
    gradients: bool = False,
) -> dict[str, Any]:
    """What `keep` makes of the last answer (B, C, H, W) of each layer; neurons answer with maps of one pixel."""
    names = {layer: name for name, layer in layers.items()}
    found: dict[str, Any] = {}

    def note(layer: nn.Module, _, output: Tensor) -> None:
        # at once, because a layer behind it may write into the same memory
        found[names[layer]] = keep(output if output.ndim == 4 else output[..., None, None])

    with eval_mode(network), forward_hooks(names, note), torch.set_grad_enabled(gradients):
        network(x_BCHW)
    return found


def layer_outputs(network: nn.Module, x_1CHW: Tensor, layers: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """The whole answer (C, H, W) of each layer to one picture, float32."""
    return capture(
        network, single_image(x_1CHW), layers, lambda answer_1CHW: answer_1CHW[0].detach().float().cpu().clone()
    )


def max_activations(
    network: nn.Module, batches: Iterable[Tensor], layers: Mapping[str, nn.Module]
) -> dict[str, np.ndarray]:
    """The largest answer of each unit to each picture, (N, C) by layer."""
    parts = [
        capture(network, x_BCHW, layers, lambda a_BCHW: a_BCHW.flatten(2).amax(2).float().cpu()) for x_BCHW in batches
    ]
    return {name: torch.cat([part[name] for part in parts]).numpy() for name in layers}


def top_images(peak_N: np.ndarray, top: int) -> np.ndarray:
    """The pictures that a unit answers most strongly, strongest first, at most `top`; an answer of 0 is none."""
    order = np.argsort(-peak_N, kind="stable")[:top]
    return order[peak_N[order] != 0]


def receptive_patches(
    network: nn.Module, x_BCHW: Tensor, layer: nn.Module, unit_B: Sequence[int]
) -> list[tuple[int, int, int, int] | None]:
    """The box of pixels (left, top, right, bottom) that the largest answer of a unit to each picture depends on.

    It is where the gradient of that answer is not zero; None where there is none, as behind a step.
    """
    row_B, unit_B = torch.arange(len(x_BCHW)), torch.as_tensor(unit_B)

    def largest(answer_BCHW: Tensor) -> Tensor:
        answer_BP = answer_BCHW[row_B, unit_B].flatten(1)
        return answer_BP[row_B, answer_BP.argmax(1)]

    with eval_mode(network):
        x_BCHW = x_BCHW.detach().clone().requires_grad_(True)
        peak_B = capture(network, x_BCHW, {"layer": layer}, largest, gradients=True)["layer"]
        try:
            used_BHW = (input_gradient(peak_B, x_BCHW) != 0).any(1).cpu().numpy()
        except OptionError:
            return [None] * len(x_BCHW)
    return [_bounding_box(used_HW) for used_HW in used_BHW]


def _bounding_box(used_HW: np.ndarray) -> tuple[int, int, int, int] | None:
    rows, columns = np.flatnonzero(used_HW.any(1)), np.flatnonzero(used_HW.any(0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def majority_class(label_T: np.ndarray) -> tuple[int, int]:
    """(class, count) of the commonest of these labels, which are not none."""
    count_K = np.bincount(label_T)
    return int(count_K.argmax()), int(count_K.max())


def purity(peak_NC: np.ndarray, label_N: np.ndarray, top: int) -> np.ndarray:
    """For each unit that answers to at least `top` pictures, the share of its best ones that are of one class."""
    order_TC = np.argsort(-peak_NC, axis=0, kind="stable")[:top]
    answering = (np.take_along_axis(peak_NC, order_TC, 0) != 0).all(0)
    return np.array([majority_class(label_T)[1] / top for label_T in label_N[order_TC[:, answering]].T])


def chance_purity(label_N: np.ndarray, top: int, seed: int) -> float:
    """The same share, of pictures that are drawn at random: the mean over many draws."""
    random = np.random.default_rng(seed)
    drawn = [majority_class(label_N[random.choice(len(label_N), top, replace=False)])[1] for _ in range(NUM_DRAWS)]
    return float(np.mean(drawn) / top)
