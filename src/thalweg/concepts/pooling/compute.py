"""Pooling: of each window one value, the largest or the mean (Fukushima 1980; Scherer, Müller and Behnke 2010)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F

from ...config.options import Range
from ...errors import OptionError, pluralize
from ...plots.number_format import format_number
from ...registry import register_concept
from ..base import ConceptResult, Frame, load_text
from ..conv_numpy import GRAY_WEIGHTS, avg_pool, max_pool, output_size, subsample
from ..convolution_steps import MAX_CELLS, MAX_STEPS, MIN_CELLS, crop_corner, pick_positions

TEXT = load_text(__package__)

#: places of the window in a row of the crop that are aimed at
TARGET_POSITIONS = 6
PoolFn = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class PoolingSettings:
    """What can be set. Grey values are 0 to 255."""

    kind: Annotated[Literal["both", "max", "average"], "which value of the window is passed on"] = "both"
    window: Annotated[int, "height and width of the window", Range(1, 8)] = 2
    stride: Annotated[
        int | Literal["auto"], "how far the window moves at a time; auto is its own width", Range(1, 8)
    ] = "auto"
    padding: Annotated[int, "rows and columns laid around the picture, at most half of the window", Range(0, 4)] = 0
    shifts: Annotated[int, "by how many pixels the picture is moved at most", Range(1, 16)] = 8
    at: Annotated[
        list[int] | Literal["auto"], "row and column of the crop; auto is where values differ most", Range(0, 255)
    ] = "auto"
    side: Annotated[int, "longer side that the picture is brought to at most, in pixels", Range(4, 256)] = 128


@register_concept(TEXT, PoolingSettings, subject="picture")
def pooling(settings: PoolingSettings, picture_HWC: np.ndarray, told: str, notes: Sequence[str] = ()) -> ConceptResult:
    """Every window of a crop, the picture before and after, what was kept, and how much small shifts change.

    Raises OptionError for padding of more than half the window, and a window that is larger than the picture.
    """
    stride = settings.window if settings.stride == "auto" else settings.stride
    grey_HW = np.round(np.broadcast_to(picture_HWC, (*picture_HWC.shape[:2], 3)) @ np.array(GRAY_WEIGHTS))
    sizes = _check_sizes(settings, stride, grey_HW.shape)
    kinds = ["max", "average"] if settings.kind == "both" else [settings.kind]
    how = (settings.window, stride, settings.padding)
    outputs = {kind: _build_pool(kind, *how)(grey_HW) for kind in kinds}
    moved = _measure_shifts(grey_HW, {kind: _build_pool(kind, *how) for kind in ("subsampling", *kinds)}, settings)
    numbers = {
        "told": told,
        "picture": grey_HW.tolist(),
        "kinds": kinds,
        "window": settings.window,
        "stride": stride,
        "padding": settings.padding,
        "sizes": sizes,
        "outputs": {kind: values.tolist() for kind, values in outputs.items()},
        "kept": _selected_pixels(grey_HW, *how),
        "crop": _pool_crop(grey_HW, kinds, how, settings.at),
        "moved": moved,
        "largest_difference": max(_torch_difference(kind, outputs[kind], grey_HW, how) for kind in kinds),
    }
    numbers["formula"] = (
        f"width: floor(({grey_HW.shape[1]} + 2·{settings.padding} - {settings.window}) / {stride}) + 1 = {sizes['output'][1]}"
    )
    return ConceptResult(
        numbers,
        _build_frames(numbers),
        _key_numbers(numbers),
        key_frame=-2 if moved else -1,
        notes=[*notes, *_collect_notes(numbers, settings)],
    )


def _build_pool(kind: str, window: int, stride: int, padding: int) -> PoolFn:
    """From a picture (H, W) to its output (O, P)."""
    if kind == "max":
        return lambda x_HW: max_pool(x_HW, window, stride, padding)[0]
    made = avg_pool if kind == "average" else subsample
    return partial(made, window=window, stride=stride, padding=padding)


def _check_sizes(settings: PoolingSettings, stride: int, extent: Sequence[int]) -> dict[str, list[int]]:
    """Heights and widths of picture and output. Raises OptionError where the window does not fit."""
    if 2 * settings.padding > settings.window:
        told = f"padding: {settings.padding} is more than half of a window of {settings.window}."
        raise OptionError(told, cure=f"Give at most {settings.window // 2}, else a window may see no pixel at all.")
    output = [output_size(size, settings.window, stride, settings.padding) for size in extent]
    if min(output) < 1:
        told = f"window: {settings.window} x {settings.window} is larger than the picture of {_format_size(extent)}."
        raise OptionError(told, cure=f"Give a window of at most {min(extent)}, or a larger picture.")
    return {"picture": list(extent), "output": output}


def _torch_difference(kind: str, ours_OP: np.ndarray, x_HW: np.ndarray, how: tuple[int, int, int]) -> float:
    """By how much PyTorch's own pooling differs at most."""
    pool = F.max_pool2d if kind == "max" else F.avg_pool2d
    theirs_OP = pool(torch.from_numpy(x_HW)[None, None], *how)[0, 0].numpy()
    return float(np.abs(ours_OP - theirs_OP).max())


