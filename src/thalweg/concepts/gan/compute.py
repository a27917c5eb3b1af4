"""A generator against a discriminator, on points of the plane and on images: what each sees, and when modes collapse.

Generative adversarial networks: Goodfellow et al. 2014, arXiv:1406.2661. Gaussians on a ring as a test for mode
collapse: Metz et al. 2017, arXiv:1611.02163. R1 as its cure: Mescheder, Geiger and Nowozin 2018, arXiv:1801.04406.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal, TypedDict, Unpack

import numpy as np

from ...config.parsing import Range
from ...errors import OptionError
from ...plots.number_format import format_number
from ...registry import register_concept
from ..base import ConceptResult, Frame, load_text
from .plane import find_modes, make_points, pick_rows
from .players import GanRun, find_snapshot
from .train_images import NUM_SHOWN, ImagesResult, train_images
from .train_points import Plane, PointsResult, train_points

TEXT = load_text(__package__)

#: snapshots of a run
NUM_FRAMES = 9
#: real points that are plotted and recorded
NUM_PLOTTED_POINTS = 400
#: the window around the points, in halves of their extent
MARGIN = 1.3
#: what `auto` means, for points and for images
DEFAULTS = {
    "points": {"steps": 700, "width": 48, "batch_size": 128, "generator_lr": 5e-3, "discriminator_lr": 2e-3},
    "images": {"steps": 240, "width": 16, "batch_size": 32, "generator_lr": 2e-3, "discriminator_lr": 2e-3},
}
#: losses at which the discriminator says 1/2 to everything: its own and the generator's
INITIAL_LOSSES = {
    "logistic": (2 * math.log(2), math.log(2), "2 ln 2 = 1.386 and ln 2 = 0.693"),
    "minimax": (2 * math.log(2), -math.log(2), "2 ln 2 = 1.386 and −ln 2 = −0.693"),
    "relativistic": (math.log(2), math.log(2), "ln 2 = 0.693 each"),
}

Loss = Literal["logistic", "minimax", "hinge", "least_squares", "wasserstein", "relativistic"]


@dataclass(frozen=True)
class GanSettings:
    """Settings. `auto` chooses what suits points, or images."""

    dataset: Annotated[Literal["ring", "grid", "moons", "spirals"], "synthetic points, if no data is given"] = "ring"
    points: Annotated[int, "number of synthetic points", Range(50, 20_000)] = 2000
    noise: Annotated[float, "standard deviation of the noise of synthetic points", Range(0, 1)] = 0.07
    columns: Annotated[Literal["auto"] | list[str], "columns of a table: two numbers, such as x,y"] = "auto"
    loss: Annotated[Loss, "what both networks minimize; minimax saturates"] = "logistic"
    r1: Annotated[float, "weight of the penalty on the gradient at real examples", Range(0, 1000)] = 1.0
    gradient_penalty: Annotated[
        float, "weight of the penalty that wants gradients of length 1, for wasserstein", Range(0, 1000)
    ] = 0.0
    generator_lr: Annotated[float | Literal["auto"], "learning rate of the generator", Range(0, 1)] = "auto"
    discriminator_lr: Annotated[float | Literal["auto"], "learning rate of the discriminator", Range(0, 1)] = "auto"
    generator_steps: Annotated[int, "updates of the generator in a step", Range(1, 20)] = 1
    discriminator_steps: Annotated[int, "updates of the discriminator in a step", Range(1, 20)] = 1
    width: Annotated[int | Literal["auto"], "neurons or filters of a layer", Range(2, 256)] = "auto"
    batch_size: Annotated[int | Literal["auto"], "examples in a step", Range(2, 2048)] = "auto"
    steps: Annotated[int | Literal["auto"], "training steps", Range(1, 20_000)] = "auto"
    seed: Annotated[int, "seed of points, weights, batches and latents", Range(0, 2**31)] = 0


class GanInput(TypedDict, total=False):
    """Data of the user: points (N, 2) and the names of both `axes`, or `images` (N, S, S, C); `title`, `notes`."""

    points: np.ndarray
    axes: Sequence[str]
    images: np.ndarray
    title: str
    notes: Sequence[str]


@register_concept(TEXT, GanSettings, input_kind="points_or_images")
def gan(settings: GanSettings, **inputs: Unpack[GanInput]) -> ConceptResult:
    """Train two networks against each other: on points without and with a penalty, on images once.

    Raises OptionError for settings that contradict the input.
    """
    _check_settings(settings, inputs)
    if "images" in inputs:
        return _explain_images(settings, inputs["images"], inputs)
    return _explain_points(settings, inputs)


def _check_settings(settings: GanSettings, inputs: GanInput) -> None:
    has_data = "points" in inputs or "images" in inputs
    if has_data and settings.dataset != GanSettings.dataset:
        raise OptionError(
            f"dataset: {settings.dataset} and {inputs.get('title', 'data')} exclude each other.",
            cure="Give only one of them.",
            option="dataset",
            value=settings.dataset,
        )
    if "points" not in inputs and settings.columns != GanSettings.columns:
        raise OptionError(
            "columns: there is no table.",
            cure="Give one: thalweg explain gan points.csv",
            option="columns",
            value=settings.columns,
        )


def build_run(settings: GanSettings, kind: str) -> GanRun:
    """Return the run that the settings describe; `kind` is points or images."""

    def choose(name: str) -> Any:
        value = getattr(settings, name)
        if value == "auto":
            return DEFAULTS[kind][name]
        return value

    run = GanRun(
        label="",
        loss=settings.loss,
        r1=settings.r1,
        gradient_penalty=settings.gradient_penalty,
        generator_lr=choose("generator_lr"),
        discriminator_lr=choose("discriminator_lr"),
        generator_steps=settings.generator_steps,
        discriminator_steps=settings.discriminator_steps,
        batch_size=choose("batch_size"),
        steps=choose("steps"),
        seed=settings.seed,
    )
    return replace(run, label=_format_penalty(run))


def choose_snapshot_steps(steps: int) -> list[int]:
    """Return the steps with a snapshot: closer together at the beginning, where most changes."""
    snapshot_steps = set()
    for index in range(NUM_FRAMES):
        snapshot_steps.add(round(steps * (index / (NUM_FRAMES - 1)) ** 1.5))
    return sorted(snapshot_steps)


# --- points -----------------------------------------------------------------------------------------------------------


def _explain_points(settings: GanSettings, inputs: GanInput) -> ConceptResult:
    from .plot_points import plot_points

    plane = _load_plane(settings, inputs)
    run = build_run(settings, "points")
    width = settings.width
    if width == "auto":
        width = int(DEFAULTS["points"]["width"])
    runs = [run]
    if run.has_penalty:
        plain = replace(run, r1=0.0, gradient_penalty=0.0)
        runs = [replace(plain, label=_format_penalty(plain)), run]
    snapshot_steps = choose_snapshot_steps(run.steps)
    results = [train_points(plane, item, width, snapshot_steps) for item in runs]
    rows = pick_rows(len(plane.points_N2), NUM_PLOTTED_POINTS)
    numbers = {
        "kind": "points",
        "dataset": inputs.get("title", settings.dataset),
        "axes": list(inputs.get("axes", ("x1", "x2"))),
        "window": list(plane.window),
        "real": plane.round_points(plane.points_N2[rows]),
        "num_real": len(plane.points_N2),
        "centers": plane.round_points(plane.modes.center_M2),
        "num_modes": len(plane.modes.center_M2),
        "mode": "mode" if plane.modes.is_known else "region",
        "max_gradient": _max_gradient(results),
        "steps": run.steps,
        "runs": results,
    }
    frames = []
    for step in _visible_steps(results, snapshot_steps):
        frames.append(Frame(_points_caption(numbers, step), plot_points, (numbers, step)))
    return ConceptResult(
        {**numbers, "runs": list(map(asdict, results))},
        frames,
        key_numbers=_points_key_numbers(numbers),
        notes=[*inputs.get("notes", ()), *_points_notes(settings, numbers)],
    )


def _load_plane(settings: GanSettings, inputs: GanInput) -> Plane:
    if "points" in inputs:
        points_N2 = inputs["points"]
        modes = find_modes(points_N2)
    else:
        random = np.random.default_rng(settings.seed)
        points_N2, modes = make_points(settings.dataset, settings.points, settings.noise, random)
    low_2 = points_N2.min(0)
    high_2 = points_N2.max(0)
    half_2 = (high_2 - low_2) / 2
    half_2 = np.where(half_2 > 0, half_2, 1.0)
    if "points" not in inputs:
        half_2 = np.full(2, half_2.max())
    left, bottom = ((low_2 + high_2) / 2 - MARGIN * half_2).tolist()
    right, top = ((low_2 + high_2) / 2 + MARGIN * half_2).tolist()
    return Plane(points_N2, (left, right, bottom, top), modes)


def _max_gradient(results: Sequence[PointsResult]) -> float:
    """Return the gradient that gets the longest arrow: of all steps and runs, but for a few outliers."""
    lengths = [np.hypot(*np.array(snapshot["arrows"])[:, 2:].T) for result in results for snapshot in result.snapshots]
    return float(np.quantile(np.concatenate(lengths), 0.98))


def _visible_steps(results: Sequence[PointsResult | ImagesResult], snapshot_steps: Sequence[int]) -> list[int]:
    """Return the steps with a snapshot, up to the last one of any run: runs that diverge end early."""
    last = max(result.snapshots[-1]["step"] for result in results)
    return [step for step in snapshot_steps if step <= last]


def _points_caption(numbers: dict[str, Any], step: int) -> str:
    results: Sequence[PointsResult] = numbers["runs"]
    if step == 0:
        return (
            "Before training: the generator puts all points (orange) into one blob, and the discriminator cannot tell "
            "them from real ones (blue): its map is pale. Arrows: where its gradient pushes generated points."
        )
    parts = [f"{result.run.label}: {format_coverage(numbers, result, step)}" for result in results]
    return f"Step {step}. {'; '.join(parts)}."


def format_coverage(numbers: dict[str, Any], result: PointsResult, step: int) -> str:
    """Format what a run covers at a step: '3 of 8 modes, 25 % of the points near real ones'."""
    if result.diverged_at is not None and step > result.diverged_at:
        return f"diverged at step {result.diverged_at}"
    snapshot = find_snapshot(result, step)
    good = round(100 * snapshot["good_fraction"])
    return f"{snapshot['covered']} of {numbers['num_modes']} {numbers['mode']}s, {good} % of the points near real ones"


def _points_key_numbers(numbers: dict[str, Any]) -> dict[str, str]:
    key_numbers = {}
    for result in numbers["runs"]:
        key_numbers[result.run.label] = format_coverage(numbers, result, numbers["steps"])
    return key_numbers | _loss_key_numbers(numbers["runs"])


def _points_notes(settings: GanSettings, numbers: dict[str, Any]) -> list[str]:
    notes = [
        f"One seed. A {numbers['mode']} is covered where a quarter of the generated points that belong there are near "
        "real ones. Both learning rates fall to zero in the second half."
    ]
    if numbers["mode"] == "region":
        notes.append("These points have no known modes: regions are found by k-means.")
    if settings.loss == "wasserstein" and len(numbers["runs"]) > 1:
        notes.append("Without a penalty the Wasserstein loss has no bound: the logits grow, and with them the loss.")
    return notes


# --- images -----------------------------------------------------------------------------------------------------------


def _explain_images(settings: GanSettings, images_NHWC: np.ndarray, inputs: GanInput) -> ConceptResult:
    from .plot_images import plot_images

    run = build_run(settings, "images")
    width = settings.width
    if width == "auto":
        width = int(DEFAULTS["images"]["width"])
    snapshot_steps = choose_snapshot_steps(run.steps)
    result = train_images(images_NHWC, run, width, snapshot_steps)
    rows = pick_rows(len(images_NHWC), NUM_SHOWN)
    numbers = {
        "kind": "images",
        "dataset": inputs.get("title", "images"),
        "real": images_NHWC[rows].tolist(),
        "num_real": len(images_NHWC),
        "steps": run.steps,
        "runs": [result],
    }
    frames = []
    for step in _visible_steps([result], snapshot_steps):
        frames.append(Frame(_images_caption(numbers, step), plot_images, (numbers, step)))
    return ConceptResult(
        {**numbers, "runs": [asdict(result)]},
        frames,
        key_numbers=_images_key_numbers(numbers),
        notes=[
            *inputs.get("notes", ()),
            f"One seed. A DCGAN of {width} filters, trained for seconds; `thalweg train generate` takes its time.",
        ],
    )


def _images_caption(numbers: dict[str, Any], step: int) -> str:
    if step == 0:
        return (
            "Before training: the generator makes even gray with a little noise. The discriminator has random weights, "
            "so what its gradient wants changed has no meaning yet."
        )
    (result,) = numbers["runs"]
    percent = round(100 * compare_pairs(find_snapshot(result, step)))
    return (
        f"Step {step}: in {percent} % of pairs of a real and a generated image the discriminator finds the real one; "
        "50 % would be chance. Where its gradient is blue, a brighter pixel would look more real to it, where orange "
        "a darker one."
    )


def compare_pairs(snapshot: Any) -> float:
    """Return the fraction of pairs whose real image has the higher logit; equal ones count as half.

    Some losses leave open where zero is, so that only comparisons say something for all of them.
    """
    real_B = np.array(snapshot["real_logits"])
    fake_B = np.array(snapshot["fake_logits"])
    is_higher_BB = np.sign(real_B[:, None] - fake_B[None])
    return float((is_higher_BB.mean() + 1) / 2)


def _images_key_numbers(numbers: dict[str, Any]) -> dict[str, str]:
    (result,) = numbers["runs"]
    snapshot = result.snapshots[-1]
    key_numbers = {
        "logit of real images": format_number(float(np.mean(snapshot["real_logits"])), 3),
        "logit of generated images": format_number(float(np.mean(snapshot["fake_logits"])), 3),
        "pairs in which it finds the real one": f"{round(100 * compare_pairs(snapshot))} %",
    }
    return key_numbers | _loss_key_numbers([result])


# --- words ------------------------------------------------------------------------------------------------------------


def _format_penalty(run: GanRun) -> str:
    """Say what is penalized: 'no penalty', 'R1 penalty 1'."""
    parts = []
    if run.r1:
        parts.append(f"R1 penalty {run.r1:g}")
    if run.gradient_penalty:
        parts.append(f"gradient penalty {run.gradient_penalty:g}")
    return " and ".join(parts) or "no penalty"


def _loss_key_numbers(results: Sequence[PointsResult | ImagesResult]) -> dict[str, str]:
    """Return both losses at the start, with what theory says of them, and at the end."""
    key_numbers = {}
    first = results[0]
    if first.discriminator_loss:
        discriminator = format_number(first.discriminator_loss[0], 4)
        start = f"{discriminator} and {format_number(first.generator_loss[0], 4)}"
        if first.run.loss in INITIAL_LOSSES:
            start += f"; {INITIAL_LOSSES[first.run.loss][2]} where nothing is known"
        key_numbers["losses at the start"] = start
    for result in results:
        if result.diverged_at is not None:
            key_numbers[f"losses, {result.run.label}"] = f"infinite or NaN at step {result.diverged_at}"
            continue
        last = max(1, len(result.discriminator_loss) // 10)
        discriminator = format_number(float(np.mean(result.discriminator_loss[-last:])), 3)
        generator = format_number(float(np.mean(result.generator_loss[-last:])), 3)
        key_numbers[f"losses, {result.run.label}"] = f"{discriminator} and {generator}, mean of the last {last} steps"
    return key_numbers
