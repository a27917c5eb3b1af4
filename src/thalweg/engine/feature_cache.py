"""Cache the features of a frozen model, so that only its head is trained.

The files lie in the cache folder below features/. Their key hashes weights, preprocessing, augmentation and images:
changing any of these computes new features.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..config.options import Options
from ..data.batches import FeatureViewBatches
from ..data.images.dataset import ImageDataset, Split
from ..data.images.preprocess import eval_batch_size
from ..io.download import cache_dir
from ..io.free_memory import format_bytes, get_free_memory
from ..objectives.base import Batch
from ..tasks.base import InputSpec, Task

#: maximum size of the cache in bytes; the oldest features are removed first
MAX_BYTES = 4_000_000_000

Augment = Callable[[Batch], Batch]


@dataclass(frozen=True)
class CachedFeatures:
    """The inputs of the head: `train` (V, N, ...), V views of the training images, `val` and `test` (N, ...)."""

    train: Tensor
    val: Tensor
    test: Tensor
    label: Tensor

    def stream(self, batch_size: int, seed: int, rank: int, world_size: int) -> FeatureViewBatches:
        """Return batches of `features` and `label`, with a random view of each image in each epoch."""
        tensors = {"features": self.train, "label": self.label}
        return FeatureViewBatches(tensors, batch_size, seed, rank, world_size)


def can_cache_features(options: Options) -> bool:
    """Return True if training needs only the features of a frozen model."""
    if not options.cache or options.views != "one":
        return False
    if options.unfreeze or options.gradual is not None:
        return False
    has_fixed_images = options.augment in ("", "none") or options.cached_views > 1
    return has_fixed_images and (options.freeze or options.unfreeze == 0)


def load_or_compute(
    task: Task,
    model: nn.Module,
    data: ImageDataset,
    input_spec: InputSpec,
    options: Options,
    log: Callable[[str], None],
) -> CachedFeatures | None:
    """Load the features of all images from the cache, or compute and store them.

    Args:
        task: Prepares and augments the images.
        model: A model with `features` and `head`; its features are computed on its device.
        data: The images.
        input_spec: How the images are preprocessed.
        options: The augmentation, the number of views, and the seed.
        log: Receives messages.

    Returns:
        The features, or None if they need more than half of the free memory.
    """
    extractor = _SplitExtractor(task, model, input_spec, options)
    example_shape = extractor.example_shape(data)
    num_examples = options.cached_views * len(data.train) + len(data.valid) + len(data.test)
    needed = 4 * int(np.prod(example_shape)) * num_examples
    free = get_free_memory()
    if free is not None and needed > free / 2:
        log(
            f"The features need {format_bytes(needed)} of memory; {format_bytes(free)} are free. "
            "They are computed in every epoch instead."
        )
        return None
    key = cache_key(model, input_spec, options)
    features = {}
    for name, split in data.splits.items():
        num_views = options.cached_views if name == "train" else 1
        path = _cache_path(key, num_views, split)
        cached = _load(path, (num_views, len(split), *example_shape))
        if cached is None:
            if name == "train":
                log(f"computing the features of {len(split):,} images once; cached in {path.parent}")
            cached = extractor.extract_views(split, num_views)
            _store(path, cached)
        features[name] = cached.to(extractor.device)
    train, val, test = (features[name] for name in data.splits)
    label = torch.from_numpy(np.require(data.train.labels, requirements="W")).to(extractor.device)
    return CachedFeatures(train, val[0], test[0], label)


class FeatureExtractor(nn.Module):
    """All of a model except its head, as a module."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the features of images (B, C, H, W)."""
        return _features_of(self.model)(x_BCHW)


def _features_of(model: nn.Module) -> Callable[[Tensor], Tensor]:
    features: Any = model.features  # a module in some models, a method in others
    return features


def extract(model: nn.Module, x_BCHW: Tensor) -> Tensor:
    """Return the features of a batch in evaluation mode, on the CPU; the mode of the model does not change."""
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        features = _features_of(model)(x_BCHW).float().cpu()
    model.train(was_training)
    return features


