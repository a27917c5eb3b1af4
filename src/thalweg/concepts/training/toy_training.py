"""One network trained on points in the plane: its curves, and what it and its neurons answer on the way.

N points, B of a mini-batch, K classes, G x G places of a grid over the plane.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...data.batches import InMemoryBatches
from ...engine.config import TrainConfig
from ...engine.trainer import Trainer
from ...errors import NonFiniteError
from ...losses.classification import cross_entropy
from ...models.classify.mlp import MLP
from ...objectives.base import Batch, Loss
from ...objectives.supervised import Supervised
from .toy_datasets import SPLITS

#: neurons of a layer whose maps are kept, at most
MAX_NEURONS = 12


@dataclass(frozen=True)
class ToyRun:
    """A network, and how it is trained."""

    label: str
    hidden: tuple[int, ...]
    activation: str
    optimizer: str
    lr: float
    batch: int
    epochs: int
    weight_decay: float
    seed: int


@dataclass(frozen=True)
class ToyDataset:
    """Points as a network reads them, x_N2 float32, label_N, part_N by PARTS; the grids of places that it is settings."""

    x_N2: Tensor
    label_N: Tensor
    part_N: Tensor
    classes: int
    surface_GG2: Tensor
    maps_GG2: Tensor


def train_toy(plane: ToyDataset, plan: ToyRun, epochs: list[int], maps: bool) -> dict[str, Any]:
    """Trains; the curves epoch by epoch, and snapshots after some of the epochs, with the maps of neurons if wanted.

    Where the loss is no number any more, training ends: `ended` has the step, and the last snapshot the weights before.
    The global random numbers are left as they were.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        network = MLP(2, plan.hidden, plane.classes, plan.activation, dropout=0.0)
        trainer, rows = _build_trainer(network, plane, plan)
        states, curves, ended = _train_with_snapshots(trainer, rows, plane, epochs)
    shown = _most_active(network, plane.x_N2) if maps else None
    snapshots = []
    for kept in states:
        network.load_state_dict(kept.pop("weights"))
        snapshots.append({**kept, **_snapshot(network, plane, shown)})
    return {
        **vars(plan),
        "parameters": sum(weight.numel() for weight in network.parameters()),
        "steps_per_epoch": trainer.batches.steps_per_epoch,
        "steps": trainer.step,
        "curves": curves,
        "ended": ended,
        "shown": shown,
        "snapshots": snapshots,
    }


def _build_trainer(network: MLP, plane: ToyDataset, plan: ToyRun) -> tuple[Trainer, Tensor]:
    """The trainer, and the rows of all points that its stream counts from 0."""

    def criterion(network: nn.Module, batch: Batch) -> Loss:
        logits_BK = network(batch["point"])
        return Loss(cross_entropy(logits_BK, batch["label"]), len(logits_BK))

    rows = torch.nonzero(plane.part_N == 0)[:, 0]
    stream = InMemoryBatches({"point": plane.x_N2[rows], "label": plane.label_N[rows]}, plan.batch, plan.seed)
    recipe = TrainConfig(
        steps=plan.epochs * stream.steps_per_epoch, lr=plan.lr, optimizer=plan.optimizer, schedule="constant",
        weight_decay=plan.weight_decay, report_every=stream.steps_per_epoch, seed=plan.seed,
    )  # fmt: skip
    return Trainer(Supervised(network, criterion), stream, recipe), rows


