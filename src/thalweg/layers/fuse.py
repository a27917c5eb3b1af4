"""Optimize a trained model for inference on CPUs: the same outputs from fewer calls, with weights laid out once.

In evaluation, batch normalization is a fixed scale and shift, so it is folded into the weights of the convolution
before it (Ioffe and Szegedy 2015, arXiv:1502.03167, section 3.1), and dropout does nothing. oneDNN applies a following
sum or activation while the output of the convolution is still in the CPU's cache.

PyTorch's compiler calls oneDNN in this way, but the calls are not part of its public interface. So each optimized model
is compared with the original before it is used, and a simpler form is taken if one fails or gives other outputs.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .activations import FunctionModule

#: largest difference as a fraction of the largest output; in ResNet-50 the order of sums alone gives 1e-6
TOLERANCE = 1e-5

#: activations that oneDNN fuses with a convolution, as modules, functions and methods -> oneDNN's names
ACTIVATIONS: dict[Any, str] = {
    **dict.fromkeys((nn.ReLU, F.relu, torch.relu, "relu"), "relu"),
    **dict.fromkeys((nn.Hardswish, F.hardswish), "hardswish"),
    **dict.fromkeys((nn.SiLU, F.silu), "swish"),
    **dict.fromkeys((nn.Sigmoid, torch.sigmoid, "sigmoid"), "sigmoid"),
    **dict.fromkeys((nn.Tanh, torch.tanh, "tanh"), "tanh"),
}
ADD_OPS = (operator.add, operator.iadd, torch.add)
NO_OPS = (nn.Dropout, nn.Dropout2d, nn.Identity)


def optimize_for_inference(model: nn.Module, shape: Sequence[int]) -> nn.Module:
    """Return a module that computes what `model` does in evaluation mode, faster on CPUs.

    `shape` (B, C, H, W) is the approximate shape of the batches. The model keeps its weights and its mode; the returned
    module does not follow later changes of the weights. The outputs differ by at most TOLERANCE; if no optimized form
    achieves that, `model` itself is returned. Takes as long as a few forward passes.
    """
    with _eval_mode(model), torch.no_grad():
        for optimize in (fuse_activations, fold_batch_norm):
            optimized = _try_optimize(optimize, model, shape)
            if optimized is not None:
                return optimized
    return model


def _try_optimize(
    optimize: Callable[[nn.Module, Tensor], nn.Module], model: nn.Module, shape: Sequence[int]
) -> nn.Module | None:
    """Return the optimized model, or None if optimizing fails or changes the outputs."""
    # any model may be passed in, and a private call may be missing, so any exception may occur
    with suppress(Exception):
        # oneDNN lays weights out in one way for single images and in another for two or more
        batch_size = min(shape[0], 2)
        example_BCHW = torch.randn(batch_size, *shape[1:], generator=torch.Generator().manual_seed(0))
        example_BCHW = example_BCHW.to(next(model.parameters()).dtype)
        optimized = optimize(model, example_BCHW)
        if outputs_match(optimized(example_BCHW), model(example_BCHW)):
            return optimized
    return None


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    """Set evaluation mode inside, and restore the mode of every layer afterwards."""
    modes = {layer: layer.training for layer in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for layer, training in modes.items():
            layer.training = training


def outputs_match(outputs: Float[Tensor, "*shape"], expected: Float[Tensor, "*shape"]) -> bool:
    """Return whether no value differs by more than TOLERANCE times the largest value."""
    return bool((outputs - expected).abs().max() <= TOLERANCE * expected.abs().max())


class _Tracer(fx.Tracer):
    """Trace into every module of ours but the named activations, as PyTorch does with its own layers."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, FunctionModule) or super().is_leaf_module(m, module_qualified_name)


def fold_batch_norm(model: nn.Module, example_BCHW: Float[Tensor, "B C H W"]) -> fx.GraphModule:
    """Return `model` without dropout, with batch normalization folded into convolutions, channels last in memory."""
    traced = fx.GraphModule(model, _Tracer().trace(model))
    for node in list(traced.graph.nodes):
        layer = module_of(traced, node)
        if isinstance(layer, NO_OPS):
            node.replace_all_uses_with(node.args[0])
            traced.graph.erase_node(node)
        elif type(layer) is nn.Conv2d:
            _fold_convolution(traced, node, layer)
    return recompile(traced)


