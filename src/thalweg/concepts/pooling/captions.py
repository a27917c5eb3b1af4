"""Pooling in words: the frames with their captions, the key numbers, and warnings."""

from __future__ import annotations

from ...errors import pluralize
from ...plots.number_format import format_number
from ..base import Frame
from .plot import format_shape, plot_before_after, plot_shift_sensitivity, plot_window
from .records import PoolingNumbers, PoolStep


def build_frames(numbers: PoolingNumbers) -> list[Frame]:
    """Return the frames: every window of the crop, the full output, and the shift sensitivity."""
    frames = []
    for index, step in enumerate(numbers["crop"]["steps"]):
        frames.append(Frame(_describe_step(numbers, step), plot_window, (numbers, index)))
    frames.append(Frame(_describe_output(numbers), plot_before_after, (numbers,)))
    if numbers["shift"]:
        changes = []
        for kind, values in numbers["shift"]["change"].items():
            changes.append(f"{kind} {_format_change(values[1])}")
        caption = f"Relative change after a shift by one pixel: {'; '.join(changes)}."
        frames.append(Frame(caption, plot_shift_sensitivity, (numbers,)))
    return frames


def _describe_output(numbers: PoolingNumbers) -> str:
    sizes = numbers["sizes"]
    text = f"Pooling turns {format_shape(sizes['image'])} pixels into {format_shape(sizes['output'])} values."
    if "max" in numbers["kinds"]:
        text += f" Max pooling selects {_format_percent(numbers['selected']['fraction'])} of the pixels."
    return text


def _format_percent(fraction: float) -> str:
    return f"{100 * fraction:.3g} %"


def _format_change(fraction: float | None) -> str:
    if fraction is None:
        return "– (no contrast)"
    return _format_percent(fraction)


def _describe_step(numbers: PoolingNumbers, step: PoolStep) -> str:
    row, column = step["position"]
    results = []
    if "max" in numbers["kinds"]:
        results.append(f"the maximum is {format_number(step['max'])}")
    if "average" in numbers["kinds"]:
        mean = format_number(step["average"])
        results.append(f"the sum {format_number(step['sum'])} divided by {numbers['window'] ** 2} is {mean}")
    return f"Window at row {row}, column {column}: {', and '.join(results)}."


def describe_key_numbers(numbers: PoolingNumbers) -> dict[str, str]:
    """Return the numbers that matter most, as text."""
    sizes = numbers["sizes"]
    selected = numbers["selected"]
    key_numbers = {
        "image": f"{numbers['image_name']}, {format_shape(sizes['image'])}",
        "output": f"{format_shape(sizes['output'])}; {numbers['size_formula']}",
    }
    if "max" in numbers["kinds"]:
        count = pluralize(len(selected["positions"]), "pixel")
        key_numbers["selected by max"] = f"{count}, {_format_percent(selected['fraction'])}"
    if numbers["shift"]:
        for kind, values in numbers["shift"]["change"].items():
            key_numbers[f"{kind}, shifted"] = _describe_change(values)
    key_numbers["difference"] = f"at most {numbers['max_difference']:.1g} from PyTorch's pooling"
    return key_numbers


def _describe_change(values: list[float | None]) -> str:
    """Describe the change at the first and the last shift."""
    if values[1] is None:
        return "undefined, because the original has no contrast"
    text = f"changes by {_format_percent(values[1])} at 1 pixel"
    if len(values) > 2:
        text += f", {_format_change(values[-1])} at {len(values) - 1}"
    return text


def list_warnings(numbers: PoolingNumbers, max_shift: int) -> list[str]:
    """Return warnings about a narrow image and about pixels that no window covers."""
    warnings = []
    if not numbers["shift"]:
        warnings.append("The image is too narrow to be shifted; the shift sensitivity is not computed.")
    elif numbers["shift"]["shifts"][-1] < max_shift:
        count = pluralize(numbers["shift"]["shifts"][-1], "pixel")
        warnings.append(f"The image is narrow: it is shifted by at most {count}.")
    uncovered = 1 - numbers["selected"]["covered_fraction"]
    if uncovered > 0:
        warnings.append(f"{_format_percent(uncovered)} of the pixels are under no window and are discarded.")
    return warnings