def _selected_pixels(x_HW: np.ndarray, window: int, stride: int, padding: int) -> dict[str, Any]:
    """The pixels that max pooling passes on, each once, row and column; their share; the share under any window."""
    where_N2 = np.unique(max_pool(x_HW, window, stride, padding)[1].reshape(-1, 2), axis=0)
    seen = np.zeros((x_HW.shape[0] + 2 * padding, x_HW.shape[1] + 2 * padding), bool)
    high, wide = (output_size(size, window, stride, padding) for size in x_HW.shape)
    for row, column in np.ndindex(window, window):
        seen[row : row + stride * (high - 1) + 1 : stride, column : column + stride * (wide - 1) + 1 : stride] = True
    inside = seen[padding : padding + x_HW.shape[0], padding : padding + x_HW.shape[1]]
    return {
        "places": where_N2.tolist(),
        "share": len(where_N2) / x_HW.size,
        "under_a_window": float(inside.mean()),
    }


def _pool_crop(x_HW: np.ndarray, kinds: Sequence[str], how: tuple[int, int, int], at: Any) -> dict[str, Any]:
    """A small part, pooled like a picture of its own, and some of its windows; None stands for what lies outside."""
    window, stride, padding = how
    aim = min(MAX_CELLS, window + (TARGET_POSITIONS - 1) * stride)
    extent = [min(size, max(aim - 2 * padding, window, MIN_CELLS)) for size in x_HW.shape]
    top, left = crop_corner(x_HW[None], extent, at)
    part_hw = x_HW[top : top + extent[0], left : left + extent[1]]
    largest_OP, where_OP2 = max_pool(part_hw, *how)
    mean_OP = avg_pool(part_hw, *how)
    padded = np.pad(part_hw, padding, constant_values=np.nan)
    steps = []
    for place in pick_positions(largest_OP.size, MAX_STEPS):
        row, column = divmod(place, largest_OP.shape[1])
        under = padded[row * stride : row * stride + window, column * stride : column * stride + window]
        steps.append(
            {
                "place": [row, column],
                "under": [[None if np.isnan(value) else float(value) for value in values] for values in under],
                "max": float(largest_OP[row, column]),
                "where": where_OP2[row, column].tolist(),
                "sum": float(np.nansum(under)),
                "average": float(mean_OP[row, column]),
            }
        )
    outputs = {kind: (largest_OP if kind == "max" else mean_OP).tolist() for kind in kinds}
    return {
        "at": [top, left],
        "values": part_hw.tolist(),
        "outputs": outputs,
        "where": where_OP2.tolist(),
        "steps": steps,
    }


# --- small shifts -----------------------------------------------------------------------------------------------------


def relative_change(before: np.ndarray, after: np.ndarray) -> float | None:
    """Root mean square of the difference, as a share of the standard deviation before; None where that is 0.

    It does not matter how bright or how rich in contrast both are. The same twice is 0; two pictures of one mean and
    deviation that are unrelated have √2.
    """
    spread = float(before.std())
    distance = float(np.sqrt(((after - before) ** 2).mean()))
    return distance / spread if spread > 1e-9 else 0.0 if distance < 1e-9 else None


