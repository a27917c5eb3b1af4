"""Parts of the task `edit`: axes by name, the loss that trains them, and measured changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.latents.dataset import LatentDataset, LatentSplit
from ..metrics.editing import drift, effect, leakage, monotonicity
from ..models.edit.fit_axes import Axes, factorized_directions, fit_axes, principal_directions
from ..models.edit.linear_axes import LinearAxes
from ..models.edit.measure_images import measure_images
from ..objectives.base import Batch, Loss
from ..plots.editing import plot_effects, plot_requested_measured
from ..predictions.image_strips import ImageStrips
from .base import EvalResult, Plot
from .edit_spec import EditSpec, Method
from .generate_metrics import FeatureNetwork
from .generate_sampling import draw_latents, to_bytes

#: requested changes that are measured, and those by which effect and leakage are judged
STEPS = np.array([-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0])
MAX_JUDGED_STEP = 2
#: largest change of a training example, and the seed of all
MAX_TRAINED_STEP = 2.5
CHANGE_SEED = 7
#: rows of a strip of the report, and most strips
NUM_STRIP_ROWS = 5
MAX_STRIPS = 12

# B images, N latents, K axes, A attributes, T steps, W numbers in a style


@dataclass(frozen=True)
class NamedAxes:
    """Axes, their names, and the attribute that each moves most."""

    axes: Axes
    names: list[str]
    targets: list[int]


def standardize(split: LatentSplit) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of each attribute."""
    return split.value_NA.mean(0, dtype=np.float64).tolist(), split.value_NA.std(0, dtype=np.float64).tolist()


def find_axes(dataset: LatentDataset, method: Method, count: int) -> NamedAxes:
    """Find axes in closed form; those found without attributes are named by what they move most.

    Raises OptionError where the generator has no layer for `sefa`.
    """
    style_NW = torch.from_numpy(dataset.train.style_NW)
    mean, scale = standardize(dataset.train)
    value_NA = (torch.from_numpy(dataset.train.value_NA) - torch.tensor(mean)) / torch.tensor(scale)
    if method == "supervised":
        return NamedAxes(fit_axes(style_NW, value_NA), list(dataset.attributes), list(range(len(dataset.attributes))))
    generator = dataset.source.generator
    count = min(count, style_NW.shape[1])
    if method == "pca":
        direction_KW = principal_directions(style_NW, count)
    else:
        device = next(generator.parameters()).device
        direction_KW = factorized_directions(generator, style_NW.to(device), count).cpu()
    change_KA = _mean_changes(dataset, direction_KW) / np.array(scale)
    targets = np.abs(change_KA).argmax(1)
    sign_K = np.where(change_KA[np.arange(len(targets)), targets] < 0, -1.0, 1.0)
    direction_KW = direction_KW * torch.from_numpy(sign_K).float()[:, None]
    names = [f"{method}{k + 1}-{dataset.attributes[target]}" for k, target in enumerate(targets)]
    return NamedAxes(fit_axes(style_NW, value_NA, direction_KW), names, targets.tolist())


def _mean_changes(dataset: LatentDataset, direction_KW: Tensor) -> np.ndarray:
    """Return half the mean difference (K, A) of attributes between one step forward and one back."""
    generator = dataset.source.generator
    device = next(generator.parameters()).device
    style_NW = torch.from_numpy(dataset.val.style_NW).to(device)

    def synthesize(style_BW: Tensor) -> Tensor:
        return generator.synthesize(generator.repeat_style(style_BW))

    rows = []
    for direction_W in direction_KW.to(device):
        forward_NA = measure_images(synthesize, dataset.train.reader, style_NW + direction_W)
        back_NA = measure_images(synthesize, dataset.train.reader, style_NW - direction_W)
        rows.append((forward_NA - back_NA).mean(0) / 2)
    return np.stack(rows)


