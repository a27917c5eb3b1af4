"""Features of a frozen backbone, computed once and cached on disk, so that only the head is trained.

The cache key hashes weights, layers, preprocessing, augmentation and images: changing any of these gives new features.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..data.prefetch import prefetch_slices
from ..io.cache_limit import mark_as_used, remove_oldest
from ..io.download import cache_dir
from ..io.free_memory import format_bytes, get_free_memory
from ..layers.fuse import optimize_for_inference

#: bytes that the cache may hold before the oldest features are removed
MAX_BYTES = 4_000_000_000


@dataclass(frozen=True)
class FeatureRequest:
    """What features are wanted of.

    `images` are arrays (N, ...) by split, or what is read from disk like one and has `digests` of its content;
    `to_input` turns a part of them into the model's input, `augment` the same with random changes, for `views` random
    versions of the training split. `settings` are JSON values that the cache key depends on besides weights and images.
    """

    images: Mapping[str, Any]
    to_input: Callable[[np.ndarray], Tensor]
    augment: Callable[[np.ndarray], Tensor] | None = None
    views: int = 1
    settings: list[Any] = field(default_factory=list)
    batch_size: int = 64
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    seed: int = 0
    log: Callable[[str], None] = lambda message: None


class FeatureExtractor(nn.Module):
    """A model without its head."""

    def __init__(self, model: Any):
        super().__init__()
        self.model: Any = model

    def forward(self, x: Tensor) -> Tensor:
        """Return the features of a batch."""
        return self.model.features(x)


def load_or_compute(model: nn.Module, request: FeatureRequest) -> dict[str, Tensor] | None:
    """Return features (V, N, ...) by split, from the cache or computed; None where memory is too small."""
    train = request.images["train"]
    first = request.to_input(train[:1])
    example = extract(model, first)
    count = 0
    for name, images in request.images.items():
        count += len(images) * _num_views(name, request)
    needed = example[0].nbytes * count
    free = get_free_memory()
    if free is not None and needed > free / 2:
        request.log(
            f"the features would take {format_bytes(needed)}, at most half of {format_bytes(free)} free memory is "
            "used: they are computed again in every epoch"
        )
        return None
    model_key = cache_key(model, request.settings)
    extractor: nn.Module | None = None
    result = {}
    for name, images in request.images.items():
        views = _num_views(name, request)
        path = _cache_path(model_key, views, images)
        features = _load(path, (views, len(images), *example.shape[1:]))
        if features is None:
            if extractor is None:
                extractor = _build_extractor(model, first, request)
            if name == "train":
                request.log(f"computing the features of {len(images):,} examples once; cached in {path.parent}")
            features = _compute(extractor, images, name, request)
            _store(path, features)
        result[name] = features.to(request.device)
    return result


def _num_views(name: str, request: FeatureRequest) -> int:
    if name == "train":
        return request.views
    return 1


def _cache_path(model_key: str, views: int, images: Any) -> Path:
    content_array = getattr(images, "digests", images)
    content = hashlib.sha256(np.ascontiguousarray(content_array).data).hexdigest()
    key = hashlib.sha256(f"{model_key} {views} {content}".encode()).hexdigest()[:32]
    return cache_dir() / "features" / f"{key}.npy"


def _build_extractor(model: nn.Module, first: Tensor, request: FeatureRequest) -> nn.Module:
    extractor = FeatureExtractor(model).eval()
    if request.device.type != "cpu":
        return extractor
    channels, height, width = first.shape[1:]
    return optimize_for_inference(extractor, (request.batch_size, channels, height, width))


def extract(model: Any, x: Tensor) -> Tensor:
    """Return the features of a batch in evaluation mode; the model's mode stays as it was."""
    was_training = model.training
    with torch.inference_mode():
        features = FeatureExtractor(model).eval()(x).float().cpu()
    model.train(was_training)
    return features


def _compute(extractor: nn.Module, images: Any, name: str, request: FeatureRequest) -> Tensor:
    torch.manual_seed(request.seed)
    to_input = request.to_input
    if request.augment is not None and request.views > 1:
        to_input = request.augment
    versions = []
    for _ in range(_num_views(name, request)):
        versions.append(_extract_all(extractor, images, to_input, request.batch_size))
    return torch.stack(versions)


def _extract_all(
    extractor: nn.Module, images: Any, to_input: Callable[[np.ndarray], Tensor], batch_size: int
) -> Tensor:
    batches = []
    with torch.inference_mode():
        for part in prefetch_slices(images, batch_size):
            batches.append(extractor(to_input(part)).float().cpu().clone())
    if not batches:
        return torch.empty(0)
    return torch.cat(batches)


def cache_key(model: Any, settings: list[Any]) -> str:
    """Return a hexadecimal name for what makes features: layers and weights but the head, and the settings."""
    head = model.get_submodule("head")
    in_head = set(map(id, [*head.state_dict(keep_vars=True).values(), *head.modules()]))
    digest = hashlib.sha256()
    for name, layer in model.named_modules():
        if id(layer) not in in_head:
            digest.update(f"{name} {type(layer).__qualname__} {layer_config(layer)} ".encode())
    for name, value in model.state_dict(keep_vars=True).items():
        if id(value) not in in_head:
            digest.update(f"{name} {tuple(value.shape)} ".encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    digest.update(json.dumps([*settings, torch.__version__]).encode())
    return digest.hexdigest()


def layer_config(layer: nn.Module) -> dict[str, str]:
    """Return what a layer was made with besides weights: numbers, words and functions among its attributes."""
    config = {}
    for name, value in sorted(vars(layer).items()):
        if name == "training":
            continue
        if isinstance(value, bool | int | float | str | tuple):
            config[name] = repr(value)
        elif hasattr(value, "__qualname__"):
            config[name] = value.__qualname__
    return config


def _load(path: Path, shape: tuple[int, ...]) -> Tensor | None:
    """Return cached features, if they are there, complete and of the expected shape."""
    if 0 in shape:
        return torch.empty(shape)
    with suppress(OSError, ValueError, EOFError):
        array = np.load(path, allow_pickle=False)
        if array.shape == shape and array.dtype == np.float32:
            mark_as_used(path)
            return torch.from_numpy(array)
    return None


def _store(path: Path, features: Tensor) -> None:
    """Write features into the cache and remove the oldest beyond MAX_BYTES; a full disk is not an error."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            np.save(file, features.numpy(), allow_pickle=False)
        os.replace(draft, path)
        remove_oldest(path.parent, MAX_BYTES, used=path)
    except OSError:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
