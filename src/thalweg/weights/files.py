"""Weights files from elsewhere: the only place that reads PyTorch's own format, and the fit of tensors into a network.

Nothing in a file is run. Safetensors holds tensors alone; a .pth, .pt or .bin is a pickle, of which torch's reader with
`weights_only` makes tensors and plain containers and refuses all else.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..errors import ModelFileError, OptionError

PICKLE_SUFFIXES = (".pth", ".pt", ".bin")
#: names under which training programs keep the weights beside other things
STATE_DICT_KEYS = ("state_dict", "model_state_dict", "model")
#: what wrappers for several devices put before every name
DDP_PREFIX = "module."
#: a counter that old files and frozen batch norms do not have, and that evaluating does not need
BN_COUNTER = "num_batches_tracked"
#: methods of a tensor that fill it with random numbers
RANDOM_INIT_OPS = ("normal_", "uniform_", "trunc_normal_")
#: kinds of numbers that are read; others, as complex ones, would lose something on the way into a network
INT_DTYPES = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
FLOAT_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)
WRONG_MODEL_HINT = (
    "Give the weights of this very model, or build the model with the arguments that it was trained with."
)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors, .pth, .pt or .bin file by name, on the processor; floats of any width as float32.

    Taken out of {"state_dict": …} or {"model": …} where they are in one, and rid of a "module." before all names.
    Raises ModelFileError for a file that is missing, broken, of another kind, or that carries code.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"{path} is missing.", cure="Give a weights file.")
    kind = path.suffix.lower()
    if kind != ".safetensors" and kind not in PICKLE_SUFFIXES:
        raise ModelFileError(
            f"{path}: '{kind or path.name}' is no kind of weights file that is read.",
            cure=f"Give a file that ends in .safetensors, {', '.join(PICKLE_SUFFIXES)}.",
        )
    content = _load_safetensors(path) if kind == ".safetensors" else _load_pickle(path)
    tensors = _extract_state_dict(content, path)
    if all(name.startswith(DDP_PREFIX) for name in tensors):
        tensors = {name.removeprefix(DDP_PREFIX): value for name, value in tensors.items()}
    return {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path) if _has_utf8_path(path) else safetensors.torch.load(path.read_bytes())
    except safetensors.SafetensorError as error:
        raise ModelFileError(f"{path} is no whole safetensors file: {error}.", cure="Fetch or copy it again.") from None


def _has_utf8_path(path: Path) -> bool:
    """Whether the readers, which are not written in Python, can be given the name of a file and not its content."""
    try:
        return bool(str(path).encode())
    except UnicodeEncodeError:
        return False


def _load_pickle(path: Path) -> Any:
    """What a file of torch.save holds. Files of before 2020 are no archives and cannot be mapped into memory."""
    with path.open("rb") as file:
        archive = file.read(4) == b"PK\3\4"
    mapped = archive and _has_utf8_path(path)
    try:
        if archive:
            _reject_compressed(path)
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")  # about the pickle's age, which the user cannot change
            return torch.load(str(path) if mapped else file, map_location="cpu", weights_only=True, mmap=mapped)
    except (OSError, ModelFileError):
        raise
    except Exception as error:
        told = str(error)
        # torch.load advises to read the file unsafely; that advice is not passed on.
        if found := re.search(r"GLOBAL (\S+)", told):
            raise _contains_code_error(path, f"'{found.group(1)}'") from None
        raise ModelFileError(
            f"{path} is broken, or no file of torch.save ({type(error).__name__}); nothing of it was run.",
            cure="Fetch or copy it again.",
        ) from None


def _contains_code_error(path: Path, what: str) -> ModelFileError:
    return ModelFileError(
        f"{path} carries code: {what}. Nothing of it was run.",
        cure="Where you trust it, write its weights alone: torch.save(network.state_dict(), FILE).",
    )


def _reject_compressed(path: Path) -> None:
    """Raises ModelFileError for an archive that would grow when it is read, as none of torch.save does."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if any(entry.filename.endswith("/constants.pkl") for entry in entries):
        raise _contains_code_error(path, "a TorchScript program")
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if packed or sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise ModelFileError(
            f"{path} is compressed: a small file could fill the memory.", cure="Write it again with torch.save."
        )


