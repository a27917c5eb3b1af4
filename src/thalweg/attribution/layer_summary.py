"""A model layer by layer: shapes, parameters, multiply-adds and receptive fields, from tracing one forward pass.

The receptive field of a neuron is the part of the image that its activation depends on. A kernel of size k and stride s
enlarges it by (k - 1) times the distance of neighboring neurons, and multiplies that distance by s (Araujo, Norris and
Sim 2019, doi:10.23915/distill.00021, equation 1). With a model on PyTorch's device "meta" nothing is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ..errors import OptionError
from .hooks import eval_mode

aten = torch.ops.aten
#: windowed pooling -> index of the dilation among its arguments
_POOLING_OPS = {aten.max_pool2d_with_indices: 4, aten.avg_pool2d: None}
_ADAPTIVE_POOLING_OPS = (aten._adaptive_avg_pool2d, aten.adaptive_max_pool2d)
_FLATTENING_OPS = (aten.mean, aten.sum, aten.amax, aten.view, aten._unsafe_view)
_MIXING_OPS = (aten.permute, aten.transpose, aten.convolution)


@dataclass(frozen=True)
class LayerInfo:
    """Facts about one layer, or about a group of layers, for one image.

    Attributes:
        name: Name in the model.
        kind: Class.
        shape: Shape of the output, without the batch; None for a layer that is used in training only.
        parameters: Number of weights and biases, trained or not.
        multiply_adds: Multiplications with an addition.
        receptive_field: The larger side in pixels, including pixels beyond the border; None if unknown.
        activations: Values of the outputs that occupy memory of their own.
    """

    name: str
    kind: str
    shape: tuple[int, ...] | None
    parameters: int
    multiply_adds: int
    receptive_field: int | None
    activations: int


class ModuleInfo(NamedTuple):
    """Class, output shape and receptive field of a module; None where unknown."""

    kind: str
    shape: tuple[int, ...] | None
    receptive_field: int | None


class ReceptiveField(NamedTuple):
    """Receptive field of a map's neurons: height and width in pixels, and the distance of neighbors' fields."""

    height: float
    width: float
    step_y: float
    step_x: float


class LayerSummary(NamedTuple):
    """A model layer by layer: `rows`, and all its modules by name."""

    rows: list[LayerInfo]
    modules: dict[str, ModuleInfo]


def summarize_layers(model: nn.Module, shape: Sequence[int]) -> LayerSummary:
    """Return a row per layer, in the order of the forward pass, for one image of `shape` (C, H, W).

    There is a row for each module without children, and for each with parameters or multiply-adds of its own. Shared
    parameters count in the first layer; a layer that is called several times is listed at its last call; layers that
    are not called come last. Raises OptionError for an image that the model cannot read.
    """
    image_1CHW = torch.zeros(1, *shape, device=_device_of(model))
    tracer = _LayerTracer(model, image_1CHW)
    try:
        # gradients stay enabled, because without them attention is one operation in which nothing can be counted
        with eval_mode(model), tracer:
            model(image_1CHW)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        size = " x ".join(map(str, shape))
        raise OptionError(
            f"image: {size} (C, H, W); {type(model).__name__} cannot read it: {reason}.",
            cure="Use the channels and the size that the model is made for.",
            value=tuple(shape),
        ) from error
    modules: dict[str, ModuleInfo] = {}
    for layer, name in tracer.names.items():
        modules[name] = ModuleInfo(type(layer).__name__, None, None)
        call = tracer.calls.get(layer)
        if call is not None:
            modules[name] = ModuleInfo(type(layer).__name__, call.shape, call.receptive_field)
    return LayerSummary(tracer.rows(), modules)


def _device_of(model: nn.Module) -> torch.device:
    """Return the device of a model's first parameter or buffer; the CPU for a model without any."""
    values = [*model.parameters(), *model.buffers()]
    if values:
        return values[0].device
    return torch.device("cpu")


