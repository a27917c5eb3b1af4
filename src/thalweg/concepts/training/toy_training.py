"""Train one small network on points in the plane; record its curves, and what the model and its neurons predict.

Shapes: N points, B points of a mini-batch, K classes, J neurons of a layer, G x G points of a grid over the plane.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NotRequired, TypedDict

import numpy as np
import torch
from torch import Tensor, nn

from ...data.batches import BatchStream, InMemoryBatches
from ...engine.config import TrainConfig
from ...engine.trainer import Trainer
from ...errors import NonFiniteError
from ...losses.classification import cross_entropy
from ...models.classify.mlp import MLP
from ...objectives.base import Batch, Loss
from ...objectives.supervised import Supervised
from .toy_datasets import SPLITS

#: maximum number of neurons of a layer whose maps are recorded
MAX_NEURONS = 12


@dataclass(frozen=True)
class ToyRun:
    """A model and how it is trained."""

    label: str
    hidden: tuple[int, ...]
    activation: str
    optimizer: str
    lr: float
    batch_size: int
    epochs: int
    weight_decay: float
    seed: int


@dataclass(frozen=True)
class ToyDataset:
    """Standardized points, float32, their labels and splits (indices into SPLITS), and two grids over the plane."""

    x_N2: Tensor
    label_N: Tensor
    split_N: Tensor
    num_classes: int
    surface_GG2: Tensor
    maps_GG2: Tensor

    def rows_of_split(self, index: int) -> Tensor:
        """Return the rows of a split."""
        return torch.nonzero(self.split_N == index)[:, 0]


class Curve(TypedDict):
    """Mean loss and accuracy of one split, before training and after each epoch."""

    loss: list[float]
    accuracy: list[float]


#: most likely class, its probability, and its lead over the second class at each grid point; maps and weights of
#: the visible neurons
Snapshot = TypedDict(
    "Snapshot",
    {
        "epoch": int,
        "step": int,
        "batch": list[int],
        "class": list[list[int]],
        "probability": list[list[float]],
        "lead": list[list[float]],
        "maps": NotRequired[list[list[list[list[float]]]]],
        "weights": NotRequired[list[list[list[float]]]],
    },
)


@dataclass(frozen=True)
class ToyResult(ToyRun):
    """A run, and the result of its training.

    `diverged_at` is the step at which the loss became infinite or NaN, or None. `visible_neurons` has the neurons of
    each hidden layer that are shown, or is None.
    """

    num_params: int
    steps_per_epoch: int
    steps: int
    curves: dict[str, Curve]
    diverged_at: int | None
    visible_neurons: list[list[int]] | None
    snapshots: list[Snapshot]


def train_toy(dataset: ToyDataset, run: ToyRun, snapshot_epochs: Sequence[int], with_maps: bool) -> ToyResult:
    """Train a model. The global random state is left unchanged.

    If the loss becomes infinite or NaN, training stops, and the last snapshot shows the weights before.

    Args:
        dataset: the points.
        run: the model and how it is trained.
        snapshot_epochs: epochs after which the weights are recorded.
        with_maps: also record the maps of neurons.

    Returns:
        Curves and snapshots.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        model = MLP(2, run.hidden, dataset.num_classes, run.activation, dropout=0.0)
        trainer = _build_trainer(model, dataset, run)
        history = _History(model, trainer.batches, dataset)
        diverged_at = _train_with_snapshots(trainer, history, snapshot_epochs)
    visible_neurons = None
    if with_maps:
        visible_neurons = _most_active(model, dataset.x_N2)
    snapshots = []
    for state in history.states:
        model.load_state_dict(state.weights)
        snapshots.append(_snapshot(model, dataset, state, visible_neurons))
    return ToyResult(
        **asdict(run),
        num_params=sum(map(torch.numel, model.parameters())),
        steps_per_epoch=trainer.batches.steps_per_epoch,
        steps=trainer.step,
        curves=history.curves,
        diverged_at=diverged_at,
        visible_neurons=visible_neurons,
        snapshots=snapshots,
    )


