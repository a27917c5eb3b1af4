"""Read weights files, and load their tensors into a model.

This is the only module that reads PyTorch's own format. Nothing in a file is executed: safetensors holds tensors only;
a .pth, .pt or .bin file is a pickle, which torch reads with `weights_only`: tensors and plain containers, nothing else.
"""

from __future__ import annotations

import pickletools
import re
import struct
import warnings
import zipfile
from pathlib import Path
from typing import IO, Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..errors import ModelFileError, OptionError

PICKLE_SUFFIXES = (".pth", ".pt", ".bin")
#: keys under which training programs store the state dict
STATE_DICT_KEYS = ("state_dict", "model_state_dict", "model")
#: prefix that wrappers for several devices add to every name
DDP_PREFIX = "module."
#: a counter that old files and frozen batch norms do not have, and that evaluation does not need
BN_COUNTER = "num_batches_tracked"
#: methods of a tensor that fill it with random numbers
RANDOM_INIT_OPS = ("normal_", "uniform_", "trunc_normal_")
#: dtypes that are read; others, such as complex ones, would lose information in a model
INT_DTYPES = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
FLOAT_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)
WRONG_MODEL_HINT = "Use the weights of this model, or build the model with the arguments of its training."

#: far above any model; files with more tensors are refused, because each tensor costs time and memory
MAX_TENSORS = 20_000
#: calls of a pickle per tensor: rebuild the tensor, its hooks, the parameter; and a few for the containers
_MAX_PICKLE_CALLS = 4 * MAX_TENSORS
#: a pickle of fewer bytes cannot hold that many calls, and is not scanned
_MIN_SCANNED_BYTES = _MAX_PICKLE_CALLS
#: pickles of a file of before 2020 that come before the data of its tensors
_LEGACY_PICKLES = 5


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Load the tensors of a .safetensors, .pth, .pt or .bin file by name, on the CPU.

    Floats of any width become float32. A state dict inside {"state_dict": ...} or {"model": ...} is taken out, and a
    prefix "module." of all names is removed. Raises ModelFileError for a file that is missing, damaged, of another
    kind, or that contains code.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"{path} does not exist.", cure="Use the path of a weights file.", path=path)
    suffix = path.suffix.lower()
    allowed = (".safetensors", *PICKLE_SUFFIXES)
    if suffix not in allowed:
        raise ModelFileError(
            f"{path}: unknown kind of weights file '{suffix or path.name}'; expected {', '.join(allowed)}.",
            cure="Save the weights as .safetensors.",
            path=path,
            value=suffix,
            allowed=allowed,
        )
    tensors = _extract_state_dict(_load_content(path, suffix), path)
    is_wrapped = all(name.startswith(DDP_PREFIX) for name in tensors)
    result = {}
    for name, value in tensors.items():
        key = name
        if is_wrapped:
            key = name.removeprefix(DDP_PREFIX)
        result[key] = value
        if value.is_floating_point():
            result[key] = value.float()
    return result


def _load_content(path: Path, suffix: str) -> Any:
    if suffix == ".safetensors":
        return _load_safetensors(path)
    return _load_pickle(path)


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    _check_safetensors_header(path)
    try:
        if _has_utf8_path(path):
            return safetensors.torch.load_file(path)
        return safetensors.torch.load(path.read_bytes())
    except safetensors.SafetensorError as error:
        raise ModelFileError(
            f"{path} is not a complete safetensors file: {error}.", cure="Download or copy it again.", path=path
        ) from None


def _check_safetensors_header(path: Path) -> None:
    """Count the tensors in the header; `_extract_state_dict` counts them again after reading."""
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8:
            return
        (length,) = struct.unpack("<Q", start)
        if length < path.stat().st_size:
            _check_num_tensors(file.read(length).count(b'"data_offsets"'), path)


def _check_num_tensors(count: int, path: Path) -> None:
    if count > MAX_TENSORS:
        raise ModelFileError(
            f"{path} holds more than {MAX_TENSORS:,} tensors.",
            cure="Use the weights file of a single model.",
            path=path,
            value=count,
            allowed=[MAX_TENSORS],
        )


def _has_utf8_path(path: Path) -> bool:
    """Return True if a reader that is not written in Python can open the path."""
    try:
        return bool(str(path).encode())
    except UnicodeEncodeError:
        return False


def _load_pickle(path: Path) -> Any:
    """Load a file of torch.save. Files of before 2020 are not zip archives, and cannot be mapped into memory."""
    with path.open("rb") as file:
        is_archive = file.read(4) == b"PK\3\4"
    mmap = is_archive and _has_utf8_path(path)
    try:
        if is_archive:
            _check_archive(path)
        else:
            _check_legacy_pickle(path)
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")  # about the age of the pickle, which the user cannot change
            return torch.load(str(path) if mmap else file, map_location="cpu", weights_only=True, mmap=mmap)
    except (OSError, ModelFileError):
        raise
    except Exception as error:
        # torch.load recommends reading the file unsafely; that text is not passed on.
        code = re.search(r"GLOBAL (\S+)", str(error))
        if code:
            raise _contains_code_error(path, code.group(1)) from None
        raise ModelFileError(
            f"{path} is damaged, or not a file of torch.save ({type(error).__name__}). Nothing in it was executed.",
            cure="Download or copy it again.",
            path=path,
        ) from None


def _contains_code_error(path: Path, code: str) -> ModelFileError:
    return ModelFileError(
        f"{path} contains code: {code}. Nothing in it was executed.",
        cure="If you trust it, save its weights only: torch.save(model.state_dict(), FILE).",
        path=path,
        value=code,
    )


def _check_archive(path: Path) -> None:
    """Refuse an archive that is compressed, which torch.save never does, or that rebuilds too many tensors."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        _check_num_tensors(sum("/data/" in entry.filename for entry in entries), path)
        if any(entry.filename.endswith("/constants.pkl") for entry in entries):
            raise _contains_code_error(path, "a TorchScript program")
        is_compressed = False
        unpacked_size = 0
        for entry in entries:
            unpacked_size += entry.file_size
            if entry.compress_type != zipfile.ZIP_STORED:
                is_compressed = True
        if is_compressed or unpacked_size > path.stat().st_size:
            raise ModelFileError(
                f"{path} is compressed: a small file could fill the memory.",
                cure="Save it again with torch.save.",
                path=path,
            )
        for entry in entries:
            if entry.filename.endswith("data.pkl") and entry.file_size > _MIN_SCANNED_BYTES:
                with archive.open(entry) as file:
                    _check_pickle_calls(file, path)


def _check_legacy_pickle(path: Path) -> None:
    if path.stat().st_size > _MIN_SCANNED_BYTES:
        with path.open("rb") as file:
            for _ in range(_LEGACY_PICKLES):
                if not _check_pickle_calls(file, path):
                    return


def _check_pickle_calls(file: IO[bytes], path: Path) -> bool:
    """Parse one pickle without executing it; return False if it is not one. Refuse one that calls too much."""
    calls = 0
    try:
        for opcode, _, _ in pickletools.genops(file):
            if opcode.name == "REDUCE":
                calls += 1
                if calls > _MAX_PICKLE_CALLS:
                    break
    except Exception:  # genops raises many kinds of errors for damaged pickles; torch.load reports them
        return False
    if calls > _MAX_PICKLE_CALLS:
        _check_num_tensors(MAX_TENSORS + 1, path)
    return True


def _extract_state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    """Take the tensors out of the content of a file, and check them."""
    for key in STATE_DICT_KEYS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    cure = "Save the state dict of a model: torch.save(model.state_dict(), FILE)."
    if not isinstance(content, dict) or not content:
        raise ModelFileError(
            f"{path} holds {type(content).__name__}; expected tensors by name.",
            cure=cure,
            path=path,
            value=type(content).__name__,
        )
    _check_num_tensors(len(content), path)
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            kind = type(value).__name__
            raise ModelFileError(f"{path}: {name!r} is {kind}; expected a tensor.", cure=cure, path=path, value=name)
    _check_tensors(content, path)
    tensors = {}
    for name, value in content.items():
        tensors[name] = value.detach()
    return tensors


def _check_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Refuse tensors that are larger than the file, and dtypes that are not read.

    A tensor that repeats a few numbers, or none, could have any size, and many tensors can share the same numbers: a
    few bytes could fill the memory. Twice the size of the file is allowed, because layers may share their weights.
    """
    size = path.stat().st_size
    total = 0
    for name, value in tensors.items():
        is_dense = value.layout == torch.strided and value.device.type == "cpu"
        if is_dense:
            total += value.nbytes
        if not is_dense or value.nbytes > size or total > 2 * size:
            raise ModelFileError(
                f"{path}: '{name}' of shape {tuple(value.shape)} is not stored as a dense tensor.",
                cure="Save dense tensors: torch.save(model.state_dict(), FILE).",
                path=path,
                value=name,
            )
        if value.dtype not in (*INT_DTYPES, *FLOAT_DTYPES):
            dtype = _dtype_name(value)
            raise ModelFileError(
                f"{path}: '{name}' has the dtype {dtype}; expected a real number type.",
                cure="Save it as float32, float16 or bfloat16.",
                path=path,
                value=dtype,
            )


def _dtype_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


