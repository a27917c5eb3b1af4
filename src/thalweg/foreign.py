"""Weights files from elsewhere: the only place that reads PyTorch's own format, and the fit of tensors into a network.

Nothing in a file is run. Safetensors holds tensors alone; a .pth, .pt or .bin is a pickle, of which torch's reader with
`weights_only` makes tensors and plain containers and refuses all else.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .errors import ModelFileError, OptionError

PICKLED = (".pth", ".pt", ".bin")
#: names under which training programs keep the weights beside other things
INSIDE = ("state_dict", "model")
#: what wrappers for several devices put before every name
WRAPPER = "module."
#: a counter that old files and frozen batch norms do not have, and that evaluating does not need
COUNTER = "num_batches_tracked"
#: methods of a tensor that fill it with random numbers
DRAWING = ("normal_", "uniform_", "trunc_normal_")
OTHER = "Give the weights of this very model, or build the model with the arguments that it was trained with."


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors, .pth, .pt or .bin file by name, on the processor; floats of any width as float32.

    Taken out of {"state_dict": …} or {"model": …} where they are in one, and rid of a "module." before all names.
    Raises ModelFileError for a file that is missing, broken, of another kind, or that carries code.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"{path} is missing.", cure="Give a weights file.")
    kind = path.suffix.lower()
    if kind != ".safetensors" and kind not in PICKLED:
        raise ModelFileError(
            f"{path}: '{kind or path.name}' is no kind of weights file that is read.",
            cure=f"Give a file that ends in .safetensors, {', '.join(PICKLED)}.",
        )
    content = _safetensors(path) if kind == ".safetensors" else _pickled(path)
    tensors = _tensors(content, path)
    if all(name.startswith(WRAPPER) for name in tensors):
        tensors = {name.removeprefix(WRAPPER): value for name, value in tensors.items()}
    return {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise ModelFileError(f"{path} is no whole safetensors file: {error}.", cure="Fetch or copy it again.") from None


def _pickled(path: Path) -> Any:
    """What a file of torch.save holds. Files of before 2020 are no archives and cannot be mapped into memory."""
    with path.open("rb") as file:
        archive = file.read(4) == b"PK\3\4"
    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")  # about the pickle's age, which the user cannot change
            return torch.load(str(path) if archive else file, map_location="cpu", weights_only=True, mmap=archive)
    except OSError:
        raise
    except Exception as error:
        told = str(error)
        # torch.load advises to read the file unsafely; that advice is not passed on.
        found = re.search(r"GLOBAL (\S+)", told)
        if found or "TorchScript" in told:
            what = f"'{found.group(1)}'" if found else "a TorchScript program"
            raise ModelFileError(
                f"{path} carries code: {what}. Nothing of it was run.",
                cure="Where you trust it, write its weights alone: torch.save(network.state_dict(), FILE).",
            ) from None
        raise ModelFileError(
            f"{path} is broken, or no file of torch.save ({type(error).__name__}); nothing of it was run.",
            cure="Fetch or copy it again.",
        ) from None


def _tensors(content: Any, path: Path) -> dict[str, Tensor]:
    """The tensors in what a file held."""
    for key in INSIDE:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content:
        raise ModelFileError(f"{path} holds no tensors by name.", cure="Give a file of a network's state_dict().")
    most = path.stat().st_size
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ModelFileError(
                f"{path}: {name!r} is no tensor but {type(value).__name__}.",
                cure="Give a file of a network's state_dict().",
            )
        # A tensor that repeats a few numbers, or none, could be of any size: a few bytes could fill the memory.
        if value.layout != torch.strided or value.device.type != "cpu" or value.nbytes > most:
            raise ModelFileError(
                f"{path}: '{name}' of shape {tuple(value.shape)} is not written out in the file.",
                cure="Write dense tensors: torch.save(network.state_dict(), FILE).",
            )
    return {name: value.detach() for name, value in content.items()}


class Undrawn(TorchFunctionMode):
    """`with Undrawn():` networks are built without drawing the numbers that all are replaced by weights afterwards.

    They hold whatever the memory held. Of the second and more that building a VGG-16 takes, most is for these numbers.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        drawn = getattr(function, "__module__", None) == "torch.nn.init" or function.__name__ in DRAWING
        if drawn:
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return function(*args, **kwargs)


def load_exactly(
    network: nn.Module, tensors: dict[str, Tensor], where: Path, *, replace_head: bool = False
) -> list[str]:
    """Loads weights whose names and shapes are the network's. Raises ModelFileError naming the first that differs.

    Counters of batches that only one side has are no difference: those of the network become 0. With `replace_head`
    tensors of the last layers that differ in the number of outputs alone stay as they are, and are named in the answer.
    """
    wanted = network.state_dict()
    given = {name: value for name, value in tensors.items() if name in wanted or not name.endswith(COUNTER)}
    heads = tuple(f"{name}." for name in last_layers(network)) if wanted else ()
    kept = []
    for name, value in wanted.items():
        if name not in given and name.endswith(COUNTER):
            given[name] = torch.zeros_like(value)
        if name not in given:
            raise ModelFileError(f"{where}: the tensor '{name}' is missing.", cure=OTHER)
        if given[name].shape == value.shape:
            continue
        outputs = name.startswith(heads) and given[name].dim() > 0 and given[name].shape[1:] == value.shape[1:]
        if not (outputs and replace_head):
            raise _differs(where, name, given[name], value, outputs)
        kept.append(name)
        given[name] = value
    for name in given:
        if name not in wanted:
            raise ModelFileError(f"{where}: the network has no tensor '{name}'.", cure=OTHER)
    network.load_state_dict(given)
    return kept


def _differs(where: Path, name: str, given: Tensor, wanted: Tensor, outputs: bool) -> ModelFileError:
    cure = OTHER
    if outputs:
        cure = (
            f"These weights tell {len(given):,} classes apart, this network {len(wanted):,}: "
            "give weights for as many, or fine-tune them, which replaces the last layer."
        )
    return ModelFileError(f"{where}: '{name}' is {tuple(given.shape)}, the network's is {tuple(wanted.shape)}.", cure)


def last_layer(network: nn.Module) -> tuple[str, nn.Module]:
    """Name and module of the layer that gives the answers: the last with weights in `network.head`, or in all of it.

    Raises OptionError for a network without weights.
    """
    names = {module: name for name, module in network.named_modules()}
    head = getattr(network, "head", None)
    for inside in (head, network):
        layers = [layer for layer in inside.modules() if _weighted(layer)] if isinstance(inside, nn.Module) else []
        if layers:
            return names[layers[-1]], layers[-1]
    raise OptionError(f"{type(network).__name__} has no layer with weights.", cure="Choose another model.")


def last_layers(network: nn.Module) -> dict[str, nn.Module]:
    """The last layer, and with it that of an Inception's auxiliary head, by name. Raises what `last_layer` raises."""
    found = dict([last_layer(network)])
    auxiliary = getattr(network, "AuxLogits", None)
    if isinstance(auxiliary, nn.Module):
        name, layer = last_layer(auxiliary)
        found[f"AuxLogits.{name}"] = layer
    return found


def _weighted(layer: nn.Module) -> bool:
    """Whether a layer has parameters of its own, not only in layers inside it."""
    return next(layer.parameters(recurse=False), None) is not None