def _fold_convolution(traced: fx.GraphModule, node: fx.Node, conv: nn.Conv2d) -> None:
    """Replace a convolution, and a batch normalization that alone follows it, by one convolution."""
    chain = [node]
    user = single_user(node)
    norm = module_of(traced, user)
    if user is not None and type(norm) is nn.BatchNorm2d and norm.track_running_stats:
        conv = fuse_conv_bn_eval(conv, norm)
        chain.append(user)
    else:
        conv = deepcopy(conv)
    channels_last: Any = {"memory_format": torch.channels_last}  # which the stubs of Module.to lack
    replace_chain(traced, chain, conv.to(**channels_last), node.args)


def fuse_activations(model: nn.Module, example_BCHW: Float[Tensor, "B C H W"]) -> fx.GraphModule:
    """Return `model` as `fold_batch_norm` does, with each convolution, sum and activation in one call."""
    traced = fold_batch_norm(model, example_BCHW)
    ShapeProp(traced).propagate(example_BCHW)
    for node in list(traced.graph.nodes):
        layer = module_of(traced, node)
        if type(layer) is nn.Conv2d and layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
            _fuse_convolution(traced, node, layer)
    return recompile(traced)


def _fuse_convolution(traced: fx.GraphModule, node: fx.Node, conv: nn.Conv2d) -> None:
    """Replace a convolution, a sum that alone follows it, and an activation after that by one call."""
    chain = [node]
    addend: tuple[Any, ...] = ()
    user = single_user(node)
    if user is not None and user.target in ADD_OPS and has_same_shapes(user):
        addend = tuple(other for other in user.args if other is not node)
        chain.append(user)
        user = single_user(user)
    activation = ACTIVATIONS.get(op_of(traced, user), "none")
    # with a sum, oneDNN fuses no other activation than ReLU
    if user is not None and (activation == "relu" or (activation != "none" and not addend)):
        chain.append(user)
    else:
        activation = "none"
    source = node.args[0]
    assert isinstance(source, fx.Node)
    fused = FusedConv2d(conv, source.meta["tensor_meta"].shape, activation)
    replace_chain(traced, chain, fused, (source, *addend))


class FusedConv2d(nn.Module):
    """activation(convolution(x) + addend) in one call, with weights laid out for inputs of `shape` (B, C, H, W)."""

    def __init__(self, conv: nn.Conv2d, shape: torch.Size, activation: str):
        super().__init__()
        self.geometry = (conv.padding, conv.stride, conv.dilation, conv.groups)
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(conv.weight.detach(), *self.geometry, list(shape))
        self.bias = conv.bias
        self.activation = activation

    def forward(self, x: Float[Tensor, "B C H W"], addend: Float[Tensor, "B O h w"] | None = None) -> Tensor:
        """(B, C, H, W) -> (B, O, h, w); `addend` has the shape of the output."""
        convolve = torch.ops.mkldnn._convolution_pointwise
        if addend is None:
            return convolve(x, self.weight, self.bias, *self.geometry, self.activation, [], "")
        activation = None if self.activation == "none" else self.activation
        return convolve(x, addend, self.weight, self.bias, *self.geometry, "add", 1.0, activation, [], None)


def module_of(traced: fx.GraphModule, node: fx.Node | None) -> nn.Module | None:
    """Return the module that a node calls; None for other kinds of nodes."""
    if node is None or node.op != "call_module":
        return None
    return traced.get_submodule(str(node.target))


def op_of(traced: fx.GraphModule, node: fx.Node | None) -> Any:
    """Return the operation of a node as a key of ACTIVATIONS: a module class, a function, or the name of a method."""
    layer = module_of(traced, node)
    return type(layer) if layer is not None else getattr(node, "target", None)


def single_user(node: fx.Node) -> fx.Node | None:
    """Return the only node that uses the output of `node`; None if there are several."""
    return next(iter(node.users)) if len(node.users) == 1 else None


def has_same_shapes(node: fx.Node) -> bool:
    """Return whether a sum adds two different tensors of the same shape, without further arguments."""
    shapes = {other: other.meta["tensor_meta"].shape for other in node.args if isinstance(other, fx.Node)}
    return len(shapes) == len(node.args) == 2 and len(set(shapes.values())) == 1 and not node.kwargs


def replace_chain(traced: fx.GraphModule, chain: list[fx.Node], layer: nn.Module, args: tuple[Any, ...]) -> None:
    """Replace a chain of nodes by a call of `layer`, at the position of the chain's last node."""
    name = f"{chain[0].name}_"
    traced.add_submodule(name, layer)
    with traced.graph.inserting_before(chain[-1]):
        call = traced.graph.call_module(name, args)
    call.meta = chain[-1].meta
    chain[-1].replace_all_uses_with(call)
    for node in reversed(chain):
        traced.graph.erase_node(node)


def recompile(traced: fx.GraphModule) -> fx.GraphModule:
    """Regenerate the code of the graph and drop modules that it no longer calls."""
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced
