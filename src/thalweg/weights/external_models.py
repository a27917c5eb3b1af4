"""Models of timm and torchvision, if these packages are installed: `--model timm:convnext_tiny`.

Neither package is required, and neither is imported unless a model name asks for it. A run folder from elsewhere can
name a model and its arguments, so only arguments that cannot make a package read a file or open a connection are used.
"""

from __future__ import annotations

import importlib
import re
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from ..config.size import PixelSize, format_size, to_height_width
from ..errors import ModelFileError, NotFoundError, OptionError, ResourceError
from ..io.download import is_offline
from ..registry import ModelEntry, register_model_source

PACKAGES = ("timm", "torchvision")
#: older versions of timm read checkpoints as unrestricted pickles
MIN_TIMM_VERSION = (1, 0, 20)

#: arguments that name files, addresses or weights, whatever their value
REFUSED_ARGUMENTS = (
    "cache_dir",
    "checkpoint_path",
    "file",
    "hf_hub_id",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "url",
    "weights",
    "weights_backbone",
)
_ARGUMENT_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
#: a string value has no '/', '.' or ':', so it is neither a path nor a URL
_WORD = re.compile(r"[A-Za-z0-9_-]{0,32}")


class ExternalModel(nn.Module):
    """A model of another package as `head(features(x))`.

    The last linear layer is taken out and becomes the head; if the number of classes differs, the head is new.
    """

    def __init__(self, model: nn.Module, num_classes: int, name: str):
        super().__init__()
        layer_name, layer = _last_linear(model, name)
        parent, _, child = layer_name.rpartition(".")
        setattr(model.get_submodule(parent), child, nn.Identity())
        self.features = model
        self.head = layer
        self.replaced = layer.out_features != num_classes
        if self.replaced:
            self.head = nn.Linear(layer.in_features, num_classes, bias=layer.bias is not None)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits (B, K) of images (B, C, H, W)."""
        features = self.features(x_BCHW)
        if isinstance(features, tuple):  # in training mode, some models also return auxiliary outputs
            features = features[0]
        return self.head(features)


def _last_linear(model: nn.Module, name: str) -> tuple[str, nn.Linear]:
    """Return the linear layer that ends the model. Raises OptionError if another layer with parameters follows it."""
    last: tuple[str, nn.Module] = ("", model)
    for layer_name, layer in model.named_modules():
        if next(layer.parameters(recurse=False), None) is not None:
            last = (layer_name, layer)
    layer_name, layer = last
    if not isinstance(layer, nn.Linear) or not layer_name:
        raise OptionError(
            f"{name} does not end in a linear layer, so its classes cannot be replaced.",
            cure="Choose another model.",
            option="model",
            value=name,
        )
    return layer_name, layer


def split_name(model: str) -> tuple[str, str] | None:
    """Split 'timm:convnext_tiny' into ('timm', 'convnext_tiny'); return None for a model of this package."""
    package, colon, name = model.partition(":")
    if colon and package in PACKAGES:
        return package, name
    return None


def _package_and_name(model: str) -> tuple[str, str]:
    parts = split_name(model)
    if parts is None:
        raise ValueError(f"not an external model: '{model}'; expected 'timm:NAME' or 'torchvision:NAME'")
    return parts


def import_package(model: str) -> ModuleType:
    """Import the package of 'timm:NAME' or 'torchvision:NAME'.

    Raises ResourceError, with the command that installs it, if the package is missing or too old.
    """
    package, _ = _package_and_name(model)
    module_name = "timm" if package == "timm" else "torchvision.models"
    try:
        module = importlib.import_module(module_name)
    except (ImportError, RuntimeError) as error:
        raise ResourceError(
            f"The model '{model}' needs the package {package}, which cannot be imported: {first_error_line(error)}.",
            cure=f"pip install {package}, of the same build as torch (both for CPUs only, or both with CUDA).",
            value=package,
        ) from error
    if package == "timm":
        _check_timm_version(module)
    return module


def _check_timm_version(timm: ModuleType) -> None:
    version = str(getattr(timm, "__version__", "unknown"))
    minimum = ".".join(map(str, MIN_TIMM_VERSION))
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    if numbers < MIN_TIMM_VERSION:
        raise ResourceError(
            f"timm {version} is too old; expected {minimum} or newer.",
            cure=f'pip install "timm>={minimum}"',
            value=version,
            allowed=[minimum],
        )


def check_exists(model: str) -> ModuleType:
    """Return the package of 'timm:NAME' or 'torchvision:NAME'.

    Raises NotFoundError if the package has no such model, and what `import_package` raises.
    """
    package, name = _package_and_name(model)
    module = import_package(model)
    if package == "timm":
        names = [*module.list_models(), *module.list_pretrained()]  # the latter with tags: resnet18.a1_in1k
    else:
        names = module.list_models(module=module)  # without detectors
    if name not in names:
        raise NotFoundError.for_unknown(f"model of {package}", name, names)
    return module


def check_arguments(model: str, arguments: dict[str, Any]) -> None:
    """Check that no argument can make a package read a file or open a connection.

    Values are numbers, booleans, None, or short words without '/', '.' and ':'. Raises ModelFileError for others.
    """
    for name, value in arguments.items():
        if not _ARGUMENT_NAME.fullmatch(name) or name in REFUSED_ARGUMENTS:
            raise ModelFileError(
                f"{model}: the argument '{name}' is refused, because it can name a file or an address.",
                cure="Remove the argument.",
                option=name,
                value=value,
            )
        if type(value) is str and _WORD.fullmatch(value):
            continue
        if value is not None and type(value) not in (bool, int, float):
            raise ModelFileError(
                f"{model}: {name}={value!r} is refused; expected a number, true, false, none, or a short word "
                "without '/', '.' and ':'.",
                cure="Remove the argument.",
                option=name,
                value=value,
            )


def build_external_model(
    model: str,
    in_channels: int,
    num_classes: int,
    image_size: PixelSize = 224,
    pretrained: bool = False,
    offline: bool = False,
    **arguments: Any,
) -> nn.Module:
    """Build 'timm:NAME' or 'torchvision:NAME' with a head for the classes.

    The network is blocked unless the package may download pretrained weights.

    Args:
        model: The package and the name.
        in_channels: Channels of the images.
        num_classes: Number of classes.
        image_size: Height and width of the images, one number for squares.
        pretrained: Load the package's pretrained weights, and download them if needed.
        offline: Never download.
        **arguments: Further arguments of the model; see `check_arguments`.

    Returns:
        The model in training mode.

    Raises:
        ModelFileError: If an argument is refused.
        NotFoundError: If the package has no such model.
        ResourceError: If the package is missing, or the weights cannot be downloaded.
        OptionError: If the model cannot be built for such images.
    """
    check_arguments(model, arguments)
    pretrained = pretrained is True  # a run folder from elsewhere may hold any JSON value
    package, _ = _package_and_name(model)
    check_exists(model)
    if package == "torchvision":
        _check_color(model, in_channels)
    may_download = pretrained and not (offline or is_offline())

    def build(**more: Any) -> nn.Module:
        guard: AbstractContextManager[None] = nullcontext() if may_download else block_network()
        with guard:
            module = _create(model, in_channels, pretrained, {**arguments, **more})
        shape = (2, in_channels, *to_height_width(image_size))
        return check_output_shape(ExternalModel(module, num_classes, model), shape, num_classes)

    try:
        try:
            return build()
        except (AssertionError, RuntimeError):
            if package != "timm" or "img_size" in arguments:
                raise
            return build(img_size=image_size)  # transformers are built for one image size
    except OptionError:
        raise
    except OSError as error:
        raise ResourceError(
            f"The weights of {model} are not on this machine and could not be downloaded: {first_error_line(error)}.",
            cure=f"Allow the network once: {package} caches what it downloads.",
            value=model,
        ) from error
    except Exception as error:  # a model of another package may raise anything
        raise OptionError(
            f"{model} cannot be built for images of {format_size(image_size)} pixels: {first_error_line(error)}.",
            cure="Choose another --image-size or --model.",
            option="model",
            value=model,
        ) from error


def _check_color(model: str, in_channels: int) -> None:
    """Raise OptionError for images that are not in color."""
    if in_channels != 3:
        raise OptionError(
            f"{model} needs color images: {in_channels} channel; expected 3.",
            cure="Use images with three channels.",
            option="model",
            value=in_channels,
            allowed=[3],
        )


def _create(model: str, channels: int, pretrained: bool, arguments: dict[str, Any]) -> nn.Module:
    package, name = _package_and_name(model)
    module = import_package(model)
    if package == "timm":
        return module.create_model(name, pretrained=pretrained, in_chans=channels, **arguments)
    return module.get_model(name, weights="DEFAULT" if pretrained else None, **arguments)


def first_error_line(error: Exception) -> str:
    """Return the first line of an error message, without its final dot."""
    return str(error).partition("\n")[0].rstrip(".") or type(error).__name__


@contextmanager
def block_network() -> Iterator[None]:
    """Block DNS lookups, so that timm and torchvision use their caches or fail."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("the network may not be used")

    hub: Any = sys.modules.get("huggingface_hub.constants", SimpleNamespace(HF_HUB_OFFLINE=True))
    getaddrinfo = socket.getaddrinfo
    hub_offline = hub.HF_HUB_OFFLINE
    socket.getaddrinfo = refuse  # type: ignore[assignment]
    hub.HF_HUB_OFFLINE = True  # without this, timm's hub would retry for most of a minute
    try:
        yield
    finally:
        socket.getaddrinfo = getaddrinfo
        hub.HF_HUB_OFFLINE = hub_offline


