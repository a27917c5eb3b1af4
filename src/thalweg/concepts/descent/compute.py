"""Optimisers side by side on a surface of two numbers, known or the user's own.

Their sources are those of `train.optimizers`, which makes them: SGD (Robbins and Monro 1951), momentum (Polyak 1964),
Nesterov (1983), AdaGrad (Duchi et al. 2011), AdaDelta (Zeiler 2012), RMSProp (Tieleman and Hinton 2012), Adam (Kingma
and Ba 2015), AdamW (Loshchilov and Hutter 2019), Muon (Jordan et al. 2024).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, get_args

from ...config.options import Optimizer, Range, Schedule
from ...engine.config import TrainConfig
from ...errors import NotFoundError, OptionError
from ...registry import register_concept
from ..base import ConceptResult, Frame, load_text
from . import optimizer_paths as downhill
from .test_functions import TEST_FUNCTIONS, TestFunction, from_formula

TEXT = load_text(__package__)

ALL_OPTIMIZERS = get_args(Optimizer)
#: pictures, if there are as many steps
NUM_FRAMES = 25


@dataclass(frozen=True)
class DescentSettings:
    """What can be set; 'auto' is what suits the surface."""

    surface: Annotated[
        Literal["valley", "saddle", "two-basins", "rosenbrock", "beale", "himmelblau", "noisy", "formula"],
        "what to go down on",
    ] = "valley"
    formula: Annotated[str, "a surface of your own, as x**2 + sin(3*y)"] = ""
    optimizers: Annotated[list[str], "names with commas between, or all"] = ("all",)
    start: Annotated[list[float] | Literal["auto"], "where all begin: x,y", Range(-1e6, 1e6)] = "auto"
    lr: Annotated[
        float | list[float] | Literal["auto"], "learning rate, one for all or one for each", Range(0, 1000)
    ] = "auto"
    momentum: Annotated[float, "momentum, and the first beta of Adam", Range(0, 0.999)] = 0.9
    weight_decay: Annotated[float, "pull towards zero of AdamW; the others have none", Range(0, 1)] = 0.05
    schedule: Annotated[Schedule, "how the learning rates go over the steps"] = "constant"
    steps: Annotated[int, "updates of each optimiser", Range(1, 2000)] = 150
    noise: Annotated[float | Literal["auto"], "deviation of the noise on the gradients", Range(0, 1000)] = "auto"
    seed: Annotated[int, "seed of the noise, the same noise for all", Range(0, 2**31)] = 0
    window: Annotated[list[float] | Literal["auto"], "what is shown: left,right,lower,upper", Range(-1e6, 1e6)] = "auto"


@register_concept(TEXT, DescentSettings)
def descent(settings: DescentSettings) -> ConceptResult:
    """The path and the losses of every optimiser from the same start, over the lines of equal loss.

    Raises OptionError for a formula that cannot be read or has no value at the start, for a window or a start that is
    none, and where there are not as many learning rates as optimisers; NotFound for an optimiser that there is not.
    """
    names, surface = _parse_names(settings.optimizers), _apply_settings(_resolve_surface(settings), settings)
    recipes = [
        TrainConfig(
            optimizer=name, lr=rate, momentum=settings.momentum, steps=settings.steps, schedule=settings.schedule,
            warmup_fraction=0.3 if settings.schedule == "one-cycle" else 0.0,
            weight_decay=settings.weight_decay if name == "adamw" else 0.0,
        )
        for name, rate in zip(names, _resolve_lrs(settings, surface, names), strict=True)
    ]  # fmt: skip
    numbers = {
        "surface": surface.title,
        "window": list(surface.window),
        "start": list(surface.start),
        "minima": [list(minimum) for minimum in surface.minima],
        "noise": surface.noise,
        "steps": settings.steps,
        **downhill.sample_grid(surface),
        "optimizers": [downhill.run_optimizer(surface, recipe, settings.seed) for recipe in recipes],
    }
    numbers["logarithmic"] = _spans_magnitudes(numbers)
    from .plot import plot_descent as drawing

    shown = sorted({round(settings.steps * (frame / (NUM_FRAMES - 1)) ** 1.6) for frame in range(NUM_FRAMES)})
    return ConceptResult(
        numbers,
        [Frame(_frame_caption(numbers, step), drawing, (numbers, step)) for step in shown],
        key_numbers={one["name"]: _format_result(one) for one in numbers["optimizers"]},
        notes=_collect_notes(settings, surface, numbers),
    )


# --- what is asked for -----------------------------------------------------------------------------------------------


def _resolve_surface(settings: DescentSettings) -> TestFunction:
    if settings.formula:
        if settings.surface not in ("formula", DescentSettings.surface):
            raise OptionError(
                f"Both the surface {settings.surface} and a formula are given.", cure="Leave one of the two out."
            )
        return from_formula(settings.formula)
    if settings.surface == "formula":
        raise OptionError("There is no formula.", cure="For example: --set formula='x**2 + sin(3*y)'")
    return TEST_FUNCTIONS[settings.surface]


def _parse_names(settings: Sequence[str]) -> list[str]:
    """The optimisers by name, each once. Raises NotFound."""
    for name in settings:
        if name not in (*ALL_OPTIMIZERS, "all"):
            raise NotFoundError.for_unknown("optimizer", name, [*ALL_OPTIMIZERS, "all"])
    return list(ALL_OPTIMIZERS if "all" in settings else dict.fromkeys(settings))


def _apply_settings(surface: TestFunction, settings: DescentSettings) -> TestFunction:
    """The surface with the window, the start and the noise that are asked for."""
    window = surface.window if settings.window == "auto" else _parse_window(settings.window)
    noise = surface.noise if settings.noise == "auto" else settings.noise
    surface = replace(surface, window=window, noise=noise)
    if settings.start == "auto":
        return replace(surface, start=_choose_start(surface))
    x, y = _parse_start(settings.start)
    if not all(map(math.isfinite, surface.at((x, y)))):
        raise OptionError(
            f"start: at ({x:g}, {y:g}) the loss or its slope is no finite number.", cure="Give another start."
        )
    if not _is_inside(window, (x, y)):
        if settings.window != "auto":
            raise OptionError(f"start: ({x:g}, {y:g}) is outside of the window.", cure="Give a wider window.")
        left, right, lower, upper = window
        # a window of ours grows until the start is well inside
        left, right = min(left, x - (right - x) / 8), max(right, x + (x - left) / 8)
        lower, upper = min(lower, y - (upper - y) / 8), max(upper, y + (y - lower) / 8)
        surface = replace(surface, window=(left, right, lower, upper))
    return replace(surface, start=(x, y))


def _is_inside(window: tuple[float, ...], point: tuple[float, float]) -> bool:
    return window[0] <= point[0] <= window[1] and window[2] <= point[1] <= window[3]


def _choose_start(surface: TestFunction) -> tuple[float, float]:
    """The surface's start, or where that is not in the window or has no slope, a place near one of its corners."""
    left, right, lower, upper = surface.window
    near, far = (left + (right - left) * share for share in (0.15, 0.85))
    low, high = (lower + (upper - lower) * share for share in (0.15, 0.85))
    places = [surface.start, (near, high), (far, high), (near, low), (far, low), ((near + far) / 2, (low + high) / 2)]
    for place in places:
        if _is_inside(surface.window, place) and all(map(math.isfinite, surface.at(place))):
            return place
    raise OptionError(
        "Nowhere that was tried has the surface a finite loss and slope.",
        cure="Give a start where it has: --set start=x,y",
    )