def _measure_shifts(x_HW: np.ndarray, pools: dict[str, PoolFn], settings: PoolingSettings) -> dict[str, Any]:
    """How much each output changes where the picture is moved to the right by 0, 1, … pixels; {} if it is too small.

    It is looked at through a frame that is narrower than the picture by all shifts, so that no pixel is made up.
    """
    most = min(settings.shifts, x_HW.shape[1] - max(settings.window, 2))
    if most < 1:
        return {}
    width = x_HW.shape[1] - most
    views = [x_HW[:, most - shift : most - shift + width] for shift in range(most + 1)]
    found: dict[str, Any] = {"shifts": list(range(most + 1)), "change": {}, "first": {}, "second": {}}
    for kind, pool in pools.items():
        outputs = [pool(view) for view in views]
        found["change"][kind] = [relative_change(outputs[0], output) for output in outputs]
        found["first"][kind], found["second"][kind] = outputs[0].tolist(), outputs[1].tolist()
    found["change"]["picture"] = [relative_change(views[0], view) for view in views]
    gap = np.array(found["second"]["subsampling"]) - np.array(found["first"]["subsampling"])
    found["strongest"] = float(np.quantile(np.abs(gap), 0.98)) or float(np.abs(gap).max()) or 1.0
    return found


# --- in words ---------------------------------------------------------------------------------------------------------


def _format_size(size: Sequence[int]) -> str:
    """Width x height, of a height and a width."""
    return f"{size[1]} x {size[0]}"


def _build_frames(numbers: dict[str, Any]) -> list[Frame]:
    from .plot import plot_before_after, plot_shift_sensitivity, plot_window

    frames = [
        Frame(_frame_caption(numbers, step), plot_window, (numbers, place))
        for place, step in enumerate(numbers["crop"]["steps"])
    ]
    before, after = (_format_size(numbers["sizes"][key]) for key in ("picture", "output"))
    share = f"{100 * numbers['kept']['share']:.3g} %"
    what = f" Max pooling passes on {share} of the pixels." if "max" in numbers["kinds"] else ""
    frames.append(Frame(f"The whole picture, {before}, becomes {after} values.{what}", plot_before_after, (numbers,)))
    if numbers["moved"]:
        told = "; ".join(f"{kind} {_format_percent(values[1])}" for kind, values in numbers["moved"]["change"].items())
        frames.append(Frame(f"Moved by one pixel, each output changes by: {told}.", plot_shift_sensitivity, (numbers,)))
    return frames


def _format_percent(share: float | None) -> str:
    return "– (no contrast)" if share is None else f"{100 * share:.3g} %"


def _frame_caption(numbers: dict[str, Any], step: dict[str, Any]) -> str:
    row, column = step["place"]
    count = numbers["window"] ** 2
    told = {
        "max": f"the largest is {format_number(step['max'])}",
        "average": f"the sum {format_number(step['sum'])} divided by {count} is {format_number(step['average'])}",
    }
    return f"Window at row {row}, column {column}: {', and '.join(told[kind] for kind in numbers['kinds'])}."


def _key_numbers(numbers: dict[str, Any]) -> dict[str, str]:
    sizes, kept = numbers["sizes"], numbers["kept"]
    found = {
        "picture": f"{numbers['told']}, {_format_size(sizes['picture'])}",
        "output": f"{_format_size(sizes['output'])}; {numbers['formula']}",
    }
    if "max" in numbers["kinds"]:
        count = len(kept["places"])
        found["kept by max"] = f"{pluralize(count, 'pixel')}, {100 * kept['share']:.3g} %"
    for kind, values in numbers["moved"].get("change", {}).items():
        more = f", {_format_percent(values[-1])} at {len(values) - 1}" if len(values) > 2 else ""
        found[f"{kind}, moved"] = (
            "has no contrast that a change could be compared with"
            if values[1] is None
            else f"changes by {_format_percent(values[1])} at 1 pixel{more}"
        )
    found["difference"] = f"at most {numbers['largest_difference']:.1g} from PyTorch's own pooling"
    return found


def _collect_notes(numbers: dict[str, Any], settings: PoolingSettings) -> list[str]:
    notes = []
    if not numbers["moved"]:
        notes.append("The picture is too narrow to be moved; what shifts change is left out.")
    elif numbers["moved"]["shifts"][-1] < settings.shifts:
        most = numbers["moved"]["shifts"][-1]
        notes.append(f"The picture is narrow: it is moved by at most {pluralize(most, 'pixel')}.")
    if numbers["kept"]["under_a_window"] < 1:
        notes.append(
            f"{100 * (1 - numbers['kept']['under_a_window']):.3g} % of the pixels lie under no window and are lost."
        )
    return notes
