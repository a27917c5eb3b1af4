"""Optimizers side by side on a loss surface of two parameters: a test function or the user's own formula.

The optimizers are those of `engine.optimizers`: SGD (Robbins and Monro 1951), momentum (Polyak 1964), Nesterov (1983),
AdaGrad (Duchi et al. 2011), AdaDelta (Zeiler 2012), RMSProp (Tieleman and Hinton 2012), Adam (Kingma and Ba 2015),
AdamW (Loshchilov and Hutter 2019), Muon (Jordan et al. 2024).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Literal, get_args

from ...config.options import Optimizer, Range, Schedule
from ...engine.config import TrainConfig
from ...errors import NotFoundError, OptionError
from ...registry import register_concept
from ..base import ConceptResult, Frame, load_text
from .optimizer_paths import LossGrid, OptimizerPath, default_lrs, run_optimizer, sample_grid
from .records import DescentRecord
from .test_functions import TEST_FUNCTIONS, TestFunction, Window, from_formula

TEXT = load_text(__package__)

ALL_OPTIMIZERS: tuple[str, ...] = get_args(Optimizer)
#: frames, if there are enough steps
NUM_FRAMES = 25
_STOP_REASONS = {"not finite": "loss or gradient are not finite", "diverged": "it diverged, far from the window"}


@dataclass(frozen=True)
class DescentSettings:
    """Settings. `auto` chooses a value that suits the surface."""

    surface: Annotated[
        Literal["valley", "saddle", "two-basins", "rosenbrock", "beale", "himmelblau", "noisy", "formula"],
        "test function to minimize",
    ] = "valley"
    formula: Annotated[str, "a formula of x and y to minimize, such as x**2 + sin(3*y)"] = ""
    optimizers: Annotated[list[str], "comma-separated names, or all"] = field(default_factory=lambda: ["all"])
    start: Annotated[list[float] | Literal["auto"], "start point of all optimizers: x,y", Range(-1e6, 1e6)] = "auto"
    lr: Annotated[
        float | list[float] | Literal["auto"], "learning rate: one for all, or one per optimizer", Range(0, 1000)
    ] = "auto"
    momentum: Annotated[float, "momentum, and beta1 of Adam", Range(0, 0.999)] = 0.9
    weight_decay: Annotated[float, "weight decay of AdamW; the others have none", Range(0, 1)] = 0.05
    schedule: Annotated[Schedule, "learning-rate schedule"] = "constant"
    steps: Annotated[int, "steps of each optimizer", Range(1, 2000)] = 150
    noise: Annotated[
        float | Literal["auto"], "standard deviation of Gaussian noise on the gradients", Range(0, 1000)
    ] = "auto"
    seed: Annotated[int, "seed of the noise, the same for all optimizers", Range(0, 2**31)] = 0
    window: Annotated[list[float] | Literal["auto"], "visible region: left,right,bottom,top", Range(-1e6, 1e6)] = "auto"


@register_concept(TEXT, DescentSettings)
def descent(settings: DescentSettings) -> ConceptResult:
    """Run every optimizer from the same start point on a loss surface.

    Raises:
        OptionError: an invalid formula, window or start point, or a wrong number of learning rates.
        NotFoundError: an unknown optimizer.
    """
    names = _parse_optimizers(settings.optimizers)
    surface = _apply_settings(_resolve_surface(settings), settings)
    paths = []
    for name, lr in zip(names, _resolve_lrs(settings, surface, names), strict=True):
        config = TrainConfig(
            optimizer=name, lr=lr, momentum=settings.momentum, steps=settings.steps, schedule=settings.schedule
        )
        if settings.schedule == "one-cycle":
            config = replace(config, warmup_fraction=0.3)
        if name == "adamw":
            config = replace(config, weight_decay=settings.weight_decay)
        paths.append(run_optimizer(surface, config, settings.seed))
    grid = sample_grid(surface)
    record = DescentRecord(
        surface=surface.title,
        window=list(surface.window),
        start=list(surface.start),
        minima=list(map(list, surface.minima)),
        noise=surface.noise,
        steps=settings.steps,
        log_scale=_needs_log_scale(grid, paths),
        grid=grid,
        optimizers=paths,
    )
    return ConceptResult(
        asdict(record),
        _build_frames(record),
        key_numbers={path.name: _format_result(path) for path in paths},
        notes=_collect_notes(settings, record),
    )


# --- settings ---------------------------------------------------------------------------------------------------------


def _resolve_surface(settings: DescentSettings) -> TestFunction:
    if settings.formula:
        if settings.surface not in ("formula", DescentSettings.surface):
            raise OptionError(
                f"surface: {settings.surface} and a formula exclude each other.",
                cure="Give only one of them.",
                option="surface",
                value=settings.surface,
            )
        return from_formula(settings.formula)
    if settings.surface == "formula":
        raise OptionError(
            "formula: surface=formula needs a formula.",
            cure="For example: --set formula='x**2 + sin(3*y)'",
            option="formula",
            value="",
        )
    return TEST_FUNCTIONS[settings.surface]


def _parse_optimizers(requested: Sequence[str]) -> list[str]:
    """Return the names of the optimizers without duplicates. Raises NotFoundError."""
    for name in requested:
        if name not in (*ALL_OPTIMIZERS, "all"):
            raise NotFoundError.for_unknown("optimizer", name, [*ALL_OPTIMIZERS, "all"])
    if "all" in requested:
        return list(ALL_OPTIMIZERS)
    return list(dict.fromkeys(requested))


def _apply_settings(surface: TestFunction, settings: DescentSettings) -> TestFunction:
    """Return the surface with the window, the start point and the noise of the settings."""
    if settings.window != "auto":
        surface = replace(surface, window=_parse_window(settings.window))
    if settings.noise != "auto":
        surface = replace(surface, noise=settings.noise)
    if settings.start == "auto":
        return replace(surface, start=_choose_start(surface))
    start = _parse_start(surface, settings.start)
    if not _is_inside(surface.window, start):
        if settings.window != "auto":
            raise OptionError(
                f"start: {_format_point(start)} is outside of the window.",
                cure="Give a larger window.",
                option="start",
                value=list(start),
            )
        surface = replace(surface, window=_extend_window(surface.window, start))
    return replace(surface, start=start)


def _parse_window(values: list[float]) -> Window:
    if len(values) == 4:
        left, right, bottom, top = values
        # in a narrower window the tick labels would be equal
        is_wide = right - left > 1e-6 * max(map(abs, (left, right, 1e-3)))
        is_high = top - bottom > 1e-6 * max(map(abs, (bottom, top, 1e-3)))
        if is_wide and is_high:
            return left, right, bottom, top
    edges = [f"{edge:g}" for edge in values]
    raise OptionError(
        f"window: {','.join(edges)}; expected left,right,bottom,top.",
        cure="For example: --set window=-3,3,-2,2",
        option="window",
        value=list(values),
    )


def _parse_start(surface: TestFunction, values: list[float]) -> tuple[float, float]:
    if len(values) != 2:
        raise OptionError(
            f"start: got {len(values)} numbers; expected 2.",
            cure="Give x,y, such as -2,1.5.",
            option="start",
            value=list(values),
        )
    x, y = values
    if not all(map(math.isfinite, surface.evaluate_at((x, y)))):
        raise OptionError(
            f"start: loss or gradient are not finite at {_format_point((x, y))}.",
            cure="Give another start point.",
            option="start",
            value=[x, y],
        )
    return x, y


def _is_inside(window: Window, point: tuple[float, float]) -> bool:
    left, right, bottom, top = window
    x, y = point
    return left <= x <= right and bottom <= y <= top


def _extend_window(window: Window, point: tuple[float, float]) -> Window:
    """Extend the window so that `point` is well inside."""
    left, right, bottom, top = window
    x, y = point
    new_left = min(left, x - (right - x) / 8)
    new_right = max(right, x + (x - left) / 8)
    new_bottom = min(bottom, y - (top - y) / 8)
    new_top = max(top, y + (y - bottom) / 8)
    return new_left, new_right, new_bottom, new_top


def _choose_start(surface: TestFunction) -> tuple[float, float]:
    """Return the surface's own start point, or else the first candidate with finite loss and gradient."""
    left, right, bottom, top = surface.window
    x_low = left + (right - left) * 0.15
    x_high = left + (right - left) * 0.85
    y_low = bottom + (top - bottom) * 0.15
    y_high = bottom + (top - bottom) * 0.85
    center = ((x_low + x_high) / 2, (y_low + y_high) / 2)
    candidates = [surface.start, (x_low, y_high), (x_high, y_high), (x_low, y_low), (x_high, y_low), center]
    for point in candidates:
        if _is_inside(surface.window, point) and all(map(math.isfinite, surface.evaluate_at(point))):
            return point
    raise OptionError(
        "start: no start point found with a finite loss and gradient.",
        cure="Give one: --set start=x,y",
        option="start",
        value="auto",
    )