def _parse_window(given: list[float]) -> tuple[float, ...]:
    if len(given) == 4:
        left, right, lower, upper = given
        # narrower than this the numbers of the axes cannot be told apart
        if right - left > 1e-6 * max(map(abs, (left, right, 1e-3))):
            if upper - lower > 1e-6 * max(map(abs, (lower, upper, 1e-3))):
                return left, right, lower, upper
    raise OptionError(
        f"window: {','.join(f'{edge:g}' for edge in given)} is none.", cure="Give left,right,lower,upper, as -3,3,-2,2."
    )


def _parse_start(given: list[float]) -> tuple[float, ...]:
    if len(given) != 2:
        raise OptionError(f"start: a point has 2 numbers, not {len(given)}.", cure="Give x,y, as -2,1.5.")
    return tuple(given)


def _resolve_lrs(settings: DescentSettings, surface: TestFunction, names: Sequence[str]) -> list[float]:
    if settings.lr == "auto":
        return downhill.default_lrs(surface, names)
    if isinstance(settings.lr, float):
        return [settings.lr] * len(names)
    if len(settings.lr) != len(names):
        raise OptionError(
            f"There are {len(settings.lr)} learning rates for {len(names)} optimisers.",
            cure="Give one for all, or one for each in their order: " + ", ".join(names) + ".",
        )
    return list(settings.lr)


