"""A formula of x and y as a function: the text is read by a recursive descent and never run as a program.

    sum     = product { ("+" | "-") product }
    product = signed { ("*" | "/") signed }
    signed  = ("+" | "-") signed | power
    power   = atom [ ("^" | "**") signed ]
    atom    = number | "x" | "y" | "pi" | "e" | name "(" sum { "," sum } ")" | "(" sum ")"

So -x^2 is -(x^2), x^-1 is allowed, and 2^3^2 is 2^(3^2), as in Python.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from ...errors import OptionError, did_you_mean

#: two tensors of one shape to a tensor of that shape or a single number; derivatives go through it
Function = Callable[[Tensor, Tensor], Tensor]

#: characters of a formula, and how deep signs, powers, brackets and functions may stand inside each other
MAX_LENGTH, MAX_DEPTH = 400, 40

CONSTANTS = {"pi": math.pi, "e": math.e}
#: functions of one number
UNARY_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": torch.tan,
    "asin": torch.asin,
    "acos": torch.acos,
    "atan": torch.atan,
    "sinh": torch.sinh,
    "cosh": torch.cosh,
    "tanh": torch.tanh,
    "exp": torch.exp,
    "log": torch.log,
    "log2": torch.log2,
    "log10": torch.log10,
    "sqrt": torch.sqrt,
    "abs": torch.abs,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
}
#: functions of two numbers or more
VARIADIC_FUNCTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"min": torch.minimum, "max": torch.maximum}

_TOKEN = re.compile(
    r"(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)|(?P<name>[A-Za-z_][A-Za-z_0-9]*)"
    r"|(?P<sign>\*\*|[-+*/^(),])"
)
#: characters that are shown on each side of a mistake
_CONTEXT_CHARS = 30


class _Token(NamedTuple):
    """`kind` is number, name, sign or end; `place` counts characters from 0."""

    kind: str
    text: str
    place: int


def parse_formula(text: str) -> Function:
    """The function that `text` writes down, for tensors of double precision, at which the constants are kept.

    Raises OptionError, which points at the character, for anything that is not such a formula, one longer than LENGTH
    characters, or one nested deeper than DEPTH.
    """
    if not text.strip():
        raise OptionError("The formula is empty.", cure="For example: formula='x**2 + sin(3*y)'")
    if len(text) > MAX_LENGTH:
        raise OptionError(f"The formula has {len(text)} characters.", cure=f"Give at most {MAX_LENGTH}.")
    return _Parser(text).whole()


def _syntax_error(text: str, place: int, wrong: str, cure: str) -> OptionError:
    """An error that shows the formula around `place`, with a caret below that character."""
    first, last = max(0, place - _CONTEXT_CHARS), place + _CONTEXT_CHARS
    before, after = "… " if first else "", " …" if last < len(text) else ""
    shown = "".join(c if c.isprintable() else " " for c in text[first:last])
    caret = " " * (len(before) + place - first) + "^"
    told = f"The formula, at character {place + 1}: {wrong}"
    return OptionError(f"{told}\n  {before}{shown}{after}\n  {caret}", cure=cure)


def _tokenize(text: str) -> list[_Token]:
    found, place = [], 0
    while place < len(text):
        if text[place].isspace():
            place += 1
            continue
        match = _TOKEN.match(text, place)
        if match is None:
            raise _syntax_error(
                text, place, f"{text[place]!r} has no meaning here.", "Use numbers, x, y, + - * / ^ and brackets ( )."
            )
        found.append(_Token(match.lastgroup, match.group(), place))
        place = match.end()
    return [*found, _Token("end", "", len(text))]


class _Parser:
    """Walks through the tokens once; each method reads what its name says and returns it as a function."""

    def __init__(self, text: str):
        self.text, self.tokens, self.at, self.depth = text, _tokenize(text), 0, 0

    @property
    def next(self) -> _Token:
        return self.tokens[self.at]

    def take(self, *signs: str) -> _Token | None:
        """The next token, stepped over, if it is one of these signs."""
        token = self.next
        if token.kind != "sign" or token.text not in signs:
            return None
        self.at += 1
        return token

    def wrong(self, wrong: str, cure: str, token: _Token | None = None) -> OptionError:
        return _syntax_error(self.text, (token or self.next).place, wrong, cure)

    def whole(self) -> Function:
        function = self.sum()
        if self.next.kind == "end":
            return function
        if self.next.text in (")", ","):
            raise self.wrong(f"nothing before this '{self.next.text}' opened a bracket.", "Take it out, or open one.")
        raise self.side_by_side()

    def side_by_side(self) -> OptionError:
        """What is wrong where a number, a name or a bracket follows on another."""
        before, after = self.tokens[self.at - 1].text, self.next.text
        told = f"between '{before}' and '{after}' an operator is missing."
        return self.wrong(told, f"To multiply write {before}*{after}.")

    def sum(self) -> Function:
        terms = [(1, self.product())]
        while sign := self.take("+", "-"):
            terms.append((1 if sign.text == "+" else -1, self.product()))
        if len(terms) == 1:
            return terms[0][1]

        # a loop, not a tree: a long sum must not become a deep one
        def add(x: Tensor, y: Tensor) -> Tensor:
            total = terms[0][1](x, y)
            for sign, term in terms[1:]:
                total = total + term(x, y) if sign > 0 else total - term(x, y)
            return total

        return add

    def product(self) -> Function:
        factors = [("*", self.signed())]
        while sign := self.take("*", "/"):
            factors.append((sign.text, self.signed()))
        if len(factors) == 1:
            return factors[0][1]

        def multiply(x: Tensor, y: Tensor) -> Tensor:
            total = factors[0][1](x, y)
            for sign, factor in factors[1:]:
                total = total * factor(x, y) if sign == "*" else total / factor(x, y)
            return total

        return multiply

    def signed(self) -> Function:
        """Everything that nests passes through here, so the depth is counted here."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.wrong(f"more than {MAX_DEPTH} parts stand inside each other.", "Write it with fewer brackets.")
        sign = self.take("+", "-")
        inner = self.signed() if sign else self.power()
        self.depth -= 1
        return (lambda x, y: -inner(x, y)) if sign and sign.text == "-" else inner

    def power(self) -> Function:
        base = self.atom()
        if not self.take("^", "**"):
            return base
        exponent = self.signed()
        return lambda x, y: torch.pow(base(x, y), exponent(x, y))

    def atom(self) -> Function:
        token = self.next
        if token.kind == "number":
            self.at += 1
            return self.constant(float(token.text), token)
        if token.kind == "name":
            self.at += 1
            return self.named(token)
        opening = self.take("(")
        if not opening:
            told = "the formula ends" if token.kind == "end" else f"there is '{token.text}'"
            raise self.wrong(f"{told} where a number, x, y or a bracket is expected.", "Complete it, or take it out.")
        inner = self.sum()
        self.close(opening)
        return inner

    def constant(self, value: float, token: _Token) -> Function:
        if not math.isfinite(value):
            raise self.wrong("this number is too large.", "Give a smaller one.", token)
        kept = torch.tensor(value, dtype=torch.float64)
        return lambda x, y: kept

    def named(self, token: _Token) -> Function:
        name, called = token.text, self.next.text == "("
        if name in UNARY_FUNCTIONS or name in VARIADIC_FUNCTIONS:
            if not called:
                raise self.wrong(
                    f"after the function '{name}' its bracket is missing.", f"For example: {name}(x).", self.next
                )
            return self.call(token)
        if called and (name in CONSTANTS or name in "xy"):
            raise self.wrong(f"'{name}' is not a function.", f"To multiply write {name}*(…).", token)
        if name == "x":
            return lambda x, y: x
        if name == "y":
            return lambda x, y: y
        if name in CONSTANTS:
            return self.constant(CONSTANTS[name], token)
        names = [*UNARY_FUNCTIONS, *VARIADIC_FUNCTIONS] if called else ["x", "y", *CONSTANTS]
        side_by_side = len(name) < 5 and set(name) <= set("xy")
        cure = f"To multiply write {'*'.join(name)}." if side_by_side else did_you_mean(name, names)
        raise self.wrong(f"'{name}' is not known.", cure, token)

    def call(self, token: _Token) -> Function:
        name, opening = token.text, self.take("(")
        given = [self.sum()]
        while self.take(","):
            given.append(self.sum())
        self.close(opening)
        if name in VARIADIC_FUNCTIONS and len(given) < 2:
            raise self.wrong(f"{name} needs at least two numbers.", f"For example: {name}(x, y).", token)
        if name in UNARY_FUNCTIONS and len(given) > 1:
            raise self.wrong(f"{name} takes one number, not {len(given)}.", f"For example: {name}(x).", token)
        return _apply_function(UNARY_FUNCTIONS.get(name) or VARIADIC_FUNCTIONS[name], given)

    def close(self, opening: _Token) -> None:
        if not self.take(")"):
            if self.next.kind in ("number", "name") or self.next.text == "(":
                raise self.side_by_side()
            told = "at its end" if self.next.kind == "end" else f"before '{self.next.text}'"
            raise self.wrong(f"this bracket is not closed {told}.", "Write the missing ')'.", opening)


def _apply_function(function: Callable[..., Tensor], given: Sequence[Function]) -> Function:
    """`function` of what is `given`; of many it takes two at a time."""
    if len(given) == 1:
        return lambda x, y: function(given[0](x, y))
    return lambda x, y: reduce(function, [one(x, y) for one in given])