def draw_changes(count: int, num_axes: int) -> Tensor:
    """Draw the requested change (N, K) of each training example: one axis, by up to 2.5 standard deviations."""
    stream = torch.Generator().manual_seed(CHANGE_SEED)
    axis_N = torch.randint(num_axes, (count,), generator=stream)
    step_N = (2 * torch.rand(count, generator=stream) - 1) * MAX_TRAINED_STEP
    return F.one_hot(axis_N, num_axes).float() * step_N[:, None]


def build_criterion(spec: EditSpec, reader: nn.Module, device: torch.device) -> Callable[[LinearAxes, Batch], Loss]:
    """Build the loss: attributes of edited images against the values before, plus the change that was requested.

    Its minimum over the lengths of the axes would be too short, as of every regression with noise. Their gradient is
    therefore the error of the mean effect, whose root is an effect of 1 (Robbins and Monro 1951).
    """
    mean_A = torch.tensor(spec.means, device=device)
    scale_A = torch.tensor(spec.scales, device=device)
    target_KA = F.one_hot(torch.tensor(spec.targets), len(spec.attributes)).float().to(device)
    mean_square = MAX_TRAINED_STEP**2 / 3

    def criterion(model: LinearAxes, batch: Batch) -> Loss:
        style_BW = model.edit_style(batch["style"], batch["change"], model.length_K.detach())
        value_BA = (reader(model.synthesize(style_BW)) - mean_A) / scale_A
        goal_BA = (batch["value"] - mean_A) / scale_A + batch["change"] @ target_KA
        mean = F.smooth_l1_loss(value_BA, goal_BA, reduction="none").sum(1).mean()
        # (B, K): the error of each image's effect on the axis that it was changed along, 0 for the other axes
        error_BK = ((value_BA - goal_BA).detach() @ target_KA.T) * batch["change"] / mean_square
        calibration = (error_BK.mean(0) * model.length_K).sum()
        return Loss(mean + calibration - calibration.detach(), len(value_BA))

    return criterion


@dataclass(frozen=True)
class Changes:
    """Measured changes (K, T, N, A) in standard deviations by the requested `step_T`."""

    step_T: np.ndarray
    change_KTNA: np.ndarray

    def slopes(self) -> np.ndarray:
        """Return the mean change (K, A) of each attribute per step, by least squares through 0 over judged steps."""
        is_judged_T = np.abs(self.step_T) <= MAX_JUDGED_STEP
        step_T = self.step_T[is_judged_T]
        return np.einsum("t,kta->ka", step_T, self.change_KTNA.mean(2)[:, is_judged_T]) / np.square(step_T).sum()

    def summarize(self, axis: int, target: int) -> dict[str, float]:
        """Return the figures of one axis."""
        judged_T = (self.step_T != 0) & (np.abs(self.step_T) <= MAX_JUDGED_STEP)
        change_TNA = self.change_KTNA[axis][judged_T]
        step_T = self.step_T[judged_T]
        return {
            "effect": effect(change_TNA[..., target], step_T),
            "leakage": leakage(change_TNA, step_T, target),
            "mean_leakage": drift(change_TNA, step_T, target),
            "monotonicity": monotonicity(self.change_KTNA[axis, ..., target], self.step_T),
        }


@dataclass(frozen=True)
class Evidence:
    """What the report draws from: the changes along the axes, along those before orthogonalization, and the split."""

    changes: Changes
    raw: Changes
    split: LatentSplit


def measure_changes(
    model: LinearAxes, split: LatentSplit, spec: EditSpec, step_T: np.ndarray, direction_KW: Tensor | None = None
) -> Changes:
    """Measure what each axis of a model in evaluation mode changes, or what other directions change."""
    device = next(model.parameters()).device
    style_NW = torch.from_numpy(split.style_NW).to(device)
    reader = split.reader.to(device)
    scale_A = np.array(spec.scales)

    def synthesize(style_BW: Tensor, change_BK: Tensor) -> Tensor:
        if direction_KW is None:
            return model(style_BW, change_BK)
        return model.synthesize(model.add(style_BW, change_BK @ direction_KW))

    num_axes = len(spec.axes)
    before_NA = measure_images(model.synthesize, reader, style_NW)
    change_KTNA = np.zeros((num_axes, len(step_T), *before_NA.shape))
    for axis in range(num_axes):
        for index, step in enumerate(step_T):
            if step == 0:
                continue
            change_NK = torch.zeros(len(style_NW), num_axes, device=device)
            change_NK[:, axis] = float(step)
            after_NA = measure_images(synthesize, reader, style_NW, change_NK)
            change_KTNA[axis, index] = (after_NA - before_NA) / scale_A
    return Changes(step_T, change_KTNA)