def _train_with_snapshots(
    trainer: Trainer, rows: Tensor, plane: ToyDataset, epochs: list[int]
) -> tuple[list[dict], dict[str, Any], int | None]:
    """The weights after some of the epochs, the curves, and the step at which the loss was no number (None: none)."""
    network, stream = trainer.model, trainer.batches
    of_part = {name: torch.nonzero(plane.part_N == place)[:, 0] for place, name in enumerate(SPLITS)}
    of_part = {name: chosen for name, chosen in of_part.items() if len(chosen)}
    curves: dict[str, Any] = {name: {"loss": [], "accuracy": []} for name in of_part}
    states: list[dict] = []

    def keep(epoch: int) -> None:
        batch = rows[stream.batch_indices(max(0, trainer.step - 1))].tolist()
        weights = {name: values.clone() for name, values in network.state_dict().items()}
        states.append({"epoch": epoch, "step": trainer.step, "batch": batch, "weights": weights})

    def score() -> bool:
        """Adds a place to the curves; whether the losses are numbers."""
        with torch.no_grad():
            logits_NK = network(plane.x_N2)
            right_N = logits_NK.argmax(1) == plane.label_N
            losses = {
                name: float(cross_entropy(logits_NK[chosen], plane.label_N[chosen])) for name, chosen in of_part.items()
            }
        if not all(map(math.isfinite, losses.values())):
            return False
        for name, chosen in of_part.items():
            curves[name]["loss"].append(losses[name])
            curves[name]["accuracy"].append(float(right_N[chosen].double().mean()))
        return True

    score()
    keep(0)
    try:
        for report in trainer:
            epoch = report.step // stream.steps_per_epoch
            if not score():
                keep(epoch)
                return states, curves, trainer.step
            if epoch in epochs:
                keep(epoch)
    except NonFiniteError as error:
        keep(error.step // stream.steps_per_epoch + 1)
        return states, curves, error.step
    return states, curves, None


def _hidden_activations(network: MLP, x_N2: Tensor) -> list[Tensor]:
    """What the neurons of every hidden layer answer, (N, neurons) each."""
    found = []
    for layer in network.features:
        x_N2 = layer(x_N2)
        if not isinstance(layer, nn.Flatten | nn.Linear):
            found.append(x_N2)
    return found


def _weight_matrices(network: MLP) -> list[Tensor]:
    """The weights of every layer, (neurons, inputs) each; the last are those of the outputs."""
    return [layer.weight.detach() for layer in network.modules() if isinstance(layer, nn.Linear)]


def _most_active(network: MLP, x_N2: Tensor) -> list[list[int]]:
    """Of every hidden layer the neurons that are shown: those whose answers change most in the next, in their order."""
    with torch.no_grad():
        answers = _hidden_activations(network, x_N2)
    found = []
    for answer_NJ, weight_IJ in zip(answers, _weight_matrices(network)[1:], strict=True):
        said_J = torch.nan_to_num(answer_NJ.std(0) * weight_IJ.norm(dim=0))
        found.append(sorted(said_J.argsort(descending=True, stable=True)[:MAX_NEURONS].tolist()))
    return found


def _snapshot(network: MLP, plane: ToyDataset, shown: list[list[int]] | None) -> dict[str, Any]:
    """At every place the likeliest class, its probability, and its lead on the next; maps and weights of neurons."""
    with torch.no_grad():
        probability_GGK = network(plane.surface_GG2.reshape(-1, 2)).softmax(1).reshape(*plane.surface_GG2.shape[:2], -1)
        first_GG2, class_GG2 = probability_GGK.topk(2, 2)
        found: dict[str, Any] = {
            "class": class_GG2[..., 0].tolist(),
            "probability": _round_values(first_GG2[..., 0]),
            "lead": _round_values(first_GG2[..., 0] - first_GG2[..., 1]),
        }
        if shown is None:
            return found
        answers = _hidden_activations(network, plane.maps_GG2.reshape(-1, 2))
    side = plane.maps_GG2.shape[0]
    found["maps"] = [
        _round_values(answer_NJ[:, chosen].T.reshape(len(chosen), side, side))
        for answer_NJ, chosen in zip(answers, shown, strict=True)
    ]
    ends = [[0, 1], *shown, list(range(plane.classes))]
    found["weights"] = [
        _round_values(weight_IJ[ends[place + 1]][:, ends[place]])
        for place, weight_IJ in enumerate(_weight_matrices(network))
    ]
    return found


def _round_values(values: Tensor) -> list:
    """Values as they are shown, with four digits: as lists, which JSON knows."""
    array = values.double().numpy()
    with np.errstate(all="ignore"):
        scale = 10.0 ** (3 - np.floor(np.log10(np.maximum(np.abs(array), 1e-30))))
        rounded = np.where(np.isfinite(array), np.round(array * scale) / scale, array)
    return rounded.tolist()
