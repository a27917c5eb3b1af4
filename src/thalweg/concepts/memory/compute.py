"""How far back a recurrent network remembers: its gradient, and what it learns to recall, against the distance.

Vanishing gradients: Hochreiter 1991; Bengio, Simard and Frasconi 1994, doi:10.1109/72.279181. Chrono initialization:
Tallec and Ollivier 2018, arXiv:1804.11188.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated

import torch

from ...config.parsing import Range
from ...errors import OptionError
from ...plots.number_format import format_number
from ...registry import register_concept
from ..base import ConceptResult, Frame, load_text
from .distance import RecallResult, train_recall
from .gradients import VARIANTS, CellVariant, build_layer, measure_gradients

TEXT = load_text(__package__)

#: a gradient smaller than this relative to the one of the last input is called vanished
VANISHED = 1e-6
#: the inputs are those of the adding problem: a number and a mark
NUM_INPUTS = 2
BATCH_SIZE = 8
#: lags of the table
TABLE_LAGS = (10, 50, 100, 200, 500)
MAX_DISTANCES = 8
#: what was measured at hundreds of steps, which takes minutes
RECIPE_RESULT = (
    "At 600 steps: `thalweg train --recipe adding-600` trains an LSTM with chrono initialization to add two numbers "
    "that lie hundreds of steps apart. Its mean squared error is 0.0029 after 1,000 training steps (three seeds); "
    "whoever remembers nothing has 0.1667."
)
#: a network that answers at least so many sequences correctly remembers
REMEMBERS = 0.95


@dataclass(frozen=True)
class MemorySettings:
    """Settings of both experiments."""

    width: Annotated[int, "neurons of the layer whose gradient is computed", Range(1, 512)] = 128
    length: Annotated[int, "steps of its sequences", Range(16, 2000)] = 512
    memory: Annotated[int, "steps that chrono initialization opens gates for", Range(2, 100_000)] = 512
    distances: Annotated[list[int], "distances at which networks are trained to recall a symbol", Range(1, 1000)] = (
        field(default_factory=lambda: [10, 25, 60])
    )
    steps: Annotated[int, "training steps of each of these networks; 0 trains none", Range(0, 5000)] = 100
    recall_width: Annotated[int, "neurons of each of these networks", Range(1, 256)] = 24
    seed: Annotated[int, "seed of weights and sequences", Range(0, 2**31)] = 0


@dataclass(frozen=True)
class GradientCurve:
    """Gradient of the last state with respect to the input `lag` steps back, relative to lag 0, at initialization.

    `vanishes_at` is the first lag at which it is below a millionth; None where there is no such lag.
    """

    cell: str
    lags: list[int]
    relative: list[float]
    vanishes_at: int | None


@dataclass(frozen=True)
class MemoryNumbers:
    """Everything that is shown."""

    width: int
    length: int
    memory: int
    curves: list[GradientCurve]
    table: dict[str, dict[int, float]]
    distances: list[int]
    recall: list[RecallResult]
    recall_steps: int
    vanished: float = VANISHED


@register_concept(TEXT, MemorySettings)
def memory(settings: MemorySettings) -> ConceptResult:
    """Compute the gradient of six recurrent layers against the lag, and train small ones to recall a symbol.

    Raises OptionError for more than MAX_DISTANCES distances.
    """
    numbers = compute_memory(settings)
    return ConceptResult(
        asdict(numbers),
        _build_frames(numbers),
        key_numbers=_key_numbers(numbers),
        notes=_collect_notes(settings),
    )


def compute_memory(settings: MemorySettings) -> MemoryNumbers:
    """Run both experiments. Raises OptionError for more than MAX_DISTANCES distances."""
    distances = sorted(set(settings.distances))
    if len(distances) > MAX_DISTANCES:
        raise OptionError(
            f"distances: got {len(distances)}; expected at most {MAX_DISTANCES}.",
            cure="Give fewer.",
            option="distances",
            value=distances,
        )
    curves = [compute_curve(variant, settings) for variant in VARIANTS]
    table = {}
    for curve in curves:
        table[curve.cell] = {lag: curve.relative[lag] for lag in TABLE_LAGS if lag < settings.length}
    recall = []
    if settings.steps:
        for variant in VARIANTS:
            for distance in distances:
                recall.append(train_recall(variant, distance, settings.recall_width, settings.steps, settings.seed))
    return MemoryNumbers(
        settings.width, settings.length, settings.memory, curves, table, distances, recall, settings.steps
    )


def compute_curve(variant: CellVariant, settings: MemorySettings) -> GradientCurve:
    """Compute the gradient against the lag, in double precision: it falls below the smallest float32.

    The global random state is left unchanged, and every cell reads the same inputs.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        x_BTC = torch.rand(BATCH_SIZE, settings.length, NUM_INPUTS, dtype=torch.float64)
        direction_BD = torch.randn(BATCH_SIZE, settings.width, dtype=torch.float64)
        layer = build_layer(variant, NUM_INPUTS, settings.width, settings.memory).double()
        gradient_T = measure_gradients(layer, x_BTC, direction_BD)
    relative = (gradient_T / gradient_T[0]).tolist()
    vanished = [lag for lag, value in enumerate(relative) if value < VANISHED]
    return GradientCurve(variant.name, list(range(settings.length)), relative, vanished[0] if vanished else None)


