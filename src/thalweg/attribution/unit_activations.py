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
from .feature_maps import worth_seeing
from .hooks import Seen, passive, picture, slope, undisturbed, watching

#: layers shown at most, of maps and of neurons
MAPS, DENSE = 5, 3
#: random draws that chance is the mean of
DRAWS = 1000

Item = TypeVar("Item")


def every_layer(network: nn.Module, x_1CHW: Tensor) -> list[Seen]:
    """All layers that answer with a number or a map for each unit, in the order of their answers; size (C, H, W)."""
    names = {layer: name for name, layer in network.named_modules() if layer is not network}
    found: list[Seen] = []

    def note(layer: nn.Module, _, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim in (2, 4):
            found.append(Seen(names[layer], layer, (*output.shape[1:], 1, 1)[:3], None))

    with undisturbed(network), watching(names, note), torch.no_grad():
        network(picture(x_1CHW))
    return found


def road(every: Sequence[Seen]) -> list[Seen]:
    """The layers that tell most, evenly spread over the depth: maps behind activations, neurons behind theirs."""
    maps = worth_seeing([one for one in every if min(one.size[1:]) > 1 and not passive(one.layer)])
    dense: list[Seen] = []
    for one in every:
        if isinstance(one.layer, nn.Linear):
            dense.append(one)
        elif dense and one.size[1:] == (1, 1) and not passive(one.layer):
            dense[-1] = one
    return [*spread(maps, MAPS), *spread(dense, DENSE)]


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most so many of the items, evenly spread, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[place] for place in torch.linspace(0, len(items) - 1, most).round().int().tolist()]


def heard(
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

    with undisturbed(network), watching(names, note), torch.set_grad_enabled(gradients):
        network(x_BCHW)
    return found


def answers(network: nn.Module, x_1CHW: Tensor, layers: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """The whole answer (C, H, W) of each layer to one picture, float32."""
    return heard(network, picture(x_1CHW), layers, lambda answer_1CHW: answer_1CHW[0].detach().float().cpu().clone())


def peaks(network: nn.Module, batches: Iterable[Tensor], layers: Mapping[str, nn.Module]) -> dict[str, np.ndarray]:
    """The largest answer of each unit to each picture, (N, C) by layer."""
    parts = [
        heard(network, x_BCHW, layers, lambda a_BCHW: a_BCHW.flatten(2).amax(2).float().cpu()) for x_BCHW in batches
    ]
    return {name: torch.cat([part[name] for part in parts]).numpy() for name in layers}


def best(peak_N: np.ndarray, top: int) -> np.ndarray:
    """The pictures that a unit answers most strongly, strongest first, at most `top`; an answer of 0 is none."""
    order = np.argsort(-peak_N, kind="stable")[:top]
    return order[peak_N[order] != 0]


def patches(
    network: nn.Module, x_BCHW: Tensor, layer: nn.Module, unit_B: Sequence[int]
) -> list[tuple[int, int, int, int] | None]:
    """The box of pixels (left, top, right, bottom) that the largest answer of a unit to each picture depends on.

    It is where the gradient of that answer is not zero; None where there is none, as behind a step.
    """
    row_B, unit_B = torch.arange(len(x_BCHW)), torch.as_tensor(unit_B)

    def largest(answer_BCHW: Tensor) -> Tensor:
        answer_BP = answer_BCHW[row_B, unit_B].flatten(1)
        return answer_BP[row_B, answer_BP.argmax(1)]

    with undisturbed(network):
        x_BCHW = x_BCHW.detach().clone().requires_grad_(True)
        peak_B = heard(network, x_BCHW, {"layer": layer}, largest, gradients=True)["layer"]
        try:
            used_BHW = (slope(peak_B, x_BCHW) != 0).any(1).cpu().numpy()
        except OptionError:
            return [None] * len(x_BCHW)
    return [_box(used_HW) for used_HW in used_BHW]


def _box(used_HW: np.ndarray) -> tuple[int, int, int, int] | None:
    rows, columns = np.flatnonzero(used_HW.any(1)), np.flatnonzero(used_HW.any(0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def commonest(label_T: np.ndarray) -> tuple[int, int]:
    """(class, count) of the commonest of these labels, which are not none."""
    count_K = np.bincount(label_T)
    return int(count_K.argmax()), int(count_K.max())


def purity(peak_NC: np.ndarray, label_N: np.ndarray, top: int) -> np.ndarray:
    """For each unit that answers to at least `top` pictures, the share of its best ones that are of one class."""
    order_TC = np.argsort(-peak_NC, axis=0, kind="stable")[:top]
    answering = (np.take_along_axis(peak_NC, order_TC, 0) != 0).all(0)
    return np.array([commonest(label_T)[1] / top for label_T in label_N[order_TC[:, answering]].T])


def by_chance(label_N: np.ndarray, top: int, seed: int) -> float:
    """The same share, of pictures that are drawn at random: the mean over many draws."""
    random = np.random.default_rng(seed)
    drawn = [commonest(label_N[random.choice(len(label_N), top, replace=False)])[1] for _ in range(DRAWS)]
    return float(np.mean(drawn) / top)