def has_diverged(run: ToyResult, epoch: int) -> bool:
    """Return whether the loss of a run is infinite or NaN after `epoch`."""
    return run.diverged_at is not None and epoch >= run.snapshots[-1]["epoch"]


# --- training ---------------------------------------------------------------------------------------------------------


def _build_trainer(model: MLP, dataset: ToyDataset, run: ToyRun) -> Trainer:
    def criterion(model: nn.Module, batch: Batch) -> Loss:
        logits_BK = model(batch["point"])
        return Loss(cross_entropy(logits_BK, batch["label"]), len(logits_BK))

    rows = dataset.rows_of_split(0)
    tensors = {"point": dataset.x_N2[rows], "label": dataset.label_N[rows]}
    stream = InMemoryBatches(tensors, run.batch_size, run.seed)
    config = TrainConfig(
        steps=run.epochs * stream.steps_per_epoch,
        lr=run.lr,
        optimizer=run.optimizer,
        schedule="constant",
        weight_decay=run.weight_decay,
        report_every=stream.steps_per_epoch,
        seed=run.seed,
    )
    return Trainer(Supervised(model, criterion), stream, config)


@dataclass(frozen=True)
class _State:
    """The weights after an epoch, and the rows of the last mini-batch."""

    epoch: int
    step: int
    batch: list[int]
    weights: dict[str, Tensor]


class _History:
    """Curves and weights recorded during training."""

    def __init__(self, model: MLP, stream: BatchStream, dataset: ToyDataset):
        self.model = model
        self.stream = stream
        self.dataset = dataset
        self.states: list[_State] = []
        self.curves: dict[str, Curve] = {}
        self.split_rows: dict[str, Tensor] = {}
        for index, name in enumerate(SPLITS):
            rows = dataset.rows_of_split(index)
            if len(rows):
                self.split_rows[name] = rows
                self.curves[name] = Curve(loss=[], accuracy=[])

    def save_weights(self, epoch: int, step: int) -> None:
        """Record the weights."""
        batch = self.dataset.rows_of_split(0)[self.stream.batch_indices(max(0, step - 1))].tolist()
        weights = {}
        for name, values in self.model.state_dict().items():
            weights[name] = values.clone()
        self.states.append(_State(epoch, step, batch, weights))

    def evaluate(self) -> bool:
        """Append loss and accuracy of each split to the curves. Return False, without appending, for NaN or inf."""
        losses = {}
        accuracies = {}
        with torch.no_grad():
            logits_NK = self.model(self.dataset.x_N2)
            is_correct_N = logits_NK.argmax(1) == self.dataset.label_N
            for name, rows in self.split_rows.items():
                losses[name] = float(cross_entropy(logits_NK[rows], self.dataset.label_N[rows]))
                accuracies[name] = float(is_correct_N[rows].double().mean())
        if not all(map(math.isfinite, losses.values())):
            return False
        for name, curve in self.curves.items():
            curve["loss"].append(losses[name])
            curve["accuracy"].append(accuracies[name])
        return True


