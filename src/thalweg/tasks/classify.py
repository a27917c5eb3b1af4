"""Which class is in the picture? One label per picture, probabilities for every class."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..data import toy
from ..data.augment import augmentation
from ..data.dataset import Data, Split
from ..data.stream import Resident, Stream
from ..errors import DataError
from ..losses.classification import cross_entropy, squared_error
from ..metrics.classification import Scores
from ..objectives.base import Batch, Loss, Objective
from ..objectives.supervised import Supervised
from ..options import Options
from ..registry import task
from .base import Facts, Task

LOSSES = {"cross-entropy": cross_entropy, "squared-error": squared_error}
#: pictures in one batch where nothing is trained
BATCH = 500


@dataclass(frozen=True)
class Outcome:
    """What a network answered on a split: probabilities (N, K), and the scores made of them."""

    split: Split
    probabilities: np.ndarray
    scores: Scores

    @property
    def details(self) -> dict[str, Any]:
        """What run.json holds of the test beside its metrics."""
        return {"per_class": self.scores.per_class, "confusion": self.scores.confusion.tolist()}


@task
class Classify(Task):
    """Pictures of any kind into classes."""

    name = "classify"
    about = "Which class is in the picture?"
    default_model = "convnet"
    default_data = "digits"
    judged_by = "accuracy"

    def read(self, options: Options, notice: Callable[[str], None]) -> Data:
        """The pictures of a folder, a file or a known name. Raises DataError."""
        from ..data.read import read

        return squared(
            read(
                options.data or self.default_data,
                size=options.size,
                valid=options.valid,
                strict=options.strict,
                offline=options.offline,
                notice=notice,
            )
        )

    def toy(self) -> Data:
        """Bars in four directions."""
        return toy.bars()

    def facts(self, data: Data) -> Facts:
        """Classes, size, and mean and deviation of the training pictures per channel, on the scale of 0 to 1."""
        sample = data.train.images[:: max(1, len(data.train) // 10_000)].astype(np.float32) / 255
        return {
            "classes": list(data.classes),
            "channels": data.shape[2],
            "size": list(data.shape[:2]),
            "mean": [round(float(m), 6) for m in sample.mean((0, 1, 2), dtype=np.float64)],
            "std": [round(max(float(s), 1e-3), 6) for s in sample.std((0, 1, 2), dtype=np.float64)],
            "ink": data.ink,
        }

    def arguments(self, facts: Facts) -> dict[str, Any]:
        """channels, classes and size."""
        return {"channels": facts["channels"], "classes": len(facts["classes"]), "size": facts["size"][0]}

    def initialise(self, network: nn.Module, data: Data, facts: Facts, device: Any) -> None:
        """Lets a network that can begin from data, such as one with whitening filters, see up to 5,000 pictures."""
        if hasattr(network, "initialise_from"):
            rows = slice(None, None, max(1, len(data.train) // 5000))
            images = torch.from_numpy(data.train.images[rows].copy()).to(device)
            network.initialise_from(normalised(images, facts))

    def objective(self, network: nn.Module, facts: Facts, options: Options) -> Objective:
        """Cross-entropy, or squared error, of one network; the part `accuracy` is that of the training batches."""
        function, smoothing = LOSSES[options.loss], options.smoothing

        def criterion(network: nn.Module, batch: Batch) -> Loss:
            logits_BK, label_B = network(batch["image"]).float(), batch["label"]
            accuracy = (logits_BK.detach().argmax(1) == label_B).float().mean()
            return Loss(function(logits_BK, label_B, smoothing), len(label_B), {"accuracy": accuracy})

        return Supervised(network, criterion)

    def stream(self, split: Split, batch: int, seed: int, rank: int, ranks: int, device: Any) -> Stream:
        """The whole split on the device, as bytes."""
        images, labels = np.require(split.images, requirements="W"), np.require(split.labels, requirements="W")
        tensors = {"image": torch.from_numpy(images).to(device), "label": torch.from_numpy(labels).to(device)}
        return Resident(tensors, batch, seed, rank, ranks)

    def augment(self, facts: Facts, options: Options) -> Callable[[Batch], Batch]:
        """Bytes (B, H, W, C) to normalised floats (B, C, H, W), changed at random as the options say."""
        change = augmentation(options.augment, facts["ink"])
        plain = not options.augment or options.augment == "none"

        def prepare(batch: Batch) -> Batch:
            if plain:
                return {**batch, "image": normalised(batch["image"], facts)}
            return {**batch, "image": centred(change(batch["image"].permute(0, 3, 1, 2)), facts, 1.0)}

        return prepare

    def infer(self, network: nn.Module, batch: Batch, facts: Facts) -> Tensor:
        """Probabilities (B, K) in single precision."""
        with torch.inference_mode():
            return probabilities(network, normalised(batch["image"], facts), facts.get("views", "one"))

    def score(self, network: nn.Module, split: Split, facts: Facts, device: Any) -> tuple[dict[str, Any], Outcome]:
        """Accuracy, top-5, loss, F1, calibration … of the network in evaluation mode."""
        network.eval()
        answers = []
        for start in range(0, len(split), BATCH):
            images = torch.from_numpy(split.images[start : start + BATCH].copy()).to(device)
            answers.append(self.infer(network, {"image": images}, facts).cpu().numpy())
        probabilities = np.concatenate(answers) if answers else np.empty((0, len(facts["classes"])), np.float32)
        scores = Scores(len(facts["classes"]))
        scores.add(probabilities, split.labels)
        return scores.results(), Outcome(split, probabilities, scores)

    def pictures(self, network, data, facts, options, outcome, history) -> dict[str, Image.Image]:
        """Learning curves, confusion, worst mistakes, a batch as the network saw it, first filters, calibration."""
        from ..draw.confusion import confusion
        from ..draw.curves import curves
        from ..draw.grids import batch, filters, mistakes
        from ..draw.scores import calibration, per_class

        classes, scores, split = facts["classes"], outcome.scores, outcome.split
        worst = scores.worst(24)
        answers = outcome.probabilities[worst]
        rows = np.arange(min(48, len(data.train)))
        torch.manual_seed(options.seed)
        seen = self.augment(facts, options)({"image": torch.from_numpy(data.train.images[rows])})["image"]
        drawn = {
            "curves": curves(history),
            "confusion": confusion(scores.confusion, classes),
            "classes": per_class(scores.per_class, classes),
            "mistakes": mistakes(
                split.images[worst],
                split.labels[worst],
                answers.argmax(1),
                answers.max(1, initial=0),
                [split.sources[row] for row in worst],
                classes,
            ),
            "calibration": calibration(scores.bins),
            "batch": batch(seen.numpy(), [classes[k] for k in data.train.labels[rows]]),
        }
        first = next(w for w in network.parameters() if w.ndim > 1).detach().float().cpu().numpy()
        shape = (facts["channels"], *facts["size"]) if first.ndim == 2 else None
        drawn["filters"] = filters(first, shape)
        return drawn

    def example(self, source: Any, facts: Facts, as_is: bool = False) -> np.ndarray:
        """A file, bytes, Pillow image or array as (H, W, C) uint8 of the network's size.

        Drawings are brought to white on black, centred, where the network learned such; `as_is` leaves them.
        """
        from ..data.images import Unreadable, decode, fit, flat, pixels
        from ..data.ink import ink

        size, channels = facts["size"][0], facts["channels"]
        is_file = isinstance(source, (str, os.PathLike, bytes))
        try:
            if facts["ink"] and not as_is:
                return ink(decode(source) if is_file else source, size)[..., None]
            if is_file:
                return decode(source, channels, size)
            picture = Image.fromarray(bytes_of(source)) if isinstance(source, np.ndarray) else source
            return pixels(fit(flat(picture), size), channels)
        except Unreadable as error:
            raise DataError(str(error)) from error


def probabilities(network: nn.Module, x_BCHW: Tensor, views: str = "one") -> Tensor:
    """(B, K): softmax of the logits, averaged over views: the pictures, mirrored, moved a pixel up-left and down-right.

    Moving repeats the outermost pixels by reflection (Jordan 2024, arXiv:2404.00498, section 3.6: half the weight to the
    pictures in place).
    """
    logits_BK = network(x_BCHW).float()
    if views != "one":
        logits_BK = (logits_BK + network(x_BCHW.flip(3)).float()) / 2
    if views == "shifted":
        height, width = x_BCHW.shape[2:]
        padded = nn.functional.pad(x_BCHW, (1, 1, 1, 1), mode="reflect")
        moved = [padded[:, :, y : y + height, x : x + width] for y, x in ((0, 0), (2, 2))]
        shifted_BK = sum(network(x).float() + network(x.flip(3)).float() for x in moved) / 4
        logits_BK = (logits_BK + shifted_BK) / 2
    return logits_BK.softmax(1)


def bytes_of(array: np.ndarray) -> np.ndarray:
    """A picture (H, W), (H, W, 1) or (H, W, 3) as uint8; floats are taken to be 0 to 1. Raises DataError."""
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3)):
        raise DataError(f"An array of shape {array.shape} is no picture.", cure="Give (H, W), (H, W, 1) or (H, W, 3).")
    if array.dtype.kind == "f":
        array = (np.clip(array, 0, 1) * 255).round()
    return np.ascontiguousarray(array[..., 0] if array.shape[2:] == (1,) else array).astype(np.uint8)


def normalised(image_BHWC: Tensor, facts: Facts) -> Tensor:
    """Bytes (B, H, W, C) to floats (B, C, H, W), channels last in memory, mean 0 and deviation 1 over training."""
    return centred(image_BHWC.permute(0, 3, 1, 2).to(torch.float32), facts, 255.0)


def centred(x_BCHW: Tensor, facts: Facts, white: float) -> Tensor:
    """(x / white - mean) / std per channel, in place; facts give mean and std on the scale of 0 to 1."""
    if len(facts["mean"]) == 1:
        mean, std = facts["mean"][0], facts["std"][0]
        return x_BCHW.mul_(1 / (white * std)).sub_(mean / std)
    mean = torch.tensor(facts["mean"], device=x_BCHW.device)[:, None, None]
    std = torch.tensor(facts["std"], device=x_BCHW.device)[:, None, None]
    return x_BCHW.mul_(1 / (white * std)).sub_(mean / std)


def squared(data: Data) -> Data:
    """Pictures that are wider than high, or the reverse, get a black border so that they are square."""
    height, width, _ = data.shape
    if height == width:
        return data
    side = max(height, width)
    if side > 512:
        raise DataError(f"{data.name}: pictures of {width}x{height} are too large to pad.", cure="Give --size.")
    top, left = (side - height) // 2, (side - width) // 2
    margins = ((0, 0), (top, side - height - top), (left, side - width - left), (0, 0))

    def pad(split: Split) -> Split:
        return Split(np.pad(split.images, margins), split.labels, split.sources)

    note = f"pictures of {width}x{height} were given a black border to {side}x{side}"
    return replace(data, train=pad(data.train), valid=pad(data.valid), test=pad(data.test), notes=(*data.notes, note))