def _extract_state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    """The tensors in what a file held."""
    for key in STATE_DICT_KEYS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content:
        raise ModelFileError(f"{path} holds no tensors by name.", cure="Give a file of a network's state_dict().")
    size, total = path.stat().st_size, 0
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ModelFileError(
                f"{path}: {name!r} is no tensor but {type(value).__name__}.",
                cure="Give a file of a network's state_dict().",
            )
        # A tensor that repeats a few numbers, or none, could be of any size, and many can share the same numbers: a few
        # bytes could fill the memory. Twice the file is allowed, because layers may share their weights.
        dense = value.layout == torch.strided and value.device.type == "cpu"
        total += value.nbytes if dense else 0
        if not dense or value.nbytes > size or total > 2 * size:
            raise ModelFileError(
                f"{path}: '{name}' of shape {tuple(value.shape)} is not written out in the file.",
                cure="Write dense tensors: torch.save(network.state_dict(), FILE).",
            )
        if value.dtype not in (*INT_DTYPES, *FLOAT_DTYPES):
            kind = str(value.dtype).removeprefix("torch.")
            raise ModelFileError(
                f"{path}: '{name}' holds numbers of a kind that is not read: {kind}.",
                cure="Write it as float32, float16 or bfloat16.",
            )
    return {name: value.detach() for name, value in content.items()}


class skip_init(TorchFunctionMode):
    """`with Undrawn():` networks are built without drawing the numbers that all are replaced by weights afterwards.

    They hold whatever the memory held. Of the second and more that building a VGG-16 takes, most is for these numbers.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        drawn = getattr(function, "__module__", None) == "torch.nn.init" or function.__name__ in RANDOM_INIT_OPS
        if drawn:
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return function(*args, **kwargs)


def load_strict(
    network: nn.Module, tensors: dict[str, Tensor], where: Path, *, replace_head: bool = False, new_head: bool = False
) -> list[str]:
    """Loads weights whose names and shapes are the network's. Raises ModelFileError naming the first that differs.

    Counters of batches that only one side has are no difference: those of the network become 0. With `replace_head`
    tensors of the last layers that differ in the number of outputs alone stay as they are, and are named in the answer;
    with `new_head`, where the outputs mean other things, all of the last layers.
    """
    wanted = network.state_dict()
    given = {name: value for name, value in tensors.items() if name in wanted or not name.endswith(BN_COUNTER)}
    heads = tuple(f"{name}." for name in classifier_layers(network)) if wanted else ()
    kept = []
    for name, value in wanted.items():
        if name not in given and name.endswith(BN_COUNTER):
            given[name] = torch.zeros_like(value)
        if name not in given:
            raise ModelFileError(f"{where}: the tensor '{name}' is missing.", cure=WRONG_MODEL_HINT)
        if given[name].shape == value.shape and not (new_head and name.startswith(heads)):
            continue
        outputs = name.startswith(heads) and given[name].dim() > 0 and given[name].shape[1:] == value.shape[1:]
        if not (outputs and (replace_head or new_head)):
            raise _shape_error(where, name, given[name], value, outputs)
        kept.append(name)
        given[name] = value
    for name in given:
        if name not in wanted:
            raise ModelFileError(f"{where}: the network has no tensor '{name}'.", cure=WRONG_MODEL_HINT)
    network.load_state_dict(given)
    return kept


def _shape_error(where: Path, name: str, given: Tensor, wanted: Tensor, outputs: bool) -> ModelFileError:
    cure = WRONG_MODEL_HINT
    if outputs:
        cure = (
            f"These weights tell {len(given):,} classes apart, this network {len(wanted):,}: "
            "give weights for as many, or fine-tune them, which replaces the last layer."
        )
    return ModelFileError(f"{where}: '{name}' is {tuple(given.shape)}, the network's is {tuple(wanted.shape)}.", cure)


def classifier_layer(network: nn.Module) -> tuple[str, nn.Module]:
    """Name and module of the layer that gives the answers: the last with weights in `network.head`, or in all of it.

    Raises OptionError for a network without weights.
    """
    names = {module: name for name, module in network.named_modules()}
    head = getattr(network, "head", None)
    for inside in (head, network):
        layers = (
            [layer for layer in inside.modules() if _has_own_params(layer)] if isinstance(inside, nn.Module) else []
        )
        if layers:
            return names[layers[-1]], layers[-1]
    raise OptionError(f"{type(network).__name__} has no layer with weights.", cure="Choose another model.")


def classifier_layers(network: nn.Module) -> dict[str, nn.Module]:
    """The last layer, and with it that of an Inception's auxiliary head, by name. Raises what `classifier_layer` raises."""
    found = dict([classifier_layer(network)])
    auxiliary = getattr(network, "AuxLogits", None)
    if isinstance(auxiliary, nn.Module):
        name, layer = classifier_layer(auxiliary)
        found[f"AuxLogits.{name}"] = layer
    return found


def _has_own_params(layer: nn.Module) -> bool:
    """Whether a layer has parameters of its own, not only in layers inside it."""
    return next(layer.parameters(recurse=False), None) is not None