# --- words ------------------------------------------------------------------------------------------------------------


def find_reach(recall: Sequence[RecallResult], cell: str) -> int | None:
    """Return the greatest distance up to which a network recalled the symbol at every distance; None for none."""
    reach = None
    for result in sorted((result for result in recall if result.cell == cell), key=lambda result: result.distance):
        if result.accuracy < REMEMBERS:
            break
        reach = result.distance
    return reach


def _build_frames(numbers: MemoryNumbers) -> list[Frame]:
    """Return a frame per cell, with the curves of those before it, then one with all of them."""
    from .plot import plot_memory

    frames = []
    for index, curve in enumerate(numbers.curves):
        frames.append(Frame(_curve_caption(numbers, curve), plot_memory, (numbers, index)))
    caption = (
        "All six. The steeper the curve on the left, the shorter the distance on the right at which training finds "
        "anything to learn from."
    )
    frames.append(Frame(caption, plot_memory, (numbers, len(numbers.curves))))
    return frames


def _curve_caption(numbers: MemoryNumbers, curve: GradientCurve) -> str:
    lag = min(100, numbers.length - 1)
    text = f"{curve.cell}: an input {lag} steps back moves the last state {_format_factor(curve.relative[lag])}."
    reach = find_reach(numbers.recall, curve.cell)
    if not numbers.recall:
        return text
    if reach is None:
        return f"{text} After {numbers.recall_steps} training steps it recalls a symbol at none of the distances."
    return f"{text} After {numbers.recall_steps} training steps it recalls a symbol up to {reach} steps back."


def _format_factor(relative: float) -> str:
    """Say how much less than the last input: '1/9 as much as the last input', or a power of ten."""
    if relative > 1e-4:
        return f"{format_number(relative, 2)} times as much as the last input does"
    return f"{relative:.0e} times as much as the last input does"


def _key_numbers(numbers: MemoryNumbers) -> dict[str, str]:
    key_numbers = {}
    for curve in numbers.curves:
        values = ", ".join(f"{value:.1e} at {lag}" for lag, value in numbers.table[curve.cell].items())
        key_numbers[f"gradient, {curve.cell}"] = values
    for curve in numbers.curves if numbers.recall else ():
        results = [result for result in numbers.recall if result.cell == curve.cell]
        key_numbers[f"recall, {curve.cell}"] = ", ".join(
            f"{100 * result.accuracy:.0f} % at {result.distance}" for result in results
        )
    return key_numbers


def _collect_notes(settings: MemorySettings) -> list[str]:
    notes = ["One seed. The gradient is that of layers before training; training can open the gates of a GRU or LSTM."]
    if settings.steps:
        notes.append(
            f"The networks of the right panel are small and trained for at most {settings.steps} steps; with more "
            "steps some of them would reach farther. Half of the answers are right by chance."
        )
    return [*notes, RECIPE_RESULT]
