"""A network learns to tell points in the plane apart, epoch by epoch, on the package's own trainer.

Backpropagation of errors: Rumelhart, Hinton and Williams 1986. The layout, with every neuron's map of the plane, is
that of Smilkov and Carter's TensorFlow Playground (Smilkov et al. 2017, arXiv:1708.03788).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import torch

from ...config.options import Optimizer, Range
from ...errors import OptionError
from ...registry import register_concept
from ..base import ConceptResult, Frame, load_text
from ..neuron.compute import Activation
from . import toy_training as fitted
from .toy_datasets import SPLITS, Points, make_dataset, split_points
from .toy_training import ToyDataset, ToyRun

TEXT = load_text(__package__)

#: rates at which small networks on a plane learn well, found on the spirals
DEFAULT_LR = {
    "sgd": 0.3, "momentum": 0.05, "nesterov": 0.1, "adagrad": 0.1, "adadelta": 5.0, "rmsprop": 0.01, "adam": 0.02,
    "adamw": 0.02, "muon": 0.06,
}  # fmt: skip
#: updates, if nothing else is asked for; the most that are made
DEFAULT_UPDATES, MAX_UPDATES = 1800, 100_000
#: snapshots; places along an axis of the surface and of a neuron's map
NUM_FRAMES, SURFACE_GRID, MAP_GRID = 9, 81, 25
#: how much smaller and larger the rates are that the given one is compared with
LR_FACTOR = 30


@dataclass(frozen=True)
class TrainingSettings:
    """What can be set; 'auto' is what suits the number of points and the optimiser."""

    set: Annotated[Literal["spirals", "moons", "circles", "blobs", "xor"], "the points, where no table is given"] = (
        "spirals"
    )
    points: Annotated[int, "how many points are made", Range(20, 5000)] = 300
    noise: Annotated[float, "deviation of the noise on points that are made", Range(0, 2)] = 0.1
    columns: Annotated[
        Literal["auto"] | list[str], "of a table: two columns of numbers and the label's, as x,y,label"
    ] = "auto"
    hidden: Annotated[list[int] | Literal["none"], "neurons of every hidden layer", Range(1, 64)] = (8, 8)
    activation: Annotated[Activation, "what bends the sums of hidden neurons"] = "tanh"
    optimizer: Annotated[Optimizer, "how gradients become updates"] = "adam"
    lr: Annotated[float | Literal["auto"], "learning rate", Range(0, 1e6)] = "auto"
    batch: Annotated[int, "points of a mini-batch", Range(1, 5000)] = 16
    epochs: Annotated[int | Literal["auto"], "passes over the training points", Range(1, 5000)] = "auto"
    weight_decay: Annotated[float, "pull of the weights towards zero", Range(0, 10)] = 0.0
    valid: Annotated[float, "share of the points held out for validation", Range(0, 0.8)] = 0.2
    test: Annotated[float, "share of the points held out for the test", Range(0, 0.8)] = 0.2
    compare: Annotated[Literal["none", "rates", "sizes", "optimizers"], "three trainings side by side"] = "none"
    seed: Annotated[int, "seed of points, division, weights and order", Range(0, 2**31)] = 0


@register_concept(TEXT, TrainingSettings, subject="points")
def training(
    settings: TrainingSettings,
    points: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    classes: Sequence[str] = (),
    axes: Sequence[str] = (),
    told: str = "",
    notes: Sequence[str] = (),
) -> ConceptResult:
    """Trains one network, or three, on the points given (else made); curves, surfaces and the maps of neurons.

    Raises OptionError for settings that contradict each other or take more than MOST_UPDATES updates.
    """
    generator = np.random.default_rng(settings.seed)
    if points is not None and settings.set != TrainingSettings.set:
        raise OptionError(f"Both {told} and the set {settings.set} are given.", cure="Leave one of the two out.")
    if points is None and settings.columns != TrainingSettings.columns:
        raise OptionError("columns: they are of a table, and none is given.", cure="Name one: training points.csv")
    if points is None:
        data = make_dataset(settings.set, settings.points, settings.noise, generator)
    else:
        data = Points(points, labels, list(classes), list(axes), told)
    if settings.valid + settings.test > 0.9:
        raise OptionError("valid and test leave too few points to train on.", cure="Give at most 0.9 together.")
    part_N = split_points(data.labels, settings.valid, settings.test, generator)
    plane, window = _build_toy_dataset(data, part_N, square=points is None)
    plans = _build_runs(settings, int((part_N == 0).sum()))
    epochs = _snapshot_epochs(plans[0].epochs)
    runs = [fitted.train_toy(plane, plan, epochs, maps=len(plans) == 1) for plan in plans]
    numbers = {
        "set": data.told,
        "points": data.points.tolist(),
        "labels": data.labels.tolist(),
        "parts": part_N.tolist(),
        "classes": data.classes,
        "axes": data.axes,
        "window": window,
        "epochs": plans[0].epochs,
        "runs": runs,
    }
    from .plot import plot_compare_runs as together
    from .plot import plot_training as alone

    drawing = alone if len(runs) == 1 else together
    last = max(run["snapshots"][-1]["epoch"] for run in runs)  # of trainings that all diverged, not the whole time
    shown = epochs[: 1 + next(place for place, epoch in enumerate(epochs) if epoch >= last)]
    return ConceptResult(
        numbers,
        [Frame(_frame_caption(runs, epoch), drawing, (numbers, epoch)) for epoch in shown],
        key_numbers=_key_numbers(runs),
        notes=[*notes, *_collect_notes(settings, runs)],
    )


def _build_toy_dataset(data: Points, part_N: np.ndarray, square: bool) -> tuple[ToyDataset, list[float]]:
    """The points as networks read them, and the window: left, right, lower, upper."""
    trained_M2 = data.points[part_N == 0]
    middle, deviation = trained_M2.mean(0), trained_M2.std(0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    low, high = data.points.min(0), data.points.max(0)
    centre, half = (low + high) / 2, (high - low) / 2
    half = np.full(2, half.max()) if square else np.where(half > 0, half, 1.0)
    left, lower = (centre - 1.08 * half).tolist()
    right, upper = (centre + 1.08 * half).tolist()

    def read(points: np.ndarray) -> torch.Tensor:
        return torch.from_numpy((points - middle) / deviation).float()

    def grid(side: int) -> torch.Tensor:
        """(side, side, 2), row by row from below."""
        x, y = np.meshgrid(np.linspace(left, right, side), np.linspace(lower, upper, side))
        return read(np.stack([x, y], 2))

    plane = ToyDataset(
        read(data.points), torch.from_numpy(data.labels), torch.from_numpy(part_N), len(data.classes), grid(SURFACE_GRID),
        grid(MAP_GRID),
    )  # fmt: skip
    return plane, [left, right, lower, upper]


def _snapshot_epochs(epochs: int) -> list[int]:
    """The epochs after which there is a picture: close together at first, when most changes."""
    places = range(NUM_FRAMES)
    return sorted({min(epochs, max(place, round(epochs * (place / places[-1]) ** 2.5))) for place in places})


# --- what is trained -------------------------------------------------------------------------------------------------


def _build_runs(settings: TrainingSettings, trained: int) -> list[ToyRun]:
    """One plan, or three to compare, for so many training points."""
    steps = max(1, trained // min(settings.batch, trained))
    epochs = min(1000, max(20, round(DEFAULT_UPDATES / steps))) if settings.epochs == "auto" else settings.epochs
    if epochs * steps > MAX_UPDATES:
        raise OptionError(
            f"{epochs} epochs of {steps} mini-batches are {epochs * steps:,} updates.",
            cure=f"At most {MAX_UPDATES:,} are made: give fewer epochs, or a larger batch.",
        )
    rate = DEFAULT_LR[settings.optimizer] if settings.lr == "auto" else settings.lr
    hidden = () if settings.hidden == "none" else tuple(settings.hidden)
    if len(hidden) > 6:
        raise OptionError(f"hidden: {len(hidden)} layers are more than can be shown.", cure="Give at most 6.")
    plan = ToyRun(
        _format_sizes(hidden), hidden, settings.activation, settings.optimizer, rate, settings.batch, epochs, settings.weight_decay,
        settings.seed,
    )  # fmt: skip
    match settings.compare:
        case "rates":
            return [replace(plan, lr=lr, label=f"rate {lr:.3g}") for lr in (rate / LR_FACTOR, rate, rate * LR_FACTOR)]
        case "sizes":
            return [replace(plan, hidden=sizes, label=_format_sizes(sizes)) for sizes in _vary_sizes(hidden)]
        case "optimizers":
            others = [name for name in ("sgd", "adam", "momentum") if name != settings.optimizer][:2]
            plans = [replace(plan, optimizer=name, lr=DEFAULT_LR[name]) for name in others] + [plan]
            return [replace(each, label=f"{each.optimizer}, rate {each.lr:.3g}") for each in plans]
    return [plan]


def _vary_sizes(hidden: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Too small, given, too large: one layer of a quarter of the neurons; all layers as wide as can be, or one more."""
    if not hidden:
        raise OptionError("No network is smaller than one without hidden layers.", cure="Give hidden, as 8,8.")
    widest = (64,) * len(hidden)
    return [(hidden[0] // 4,) if hidden[0] >= 4 else (), hidden, widest if widest != hidden else (*widest, 64)]


def _format_sizes(hidden: tuple[int, ...]) -> str:
    """'hidden 8, 8'."""
    return f"hidden {', '.join(map(str, hidden)) or 'none'}"


# --- what is told ----------------------------------------------------------------------------------------------------


def _frame_caption(runs: list[dict[str, Any]], epoch: int) -> str:
    if len(runs) > 1:
        when = f"After epoch {epoch}" if epoch else "Before training"
        return (
            f"{when}, training points right: "
            + "; ".join(f"{run['label']}: {_format_accuracy(run, epoch)}" for run in runs)
            + "."
        )
    (run,) = runs
    if epoch == 0:
        return (
            f"Before training: random weights are right for {_format_accuracy(run, 0)} of the training points. The first "
            f"mini-batch of {len(run['snapshots'][0]['batch'])} is ringed."
        )
    if run["ended"] is not None and epoch >= run["snapshots"][-1]["epoch"]:
        when = f"update {run['ended']}, in epoch {run['snapshots'][-1]['epoch']}"
        return f"Diverged: at {when}, the loss is no finite number any more."
    step = epoch * run["steps_per_epoch"]
    told = f"Epoch {epoch}, update {step}: {_format_accuracy(run, epoch)} of the training points are right"
    told += f", loss {run['curves']['train']['loss'][epoch]:.3g}"
    if "valid" in run["curves"]:
        valid = run["curves"]["valid"]
        told += (
            f"; of the validation points {_format_fraction(valid['accuracy'][epoch])}, loss {valid['loss'][epoch]:.3g}"
        )
    return told + "."


def _format_accuracy(run: dict[str, Any], epoch: int) -> str:
    accuracy = run["curves"]["train"]["accuracy"]
    if run["ended"] is not None and epoch >= run["snapshots"][-1]["epoch"]:
        return "diverged"
    return _format_fraction(accuracy[epoch]) if accuracy else "none"


def _format_fraction(share: float) -> str:
    """A share of points in per cent; only all are 100 %."""
    from ...plots.style import format_percent

    return format_percent(share)


_SPLIT_NAMES = {"train": "training", "valid": "validation", "test": "test"}


def _key_numbers(runs: list[dict[str, Any]]) -> dict[str, str]:
    """Accuracy and loss at the end, in one line for each part, or for each run."""
    if len(runs) > 1:
        return {run["label"]: _describe_outcome(run) for run in runs}
    (run,) = runs
    found = {_SPLIT_NAMES[part]: _last_metrics(run, part) for part in SPLITS if part in run["curves"]}
    if "valid" in run["curves"]:
        best = int(np.argmin(run["curves"]["valid"]["loss"]))
        found["lowest validation loss"] = f"{run['curves']['valid']['loss'][best]:.3g} after epoch {best}"
    found["weights"] = f"{run['parameters']}, {run['label']}"
    found["updates"] = f"{run['steps']} of {run['batch']} points, {run['optimizer']} with rate {run['lr']:.3g}"
    return found


def _last_metrics(run: dict[str, Any], part: str) -> str:
    curve = run["curves"][part]
    return f"{_format_fraction(curve['accuracy'][-1])} right, loss {curve['loss'][-1]:.3g}"


def _describe_outcome(run: dict[str, Any]) -> str:
    told = "; ".join(f"{_SPLIT_NAMES[part]} {_last_metrics(run, part)}" for part in SPLITS if part in run["curves"])
    return told + ("" if run["ended"] is None else f"; then it diverged, at update {run['ended']}")


def _collect_notes(settings: TrainingSettings, runs: list[dict[str, Any]]) -> list[str]:
    notes = []
    for run in runs:
        who = f"{run['label']}: " if len(runs) > 1 else ""
        if run["ended"] is not None:
            notes.append(
                f"{who}the loss became infinite or not a number at update {run['ended']}: the learning rate "
                f"{run['lr']:g} is too large here. What is shown last are the weights before."
            )
        elif run["curves"]["train"]["loss"][-1] >= run["curves"]["train"]["loss"][0]:
            first, *_, last = run["curves"]["train"]["loss"]
            notes.append(
                f"{who}nothing was learned: with the rate {run['lr']:g} the training loss was {first:.3g} before and "
                f"is {last:.3g} at the end."
            )
        elif _is_overfit(run):
            best = int(np.argmin(run["curves"]["valid"]["loss"]))
            notes.append(
                f"{who}overfitting: after epoch {best} the validation loss rose from "
                f"{run['curves']['valid']['loss'][best]:.3g} to {run['curves']['valid']['loss'][-1]:.3g} while the "
                f"training loss fell to {run['curves']['train']['loss'][-1]:.3g}."
            )
        if run["shown"] and sum(run["hidden"]) > sum(map(len, run["shown"])):
            notes.append(
                f"Of a layer at most {fitted.MAX_NEURONS} neurons are drawn, those that matter most at the end."
            )
    if len(runs) > 1 and settings.compare != "sizes":
        notes.append("All three begin with the same weights and see the same mini-batches.")
    return notes


def _is_overfit(run: dict[str, Any]) -> bool:
    """Whether the validation loss ends well above its lowest, while the training loss has fallen since then."""
    if "valid" not in run["curves"]:
        return False
    valid, train = run["curves"]["valid"]["loss"], run["curves"]["train"]["loss"]
    best = int(np.argmin(valid))
    return valid[-1] > 1.2 * valid[best] + 0.02 and train[-1] < train[best] and math.isfinite(valid[-1])