def check_output_shape(model: nn.Module, shape: tuple[int, int, int, int], num_classes: int) -> nn.Module:
    """Return `model` if it maps images of `shape` to (B, K), evaluating and training; raise ValueError if not."""
    expected = (shape[0], num_classes)
    buffers = [buffer.clone() for buffer in model.buffers()]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for is_training in (False, True):
            output = model.train(is_training)(torch.zeros(shape))
            if not isinstance(output, Tensor):
                raise ValueError(f"it returns {type(output).__name__}, expected a tensor of {expected}")
            if output.shape != expected:
                raise ValueError(f"it returns a tensor of {tuple(output.shape)}, expected {expected}")
        for buffer, saved in zip(model.buffers(), buffers, strict=True):
            buffer.copy_(saved)  # batch statistics
    return model


def input_spec(model: str, log: Callable[[str], None]) -> dict[str, Any]:
    """Return the preprocessing of the pretrained weights of 'timm:NAME' or 'torchvision:NAME'.

    Raises ResourceError if the package is missing, NotFoundError if it has no weights for the model.
    """
    package, name = _package_and_name(model)
    module = check_exists(model)
    spec = _timm_spec(module, name) if package == "timm" else _torchvision_spec(module, name)
    if spec is None:
        raise NotFoundError(f"{package} has no weights for {name}.", cure="Omit --weights.", value=name)
    interpolation = spec.pop("interpolation")
    if interpolation != "bilinear":
        log(f"{model} was trained with {interpolation} resizing; here images are resized with bilinear.")
    return spec


