"""Networks of timm and torchvision, where these packages are installed: `--model timm:convnext_tiny`.

Neither is needed for anything else, and neither is imported unless a name says so.
"""

from __future__ import annotations

import importlib
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import NotFoundError, OptionError, ResourceError
from ..registry import ModelEntry, register_model_source

PACKAGES = ("timm", "torchvision")


class ExternalModel(nn.Module):
    """A network of another package as `head(features(x))`: its last linear layer is taken out of it and made anew."""

    def __init__(self, network: nn.Module, classes: int, told: str):
        super().__init__()
        layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Linear)]
        weighted = [layer for layer in network.modules() if next(layer.parameters(recurse=False), None) is not None]
        if not layers or layers[-1][1] is not weighted[-1]:
            raise OptionError(
                f"{told} does not end in a linear layer, so its classes cannot be replaced.", cure="Choose another one."
            )
        name, last = layers[-1]
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, nn.Identity())
        self.features, self.head = network, last
        self.replaced = last.out_features != classes
        if self.replaced:
            self.head = nn.Linear(last.in_features, classes, bias=last.bias is not None)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits (B, K) of pictures (B, C, H, W)."""
        features = self.features(x_BCHW)
        # in training, some give the answers of auxiliary classifiers as well
        return self.head(features[0] if isinstance(features, tuple) else features)


def split_name(model: str) -> tuple[str, str] | None:
    """('timm', 'convnext_tiny') of 'timm:convnext_tiny'; None for a model of ours."""
    package, colon, name = model.partition(":")
    return (package, name) if colon and package in PACKAGES else None


def import_package(model: str) -> ModuleType:
    """The package that 'timm:…' or 'torchvision:…' asks for. Raises ResourceError, saying how to install it."""
    wanted, _ = split_name(model)
    try:
        return importlib.import_module(wanted if wanted == "timm" else "torchvision.models")
    except (ImportError, RuntimeError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ResourceError(
            f"The model '{model}' needs the package {wanted}, which cannot be imported: {reason}.",
            cure=f"pip install {wanted}, of the same build as torch (both for processors only, or both with CUDA).",
        ) from error


def check_exists(model: str) -> ModuleType:
    """The package that has the network 'timm:NAME' or 'torchvision:NAME'. Raises NotFound and what `import_package` raises."""
    (wanted, name), found = split_name(model), import_package(model)
    if wanted == "timm":
        known = [*found.list_models(), *found.list_pretrained()]  # the latter with their tags: resnet18.a1_in1k
    else:
        known = found.list_models(module=found)  # no detectors
    if name not in known:
        raise NotFoundError.for_unknown(f"model of {wanted}", name, known)
    return found


def build_external_model(
    model: str,
    in_channels: int,
    num_classes: int,
    image_size: int = 224,
    pretrained: bool = False,
    offline: bool = False,
    **more: Any,
) -> nn.Module:
    """The network 'timm:NAME' or 'torchvision:NAME'; `pretrained` has that package fetch its weights if need be.

    Raises NotFound for a name that the package does not have, ResourceError where it is not installed or cannot fetch,
    with `offline` because it must not, and OptionError for what it cannot build, or cannot ask about such pictures.
    """
    (wanted, name), found = split_name(model), check_exists(model)
    if wanted == "torchvision" and in_channels != 3:
        raise OptionError(f"{model} reads colour pictures only.", cure="Give pictures with colours.")

    def made(**given: Any) -> nn.Module:
        with nullcontext() if not (pretrained and offline) else block_network():
            if wanted == "timm":
                network = found.create_model(name, pretrained=pretrained, in_chans=in_channels, **given)
            else:
                network = found.get_model(name, weights="DEFAULT" if pretrained else None, **given)
        shape = (2, in_channels, image_size, image_size)
        return check_output_shape(ExternalModel(network, num_classes, model), shape, num_classes)

    try:
        try:
            return made(**more)
        except (AssertionError, RuntimeError):
            if wanted != "timm" or "img_size" in more:
                raise
            return made(img_size=image_size, **more)  # transformers are built for pictures of one size
    except OptionError:
        raise
    except OSError as error:
        raise ResourceError(
            f"The weights of {model} are not here and could not be fetched: {first_error_line(error)}.",
            cure=f"Allow the network once: {wanted} keeps what it fetched.",
        ) from error
    except Exception as error:  # another package's network may raise anything
        told = f"{model} cannot be built for pictures of {image_size} x {image_size}: {first_error_line(error)}."
        raise OptionError(told, cure="Give another --size or --model.") from error


def first_error_line(error: Exception) -> str:
    """What an error says first."""
    return str(error).partition("\n")[0].rstrip(".") or type(error).__name__


@contextmanager
def block_network() -> Iterator[None]:
    """Within it no address is found, so that a package uses what it has kept, or fails."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("the network may not be used")

    hub = sys.modules.get("huggingface_hub.constants", SimpleNamespace(HF_HUB_OFFLINE=True))
    before = socket.getaddrinfo, hub.HF_HUB_OFFLINE
    # timm's hub is told so, because it would try again for most of a minute
    socket.getaddrinfo, hub.HF_HUB_OFFLINE = refuse, True
    try:
        yield
    finally:
        socket.getaddrinfo, hub.HF_HUB_OFFLINE = before


def check_output_shape(network: nn.Module, shape: tuple[int, int, int, int], classes: int) -> nn.Module:
    """`network`, if it gives (B, K) to pictures of that shape, both evaluating and training. Raises ValueError."""
    kept = [value.clone() for value in network.buffers()]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for training in (False, True):
            answer = network.train(training)(torch.zeros(shape))
            if not isinstance(answer, Tensor) or answer.shape != (shape[0], classes):
                told = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
                raise ValueError(f"it answers with {told}, not with {(shape[0], classes)}")
        for value, before in zip(network.buffers(), kept, strict=True):
            value.copy_(before)  # statistics of batches
    return network


def input_spec(model: str, notice: Callable[[str], None]) -> dict[str, Any]:
    """What the pretrained weights of that package ask of pictures. Raises ResourceError, NotFound without weights."""
    (wanted, name), known = split_name(model), check_exists(model)
    if wanted == "timm":
        told = known.get_pretrained_cfg(name)
        if told is not None:
            size = told.input_size[-1]
            resize, mean, std, way = round(size / told.crop_pct), told.mean, told.std, told.interpolation
    else:
        told = getattr(known.get_model_weights(name), "DEFAULT", None)
        if told is not None:
            asked = told.transforms()
            (size,), (resize,), way = asked.crop_size, asked.resize_size, asked.interpolation.value
            mean, std = asked.mean, asked.std
    if told is None:
        raise NotFoundError(f"{wanted} has no weights for {name}.", cure="Leave --weights out.")
    if way != "bilinear":
        notice(f"{model} was trained on pictures resized by the {way} filter; here they are by the bilinear one.")
    return {"channels": 3, "ink": False, "size": [size] * 2, "resize": resize, "mean": list(mean), "std": list(std)}


def find_external_model(model: str) -> ModelEntry:
    """Return the entry of 'timm:NAME' or 'torchvision:NAME'. Raises what `check_exists` raises."""
    check_exists(model)
    return ModelEntry(model, "classify", f"see {model.partition(':')[0]}", partial(build_external_model, model))


for _package in PACKAGES:
    register_model_source(_package, find_external_model)
