"""The answers of a frozen network to every picture, computed once and kept: then only its head has to be trained.

Kept in the cache below features/, under a name made of the weights, the form that pictures are brought to, what changes
them at random, and the content of the pictures: whoever changes any of these gets new ones.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..config.options import Options
from ..data.batches import FeatureViewBatches
from ..data.images.dataset import ImageDataset
from ..data.images.preprocess import eval_batch_size
from ..io.download import cache_dir
from ..io.free_memory import format_bytes, get_free_memory
from ..objectives.base import Batch
from ..tasks.base import InputSpec, Task

#: bytes that the cache may hold before the oldest features are removed
MAX_BYTES = 4_000_000_000


@dataclass(frozen=True)
class CachedFeatures:
    """What the head reads: `train` (V, N, ...) of V views of the training pictures, `val` and `test` (N, ...)."""

    train: Tensor
    val: Tensor
    test: Tensor
    label: Tensor

    def stream(self, batch: int, seed: int, rank: int, ranks: int) -> FeatureViewBatches:
        """Batches of `features` and `label`, a view drawn for each picture and epoch."""
        return FeatureViewBatches({"features": self.train, "label": self.label}, batch, seed, rank, ranks)


def can_cache_features(options: Options) -> bool:
    """Whether training sees nothing but the features of a frozen network."""
    still = options.augment in ("", "none") or options.cached_views > 1
    frozen = (options.freeze or options.unfreeze == 0) and not options.unfreeze and options.gradual is None
    return bool(options.cache and frozen and still and options.views == "one")


def load_or_compute(
    task: Task,
    network: nn.Module,
    data: ImageDataset,
    facts: InputSpec,
    options: Options,
    device: torch.device,
    notice: Callable[[str], None],
) -> CachedFeatures | None:
    """The features of all pictures, from the cache or computed and kept there; None where memory is too small."""
    example = extract(network, task.prepared(data.train.images[:1], facts, device))
    needed = example[0].nbytes * (options.cached_views * len(data.train) + len(data.valid) + len(data.test))
    free = get_free_memory()
    if free is not None and needed > free / 2:
        notice(
            f"The features would take {format_bytes(needed)}, {format_bytes(free)} are free: computed anew in every epoch."
        )
        return None
    known = cache_key(network, facts, options)
    change = task.augment(facts, options) if options.cached_views > 1 else None
    from ..layers.fuse import optimize_for_inference

    quick, made, shape = None, {}, (eval_batch_size(facts, device), facts["channels"], *facts["size"])
    for part, split in data.splits.items():
        views = options.cached_views if part == "train" else 1
        pictures = hashlib.sha256(np.ascontiguousarray(split.images)).hexdigest()
        key = hashlib.sha256(f"{known} {views} {pictures}".encode()).hexdigest()[:32]
        kept = cache_dir() / "features" / f"{key}.npy"
        found = _load(kept, (views, len(split), *example.shape[1:]))
        if found is None:
            body = FeatureExtractor(network).eval()
            quick = quick or (optimize_for_inference(body, shape) if device.type == "cpu" else body)
            if part == "train":
                notice(f"computing the features of {len(split):,} pictures once; they are kept in {kept.parent}")
            torch.manual_seed(options.seed)
            found = torch.stack([_extract_split(quick, task, split, facts, device, change) for _ in range(views)])
            _store(kept, found)
        made[part] = found.to(device)
    label = torch.from_numpy(np.require(data.train.labels, requirements="W")).to(device)
    return CachedFeatures(made["train"], made["valid"][0], made["test"][0], label)


class FeatureExtractor(nn.Module):
    """All of a network but its head, as a network."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.model = network

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The features of pictures (B, C, H, W)."""
        return self.model.features(x_BCHW)


def extract(network: nn.Module, x_BCHW: Tensor) -> Tensor:
    """The features of a batch in evaluation mode; the mode stays as it was."""
    mode = network.training
    network.eval()
    with torch.inference_mode():
        found = network.features(x_BCHW).float().cpu()
    network.train(mode)
    return found


def _extract_split(
    quick: nn.Module, task: Task, split, facts: InputSpec, device: torch.device, change: Callable | None
) -> Tensor:
    """(N, ...) features of a split, each picture changed at random by `change` if that is given."""
    found = []
    with torch.inference_mode():
        rows = eval_batch_size(facts, device)
        for start in range(0, len(split), rows):
            images = split.images[start : start + rows]
            if change is None:
                x_BCHW = task.prepared(images, facts, device)
            else:
                x_BCHW = change({"image": torch.from_numpy(images.copy()).to(device)})["image"]
            found.append(quick(x_BCHW).float().cpu().clone())
    return torch.cat(found) if found else torch.empty(0)


def cache_key(network: nn.Module, facts: InputSpec, options: Options) -> str:
    """A hexadecimal name for what makes features: layers and weights but the head, form of pictures, random changes."""
    heads = {id(value) for value in (*network.head.state_dict(keep_vars=True).values(), *network.head.modules())}
    whole = hashlib.sha256()
    for name, layer in network.named_modules():
        if id(layer) not in heads:
            whole.update(f"{name} {type(layer).__qualname__} {layer_config(layer)} ".encode())
    for name, value in network.state_dict(keep_vars=True).items():
        if id(value) not in heads:
            whole.update(f"{name} {tuple(value.shape)} ".encode())
            whole.update(value.detach().cpu().contiguous().numpy().tobytes())
    form = {key: facts.get(key) for key in ("size", "resize", "channels", "mean", "std")}
    changes = [options.augment, options.cached_views, options.seed] if options.cached_views > 1 else []
    whole.update(json.dumps([form, changes, torch.__version__]).encode())
    return whole.hexdigest()


def layer_config(layer: nn.Module) -> dict[str, str]:
    """What a layer was made with beside weights: numbers, words and functions among its attributes, by name."""
    plain = {key: value for key, value in sorted(vars(layer).items()) if key != "training"}
    told = {key: repr(value) for key, value in plain.items() if isinstance(value, (bool, int, float, str, tuple))}
    return told | {key: value.__qualname__ for key, value in plain.items() if hasattr(value, "__qualname__")}


def _load(path: Path, shape: tuple[int, ...]) -> Tensor | None:
    """Features that were kept, if they are there, whole and of the expected shape."""
    if 0 in shape:
        return torch.empty(shape)
    with suppress(OSError, ValueError, EOFError):
        found = np.load(path, allow_pickle=False)
        if found.shape == shape and found.dtype == np.float32:
            os.utime(path)  # used now: among the last to be removed
            return torch.from_numpy(found)
    return None


def _store(path: Path, features: Tensor) -> None:
    """Writes features into the cache and removes the oldest there are beyond MOST_BYTES; a full disk is no error."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            np.save(file, features.numpy(), allow_pickle=False)
        os.replace(draft, path)
        files = sorted(path.parent.glob("*.npy"), key=lambda file: file.stat().st_mtime, reverse=True)
        total = 0
        for file in files:
            total += file.stat().st_size
            if total > MAX_BYTES and file != path:
                file.unlink(missing_ok=True)
    except OSError:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def no_augmentation(batch: Batch) -> Batch:
    """The batch as it is: features are not changed at random."""
    return batch
