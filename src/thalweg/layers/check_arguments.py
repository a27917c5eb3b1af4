"""Checks of the arguments of models, by name."""

from __future__ import annotations

from ..errors import OptionError


def check_whole_number(name: str, value: object, smallest: int) -> None:
    """Raise OptionError for a size that is no whole number, or too small."""
    if not isinstance(value, int) or isinstance(value, bool) or value < smallest:
        raise OptionError(
            f"{name}={value}: expected a whole number of at least {smallest}.",
            option=name,
            value=value,
            allowed=[smallest],
        )


def check_positive(**sizes: object) -> None:
    """Raise OptionError for a size that is no whole number of at least 1."""
    for name, value in sizes.items():
        check_whole_number(name, value, 1)


def check_fractions(**fractions: float | int) -> None:
    """Raise OptionError for a number that is not from 0 to less than 1."""
    for name, value in fractions.items():
        if not 0 <= value < 1:
            raise OptionError(
                f"{name}={value}: expected at least 0 and less than 1.", option=name, value=value, allowed=[0, 1]
            )


def check_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Raise OptionError for a word that is not one of those that are allowed."""
    if value not in allowed:
        raise OptionError(
            f"{name}: unknown value '{value}'; expected {' or '.join(allowed)}.",
            option=name,
            value=value,
            allowed=allowed,
        )