@torch.no_grad()
def draw_rows(model: LinearAxes, style_NW: Tensor, axes: Sequence[int]) -> np.ndarray:
    """Return images (R, T, H, W, C) uint8: each style changed along its axis, from -3 to +3."""
    style_NW = style_NW.to(model.center_W.device)
    rows = []
    for style_W, axis in zip(style_NW, axes, strict=True):
        change_TK = torch.zeros(len(STEPS), len(model.length_K), device=style_NW.device)
        change_TK[:, axis] = torch.from_numpy(STEPS).float().to(style_NW.device)
        rows.append(to_bytes(model(style_W.expand(len(STEPS), -1), change_TK)))
    return np.stack(rows)


def draw_sweep(
    model: LinearAxes, style_1W: Tensor, spec: EditSpec, source: str, seed: int | None = None
) -> ImageStrips:
    """Change one image along each axis, a row each."""
    count = len(spec.axes)
    rows = draw_rows(model, style_1W.expand(count, -1), range(count))
    return ImageStrips(source, rows, spec.axes, STEPS.tolist(), seed)


def draw_strip(model: LinearAxes, style_NW: Tensor, axis: int, source: str, row_names: Sequence[str]) -> ImageStrips:
    """Change several images along one axis, a row each."""
    rows = draw_rows(model, style_NW, [axis] * len(style_NW))
    return ImageStrips(source, rows, row_names, STEPS.tolist())


def draw_style(model: LinearAxes, seed: int) -> Tensor:
    """Return the style (1, W) of a seed; of a conditional generator, classes take turns."""
    generator = model.generator
    device = model.center_W.device
    latent_1L = draw_latents(seed, 1, generator.latent_dim).to(device)
    label_1 = torch.tensor([seed % generator.num_classes], device=device) if generator.num_classes else None
    return generator.map_latent(latent_1L, label_1)


def evaluate_axes(
    model: LinearAxes, split: LatentSplit, spec: EditSpec, network: FeatureNetwork | None = None
) -> EvalResult:
    """Measure how attributes follow requested changes.

    Args:
        model: The editor, in evaluation mode.
        split: Latents.
        spec: Its axes.
        network: By whose features the drift of identity is measured; None for a short evaluation without details.

    Returns:
        Means over the axes as metrics; figures by axis, and of the axes before training, as details.
    """
    changes = measure_changes(model, split, spec, STEPS)
    by_axis: dict[str, dict[str, Any]] = {}
    for index, (name, target) in enumerate(zip(spec.axes, spec.targets, strict=True)):
        by_axis[name] = {"attribute": spec.attributes[target], **changes.summarize(index, target)}
    evidence = None
    if network is not None:
        judged_T = STEPS[(STEPS != 0) & (np.abs(STEPS) <= MAX_JUDGED_STEP)]
        raw = measure_changes(model, split, spec, judged_T, model.raw_KW)
        orthogonal = measure_changes(model, split, spec, judged_T, model.orthogonal_KW)
        drifts = measure_identity(model, split, spec, network)
        for index, (figures, target) in enumerate(zip(by_axis.values(), spec.targets, strict=True)):
            figures["leakage_before_training"] = orthogonal.summarize(index, target)["leakage"]
            figures["leakage_before_orthogonalization"] = raw.summarize(index, target)["leakage"]
            figures["identity_drift"] = drifts[index]
        evidence = Evidence(changes, raw, split)
    metrics = {}
    for name in ("leakage", "effect", "monotonicity", "identity_drift"):
        values = [figures[name] for figures in by_axis.values() if figures.get(name) is not None]
        metrics[name] = float(np.mean(values)) if values else None
    details = {"axes": by_axis, "readout_r2": readout_r2(model, split, spec), "latents": len(split)}
    style_1W = torch.from_numpy(split.style_NW[:1])
    return EvalResult(metrics, details, evidence, (draw_sweep(model, style_1W, spec, "samples"),))


