"""A trained network made quick on processors: the same answers by fewer calls, with weights laid out once.

In evaluation a batch normalisation is a fixed scale and shift, so it goes into the weights of the convolution before it
(Ioffe and Szegedy 2015, arXiv:1502.03167, section 3.1), and dropout does nothing. What follows a convolution, a sum or
an activation, is done by oneDNN while the result is still in the processor's cache.

PyTorch's compiler calls oneDNN in this way; the calls are not part of its public interface. So what was made is tried
before it is used, and a plainer form is taken where anything fails or answers otherwise.
"""

from __future__ import annotations

import operator
from contextlib import suppress
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn.utils.fusion import fuse_conv_bn_eval

#: how far answers may differ, as a share of the largest; in ResNet-50 the order of sums alone makes 1e-6
TOLERANCE = 1e-5

#: activations that oneDNN does with a convolution, as modules, functions and methods -> its names for them
ACTIVATIONS: dict[Any, str] = {
    **dict.fromkeys((nn.ReLU, F.relu, torch.relu, "relu"), "relu"),
    **dict.fromkeys((nn.Hardswish, F.hardswish), "hardswish"),
    **dict.fromkeys((nn.SiLU, F.silu), "swish"),
    **dict.fromkeys((nn.Sigmoid, torch.sigmoid, "sigmoid"), "sigmoid"),
    **dict.fromkeys((nn.Tanh, torch.tanh, "tanh"), "tanh"),
}
ADD_OPS = (operator.add, operator.iadd, torch.add)
NO_OPS = (nn.Dropout, nn.Dropout2d, nn.Identity)


def optimize_for_inference(network: nn.Module, shape: tuple[int, int, int, int]) -> nn.Module:
    """What answers to batches of about `shape` (B, C, H, W) as `network` does in evaluation, but quicker on processors.

    Its own weights and mode stay as they are, and what comes back does not follow later changes of them. Answers differ
    by TOLERANCE at most; where that cannot be had, `network` itself comes back. It takes as long as a few answers do.
    """
    batch, *picture = shape
    modes = {layer: layer.training for layer in network.modules()}
    network.eval()
    try:
        with torch.no_grad():
            for make in (fuse_activations, fold_batch_norm):
                with suppress(Exception):  # a network that cannot be followed, a call that is gone may raise anything
                    # oneDNN lays weights out in one way for single pictures and in another for two or more
                    example_BCHW = torch.randn(min(batch, 2), *picture, generator=torch.Generator().manual_seed(0))
                    example_BCHW = example_BCHW.to(next(network.parameters()).dtype)
                    made = make(network, example_BCHW)
                    if outputs_match(made(example_BCHW), network(example_BCHW)):
                        return made
    finally:
        for layer, training in modes.items():
            layer.training = training
    return network


def outputs_match(answer: Tensor, expected: Tensor) -> bool:
    """Whether no value differs by more than TOLERANCE of the largest."""
    return bool((answer - expected).abs().max() <= TOLERANCE * expected.abs().max())


def fold_batch_norm(network: nn.Module, example_BCHW: Tensor) -> fx.GraphModule:
    """`network` without dropout, normalisation in the weights of convolutions, channels last in memory."""
    made = fx.symbolic_trace(network)
    for node in list(made.graph.nodes):
        layer, done = module_of(made, node), [node]
        if isinstance(layer, NO_OPS):
            node.replace_all_uses_with(node.args[0])
            made.graph.erase_node(node)
        elif type(layer) is nn.Conv2d:
            follower = single_user(node)
            norm = module_of(made, follower)
            if type(norm) is nn.BatchNorm2d and norm.track_running_stats:
                layer, done = fuse_conv_bn_eval(layer, norm), [node, follower]
            else:
                layer = deepcopy(layer)
            replace_chain(made, done, layer.to(memory_format=torch.channels_last), node.args)
    return recompile(made)


def fuse_activations(network: nn.Module, example_BCHW: Tensor) -> fx.GraphModule:
    """`network` as by `fold_batch_norm`, each convolution in one call with the sum and the activation after it."""
    made = fold_batch_norm(network, example_BCHW)
    ShapeProp(made).propagate(example_BCHW)
    for node in list(made.graph.nodes):
        layer = module_of(made, node)
        if type(layer) is not nn.Conv2d or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
            continue
        done, addend, follower = [node], (), single_user(node)
        if follower is not None and follower.target in ADD_OPS and has_same_shapes(follower):
            addend = tuple(other for other in follower.args if other is not node)
            done, follower = [node, follower], single_user(follower)
        activation = ACTIVATIONS.get(op_of(made, follower), "none")
        if activation == "relu" or (activation != "none" and not addend):
            done.append(follower)
        else:
            activation = "none"
        shape = node.args[0].meta["tensor_meta"].shape
        replace_chain(made, done, FusedConv2d(layer, shape, activation), (node.args[0], *addend))
    return recompile(made)


class FusedConv2d(nn.Module):
    """activation(convolution(x) + added) in one call, the weights laid out for inputs of `shape` (B, C, H, W)."""

    def __init__(self, layer: nn.Conv2d, shape: torch.Size, activation: str):
        super().__init__()
        self.where = (layer.padding, layer.stride, layer.dilation, layer.groups)
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(layer.weight.detach(), *self.where, list(shape))
        self.bias, self.activation = layer.bias, activation

    def forward(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """(B, I, H, W) -> (B, O, h, w); `added` is of the latter shape."""
        do = torch.ops.mkldnn._convolution_pointwise
        if added is None:
            return do(x, self.weight, self.bias, *self.where, self.activation, [], "")
        activation = None if self.activation == "none" else self.activation
        return do(x, added, self.weight, self.bias, *self.where, "add", 1.0, activation, [], None)


def module_of(made: fx.GraphModule, node: fx.Node | None) -> nn.Module | None:
    """The module that a node calls; None for nodes of other kinds."""
    return made.get_submodule(node.target) if node is not None and node.op == "call_module" else None


def op_of(made: fx.GraphModule, node: fx.Node | None) -> Any:
    """What a node does, as ACTIVATIONS has it: the class of a module, a function, or the name of a method."""
    layer = module_of(made, node)
    return type(layer) if layer is not None else getattr(node, "target", None)


def single_user(node: fx.Node) -> fx.Node | None:
    """The one node that uses what `node` gives; None where several do."""
    return next(iter(node.users)) if len(node.users) == 1 else None


def has_same_shapes(node: fx.Node) -> bool:
    """Whether a sum is one of two different tensors of one shape, without further arguments."""
    tensors = {other: other.meta["tensor_meta"].shape for other in node.args if isinstance(other, fx.Node)}
    return len(tensors) == len(node.args) == 2 and len(set(tensors.values())) == 1 and not node.kwargs


def replace_chain(made: fx.GraphModule, done: list[fx.Node], layer: nn.Module, arguments: tuple[fx.Node, ...]) -> None:
    """Puts a call of `layer` where the last node of a chain stands, and takes the chain away."""
    name = f"{done[0].name}_"
    made.add_submodule(name, layer)
    with made.graph.inserting_before(done[-1]):
        new = made.graph.call_module(name, arguments)
    new.meta = done[-1].meta
    done[-1].replace_all_uses_with(new)
    for node in reversed(done):
        made.graph.erase_node(node)


def recompile(made: fx.GraphModule) -> fx.GraphModule:
    """The module with code for its graph, and without the layers that are not called any more."""
    made.delete_all_unused_submodules()
    made.recompile()
    return made
