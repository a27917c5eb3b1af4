"""Train a small network to classify points in the plane, epoch by epoch, with the package's own trainer.

Backpropagation: Rumelhart, Hinton and Williams 1986. The layout, with a map of the plane for every neuron, is that of
TensorFlow Playground (Smilkov et al. 2017, arXiv:1708.03788).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, Literal, TypedDict, Unpack

import numpy as np
import torch

from ...config.options import Optimizer, Range
from ...errors import OptionError
from ...registry import register_concept
from ..base import ConceptResult, Frame, load_text
from ..neuron.compute import Activation
from .toy_datasets import SPLITS, Points, make_dataset, split_points
from .toy_training import MAX_NEURONS, ToyDataset, ToyResult, ToyRun, has_diverged, train_toy

TEXT = load_text(__package__)

#: learning rates that suit small networks in the plane, tuned on the spirals
DEFAULT_LR = {
    "sgd": 0.3,
    "momentum": 0.05,
    "nesterov": 0.1,
    "adagrad": 0.1,
    "adadelta": 5.0,
    "rmsprop": 0.01,
    "adam": 0.02,
    "adamw": 0.02,
    "muon": 0.06,
}
DEFAULT_STEPS = 1800
MAX_STEPS = 100_000
MAX_HIDDEN_LAYERS = 6
MAX_WIDTH = 64
#: snapshots of a run; points along each side of the decision surface and of the map of a neuron
NUM_FRAMES = 9
SURFACE_GRID = 81
MAP_GRID = 25
#: compare=lr divides and multiplies the learning rate by this factor
LR_FACTOR = 30

_SPLIT_LABELS = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class TrainingSettings:
    """Settings. `auto` chooses a value that suits the number of points and the optimizer."""

    dataset: Annotated[
        Literal["spirals", "moons", "circles", "blobs", "xor"], "synthetic dataset, if no table is given"
    ] = "spirals"
    points: Annotated[int, "number of points of a synthetic dataset", Range(20, 5000)] = 300
    noise: Annotated[float, "standard deviation of the noise of a synthetic dataset", Range(0, 2)] = 0.1
    columns: Annotated[
        Literal["auto"] | list[str], "columns of a table: two numbers and the label, such as x,y,label"
    ] = "auto"
    hidden: Annotated[list[int] | Literal["none"], "neurons of each hidden layer", Range(1, MAX_WIDTH)] = field(
        default_factory=lambda: [8, 8]
    )
    activation: Annotated[Activation, "activation of the hidden layers"] = "tanh"
    optimizer: Annotated[Optimizer, "optimizer"] = "adam"
    lr: Annotated[float | Literal["auto"], "learning rate", Range(0, 1e6)] = "auto"
    batch_size: Annotated[int, "points per mini-batch", Range(1, 5000)] = 16
    epochs: Annotated[int | Literal["auto"], "passes over the training points", Range(1, 5000)] = "auto"
    weight_decay: Annotated[float, "weight decay", Range(0, 10)] = 0.0
    val_fraction: Annotated[float, "fraction of the points held out for validation", Range(0, 0.8)] = 0.2
    test_fraction: Annotated[float, "fraction of the points held out for the test", Range(0, 0.8)] = 0.2
    compare: Annotated[
        Literal["none", "lr", "hidden", "optimizer"], "setting to compare in three runs side by side"
    ] = "none"
    seed: Annotated[int, "seed of points, splits, initial weights and batches", Range(0, 2**31)] = 0


class PointsInput(TypedDict, total=False):
    """Points of the user: (N, 2), labels (N,) into `classes`, names of the `axes`, `title` the name, and `notes`."""

    points: np.ndarray
    labels: np.ndarray
    classes: Sequence[str]
    axes: Sequence[str]
    title: str
    notes: Sequence[str]


@register_concept(TEXT, TrainingSettings, input_kind="points")
def training(settings: TrainingSettings, **inputs: Unpack[PointsInput]) -> ConceptResult:
    """Train one network, or three to compare, on the points of the user or on a synthetic dataset.

    Raises:
        OptionError: settings that contradict each other, or more than MAX_STEPS steps.
    """
    has_table = "points" in inputs
    _check_settings(settings, inputs)
    generator = np.random.default_rng(settings.seed)
    data = _load_points(settings, inputs, generator)
    split_N = split_points(data.labels, settings.val_fraction, settings.test_fraction, generator)
    dataset, window = _build_toy_dataset(data, split_N, square=not has_table)
    runs = _build_runs(settings, num_train=int((split_N == 0).sum()))
    epochs = runs[0].epochs
    snapshot_epochs = _snapshot_epochs(epochs)
    results = [train_toy(dataset, run, snapshot_epochs, with_maps=len(runs) == 1) for run in runs]
    numbers = {
        "dataset": data.name,
        "points": data.points.tolist(),
        "labels": data.labels.tolist(),
        "parts": split_N.tolist(),
        "classes": data.classes,
        "axes": data.axes,
        "window": window,
        "epochs": epochs,
        "runs": results,
    }
    return ConceptResult(
        {**numbers, "runs": list(map(asdict, results))},
        _build_frames(numbers, snapshot_epochs),
        key_numbers=_key_numbers(results),
        notes=[*inputs.get("notes", ()), *_collect_notes(settings, results)],
    )


# --- data -------------------------------------------------------------------------------------------------------------


def _check_settings(settings: TrainingSettings, inputs: PointsInput) -> None:
    has_table = "points" in inputs
    if has_table and settings.dataset != TrainingSettings.dataset:
        raise OptionError(
            f"dataset: {settings.dataset} and {inputs.get('title', 'points')} exclude each other.",
            cure="Give only one of them.",
            option="dataset",
            value=settings.dataset,
        )
    if not has_table and settings.columns != TrainingSettings.columns:
        raise OptionError(
            "columns: there is no table.",
            cure="Give one: thalweg explain training points.csv",
            option="columns",
            value=settings.columns,
        )
    held_out = settings.val_fraction + settings.test_fraction
    if held_out > 0.9:
        raise OptionError(
            f"val_fraction and test_fraction: {held_out:g} in total leaves too few training points.",
            cure="Give at most 0.9 in total.",
            option="test_fraction",
            value=settings.test_fraction,
        )


def _load_points(settings: TrainingSettings, inputs: PointsInput, generator: np.random.Generator) -> Points:
    if "points" not in inputs or "labels" not in inputs:
        return make_dataset(settings.dataset, settings.points, settings.noise, generator)
    return Points(
        inputs["points"],
        inputs["labels"],
        list(inputs.get("classes", ())),
        list(inputs.get("axes", ())),
        inputs.get("title", ""),
    )


def _build_toy_dataset(data: Points, split_N: np.ndarray, square: bool) -> tuple[ToyDataset, list[float]]:
    """Return the standardized points, and the window: left, right, bottom, top."""
    train_M2 = data.points[split_N == 0]
    mean = train_M2.mean(0)
    std = train_M2.std(0)
    std = np.where(std > 0, std, 1.0)
    left, right, bottom, top = window = _fit_window(data.points, square)

    def standardize(points: np.ndarray) -> torch.Tensor:
        return torch.from_numpy((points - mean) / std).float()

    def make_grid(side: int) -> torch.Tensor:
        """Return grid points (side, side, 2), row by row from the bottom."""
        x, y = np.meshgrid(np.linspace(left, right, side), np.linspace(bottom, top, side))
        return standardize(np.stack([x, y], 2))

    dataset = ToyDataset(
        x_N2=standardize(data.points),
        label_N=torch.from_numpy(data.labels),
        split_N=torch.from_numpy(split_N),
        num_classes=len(data.classes),
        surface_GG2=make_grid(SURFACE_GRID),
        maps_GG2=make_grid(MAP_GRID),
    )
    return dataset, window


def _fit_window(points_N2: np.ndarray, square: bool) -> list[float]:
    """Return left, right, bottom, top around all points, with a margin."""
    low = points_N2.min(0)
    high = points_N2.max(0)
    center = (low + high) / 2
    half = (high - low) / 2
    if square:
        half = np.full(2, half.max())
    else:
        half = np.where(half > 0, half, 1.0)
    left, bottom = (center - 1.08 * half).tolist()
    right, top = (center + 1.08 * half).tolist()
    return [left, right, bottom, top]


# --- runs -------------------------------------------------------------------------------------------------------------


def _build_runs(settings: TrainingSettings, num_train: int) -> list[ToyRun]:
    """Return one run, or three to compare."""
    hidden: tuple[int, ...] = ()
    if settings.hidden != "none":
        hidden = tuple(settings.hidden)
    if len(hidden) > MAX_HIDDEN_LAYERS:
        raise OptionError(
            f"hidden: got {len(hidden)} layers; expected at most {MAX_HIDDEN_LAYERS}.",
            cure="Give fewer layers.",
            option="hidden",
            value=list(hidden),
        )
    lr = settings.lr
    if lr == "auto":
        lr = DEFAULT_LR[settings.optimizer]
    run = ToyRun(
        label=_format_hidden(hidden),
        hidden=hidden,
        activation=settings.activation,
        optimizer=settings.optimizer,
        lr=lr,
        batch_size=settings.batch_size,
        epochs=_resolve_epochs(settings, num_train),
        weight_decay=settings.weight_decay,
        seed=settings.seed,
    )
    if settings.compare == "lr":
        return _compare_lrs(run)
    if settings.compare == "hidden":
        return _compare_hidden(run)
    if settings.compare == "optimizer":
        return _compare_optimizers(run)
    return [run]


def _resolve_epochs(settings: TrainingSettings, num_train: int) -> int:
    steps_per_epoch = max(1, num_train // min(settings.batch_size, num_train))
    if settings.epochs == "auto":
        epochs = min(1000, max(20, round(DEFAULT_STEPS / steps_per_epoch)))
    else:
        epochs = settings.epochs
    if epochs * steps_per_epoch > MAX_STEPS:
        raise OptionError(
            f"epochs: {epochs} epochs of {steps_per_epoch} mini-batches are {epochs * steps_per_epoch:,} steps; "
            f"expected at most {MAX_STEPS:,}.",
            cure="Give fewer epochs, or a larger batch_size.",
            option="epochs",
            value=epochs,
        )
    return epochs


def _compare_lrs(run: ToyRun) -> list[ToyRun]:
    runs = []
    for lr in (run.lr / LR_FACTOR, run.lr, run.lr * LR_FACTOR):
        runs.append(replace(run, lr=lr, label=f"lr {lr:.3g}"))
    return runs


def _compare_hidden(run: ToyRun) -> list[ToyRun]:
    runs = []
    for sizes in _vary_hidden(run.hidden):
        runs.append(replace(run, hidden=sizes, label=_format_hidden(sizes)))
    return runs


def _compare_optimizers(run: ToyRun) -> list[ToyRun]:
    runs = []
    for name in ("sgd", "adam", "momentum"):
        if name != run.optimizer:
            lr = DEFAULT_LR[name]
            runs.append(replace(run, optimizer=name, lr=lr, label=f"{name}, lr {lr:.3g}"))
    return [*runs[:2], replace(run, label=f"{run.optimizer}, lr {run.lr:.3g}")]


def _vary_hidden(hidden: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return a smaller, the given and a larger architecture.

    The smaller one has one layer of a quarter of the neurons, or none. The larger one has layers of maximum width, or
    one more of them.
    """
    if not hidden:
        raise OptionError(
            "hidden: no network is smaller than one without hidden layers.",
            cure="Give hidden layers, such as hidden=8,8.",
            option="hidden",
            value="none",
        )
    smaller: tuple[int, ...] = ()
    if hidden[0] >= 4:
        smaller = (hidden[0] // 4,)
    larger = (MAX_WIDTH,) * len(hidden)
    if larger == hidden:
        larger = (*hidden, MAX_WIDTH)
    return [smaller, hidden, larger]


def _format_hidden(hidden: tuple[int, ...]) -> str:
    """Format 'hidden 8, 8'."""
    return f"hidden {', '.join(map(str, hidden)) or 'none'}"


# --- frames -----------------------------------------------------------------------------------------------------------


def _snapshot_epochs(epochs: int) -> list[int]:
    """Return the epochs with a snapshot: close together at the beginning, where most changes."""
    snapshot_epochs = set()
    for i in range(NUM_FRAMES):
        epoch = max(i, round(epochs * (i / (NUM_FRAMES - 1)) ** 2.5))
        snapshot_epochs.add(min(epochs, epoch))
    return sorted(snapshot_epochs)


def _build_frames(numbers: dict[str, Any], snapshot_epochs: Sequence[int]) -> list[Frame]:
    """Return a frame per snapshot, up to the last one of any run; runs that diverge end early."""
    from .plot import plot_compare_runs, plot_training

    runs: list[ToyResult] = numbers["runs"]
    plot = plot_training
    if len(runs) > 1:
        plot = plot_compare_runs
    last = max(run.snapshots[-1]["epoch"] for run in runs)
    frames = []
    for epoch in snapshot_epochs:
        frames.append(Frame(_frame_caption(runs, epoch), plot, (numbers, epoch)))
        if epoch >= last:
            break
    return frames


def _frame_caption(runs: Sequence[ToyResult], epoch: int) -> str:
    if len(runs) > 1:
        parts = []
        for run in runs:
            parts.append(f"{run.label}: {_format_accuracy(run, epoch)}")
        accuracies = "; ".join(parts)
        if epoch == 0:
            return f"Before training, training accuracy: {accuracies}."
        return f"After epoch {epoch}, training accuracy: {accuracies}."
    (run,) = runs
    if epoch == 0:
        return (
            f"Before training: random weights have a training accuracy of {_format_accuracy(run, 0)}. "
            f"The first mini-batch of {len(run.snapshots[0]['batch'])} points is circled."
        )
    if has_diverged(run, epoch):
        return (
            f"Diverged: at step {run.diverged_at}, in epoch {run.snapshots[-1]['epoch']}, the loss became "
            "infinite or NaN."
        )
    train = run.curves["train"]
    text = (
        f"Epoch {epoch}, step {epoch * run.steps_per_epoch}: training accuracy {_format_accuracy(run, epoch)}, "
        f"loss {train['loss'][epoch]:.3g}"
    )
    if "val" in run.curves:
        val = run.curves["val"]
        text += f"; validation accuracy {_format_percent(val['accuracy'][epoch])}, loss {val['loss'][epoch]:.3g}"
    return text + "."


def _format_accuracy(run: ToyResult, epoch: int) -> str:
    accuracy = run.curves["train"]["accuracy"]
    if has_diverged(run, epoch):
        return "diverged"
    if not accuracy:
        return "none"
    return _format_percent(accuracy[epoch])


def _format_percent(fraction: float) -> str:
    # imported here because matplotlib is slow to import
    from ...plots.style import format_percent

    return format_percent(fraction)


# --- summary ----------------------------------------------------------------------------------------------------------


def _key_numbers(runs: Sequence[ToyResult]) -> dict[str, str]:
    """Return final accuracies and losses, a line per split or per run."""
    if len(runs) > 1:
        return {run.label: _describe_result(run) for run in runs}
    (run,) = runs
    key_numbers = {}
    for split in SPLITS:
        if split in run.curves:
            key_numbers[_SPLIT_LABELS[split]] = _format_final(run, split)
    if "val" in run.curves:
        losses = run.curves["val"]["loss"]
        best = int(np.argmin(losses))
        key_numbers["lowest validation loss"] = f"{losses[best]:.3g} after epoch {best}"
    key_numbers["parameters"] = f"{run.num_params}, {run.label}"
    key_numbers["steps"] = (
        f"{run.steps} with batch size {run.batch_size}, {run.optimizer} with learning rate {run.lr:.3g}"
    )
    return key_numbers


def _format_final(run: ToyResult, split: str) -> str:
    curve = run.curves[split]
    return f"accuracy {_format_percent(curve['accuracy'][-1])}, loss {curve['loss'][-1]:.3g}"


def _describe_result(run: ToyResult) -> str:
    parts = []
    for split in SPLITS:
        if split in run.curves:
            parts.append(f"{_SPLIT_LABELS[split]} {_format_final(run, split)}")
    if run.diverged_at is not None:
        parts.append(f"then diverged at step {run.diverged_at}")
    return "; ".join(parts)


def _collect_notes(settings: TrainingSettings, runs: Sequence[ToyResult]) -> list[str]:
    notes = []
    for run in runs:
        note = _describe_problem(run)
        if note:
            if len(runs) > 1:
                note = f"{run.label}: {note}"
            notes.append(note)
        visible = run.visible_neurons
        if visible and sum(run.hidden) > sum(map(len, visible)):
            notes.append(f"At most {MAX_NEURONS} neurons of a layer are shown: those with the largest influence.")
    if len(runs) > 1 and settings.compare != "hidden":
        notes.append("All three runs have the same initial weights and mini-batches.")
    return notes


def _describe_problem(run: ToyResult) -> str:
    """Describe divergence, no learning or overfitting; empty if there is none."""
    train_loss = run.curves["train"]["loss"]
    if run.diverged_at is not None:
        return (
            f"diverged: the loss became infinite or NaN at step {run.diverged_at}; the learning rate {run.lr:g} "
            "is too large. The last frame shows the weights before."
        )
    if train_loss[-1] >= train_loss[0]:
        return (
            f"not learning: with the learning rate {run.lr:g} the training loss is {train_loss[0]:.3g} before "
            f"training and {train_loss[-1]:.3g} after it."
        )
    if _is_overfit(run):
        val_loss = run.curves["val"]["loss"]
        best = int(np.argmin(val_loss))
        return (
            f"overfitting: after epoch {best} the validation loss rises from {val_loss[best]:.3g} to "
            f"{val_loss[-1]:.3g} while the training loss falls to {train_loss[-1]:.3g}."
        )
    return ""


def _is_overfit(run: ToyResult) -> bool:
    """Return whether the validation loss ends well above its minimum while the training loss has fallen since."""
    if "val" not in run.curves:
        return False
    val_loss = run.curves["val"]["loss"]
    train_loss = run.curves["train"]["loss"]
    best = int(np.argmin(val_loss))
    has_risen = val_loss[-1] > 1.2 * val_loss[best] + 0.02
    return has_risen and train_loss[-1] < train_loss[best] and math.isfinite(val_loss[-1])