class _SplitExtractor:
    """Compute the features of splits; the model is optimized for inference on first use."""

    def __init__(self, task: Task, model: nn.Module, input_spec: InputSpec, options: Options):
        self.task = task
        self.model = model
        self.input_spec = input_spec
        self.options = options
        self.device = next(model.parameters()).device
        self.augment: Augment | None = None
        if options.cached_views > 1:
            self.augment = task.augment(input_spec, options)
        self._fast_model: nn.Module | None = None

    def example_shape(self, data: ImageDataset) -> tuple[int, ...]:
        """Return the shape of the features of one image."""
        return tuple(extract(self.model, self._prepare(data.train.images[:1])).shape[1:])

    def extract_views(self, split: Split, num_views: int) -> Tensor:
        """Return (V, N, ...) features; the views of a training split differ by augmentation."""
        augment = self.augment if num_views > 1 else None
        self._get_fast_model()  # before seeding, because fusing layers uses random numbers
        torch.manual_seed(self.options.seed)
        return torch.stack([_extract_split(self, split, augment) for _ in range(num_views)])

    def _prepare(self, images: np.ndarray) -> Tensor:
        # image tasks have this method, other tasks cannot cache features
        task: Any = self.task
        return task.prepared(images, self.input_spec, self.device)

    def extract_batch(self, images: np.ndarray, augment: Augment | None) -> Tensor:
        """Return the features of images (B, H, W, C) uint8, augmented if `augment` is given."""
        if augment is None:
            x_BCHW = self._prepare(images)
        else:
            x_BCHW = augment({"image": torch.from_numpy(images.copy()).to(self.device)})["image"]
        return self._get_fast_model()(x_BCHW).float().cpu().clone()

    def _get_fast_model(self) -> nn.Module:
        if self._fast_model is None:
            from ..layers.fuse import optimize_for_inference

            self._fast_model = FeatureExtractor(self.model).eval()
            if self.device.type == "cpu":
                batch_size = eval_batch_size(self.input_spec, self.device)
                shape = (batch_size, self.input_spec["channels"], *self.input_spec["size"])
                self._fast_model = optimize_for_inference(self._fast_model, shape)
        return self._fast_model


def _extract_split(extractor: _SplitExtractor, split: Split, augment: Augment | None) -> Tensor:
    """Return (N, ...) features of a split, computed in batches."""
    batch_size = eval_batch_size(extractor.input_spec, extractor.device)
    features = []
    with torch.inference_mode():
        for start in range(0, len(split), batch_size):
            images = split.images[start : start + batch_size]
            features.append(extractor.extract_batch(images, augment))
    return torch.cat(features) if features else torch.empty(0)


def _cache_path(key: str, num_views: int, split: Split) -> Path:
    images_hash = hashlib.sha256(np.ascontiguousarray(split.images).data).hexdigest()
    name = hashlib.sha256(f"{key} {num_views} {images_hash}".encode()).hexdigest()[:32]
    return cache_dir() / "features" / f"{name}.npy"


def cache_key(model: nn.Module, input_spec: InputSpec, options: Options) -> str:
    """Return a hash of everything but the images: layers and weights without the head, preprocessing, augmentation."""
    head = model.get_submodule("head")
    head_ids = {id(value) for value in head.state_dict(keep_vars=True).values()}
    head_ids |= {id(layer) for layer in head.modules()}
    digest = hashlib.sha256()
    for name, layer in model.named_modules():
        if id(layer) not in head_ids:
            digest.update(f"{name} {type(layer).__qualname__} {layer_config(layer)} ".encode())
    for name, value in model.state_dict(keep_vars=True).items():
        if id(value) not in head_ids:
            digest.update(f"{name} {tuple(value.shape)} ".encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    preprocessing = {key: input_spec.get(key) for key in ("size", "resize", "channels", "mean", "std")}
    augmentation: list[Any] = []
    if options.cached_views > 1:
        augmentation = [options.augment, options.cached_views, options.seed]
    digest.update(json.dumps([preprocessing, augmentation, torch.__version__]).encode())
    return digest.hexdigest()


def layer_config(layer: nn.Module) -> dict[str, str]:
    """Return the settings of a layer other than weights: its numbers, strings and functions, by attribute name."""
    config = {}
    functions = {}
    for name, value in sorted(vars(layer).items()):
        if name == "training":
            continue
        if isinstance(value, (bool, int, float, str, tuple)):
            config[name] = repr(value)
        function_name = getattr(value, "__qualname__", None)
        if function_name is not None:
            functions[name] = function_name
    return config | functions


def _load(path: Path, shape: tuple[int, ...]) -> Tensor | None:
    """Load features from the cache; None if they are missing, damaged or of another shape."""
    if 0 in shape:
        return torch.empty(shape)
    with suppress(OSError, ValueError, EOFError):
        features = np.load(path, allow_pickle=False)
        if features.shape == shape and features.dtype == np.float32:
            os.utime(path)  # marks them as the most recently used
            return torch.from_numpy(features)
    return None


def _store(path: Path, features: Tensor) -> None:
    """Write features to the cache and remove the oldest beyond MAX_BYTES; a full disk is no error."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            np.save(file, features.numpy(), allow_pickle=False)
        os.replace(draft, path)
        _remove_oldest(path)
    except OSError:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def _remove_oldest(newest: Path) -> None:
    files = sorted(newest.parent.glob("*.npy"), key=lambda file: file.stat().st_mtime, reverse=True)
    total = 0
    for file in files:
        total += file.stat().st_size
        if total > MAX_BYTES and file != newest:
            file.unlink(missing_ok=True)


def no_augmentation(batch: Batch) -> Batch:
    """Return the batch unchanged: cached features are not augmented."""
    return batch
