"""Pooling: one value per window, the maximum or the mean (Fukushima 1980; Scherer, Müller and Behnke 2010)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F

from ...config.parsing import Range
from ...errors import OptionError
from ...registry import register_concept
from ..base import ConceptResult, load_text
from ..conv_numpy import GRAY_WEIGHTS, avg_pool, max_pool
from ..convolution_steps import (
    MAX_CELLS,
    MAX_STEPS,
    MIN_CELLS,
    CropSetting,
    pick_positions,
    resolve_crop_corner,
)
from .records import PoolCrop, PoolingNumbers, PoolSpec, PoolStep, SelectedPixels, ShiftSensitivity, Sizes

TEXT = load_text(__package__)

#: desired number of window positions along one side of the crop
TARGET_POSITIONS = 6


@dataclass(frozen=True)
class PoolingSettings:
    """Settings of the concept. Pixel values are 0 to 255."""

    kind: Annotated[Literal["both", "max", "average"], "max pooling, average pooling, or both"] = "both"
    window: Annotated[int, "height and width of the window, in pixels", Range(1, 8)] = 2
    stride: Annotated[
        int | Literal["auto"], "step between two windows, in pixels; auto: the window size", Range(1, 8)
    ] = "auto"
    padding: Annotated[int, "rows and columns added on every side, at most half of the window", Range(0, 4)] = 0
    max_shift: Annotated[int, "maximum shift of the image, in pixels", Range(1, 16)] = 8
    crop: CropSetting = "auto"
    image_size: Annotated[int, "maximum of height and width; larger images are downscaled", Range(4, 256)] = 128


@register_concept(TEXT, PoolingSettings, input_kind="image")
def pooling(settings: PoolingSettings, image_HWC: np.ndarray, title: str, notes: Sequence[str] = ()) -> ConceptResult:
    """Pool an image: every window of a crop, the full output, and how much the output changes after small shifts.

    Args:
        settings: Kind of pooling, hyperparameters and crop.
        image_HWC: Image, uint8; C is 1 or 3.
        title: Name of the image.
        notes: Notes on how the image was read.

    Returns:
        Numbers of the crop, the output and the shifts, and frames.

    Raises:
        OptionError: The padding is more than half of the window, or the window does not fit into the image.
    """
    from .captions import build_frames, describe_key_numbers, list_warnings

    color_HW3 = np.broadcast_to(image_HWC, (*image_HWC.shape[:2], 3))
    x_HW = np.round(color_HW3 @ np.array(GRAY_WEIGHTS))
    stride = settings.stride
    if stride == "auto":
        stride = settings.window
    spec = PoolSpec(settings.window, stride, settings.padding)
    sizes = _check_sizes(spec, x_HW.shape)
    kinds: list[str] = [settings.kind]
    if settings.kind == "both":
        kinds = ["max", "average"]
    outputs = {kind: spec.apply(kind, x_HW) for kind in kinds}
    width = x_HW.shape[1]
    numbers: PoolingNumbers = {
        "image_name": title,
        "image": x_HW.tolist(),
        "kinds": kinds,
        "window": spec.window,
        "stride": spec.stride,
        "padding": spec.padding,
        "sizes": sizes,
        "outputs": {kind: output_OP.tolist() for kind, output_OP in outputs.items()},
        "selected": find_selected_pixels(x_HW, spec),
        "crop": _pool_crop(x_HW, kinds, spec, settings.crop),
        "shift": measure_shifts(x_HW, ["subsampling", *kinds], spec, settings.max_shift),
        "max_difference": max(_torch_difference(kind, outputs[kind], x_HW, spec) for kind in kinds),
        "size_formula": f"width: floor(({width} + 2·{spec.padding} - {spec.window}) / {stride}) + 1 "
        f"= {sizes['output'][1]}",
    }
    return ConceptResult(
        dict(numbers),
        build_frames(numbers),
        describe_key_numbers(numbers),
        key_frame=-2 if numbers["shift"] else -1,
        notes=[*notes, *list_warnings(numbers, settings.max_shift)],
    )


def _check_sizes(spec: PoolSpec, shape: Sequence[int]) -> Sizes:
    """Compute heights and widths. Raises OptionError if the padding is too large or the window does not fit."""
    if 2 * spec.padding > spec.window:
        max_padding = spec.window // 2
        raise OptionError(
            f"padding: {spec.padding}; expected at most half of the window, {max_padding}.",
            cure=f"Give at most {max_padding}: a window inside the padding would have no pixels.",
            option="padding",
            value=spec.padding,
            allowed=[0, max_padding],
        )
    output = [spec.output_size(size) for size in shape]
    if min(output) < 1:
        raise OptionError(
            f"window: {spec.window}; expected at most {min(shape)} for an image of {shape[1]} x {shape[0]}.",
            cure="Give a smaller window or a larger image.",
            option="window",
            value=spec.window,
            allowed=[1, min(shape)],
        )
    return {"image": list(shape), "output": output}


def _torch_difference(kind: str, output_OP: np.ndarray, x_HW: np.ndarray, spec: PoolSpec) -> float:
    """Return the maximum absolute difference from PyTorch's pooling."""
    pool = F.max_pool2d if kind == "max" else F.avg_pool2d
    torch_OP = pool(torch.from_numpy(x_HW)[None, None], spec.window, spec.stride, spec.padding)[0, 0].numpy()
    return float(np.abs(output_OP - torch_OP).max())