def _train_with_snapshots(trainer: Trainer, history: _History, snapshot_epochs: Sequence[int]) -> int | None:
    """Train, evaluate after every epoch, and save weights at `snapshot_epochs`.

    Return the step at which the loss became infinite or NaN, or None.
    """
    steps_per_epoch = trainer.batches.steps_per_epoch
    history.evaluate()
    history.save_weights(0, trainer.step)
    try:
        for report in trainer:
            epoch = report.step // steps_per_epoch
            if not history.evaluate():
                history.save_weights(epoch, trainer.step)
                return trainer.step
            if epoch in snapshot_epochs:
                history.save_weights(epoch, trainer.step)
    except NonFiniteError as error:
        history.save_weights(error.step // steps_per_epoch + 1, trainer.step)
        return error.step
    return None


# --- snapshots --------------------------------------------------------------------------------------------------------


def _hidden_activations(model: MLP, x_N2: Tensor) -> list[Tensor]:
    """Return the activations (N, J) of each hidden layer."""
    activations = []
    hidden = x_N2
    for layer in model.features:
        hidden = layer(hidden)
        if not isinstance(layer, nn.Flatten | nn.Linear):
            activations.append(hidden)
    return activations


def _weight_matrices(model: MLP) -> list[Tensor]:
    """Return the weights (outputs, inputs) of each layer, the output layer last."""
    matrices = []
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            matrices.append(layer.weight.detach())
    return matrices


def _most_active(model: MLP, x_N2: Tensor) -> list[list[int]]:
    """Return the neurons of each hidden layer with the largest influence on the next layer, in ascending order.

    The influence of a neuron is the standard deviation of its activation times the norm of its outgoing weights.
    """
    with torch.no_grad():
        activations = _hidden_activations(model, x_N2)
    neurons = []
    for activation_NJ, weight_OJ in zip(activations, _weight_matrices(model)[1:], strict=True):
        influence_J = torch.nan_to_num(activation_NJ.std(0) * weight_OJ.norm(dim=0))
        order = influence_J.argsort(descending=True, stable=True)
        neurons.append(sorted(order[:MAX_NEURONS].tolist()))
    return neurons


def _snapshot(model: MLP, dataset: ToyDataset, state: _State, neurons: list[list[int]] | None) -> Snapshot:
    """Compute predictions over the plane, and maps and weights of `neurons`."""
    height, width, _ = dataset.surface_GG2.shape
    with torch.no_grad():
        probability_GGK = model(dataset.surface_GG2.reshape(-1, 2)).softmax(1).reshape(height, width, -1)
    probability_GG2, class_GG2 = probability_GGK.topk(2, 2)
    snapshot: Snapshot = {
        "epoch": state.epoch,
        "step": state.step,
        "batch": state.batch,
        "class": class_GG2[..., 0].tolist(),
        "probability": _round_values(probability_GG2[..., 0]),
        "lead": _round_values(probability_GG2[..., 0] - probability_GG2[..., 1]),
    }
    if neurons is not None:
        snapshot["maps"] = _neuron_maps(model, dataset, neurons)
        snapshot["weights"] = _neuron_weights(model, neurons, dataset.num_classes)
    return snapshot


def _neuron_maps(model: MLP, dataset: ToyDataset, neurons: list[list[int]]) -> list[list[list[list[float]]]]:
    """Return the activation of each visible neuron over the plane: by layer, neuron, row and column."""
    side = dataset.maps_GG2.shape[0]
    with torch.no_grad():
        activations = _hidden_activations(model, dataset.maps_GG2.reshape(-1, 2))
    maps = []
    for activation_NJ, visible in zip(activations, neurons, strict=True):
        maps.append(_round_values(activation_NJ[:, visible].T.reshape(len(visible), side, side)))
    return maps


def _neuron_weights(model: MLP, neurons: list[list[int]], num_classes: int) -> list[list[list[float]]]:
    """Return the weights between visible neurons, inputs and outputs, layer by layer."""
    columns = [[0, 1], *neurons]
    rows = [*neurons, list(range(num_classes))]
    weights = []
    for weight_OI, outputs, inputs in zip(_weight_matrices(model), rows, columns, strict=True):
        weights.append(_round_values(weight_OI[outputs][:, inputs]))
    return weights


def _round_values(values: Tensor) -> list[Any]:
    """Round to four significant digits and convert to nested lists."""
    array = values.double().numpy()
    with np.errstate(all="ignore"):
        scale = 10.0 ** (3 - np.floor(np.log10(np.maximum(np.abs(array), 1e-30))))
        rounded = np.where(np.isfinite(array), np.round(array * scale) / scale, array)
    return rounded.tolist()