def measure_identity(
    model: LinearAxes, split: LatentSplit, spec: EditSpec, network: FeatureNetwork
) -> list[float | None]:
    """Return for each axis how far +1 moves features of a network, relative to the distance of two images."""
    if len(split) < 2:
        return [None] * len(spec.axes)
    device = next(model.parameters()).device
    style_NW = torch.from_numpy(split.style_NW).to(device)

    def describe(image_BCHW: Tensor) -> Tensor:
        return torch.from_numpy(network.extract(to_bytes(image_BCHW)))

    def extract(change_NK: Tensor) -> np.ndarray:
        return measure_images(model, describe, style_NW, change_NK)

    before_ND = extract(torch.zeros(len(style_NW), len(spec.axes), device=device))
    distance = np.linalg.norm(before_ND - np.roll(before_ND, 1, 0), axis=1).mean()
    results: list[float | None] = []
    for axis in range(len(spec.axes)):
        change_NK = torch.zeros(len(style_NW), len(spec.axes), device=device)
        change_NK[:, axis] = 1.0
        moved = np.linalg.norm(extract(change_NK) - before_ND, axis=1).mean()
        results.append(float(moved / max(distance, 1e-12)))
    return results


def readout_r2(model: LinearAxes, split: LatentSplit, spec: EditSpec) -> dict[str, float]:
    """Return how much of each attribute's variance the linear read-out of styles predicts, on this split."""
    value_NA = (split.value_NA - np.array(spec.means)) / np.array(spec.scales)
    centered_NW = split.style_NW - model.center_W.cpu().numpy()
    error_NA = centered_NW @ model.readout_AW.cpu().numpy().T - value_NA
    r2_A = 1 - np.square(error_NA).mean(0) / np.maximum(value_NA.var(0), 1e-12)
    return dict(zip(spec.attributes, r2_A.tolist(), strict=True))


def draw_plots(model: LinearAxes, train: LatentSplit, spec: EditSpec, evidence: Evidence) -> list[Plot]:
    """Draw requested against measured changes, what each axis moves before and after, and strips of images."""
    changes = evidence.changes
    tables = [correlate(train), evidence.raw.slopes(), changes.slopes()]
    titles = ["Correlation of attributes", "Moved by axes, before", "Moved by axes, after"]
    effects = plot_effects(tables, titles, [spec.attributes, spec.axes, spec.axes], spec.attributes)
    follow = plot_requested_measured(changes.step_T, changes.change_KTNA.mean(2), spec.targets, spec.axes)
    plots = [
        Plot("changes", "Requested and measured change", "Means over the images of the test split.", follow),
        Plot("axes", "What each axis moves", "Per +1: before orthogonalization and training, and after.", effects),
    ]
    style_NW = torch.from_numpy(evidence.split.style_NW[:NUM_STRIP_ROWS])
    row_names = evidence.split.names(range(len(style_NW)))
    for axis, name in enumerate(spec.axes[:MAX_STRIPS]):
        strips = draw_strip(model, style_NW, axis, name, row_names)
        plots.append(Plot(f"strip-{axis + 1}", f"{name}, from -3 to +3", "One image per row.", strips.draw()))
    return plots


def correlate(split: LatentSplit) -> np.ndarray:
    """Return the correlations (A, A) of the attributes of unedited images."""
    return np.corrcoef(split.value_NA.T).reshape(split.value_NA.shape[1], -1)
