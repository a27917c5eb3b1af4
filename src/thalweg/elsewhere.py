"""Networks of timm and torchvision, where these packages are installed: `--model timm:convnext_tiny`.

Neither is needed for anything else, and neither is imported unless a name says so.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from .errors import NotFound, OptionError, ResourceError

PACKAGES = ("timm", "torchvision")


class Elsewhere(nn.Module):
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
        return self.head(self.features(x_BCHW))


def names(model: str) -> tuple[str, str] | None:
    """('timm', 'convnext_tiny') of 'timm:convnext_tiny'; None for a model of ours."""
    package, colon, name = model.partition(":")
    return (package, name) if colon and package in PACKAGES else None


def package(model: str) -> ModuleType:
    """The package that 'timm:…' or 'torchvision:…' asks for. Raises ResourceError, saying how to install it."""
    wanted, _ = names(model)
    try:
        return importlib.import_module(wanted if wanted == "timm" else "torchvision.models")
    except (ImportError, RuntimeError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ResourceError(
            f"The model '{model}' needs the package {wanted}, which cannot be imported: {reason}.",
            cure=f"pip install {wanted}, of the same build as torch (both for processors only, or both with CUDA).",
        ) from error


def find(model: str) -> ModuleType:
    """The package that has the network 'timm:NAME' or 'torchvision:NAME'. Raises NotFound and what `package` raises."""
    (wanted, name), found = names(model), package(model)
    known = found.list_models()
    if name not in known:
        raise NotFound.among(f"model of {wanted}", name, known)
    return found


def build(model: str, channels: int, classes: int, size: int = 224, pretrained: bool = False, **more: Any) -> nn.Module:
    """The network 'timm:NAME' or 'torchvision:NAME'; `pretrained` has that package fetch its weights.

    Raises NotFound for a name that the package does not have, ResourceError where it is not installed, OptionError for
    what it cannot build.
    """
    (wanted, name), found = names(model), find(model)
    try:
        if wanted == "timm":
            network = found.create_model(name, pretrained=pretrained, in_chans=channels, **more)
        elif channels == 3:
            network = found.get_model(name, weights="DEFAULT" if pretrained else None, **more)
        else:
            raise OptionError(f"{model} reads colour pictures only.", cure="Give pictures with colours.")
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise OptionError(f"{model} cannot be built: {str(error).partition(chr(10))[0]}.") from error
    return Elsewhere(network, classes, model)


def form(model: str) -> dict[str, Any]:
    """What the pretrained weights of that package ask of pictures. Raises ResourceError."""
    found = {"size": [224, 224], "resize": 256, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    (wanted, name), known = names(model), find(model)
    if wanted == "timm":
        told = known.get_pretrained_cfg(name)
        size = told.input_size[-1]
        found = {
            "size": [size, size],
            "resize": round(size / told.crop_pct),
            "mean": list(told.mean),
            "std": list(told.std),
        }
    return {"channels": 3, "ink": False, **found}