def sum_rows(rows: Sequence[LayerInfo], name: str, kind: str = "") -> LayerInfo:
    """Sum several rows; shape and receptive field are those of the last layer that is called.

    Args:
        rows: rows of a summary.
        name: name of the sum.
        kind: class of the sum.

    Returns:
        One row.
    """
    total = LayerInfo(name, kind, shape=None, parameters=0, multiply_adds=0, receptive_field=None, activations=0)
    for row in rows:
        total = replace(
            total,
            parameters=total.parameters + row.parameters,
            multiply_adds=total.multiply_adds + row.multiply_adds,
            activations=total.activations + row.activations,
        )
        if row.shape is not None:
            total = replace(total, shape=row.shape, receptive_field=row.receptive_field)
    return total


def main_layers(rows: Sequence[LayerInfo]) -> list[LayerInfo]:
    """Return the rows with parameters, multiply-adds or a new shape, so without activations and pass-through layers."""
    selected: list[LayerInfo] = []
    for row in rows:
        reshapes = row.activations and not (selected and selected[-1].shape == row.shape)
        if row.parameters or row.multiply_adds or reshapes:
            selected.append(row)
    return selected


def group_by_module(summary: LayerSummary, max_rows: int) -> list[LayerInfo]:
    """Group the main layers by the modules that contain them, as deep inside as at most `max_rows` allow.

    If there are more outermost modules than that, all of those are returned.
    """
    rows = main_layers(summary.rows)
    groups: dict[str, list[LayerInfo]] = {}
    for depth in range(max(row.name.count(".") for row in rows) + 1, 0, -1):
        groups = {}
        for row in rows:
            prefix = ".".join(row.name.split(".")[:depth])
            groups.setdefault(prefix, []).append(row)
        if len(groups) <= max_rows:
            break
    module_rows: list[LayerInfo] = []
    for name, group in groups.items():
        module_rows.append(_module_row(summary, name, group))
    return module_rows


def _module_row(summary: LayerSummary, name: str, group: Sequence[LayerInfo]) -> LayerInfo:
    """Return the layers of a module as one row, with the module's own output if it is called."""
    if len(group) == 1:
        return group[0]
    kind, shape, field = summary.modules[name]
    row = sum_rows(group, name, kind)
    if shape is None:
        return row
    return replace(row, shape=shape, receptive_field=field)


# --- tracing ---------------------------------------------------------------------------------------------------------


class _Call(NamedTuple):
    """The last output of a layer, and the values of all its outputs with memory of their own."""

    shape: tuple[int, ...]
    receptive_field: int | None
    values: int