def _resolve_lrs(settings: DescentSettings, surface: TestFunction, names: Sequence[str]) -> list[float]:
    lr = settings.lr
    if isinstance(lr, str):
        return default_lrs(surface, names)
    if not isinstance(lr, list | tuple):
        return [lr] * len(names)
    if len(lr) != len(names):
        raise OptionError(
            f"lr: got {len(lr)} learning rates for {len(names)} optimizers.",
            cure=f"Give one for all, or one each for {', '.join(names)}.",
            option="lr",
            value=list(lr),
        )
    return list(lr)


# --- results ----------------------------------------------------------------------------------------------------------


def _needs_log_scale(grid: LossGrid, paths: Sequence[OptimizerPath]) -> bool:
    """Return whether no loss is negative and some path reduces the loss more than a hundredfold."""
    min_loss = min(min(path.losses) for path in paths)
    first = paths[0].losses[0]
    return grid.min_loss >= 0 and min_loss >= 0 and first > 0 and min_loss < first / 100


def _build_frames(record: DescentRecord) -> list[Frame]:
    """Return frames for steps that are close together at the beginning, where most happens."""
    from .plot import plot_descent

    steps = set()
    for i in range(NUM_FRAMES):
        steps.add(round(record.steps * (i / (NUM_FRAMES - 1)) ** 1.6))
    frames = []
    for step in sorted(steps):
        frames.append(Frame(_frame_caption(record, step), plot_descent, (record, step)))
    return frames


