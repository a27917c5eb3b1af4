"""Numbers for people, the same in drawings, captions and formulas."""

from __future__ import annotations


def format_number(value: float, digits: int = 5, most: int | None = None) -> str:
    """`value` to so many significant digits, with a true minus: '0.00043857', '−1.7744e9'.

    Powers of ten stand only for what is below 1e-7 or has more than seven places before the point. With `most` the
    text has at most so many characters, at the cost of digits, where one digit can be told in so many.
    """
    text = _format_plain(value, digits)
    while most is not None and len(text) > most and digits > 1:
        digits -= 1
        text = _format_plain(value, digits)
        if len(text) > most:
            text = min(text, _tidy_exponent(f"{value:.{digits - 1}e}"), key=len)
    return text


def _format_plain(value: float, digits: int) -> str:
    power = _format_exponent(value, digits)
    if "e" not in power or not 1e-7 <= abs(value) < 1e7:
        return power
    if "e−" not in power:
        return f"{value:.0f}".replace("-", "−")
    places = digits - 1 + int(power.split("e−")[1])
    return f"{value:.{places}f}".rstrip("0").replace("-", "−")


def _format_exponent(value: float, digits: int) -> str:
    """As Python shows it, with a power of ten where that is shorter; there is no negative zero."""
    return _tidy_exponent(f"{value + 0.0:.{digits}g}")


def _tidy_exponent(text: str) -> str:
    """'-1.50e+04' as '−1.5e4'."""
    mantissa, power, exponent = text.partition("e")
    if power and "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return (f"{mantissa}e{int(exponent)}" if power else mantissa).replace("-", "−")
