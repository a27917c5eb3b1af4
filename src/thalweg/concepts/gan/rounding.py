"""Round numbers for JSON."""

from __future__ import annotations

from typing import Any

import numpy as np

#: significant digits
DIGITS = 4


def round_values(values: np.ndarray, size: np.ndarray | None = None) -> list[Any]:
    """Round to four significant digits and convert to nested lists.

    Args:
        values: Numbers.
        size: Numbers whose digits count instead of those of `values`, in a shape that broadcasts: coordinates far from
            zero must not lose what tells them apart.

    Returns:
        Nested lists of floats.
    """
    if size is None:
        size = np.abs(values)
    exponent = np.floor(np.log10(np.maximum(size, 1e-30)))
    scale = 10.0 ** (DIGITS - 1 - exponent)
    return (np.round(values * scale) / scale).tolist()
