"""Initial weights for training or predicting: tensors, and what is known of the data they were trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ModelFileError
from ..io.download import is_offline
from ..registry import find_model
from . import external_models, files, store
from .catalog import CATALOG


@dataclass(frozen=True)
class InitialWeights:
    """Weights by name, and what comes with them.

    `spec_values` are the values of the task's DataSpec that the weights were trained with, empty where nothing is
    known; `build_kwargs` are arguments of the builder that a run trained from these weights does not repeat.
    """

    model: str
    tensors: dict[str, Tensor]
    path: Path
    task: str
    spec_values: dict[str, Any] = field(default_factory=dict)
    model_kwargs: dict[str, Any] = field(default_factory=dict)
    license: str = ""
    build_kwargs: dict[str, Any] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """The SHA-256 of the file, in hex; empty where there is no file."""
        if not self.path.is_file():
            return ""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def load_into(self, model: nn.Module, reset_head: bool, log: Callable[[str], None]) -> list[str]:
        """Load the weights; with `reset_head`, and where its shape differs, the head keeps its initialization.

        Returns the names of the tensors that were not loaded. Raises ModelFileError naming the first that differs.
        """
        if not self.tensors:
            return []
        reset = files.load_strict(model, self.tensors, self.path, replace_head=True, new_head=reset_head)
        loaded = len(self.tensors) - len(reset)
        message = f"initial weights: {loaded:,} tensors of {self.path}"
        if reset:
            message += f"; reset: {', '.join(reset)}"
        log(message)
        return reset


def resolve_published(model: str, name: str, offline: bool, log: Callable[[str], None]) -> InitialWeights | None:
    """Return external or published weights by name, or those of a file; None where the name is a run's folder.

    Raises NotFoundError where there are none, ModelFileError for a file that cannot be read, and ResourceError where
    they would have to be downloaded and must not be.
    """
    if external_models.split_name(model) and name == "imagenet":
        return _resolve_external(model, offline, log)
    path, entry = store.resolve(model, name, offline, log)
    if path.is_dir():
        return None
    tensors = files.load_tensors(path)
    task = find_model(model).task
    stem = infer_stem(model, tensors)
    if entry is None:
        return _resolve_file(InitialWeights(model, tensors, path, task, model_kwargs=stem), log)
    kwargs = {**entry.model_kwargs, **stem}
    return InitialWeights(model, tensors, path, task, store.input_spec(entry), kwargs, entry.license)


def _resolve_external(model: str, offline: bool, log: Callable[[str], None]) -> InitialWeights:
    package = model.partition(":")[0]
    log(f"{model}: the weights are those that {package} downloads by that name.")
    spec = {**external_models.input_spec(model, log), "classes": list(store.class_names())}
    kwargs = {"pretrained": True, "offline": offline or is_offline()}
    return InitialWeights(model, {}, Path(model), find_model(model).task, spec, build_kwargs=kwargs)


def _resolve_file(weights: InitialWeights, log: Callable[[str], None]) -> InitialWeights:
    """Assume for a bare file of a published model the preprocessing of its ImageNet weights."""
    model = weights.model
    if (model, "imagenet") not in CATALOG or num_channels(weights) != 3:
        return weights
    entry = store.lookup(model)
    spec = store.input_spec(entry)
    log(f"{weights.path.name} does not say how images are preprocessed: assumed as for ImageNet's {model}.")
    if num_outputs(weights) != len(spec["classes"]):
        spec = {**spec, "classes": []}
    return replace(weights, spec_values=spec, model_kwargs={**entry.model_kwargs, **weights.model_kwargs})


def assume_spec(weights: InitialWeights, log: Callable[[str], None]) -> InitialWeights:
    """Fill in what nothing is known of: the builder's image size, levels from -1 to 1, numbered classes."""
    spec = dict(weights.spec_values)
    if not spec.get("classes"):
        spec["classes"] = [f"class {index}" for index in range(num_outputs(weights))]
    if "size" not in spec:
        side = find_model(weights.model).parameters["image_size"].default
        channels = 3
        if weights.tensors:
            channels = num_channels(weights) or 3
        half = [0.5] * channels
        spec |= {"channels": channels, "size": [side, side], "mean": half, "std": half, "handwriting": False}
        log(f"{weights.path.name} does not say how images are preprocessed: {side} x {side}, -1 to 1, is assumed.")
    return replace(weights, spec_values=spec)


def num_outputs(weights: InitialWeights) -> int:
    """Return the number of outputs of the last layer."""
    return len(_layer_weight(weights, files.classifier_layer(_meta_model(weights))[0]))


def num_channels(weights: InitialWeights) -> int | None:
    """Return the input channels of the first convolution; None for a model without any. Raises ModelFileError."""
    for name, weight in _meta_model(weights).named_parameters():
        if weight.dim() == 4:
            channels = _layer_weight(weights, name.removesuffix(".weight")).shape[1]
            if channels not in (1, 3):
                raise ModelFileError(
                    f"{weights.path}: '{name}' reads {channels} channels; expected 1 or 3.",
                    path=weights.path,
                    value=channels,
                )
            return channels
    return None


def _meta_model(weights: InitialWeights) -> nn.Module:
    """Build the model without any numbers in it."""
    with torch.device("meta"), files.skip_init():  # drawing numbers there would import torch's compiler
        return find_model(weights.model)(in_channels=3, num_classes=2, **weights.model_kwargs)


def _layer_weight(weights: InitialWeights, layer: str) -> Tensor:
    weight = weights.tensors.get(f"{layer}.weight")
    if weight is None:
        missing = _first_missing(weights)
        raise ModelFileError(
            f"{weights.path}: the tensor '{missing}' is missing.",
            files.WRONG_MODEL_HINT,
            path=weights.path,
            value=missing,
        )
    if weight.dim() < 2 or 0 in weight.shape:
        raise ModelFileError(
            f"{weights.path}: '{layer}.weight' has shape {tuple(weight.shape)}; expected two dimensions or more.",
            files.WRONG_MODEL_HINT,
            path=weights.path,
            value=tuple(weight.shape),
        )
    return weight


def _first_missing(weights: InitialWeights) -> str:
    """Return the first tensor of the model that the weights lack, apart from counters of batch norm."""
    for name in _meta_model(weights).state_dict():
        if name not in weights.tensors and not name.endswith(files.BN_COUNTER):
            return name
    raise AssertionError("the weights lack no tensor")


def infer_stem(model: str, tensors: dict[str, Tensor]) -> dict[str, str]:
    """Return the stem of a ResNet's weights, which would otherwise be chosen by the size of the images to come."""
    stem = find_model(model).parameters.get("stem")
    kernel = tensors.get("conv1.weight")
    if kernel is None or stem is None or stem.default != "auto":
        return {}
    if kernel.shape[-1:] == (7,):
        return {"stem": "imagenet"}
    return {"stem": "small"}