class _LayerTracer(TorchDispatchMode):
    """Record for every operation its layer, its multiply-adds, and the receptive field of its results."""

    def __init__(self, model: nn.Module, image_1CHW: Tensor):
        super().__init__()
        self.names = {layer: name for name, layer in model.named_modules()}
        self.running: list[nn.Module] = []
        self.multiply_adds: dict[nn.Module, int] = {}
        self.calls: dict[nn.Module, _Call] = {}
        self.handles: list[Any] = []
        _set_field(image_1CHW, ReceptiveField(1, 1, 1, 1))

    def __enter__(self) -> _LayerTracer:
        for layer in self.names:
            self.handles.append(layer.register_forward_pre_hook(self._begin_layer))
            self.handles.append(layer.register_forward_hook(self._end_layer))
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for handle in self.handles:
            handle.remove()

    def _begin_layer(self, layer: nn.Module, _: Any) -> None:
        self.running.append(layer)
        self.multiply_adds.setdefault(layer, 0)

    def _end_layer(self, layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        self.running.pop()
        if isinstance(output, tuple):
            output = output[0]
        if not isinstance(output, Tensor):
            return
        values = output.numel()
        if _shares_memory(output, inputs):
            values = 0
        if layer in self.calls:  # removed, so that the layer is listed at its last call
            values += self.calls.pop(layer).values
        self.calls[layer] = _Call(tuple(output.shape[1:]), _field_size(output), values)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        op = func._overloadpacket
        if op in flop_registry:
            # the registry counts floating point operations, two for every multiplication with an addition
            self.multiply_adds[self.running[-1]] += flop_registry[op](*args, **kwargs, out_val=output) // 2
        inputs = list(filter(_has_field, _flatten_tensors(args)))
        if inputs:
            for tensor in _flatten_tensors([output]):
                _set_field(tensor, _propagate_field(op, args, inputs, tensor))
        return output

    def rows(self) -> list[LayerInfo]:
        """Return the rows of the summary."""
        rows: list[LayerInfo] = []
        counted: set[int] = set()
        # first the layers that are called, in the order of their calls
        for layer in dict.fromkeys([*self.calls, *self.names]):
            row = self._make_row(layer, counted)
            if row is not None:
                rows.append(row)
        return rows

    def _make_row(self, layer: nn.Module, counted: set[int]) -> LayerInfo | None:
        """Return the row of a layer, or None for a mere container; adds its parameters to the `counted` ones."""
        parameters = 0
        for param in layer.parameters(recurse=False):
            if id(param) not in counted:
                counted.add(id(param))
                parameters += param.numel()
        multiply_adds = self.multiply_adds.get(layer, 0)
        call = self.calls.get(layer)
        is_leaf = call is not None and next(layer.children(), None) is None
        if not (is_leaf or parameters or multiply_adds):
            return None
        kind = type(layer).__name__
        name = self.names[layer] or kind
        if call is None:
            return LayerInfo(name, kind, None, parameters, multiply_adds, None, 0)
        row = LayerInfo(name, kind, call.shape, parameters, multiply_adds, call.receptive_field, call.values)
        if is_leaf:
            return row
        # the output of a container is that of its last child, where it is counted
        return replace(row, activations=0)


def _shares_memory(output: Tensor, inputs: tuple[Any, ...]) -> bool:
    """Return whether an output lies in the memory of an input."""
    storage = output.untyped_storage()._cdata
    for value in inputs:
        if isinstance(value, Tensor) and value.untyped_storage()._cdata == storage:
            return True
    return False


def _flatten_tensors(values: Any) -> list[Tensor]:
    """Return the tensors among arguments, including those in lists."""
    tensors: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            tensors.append(value)
        elif isinstance(value, (list, tuple)):
            tensors += _flatten_tensors(value)
    return tensors


# --- receptive fields ------------------------------------------------------------------------------------------------


#: attribute of a tensor that holds its receptive field
_FIELD_ATTRIBUTE = "_thalweg_receptive_field"


def _set_field(tensor: Tensor, field: ReceptiveField | None) -> None:
    """Attach a receptive field to a tensor; None if it is unknown."""
    setattr(tensor, _FIELD_ATTRIBUTE, field)


def _has_field(tensor: Tensor) -> bool:
    """Return whether a tensor depends on the image, with a known or an unknown receptive field."""
    return hasattr(tensor, _FIELD_ATTRIBUTE)


def _get_field(tensor: Tensor) -> ReceptiveField | None:
    return getattr(tensor, _FIELD_ATTRIBUTE, None)


def _field_size(tensor: Tensor) -> int | None:
    field = _get_field(tensor)
    if field is None:
        return None
    return round(max(field.height, field.width))


def _spatial_size(tensor: Tensor) -> tuple[int, int] | None:
    """Return height and width of maps (B, C, H, W), 1 and 1 for neurons (B, N), None for other shapes."""
    if tensor.ndim == 4:
        return tensor.shape[2], tensor.shape[3]
    if tensor.ndim == 2:
        return 1, 1
    return None


def _propagate_field(op: Any, args: Sequence[Any], inputs: Sequence[Tensor], output: Tensor) -> ReceptiveField | None:
    """Return the receptive field of an operation's result; None if it is unknown."""
    size = _spatial_size(output)
    fields: list[ReceptiveField] = []
    for tensor in inputs:
        field = _get_field(tensor)
        if field is None:
            return None
        fields.append(field)
    if size is None:
        return None
    if op is aten.convolution and not args[6]:
        return _apply_kernel(fields[0], args[1].shape[2:], args[3], args[5])
    if op in _POOLING_OPS:
        return _apply_pooling(fields[0], op, args)
    sizes = list(map(_spatial_size, inputs))
    if op in _ADAPTIVE_POOLING_OPS or (op in _FLATTENING_OPS and size == (1, 1)):
        return None if sizes[0] is None else _apply_adaptive_pool(fields[0], sizes[0], size)
    if op in _MIXING_OPS:
        return None
    return _apply_elementwise(op, fields, sizes, size)


def _apply_elementwise(
    op: Any,
    fields: Sequence[ReceptiveField],
    sizes: Sequence[tuple[int, int] | None],
    size: tuple[int, int],
) -> ReceptiveField | None:
    """Return the field after an operation on maps of one size and single values; None for other sizes."""
    if not set(sizes) <= {size, (1, 1)} and op is not aten.constant_pad_nd:
        return None
    nearest = fields[0]
    if size in sizes:
        nearest = fields[sizes.index(size)]
    height = fields[0].height
    width = fields[0].width
    for field in fields:
        height = max(height, field.height)
        width = max(width, field.width)
    return ReceptiveField(height, width, nearest.step_y, nearest.step_x)


def _apply_pooling(field: ReceptiveField, op: Any, args: Sequence[Any]) -> ReceptiveField:
    """Return the field after windowed pooling."""
    kernel = args[1]
    stride = kernel
    if len(args) > 2 and args[2]:
        stride = args[2]
    dilation = (1, 1)
    index = _POOLING_OPS[op]
    if index is not None and len(args) > index:
        dilation = args[index]
    return _apply_kernel(field, kernel, stride, dilation)


def _apply_kernel(
    field: ReceptiveField, kernel: Sequence[int], stride: Sequence[int | float], dilation: Sequence[int]
) -> ReceptiveField:
    """Return the field after a sliding window."""
    kernel_height, kernel_width = _to_pair(kernel)
    stride_y, stride_x = _to_pair(stride)
    dilation_y, dilation_x = _to_pair(dilation)
    return ReceptiveField(
        height=field.height + (kernel_height - 1) * dilation_y * field.step_y,
        width=field.width + (kernel_width - 1) * dilation_x * field.step_x,
        step_y=field.step_y * stride_y,
        step_x=field.step_x * stride_x,
    )


def _apply_adaptive_pool(field: ReceptiveField, size_in: tuple[int, int], size_out: tuple[int, int]) -> ReceptiveField:
    """Return the field after adaptive pooling, whose windows span the map from edge to edge."""
    kernel: list[int] = []
    stride: list[float] = []
    for before, after in zip(size_in, size_out, strict=True):
        longest = _longest_window(before, after)
        kernel.append(longest)
        if after > 1:
            stride.append((before - longest) / (after - 1))
        else:
            stride.append(1)
    return _apply_kernel(field, kernel, stride, (1, 1))


def _longest_window(before: int, after: int) -> int:
    """Return the length of the longest window of adaptive pooling from `before` to `after` cells."""
    lengths: list[int] = []
    for index in range(after):
        # from the floor of index * before / after to the ceiling of (index + 1) * before / after
        start = index * before // after
        end = -(-(index + 1) * before // after)
        lengths.append(end - start)
    return max(lengths)


def _to_pair(value: Sequence[int | float]) -> tuple[int | float, int | float]:
    """Return a size for both directions as one for each."""
    if len(value) == 1:
        return value[0], value[0]
    return value[0], value[1]