# --- what is told ----------------------------------------------------------------------------------------------------


def _spans_magnitudes(numbers: dict[str, Any]) -> bool:
    """Whether losses are drawn by magnitude: none is below zero, and they differ by more than a hundred times."""
    lowest = min(min(one["losses"]) for one in numbers["optimizers"])
    first = numbers["optimizers"][0]["losses"][0]
    return numbers["lowest"] >= 0 and lowest >= 0 and first > 0 and lowest < first / 100


def _format_result(one: dict[str, Any]) -> str:
    x, y = one["path"][-1]
    ends = f"; then it {_END_REASONS[one['ended']]}" if one["ended"] else ""
    return f"loss {one['losses'][-1]:.3g} at ({x:.3g}, {y:.3g}), learning rate {one['rate']:.3g}{ends}"


#: why a path ends
_END_REASONS = {"not finite": "has no finite loss or slope", "far": "is too far away: it diverged"}


def _frame_caption(numbers: dict[str, Any], step: int) -> str:
    if step == 0:
        x, y = numbers["start"]
        loss = numbers["optimizers"][0]["losses"][0]
        return f"All start at ({x:g}, {y:g}), where the loss is {loss:.4g}; the arrows point straight downhill."
    going = [one for one in numbers["optimizers"] if step < len(one["losses"])]
    gone = ", ".join(one["label"] for one in numbers["optimizers"] if step >= len(one["losses"]))
    told = f"Step {step}: "
    if going:
        ranked = sorted(going, key=lambda one: one["losses"][step])
        told += f"{ranked[0]['label']} is lowest with a loss of {ranked[0]['losses'][step]:.3g}"
        if len(ranked) > 1:
            told += f", {ranked[-1]['label']} highest with {ranked[-1]['losses'][step]:.3g}"
        told += "; " if gone else ""
    return told + (f"ended before: {gone}" if gone else "") + "."


def _collect_notes(settings: DescentSettings, surface: TestFunction, numbers: dict[str, Any]) -> list[str]:
    notes = []
    if numbers["undefined"]:
        notes.append(f"In {numbers['undefined']:.1%} of the window the surface has no finite value; that part is grey.")
    for one in numbers["optimizers"]:
        if one["ended"]:
            notes.append(f"{one['label']} ends at step {len(one['losses']) - 1}; then it {_END_REASONS[one['ended']]}.")
    left = [
        f"{one['label']} from step {one['left']}" + ("" if one["outside"] else ", and back")
        for one in numbers["optimizers"]
        if one["left"] is not None
    ]
    if left:
        notes.append(f"Outside of the window paths are not shown: {'; '.join(left)}.")
    if settings.lr == "auto":
        notes.append("The learning rates are rules of thumb for this surface and not the best for each optimiser.")
    if surface.noise:
        notes.append(f"Noise of deviation {surface.noise:g} is added to each slope, the same for every optimiser.")
    return notes