def find_selected_pixels(x_HW: np.ndarray, spec: PoolSpec) -> SelectedPixels:
    """Find the pixels that max pooling outputs, each once, and the fraction of pixels under any window."""
    height, width = x_HW.shape
    positions_N2 = np.unique(max_pool(x_HW, *spec)[1].reshape(-1, 2), axis=0)
    is_covered = np.zeros((height + 2 * spec.padding, width + 2 * spec.padding), bool)
    row_stop = spec.stride * (spec.output_size(height) - 1) + 1
    column_stop = spec.stride * (spec.output_size(width) - 1) + 1
    for row, column in np.ndindex(spec.window, spec.window):
        is_covered[row : row + row_stop : spec.stride, column : column + column_stop : spec.stride] = True
    inside_HW = is_covered[spec.padding : spec.padding + height, spec.padding : spec.padding + width]
    return {
        "positions": positions_N2.tolist(),
        "fraction": len(positions_N2) / x_HW.size,
        "covered_fraction": float(inside_HW.mean()),
    }


def _pool_crop(x_HW: np.ndarray, kinds: Sequence[str], spec: PoolSpec, corner: Sequence[int] | str) -> PoolCrop:
    """Pool a crop of the image and list some of its windows. Raises OptionError for a crop outside of the image."""
    target = min(MAX_CELLS, spec.window + (TARGET_POSITIONS - 1) * spec.stride)
    side = max(target - 2 * spec.padding, spec.window, MIN_CELLS)
    height = min(x_HW.shape[0], side)
    width = min(x_HW.shape[1], side)
    top, left = resolve_crop_corner(x_HW[None], (height, width), corner)
    crop_hw = x_HW[top : top + height, left : left + width]
    max_OP, argmax_OP2 = max_pool(crop_hw, *spec)
    outputs = {"max": max_OP, "average": avg_pool(crop_hw, *spec)}
    padded_hw = np.pad(crop_hw, spec.padding, constant_values=np.nan)
    steps: list[PoolStep] = []
    for index in pick_positions(max_OP.size, MAX_STEPS):
        row, column = divmod(index, max_OP.shape[1])
        y = row * spec.stride
        x = column * spec.stride
        window = padded_hw[y : y + spec.window, x : x + spec.window]
        steps.append(
            {
                "position": [row, column],
                "window": _nan_to_none(window),
                "max": float(max_OP[row, column]),
                "argmax": argmax_OP2[row, column].tolist(),
                "sum": float(np.nansum(window)),
                "average": float(outputs["average"][row, column]),
            }
        )
    return {
        "corner": [top, left],
        "values": crop_hw.tolist(),
        "outputs": {kind: outputs[kind].tolist() for kind in kinds},
        "argmax": argmax_OP2.tolist(),
        "steps": steps,
    }


def _nan_to_none(values: np.ndarray) -> list[list[float | None]]:
    """Return the values as lists, with None for NaN."""
    masked = values.astype(object)
    masked[np.isnan(values)] = None
    return masked.tolist()


# --- shift sensitivity ------------------------------------------------------------------------------------------------


def relative_change(original: np.ndarray, shifted: np.ndarray) -> float | None:
    """Compute rms(shifted - original) / std(original); None if the original is constant but the other differs.

    The value does not depend on brightness and contrast. It is 0 for identical arrays, and √2 for unrelated arrays of
    the same mean and standard deviation.
    """
    std = float(original.std())
    rms = float(np.sqrt(((shifted - original) ** 2).mean()))
    if std > 1e-9:
        return rms / std
    if rms < 1e-9:
        return 0.0
    return None


def measure_shifts(x_HW: np.ndarray, kinds: Sequence[str], spec: PoolSpec, max_shift: int) -> ShiftSensitivity | None:
    """Measure how much each output changes if the image moves to the right by 0, 1, … pixels.

    The outputs are computed on a crop, narrower than the image by the largest shift, so that no pixel is padding.

    Args:
        x_HW: Image.
        kinds: 'subsampling', 'max', 'average'.
        spec: Hyperparameters of the pooling layer.
        max_shift: Largest shift in pixels; it is reduced for narrow images.

    Returns:
        The changes, or None if the image is too narrow to be shifted.
    """
    max_shift = min(max_shift, x_HW.shape[1] - max(spec.window, 2))
    if max_shift < 1:
        return None
    width = x_HW.shape[1] - max_shift
    views = []
    for left in range(max_shift, -1, -1):
        views.append(x_HW[:, left : left + width])
    outputs: dict[str, list[np.ndarray]] = {}
    original = {}
    shifted = {}
    for kind in kinds:
        arrays = [spec.apply(kind, view) for view in views]
        outputs[kind] = arrays
        original[kind] = arrays[0].tolist()
        shifted[kind] = arrays[1].tolist()
    change: dict[str, list[float | None]] = {}
    for kind, arrays in {**outputs, "image": views}.items():
        change[kind] = [relative_change(arrays[0], array) for array in arrays]
    difference = np.abs(outputs["subsampling"][1] - outputs["subsampling"][0])
    return {
        "shifts": list(range(max_shift + 1)),
        "change": change,
        "original": original,
        "shifted": shifted,
        "color_limit": float(np.quantile(difference, 0.98)) or float(difference.max()) or 1.0,
    }