def _frame_caption(record: DescentRecord, step: int) -> str:
    if step == 0:
        loss = record.optimizers[0].losses[0]
        x, y = record.start
        return (
            f"All optimizers start at {_format_point((x, y))} with a loss of {loss:.4g}; "
            "arrows show the direction of steepest descent."
        )
    running = []
    stopped = []
    for path in record.optimizers:
        if step < len(path.losses):
            running.append(path)
        else:
            stopped.append(path.label)
    parts = []
    if running:
        ranked = sorted(running, key=lambda path: path.losses[step])
        text = f"{ranked[0].label} has the lowest loss, {ranked[0].losses[step]:.3g}"
        if len(ranked) > 1:
            text += f", {ranked[-1].label} the highest, {ranked[-1].losses[step]:.3g}"
        parts.append(text)
    if stopped:
        parts.append(f"stopped before: {', '.join(stopped)}")
    return f"Step {step}: {'; '.join(parts)}."


def _format_point(point: tuple[float, float]) -> str:
    return f"({point[0]:g}, {point[1]:g})"


def _format_result(path: OptimizerPath) -> str:
    x, y = path.path[-1]
    text = f"loss {path.losses[-1]:.3g} at ({x:.3g}, {y:.3g}), learning rate {path.lr:.3g}"
    if path.stop_reason:
        text += f"; then {_STOP_REASONS[path.stop_reason]}"
    return text


def _collect_notes(settings: DescentSettings, record: DescentRecord) -> list[str]:
    notes = []
    if record.grid.undefined_fraction:
        notes.append(f"The loss is not finite in {record.grid.undefined_fraction:.1%} of the window (gray).")
    for path in record.optimizers:
        if path.stop_reason:
            notes.append(f"{path.label} stops at step {len(path.losses) - 1}; then {_STOP_REASONS[path.stop_reason]}.")
    outside = []
    for path in record.optimizers:
        if path.left_window_at is not None:
            text = f"{path.label} from step {path.left_window_at}"
            if not path.ends_outside:
                text += ", and returns"
            outside.append(text)
    if outside:
        notes.append(f"Paths outside of the window are not visible: {'; '.join(outside)}.")
    if settings.lr == "auto":
        notes.append("The learning rates are rules of thumb for this surface, not the best for each optimizer.")
    if record.noise:
        notes.append(
            f"Gaussian noise with standard deviation {record.noise:g} is added to both partial derivatives, "
            "the same for every optimizer."
        )
    return notes
