"""A network layer by layer: shapes, weights, multiply-adds and receptive fields, found by watching it answer once.

The receptive field of a neuron is the part of the picture that it can see. Through a kernel of k by steps of s it grows
by (k - 1) times the distance of two neighbours, which becomes s times as large (Araujo, Norris and Sim 2019,
doi:10.23915/distill.00021, equation 1). Nothing is computed where the network is on PyTorch's device "meta".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ..errors import OptionError
from .hooks import eval_mode

aten = torch.ops.aten
#: poolings by windows, and the place of the dilation among their arguments
_POOLING_OPS = {aten.max_pool2d_with_indices: 4, aten.avg_pool2d: None}
_ADAPTIVE_POOLING_OPS = (aten._adaptive_avg_pool2d, aten.adaptive_max_pool2d)
_FLATTENING_OPS = (aten.mean, aten.sum, aten.amax, aten.view, aten._unsafe_view)
_MIXING_OPS = (aten.permute, aten.transpose, aten.convolution)


class LayerInfo(NamedTuple):
    """What is told of one layer, or of a part of several."""

    #: its name in the network, and its class
    name: str
    kind: str
    #: of its answer to one picture, without the batch; None for one that answers in training alone
    shape: tuple[int, ...] | None
    #: weights and biases, trained or not
    parameters: int
    #: multiplications with an addition, for one picture
    multiply_adds: int
    #: height or width, the larger, of what one of its neurons sees of the picture, in pixels, also beyond the border;
    #: None where that is not known
    field: int | None
    #: numbers of its answers that take up memory of their own
    answers: int


class ReceptiveField(NamedTuple):
    """What neurons of a map see: pixels down and across, and how many pixels apart neighbours look."""

    height: float
    width: float
    step_y: float
    step_x: float


class LayerSummary(NamedTuple):
    """A network layer by layer: `rows`, and of all its modules, by name: kind, shape and field."""

    rows: list[LayerInfo]
    modules: dict[str, tuple[str, tuple[int, ...] | None, int | None]]


def summarize_layers(network: nn.Module, shape: Sequence[int]) -> LayerSummary:
    """A row for each layer, in the order of their answers, for one picture of `shape` (C, H, W).

    A row is for what has no layers inside it, or has weights or multiply-adds of its own; weights that layers share
    count in the first, and a layer that answers several times stands where it does so last. At the end are layers that
    were not asked. Raises OptionError for a picture that the network cannot read.
    """
    device = next((value.device for value in [*network.parameters(), *network.buffers()]), torch.device("cpu"))
    picture_1CHW = torch.zeros(1, *shape, device=device)
    watch = _LayerTracer(network, picture_1CHW)
    try:
        # where no gradient could be asked for, attention is one operation in which nothing can be counted
        with eval_mode(network), watch:
            network(picture_1CHW)
    except RuntimeError as error:
        told = str(error).partition("\n")[0].rstrip(".")
        asked = " x ".join(map(str, shape))
        raise OptionError(f"{type(network).__name__} reads no pictures of {asked} (C, H, W): {told}.") from error
    modules = {
        name: (type(layer).__name__, *watch.seen.get(layer, (None, None))[:2]) for layer, name in watch.names.items()
    }
    return LayerSummary(watch.rows(), modules)


def sum_rows(rows: Sequence[LayerInfo], name: str, kind: str = "") -> LayerInfo:
    """Several rows as one, whose answer is that of the last one that answered."""
    answered = [row for row in rows if row.shape is not None]
    return LayerInfo(
        name,
        kind,
        answered[-1].shape if answered else None,
        sum(row.parameters for row in rows),
        sum(row.multiply_adds for row in rows),
        answered[-1].field if answered else None,
        sum(row.answers for row in rows),
    )


def main_layers(rows: Sequence[LayerInfo]) -> list[LayerInfo]:
    """The rows that have weights, multiply or change the shape: without activations and what hands on its input."""
    found: list[LayerInfo] = []
    for row in rows:
        changes = row.answers and not (found and found[-1].shape == row.shape)
        if row.parameters or row.multiply_adds or changes:
            found.append(row)
    return found


def group_by_module(table: LayerSummary, most: int) -> list[LayerInfo]:
    """The working rows, joined by the modules that hold them, as deep inside as leaves at most `most`.

    Where even the outermost modules are more, they are what is given.
    """
    rows = main_layers(table.rows)
    for depth in range(max(row.name.count(".") for row in rows) + 1, 0, -1):
        joined: dict[str, list[LayerInfo]] = {}
        for row in rows:
            joined.setdefault(".".join(row.name.split(".")[:depth]), []).append(row)
        if len(joined) <= most or depth == 1:
            break
    return [inside[0] if len(inside) == 1 else _module_row(table, name, inside) for name, inside in joined.items()]


def _module_row(table: LayerSummary, name: str, inside: Sequence[LayerInfo]) -> LayerInfo:
    """What is inside of one module as one row, with the module's own answer, where it gives one."""
    kind, shape, field = table.modules[name]
    row = sum_rows(inside, name, kind)
    return row if shape is None else row._replace(shape=shape, field=field)


# --- watching --------------------------------------------------------------------------------------------------------


