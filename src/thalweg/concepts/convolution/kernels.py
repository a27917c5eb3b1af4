"""Kernels by name, and kernels that are written out as rows of numbers.

Sobel's: Sobel and Feldman 1968, described in Duda and Hart 1973, p. 271; gauss: binomial weights, Burt 1981,
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

#: name -> the kernels; of two, the length of the vector of both answers is shown
KERNELS: dict[str, tuple[Sequence[Sequence[float]], ...]] = {
    "edge": (((-1, -1, -1), (-1, 8, -1), (-1, -1, -1)),),
    "blur": (((1, 1, 1),) * 3,),
    "gauss": (tuple(tuple(a * b for b in _BINOMIAL) for a in _BINOMIAL),),
    "sharpen": (((0, -1, 0), (-1, 5, -1), (0, -1, 0)),),
    "sobel-x": (_SOBEL_X,),
    "sobel-y": (_SOBEL_Y,),
    "sobel": (_SOBEL_X, _SOBEL_Y),
    "emboss": (((-2, -1, 0), (-1, 1, 1), (0, 1, 2)),),
    "identity": (((0, 0, 0), (0, 1, 0), (0, 0, 0)),),
}
#: what the sums of these are divided by, so that even areas keep their value; of the others it is 1
DIVISORS = {"blur": 9, "gauss": 256}
#: most rows and columns of a kernel, largest size of a weight
MAX_KERNEL_SIZE, MAX_WEIGHT = 7, 1000
_USAGE_HINT = "Give rows of numbers of one length: --set kernel='1,0,-1;2,0,-2;1,0,-1'"


def parse_kernels(settings: str | Sequence[Sequence[float]]) -> tuple[list[np.ndarray], int]:
    """The kernels (h, w), float64, that a name or rows mean, two for sobel, else one; what they have been divided by.

    A text with a digit in it is rows: '1,0;0,-1'. Raises OptionError naming the row that is wrong.
    """
    if isinstance(settings, str):
        name = settings.strip()
        if name in KERNELS:
            divisor = DIVISORS.get(name, 1)
            return [np.array(kernel, np.float64) / divisor for kernel in KERNELS[name]], divisor
        if not any(letter.isdigit() for letter in name):
            raise OptionError(
                f"kernel: there is none named '{settings}'.", cure=f"{did_you_mean(name, KERNELS)} {_USAGE_HINT}"
            )
        rows = [_parse_row(row, place) for place, row in enumerate(name.rstrip("; ").split(";"), 1)]
    else:
        rows = [list(row) for row in settings]
    for place, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            told = f"kernel: row {place} has {pluralize(len(row), 'number')}, row 1 has {len(rows[0])}."
            raise OptionError(told, cure=_USAGE_HINT)
        if len(row) > MAX_KERNEL_SIZE:
            raise OptionError(f"kernel: row {place} has {len(row)} numbers.", cure=f"Give at most {MAX_KERNEL_SIZE}.")
        for value in row:
            if not (math.isfinite(value) and abs(value) <= MAX_WEIGHT):
                told = f"kernel: {value:g} in row {place} is not from {-MAX_WEIGHT} to {MAX_WEIGHT}."
                raise OptionError(told, cure="Give smaller numbers.")
    if len(rows) > MAX_KERNEL_SIZE:
        raise OptionError(f"kernel: there are {len(rows)} rows.", cure=f"Give at most {MAX_KERNEL_SIZE}.")
    return [np.array(rows, np.float64)], 1


def _parse_row(text: str, place: int) -> list[float]:
    """The numbers of a row, with commas between. Raises OptionError for what is none."""
    if not text.strip():
        raise OptionError(f"kernel: row {place} is empty.", cure=_USAGE_HINT)
    found = []
    for part in text.split(","):
        try:
            found.append(float(part))
        except ValueError:
            told = f"kernel: row {place}, '{text.strip()}': '{part.strip()}' is no number."
            raise OptionError(told, cure=_USAGE_HINT) from None
    return found
