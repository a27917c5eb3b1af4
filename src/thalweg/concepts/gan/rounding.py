"""Round numbers for JSON."""

from __future__ import annotations

from typing import Any

import numpy as np

#: significant digits
DIGITS = 4


def round_values(values: np.ndarray) -> list[Any]:
    """Round to four significant digits and convert to nested lists."""
    exponent = np.floor(np.log10(np.maximum(np.abs(values), 1e-30)))
    scale = 10.0 ** (DIGITS - 1 - exponent)
    return (np.round(values * scale) / scale).tolist()
