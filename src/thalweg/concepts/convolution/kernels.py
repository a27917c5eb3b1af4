"""Kernels by name, and kernels written as rows of numbers.

Sobel: Sobel and Feldman 1968, described in Duda and Hart 1973, p. 271; gauss: binomial weights, Burt 1981,
doi:10.1016/0146-664X(81)90092-7.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...errors import OptionError, did_you_mean, pluralize

_SOBEL_X = ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1))
_SOBEL_Y = ((-1, -2, -1), (0, 0, 0), (1, 2, 1))
_BINOMIAL = (1, 4, 6, 4, 1)

#: name -> one kernel, or two kernels whose outputs are combined into a gradient magnitude
KERNELS: dict[str, tuple[Sequence[Sequence[float]], ...]] = {
    "edge": (((-1, -1, -1), (-1, 8, -1), (-1, -1, -1)),),
    "blur": (((1, 1, 1),) * 3,),
    "gauss": (np.outer(_BINOMIAL, _BINOMIAL).tolist(),),
    "sharpen": (((0, -1, 0), (-1, 5, -1), (0, -1, 0)),),
    "sobel-x": (_SOBEL_X,),
    "sobel-y": (_SOBEL_Y,),
    "sobel": (_SOBEL_X, _SOBEL_Y),
    "emboss": (((-2, -1, 0), (-1, 1, 1), (0, 1, 2)),),
    "identity": (((0, 0, 0), (0, 1, 0), (0, 0, 0)),),
}
#: divisors that keep the brightness of uniform areas; 1 for all other kernels
DIVISORS = {"blur": 9, "gauss": 256}
#: maximum number of rows and of columns
MAX_KERNEL_SIZE = 7
#: maximum absolute value of a weight
MAX_WEIGHT = 1000
_USAGE_HINT = "Give rows of equal length, such as --set kernel='1,0,-1;2,0,-2;1,0,-1'."


def parse_kernels(kernel: str | Sequence[Sequence[float]]) -> tuple[list[np.ndarray], int]:
    """Return the kernels (h, w) float64 and the divisor that was applied to them.

    `kernel` is a name, rows as text ('1,0;0,-1'), or rows of numbers. Only 'sobel' has two kernels. Raises OptionError
    for an unknown name and for invalid rows; `line` is the number of the row.
    """
    if isinstance(kernel, str):
        text = kernel.strip()
        if text in KERNELS:
            divisor = DIVISORS.get(text, 1)
            return [np.array(rows, np.float64) / divisor for rows in KERNELS[text]], divisor
        rows = _parse_rows(text)
    else:
        rows = list(map(list, kernel))
    _check_rows(rows)
    return [np.array(rows, np.float64)], 1


def _parse_rows(text: str) -> list[list[float]]:
    """Parse '1,0;0,-1'. Raises OptionError for text without digits, empty rows and values that are not numbers."""
    if not any(map(str.isdigit, text)):
        raise OptionError(
            f"kernel: '{text}'; expected the name of a kernel or rows of numbers.",
            cure=f"{did_you_mean(text, KERNELS)} {_USAGE_HINT}",
            option="kernel",
            value=text,
            allowed=list(KERNELS),
        )
    rows = []
    for number, row in enumerate(text.rstrip("; ").split(";"), 1):
        rows.append(_parse_row(row, number))
    return rows


def _parse_row(text: str, number: int) -> list[float]:
    """Parse one row of numbers separated by commas."""
    values = []
    for item in text.split(","):
        try:
            values.append(float(item))
        except ValueError:
            raise OptionError(
                f"kernel, row {number}: '{item.strip()}'; expected a number.",
                cure=_USAGE_HINT,
                option="kernel",
                value=item.strip(),
                line=number,
            ) from None
    return values


def _check_rows(rows: list[list[float]]) -> None:
    """Check the size of a kernel and its weights. Raises OptionError."""
    _check_size(len(rows), "kernel", "rows")
    for number, row in enumerate(rows, 1):
        where = f"kernel, row {number}"
        if len(row) != len(rows[0]):
            raise OptionError(
                f"{where}: {pluralize(len(row), 'number')}; expected {len(rows[0])}, as in row 1.",
                cure=_USAGE_HINT,
                option="kernel",
                value=row,
                line=number,
            )
        _check_size(len(row), where, "numbers")
        for value in row:
            if not (math.isfinite(value) and abs(value) <= MAX_WEIGHT):
                raise OptionError(
                    f"{where}: {value:g}; expected a number from {-MAX_WEIGHT} to {MAX_WEIGHT}.",
                    cure="Give smaller weights.",
                    option="kernel",
                    value=value,
                    line=number,
                    allowed=[-MAX_WEIGHT, MAX_WEIGHT],
                )


def _check_size(count: int, where: str, unit: str) -> None:
    """Check the number of rows or of columns. Raises OptionError."""
    if count > MAX_KERNEL_SIZE:
        raise OptionError(
            f"{where}: {count} {unit}; expected 1 to {MAX_KERNEL_SIZE}.",
            cure="Give a smaller kernel.",
            option="kernel",
            value=count,
            allowed=[1, MAX_KERNEL_SIZE],
        )