class _LayerTracer(TorchDispatchMode):
    """Notes of every operation whose layer it is, its multiply-adds, and what its results see of the picture."""

    def __init__(self, network: nn.Module, picture_1CHW: Tensor):
        super().__init__()
        self.names = {layer: name for name, layer in network.named_modules()}
        self.running: list[nn.Module] = []
        self.work: dict[nn.Module, int] = {}
        self.seen: dict[nn.Module, tuple[tuple[int, ...], int | None, int]] = {}
        self.handles: list[Any] = []
        picture_1CHW.sees = ReceptiveField(1, 1, 1, 1)

    def __enter__(self) -> _LayerTracer:
        for layer in self.names:
            self.handles.append(layer.register_forward_pre_hook(self._begin))
            self.handles.append(layer.register_forward_hook(self._end))
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for handle in self.handles:
            handle.remove()

    def _begin(self, layer: nn.Module, _: Any) -> None:
        self.running.append(layer)
        self.work.setdefault(layer, 0)

    def _end(self, layer: nn.Module, given: tuple[Any, ...], answer: Any) -> None:
        self.running.pop()
        answer = answer[0] if isinstance(answer, tuple) else answer
        if not isinstance(answer, Tensor):
            return
        stored = {one.untyped_storage()._cdata for one in given if isinstance(one, Tensor)}
        fresh = 0 if answer.untyped_storage()._cdata in stored else answer.numel()
        before = self.seen.pop(layer)[2] if layer in self.seen else 0
        self.seen[layer] = (tuple(answer.shape[1:]), _tensor_shape(answer), before + fresh)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = function(*args, **(kwargs or {}))
        packet = function._overloadpacket
        if packet in flop_registry:
            # floating point operations are counted there, two for every multiplication with an addition
            self.work[self.running[-1]] += flop_registry[packet](*args, **(kwargs or {}), out_val=answer) // 2
        given = [one for one in _flatten_tensors(args) if hasattr(one, "sees")]
        if given:
            for one in _flatten_tensors([answer]):
                one.sees = _propagate_field(packet, args, given, one)
        return answer

    def rows(self) -> list[LayerInfo]:
        """What was noted, layer by layer."""
        found, counted = [], set()
        for layer in [*self.seen, *(layer for layer in self.names if layer not in self.seen)]:
            own = [weight for weight in layer.parameters(recurse=False) if id(weight) not in counted]
            counted.update(map(id, own))
            count, work = sum(weight.numel() for weight in own), self.work.get(layer, 0)
            shape, field, answers = self.seen.get(layer, (None, None, 0))
            whole = layer in self.seen and next(layer.children(), None) is None
            if whole or count or work:
                # what holds other layers gives the answer of the last of them, which is counted there
                answers = answers if whole else 0
                kind = type(layer).__name__
                found.append(LayerInfo(self.names[layer] or kind, kind, shape, count, work, field, answers))
        return found


def _flatten_tensors(values: Any) -> list[Tensor]:
    """The tensors in arguments, also those in lists of them."""
    found = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += _flatten_tensors(value)
    return found


# --- receptive fields ------------------------------------------------------------------------------------------------


def _tensor_shape(tensor: Tensor) -> int | None:
    sees = getattr(tensor, "sees", None)
    return None if sees is None else round(max(sees.height, sees.width))


def _spatial_size(tensor: Tensor) -> tuple[int, int] | None:
    """Height and width of maps (B, C, H, W); of neurons (B, N) they are 1; None for other shapes."""
    if tensor.ndim == 4:
        return tensor.shape[2], tensor.shape[3]
    return (1, 1) if tensor.ndim == 2 else None


def _propagate_field(
    packet: Any, args: Sequence[Any], given: Sequence[Tensor], answer: Tensor
) -> ReceptiveField | None:
    """What the result of an operation sees; None where that is not known."""
    sees, sizes, size = given[0].sees, [_spatial_size(one) for one in given], _spatial_size(answer)
    if size is None or any(one.sees is None for one in given):
        return None
    if packet is aten.convolution and not args[6]:
        return _apply_kernel(sees, args[1].shape[2:], args[3], args[5])
    if packet in _POOLING_OPS:
        place = _POOLING_OPS[packet]
        dilation = args[place] if place and len(args) > place else (1, 1)
        return _apply_kernel(sees, args[1], args[2] if len(args) > 2 and args[2] else args[1], dilation)
    if packet in _ADAPTIVE_POOLING_OPS or (packet in _FLATTENING_OPS and size == (1, 1)):
        return _apply_adaptive_pool(sees, sizes[0], size)
    same = all(one in (size, (1, 1)) for one in sizes) or packet is aten.constant_pad_nd
    if not same or packet in _MIXING_OPS:
        return None
    near = next((one for one, its in zip(given, sizes, strict=True) if its == size), given[0]).sees
    height, width = max(one.sees.height for one in given), max(one.sees.width for one in given)
    return ReceptiveField(height, width, near.step_y, near.step_x)


def _apply_kernel(
    sees: ReceptiveField, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> ReceptiveField:
    """Behind a kernel that is moved by steps."""
    (high, wide), (step_y, step_x), (apart_y, apart_x) = map(_to_pair, (kernel, stride, dilation))
    return ReceptiveField(
        sees.height + (high - 1) * apart_y * sees.step_y,
        sees.width + (wide - 1) * apart_x * sees.step_x,
        sees.step_y * step_y,
        sees.step_x * step_x,
    )


def _apply_adaptive_pool(sees: ReceptiveField, size: tuple[int, int], wanted: tuple[int, int]) -> ReceptiveField:
    """Behind a pooling that brings a map from one size to another, from both ends of it to both ends."""
    kernel, stride = [], []
    for had, want in zip(size, wanted, strict=True):
        # window n is from the floor of n times had / want to the ceiling of (n + 1) times that
        longest = max(-(-(n + 1) * had // want) - n * had // want for n in range(want))
        kernel.append(longest)
        stride.append((had - longest) / (want - 1) if want > 1 else 1)
    return _apply_kernel(sees, kernel, stride, (1, 1))


def _to_pair(value: Sequence[float]) -> Sequence[float]:
    """A size for both directions as one for each."""
    return (value[0], value[0]) if len(value) == 1 else value
