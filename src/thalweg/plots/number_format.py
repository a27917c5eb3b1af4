"""Format numbers the same way in plots, captions and formulas."""

from __future__ import annotations


def format_number(value: float, digits: int = 5, max_length: int | None = None) -> str:
    """Format a number with a minus sign (U+2212): '0.00043857', '−1.7744e9'.

    Powers of ten are used only below 1e-7 and for more than seven digits before the decimal point.

    Args:
        value: The number.
        digits: Number of significant digits.
        max_length: Drop digits until the text has at most this many characters, as far as one digit allows.

    Returns:
        The text.
    """
    text = _format_plain(value, digits)
    if max_length is None:
        return text
    while len(text) > max_length and digits > 1:
        digits -= 1
        text = _format_plain(value, digits)
        if len(text) > max_length:
            text = min(text, _tidy_exponent(f"{value:.{digits - 1}e}"), key=len)
    return text


def _format_plain(value: float, digits: int) -> str:
    """Format without a power of ten where the number is neither tiny nor huge."""
    # adding 0.0 turns negative zero into zero
    text = _tidy_exponent(f"{value + 0.0:.{digits}g}")
    if "e" not in text or not 1e-7 <= abs(value) < 1e7:
        return text
    if "e−" not in text:
        return f"{value:.0f}".replace("-", "−")
    decimals = digits - 1 + int(text.split("e−")[1])
    return f"{value:.{decimals}f}".rstrip("0").replace("-", "−")


def _tidy_exponent(text: str) -> str:
    """Rewrite '-1.50e+04' as '−1.5e4'."""
    mantissa, power, exponent = text.partition("e")
    if power and "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    if power:
        mantissa = f"{mantissa}e{int(exponent)}"
    return mantissa.replace("-", "−")