class skip_init(TorchFunctionMode):
    """Skip random initialization while building a model whose weights are loaded next.

    Parameters are uninitialized inside. Most of the second or more that building a VGG-16 takes is spent on random
    numbers.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        is_init = getattr(function, "__module__", None) == "torch.nn.init" or function.__name__ in RANDOM_INIT_OPS
        if is_init:
            if "tensor" in kwargs:
                return kwargs["tensor"]
            return args[0]
        return function(*args, **kwargs)


def load_strict(
    model: nn.Module, tensors: dict[str, Tensor], path: Path, *, replace_head: bool = False, new_head: bool = False
) -> list[str]:
    """Load weights whose names, shapes and kinds of numbers are those of the model.

    Args:
        model: The model.
        tensors: The weights by name. Counters of batch norm may be missing or left over; missing ones become 0.
        path: Named in errors.
        replace_head: Keep tensors of the classifier layers if they differ in the number of outputs only.
        new_head: Keep all tensors of the classifier layers, because the classes are others.

    Returns:
        The names of the tensors that were kept as they are in the model.

    Raises:
        ModelFileError: For the first tensor that differs; the model has not changed then.
    """
    expected = model.state_dict()
    weights = _drop_extra_counters(tensors, expected)
    head_prefixes = ()
    if expected:
        head_prefixes = tuple(f"{name}." for name in classifier_layers(model))
    kept = []
    for name, value in expected.items():
        if name not in weights and name.endswith(BN_COUNTER):
            weights[name] = torch.zeros_like(value)
        if name not in weights:
            raise _name_error(path, name, f"the tensor '{name}' is missing")
        is_head = name.startswith(head_prefixes)
        if _keeps_head_tensor(weights[name], value, replace_head, new_head) and is_head:
            kept.append(name)
            weights[name] = value
        elif weights[name].shape != value.shape:
            raise _shape_error(path, name, weights[name], value, is_head)
        elif weights[name].is_floating_point() != value.is_floating_point() and not name.endswith(BN_COUNTER):
            raise _dtype_error(path, name, weights[name], value)
    for name in weights:
        if name not in expected:
            raise _name_error(path, name, f"the model has no tensor '{name}'")
    model.load_state_dict(weights)
    return kept


def _drop_extra_counters(tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, Tensor]:
    weights = {}
    for name, value in tensors.items():
        if name in expected or not name.endswith(BN_COUNTER):
            weights[name] = value
    return weights


def _keeps_head_tensor(weight: Tensor, value: Tensor, replace_head: bool, new_head: bool) -> bool:
    if not _differs_in_outputs_only(weight, value):
        return False
    return new_head or (replace_head and weight.shape != value.shape)


def _differs_in_outputs_only(weight: Tensor, value: Tensor) -> bool:
    return weight.dim() > 0 and weight.shape[1:] == value.shape[1:]


def _name_error(path: Path, name: str, problem: str) -> ModelFileError:
    return ModelFileError(f"{path}: {problem}.", cure=WRONG_MODEL_HINT, path=path, value=name)


def _shape_error(path: Path, name: str, weight: Tensor, value: Tensor, is_head: bool) -> ModelFileError:
    cure = WRONG_MODEL_HINT
    if is_head and _differs_in_outputs_only(weight, value):
        cure = (
            f"The weights have {len(weight):,} classes, the model {len(value):,}: use weights for as many, "
            "or fine-tune them, which replaces the last layer."
        )
    return ModelFileError(
        f"{path}: '{name}' has the shape {tuple(weight.shape)}; expected {tuple(value.shape)}.",
        cure=cure,
        path=path,
        value=name,
    )


def _dtype_error(path: Path, name: str, weight: Tensor, value: Tensor) -> ModelFileError:
    dtype = _dtype_name(weight)
    return ModelFileError(
        f"{path}: '{name}' has the dtype {dtype}; expected {_dtype_name(value)}.",
        cure="Use weights that are not quantized.",
        path=path,
        value=dtype,
    )


def classifier_layer(model: nn.Module) -> tuple[str, nn.Module]:
    """Return the name and module of the last layer with parameters, in `model.head` if it has some.

    Raises OptionError for a model without parameters.
    """
    names = {module: name for name, module in model.named_modules()}
    for parent in (getattr(model, "head", None), model):
        if isinstance(parent, nn.Module):
            layers = list(filter(_has_own_params, parent.modules()))
            if layers:
                return names[layers[-1]], layers[-1]
    name = type(model).__name__
    raise OptionError(f"{name} has no layer with parameters.", cure="Choose another model.", option="model", value=name)


def classifier_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the classifier layer, and that of an Inception's auxiliary head, by name."""
    name, layer = classifier_layer(model)
    layers = {name: layer}
    auxiliary = getattr(model, "AuxLogits", None)
    if isinstance(auxiliary, nn.Module):
        name, layer = classifier_layer(auxiliary)
        layers[f"AuxLogits.{name}"] = layer
    return layers


def _has_own_params(layer: nn.Module) -> bool:
    return next(layer.parameters(recurse=False), None) is not None