def _timm_spec(timm: ModuleType, name: str) -> dict[str, Any] | None:
    config = timm.get_pretrained_cfg(name)
    if config is None:
        return None
    size = config.input_size[-1]
    resize = round(size / config.crop_pct)
    return _build_spec(size, resize, config.mean, config.std) | {"interpolation": config.interpolation}


def _torchvision_spec(models: ModuleType, name: str) -> dict[str, Any] | None:
    weights = getattr(models.get_model_weights(name), "DEFAULT", None)
    if weights is None:
        return None
    transforms = weights.transforms()
    (size,) = transforms.crop_size
    (resize,) = transforms.resize_size
    spec = _build_spec(size, resize, transforms.mean, transforms.std)
    return spec | {"interpolation": transforms.interpolation.value}


def _build_spec(size: int, resize: int, mean: Any, std: Any) -> dict[str, Any]:
    return {
        "channels": 3,
        "handwriting": False,
        "size": [size] * 2,
        "resize": resize,
        "mean": list(mean),
        "std": list(std),
    }


def find_external_model(model: str) -> ModelEntry:
    """Return the entry of 'timm:NAME' or 'torchvision:NAME'. Raises what `check_exists` raises."""
    check_exists(model)
    builder = partial(build_external_model, model)
    return ModelEntry(model, "classify", f"see {model.partition(':')[0]}", builder)


for _package in PACKAGES:
    register_model_source(_package, find_external_model)
