"""Formulas of x and y: a recursive descent parser. The text is never executed as code.

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

#: maps two tensors of one shape to a tensor of that shape or to a scalar, differentiably
Function = Callable[[Tensor, Tensor], Tensor]

#: maximum characters of a formula, and maximum nesting of signs, powers, parentheses and functions
MAX_LENGTH = 400
MAX_DEPTH = 40

CONSTANTS = {"pi": math.pi, "e": math.e}
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
#: functions of two or more arguments
VARIADIC_FUNCTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"min": torch.minimum, "max": torch.maximum}

_TOKEN = re.compile(
    r"(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)|(?P<name>[A-Za-z_][A-Za-z_0-9]*)"
    r"|(?P<sign>\*\*|[-+*/^(),])"
)
#: characters shown on each side of a syntax error
_CONTEXT_CHARS = 30


class _Token(NamedTuple):
    """`kind` is number, name, sign or end; `position` counts characters from 0."""

    kind: str
    text: str
    position: int


def parse_formula(text: str) -> Function:
    """Parse a formula into a function of two float64 tensors.

    Raises OptionError, which points at the character, for a syntax error, and for formulas longer than MAX_LENGTH or
    nested deeper than MAX_DEPTH.
    """
    if not text.strip():
        raise OptionError(
            "formula: the formula is empty.",
            cure="For example: formula='x**2 + sin(3*y)'",
            option="formula",
            value=text,
        )
    if len(text) > MAX_LENGTH:
        raise OptionError(
            f"formula: got {len(text)} characters; expected at most {MAX_LENGTH}.",
            cure="Shorten the formula.",
            option="formula",
            value=text,
        )
    return _Parser(text).parse()


def _syntax_error(text: str, position: int, problem: str, cure: str) -> OptionError:
    """Build an error that shows the formula around `position`, with a caret below that character."""
    first = max(0, position - _CONTEXT_CHARS)
    last = position + _CONTEXT_CHARS
    before = "… " if first else ""
    after = " …" if last < len(text) else ""
    excerpt = ""
    for character in text[first:last]:
        if character.isprintable():
            excerpt += character
        else:
            excerpt += " "
    caret = " " * (len(before) + position - first) + "^"
    return OptionError(
        f"formula, character {position + 1}: {problem}\n  {before}{excerpt}{after}\n  {caret}",
        cure=cure,
        option="formula",
        value=text,
    )


def _tokenize(text: str) -> list[_Token]:
    tokens = []
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        match = _TOKEN.match(text, position)
        if match is None:
            raise _syntax_error(
                text,
                position,
                f"unexpected character {text[position]!r}.",
                "Use numbers, x, y, + - * / ^ and parentheses ( ).",
            )
        tokens.append(_Token(str(match.lastgroup), match.group(), position))
        position = match.end()
    return [*tokens, _Token("end", "", len(text))]


class _Parser:
    """Parse tokens from left to right. Each method named parse_… parses one rule of the grammar."""

    def __init__(self, text: str):
        self.text = text
        self.tokens = _tokenize(text)
        self.index = 0
        self.depth = 0

    @property
    def token(self) -> _Token:
        """The next token."""
        return self.tokens[self.index]

    def accept(self, *signs: str) -> _Token | None:
        """Consume and return the next token if it is one of `signs`."""
        token = self.token
        if token.kind != "sign" or token.text not in signs:
            return None
        self.index += 1
        return token

    def build_error(self, problem: str, cure: str, token: _Token | None = None) -> OptionError:
        """Build the error at `token`, or at the next token."""
        return _syntax_error(self.text, (token or self.token).position, problem, cure)

    def missing_operator_error(self) -> OptionError:
        """Build the error for a number, a name or a parenthesis right after another."""
        before = self.tokens[self.index - 1].text
        after = self.token.text
        return self.build_error(
            f"missing operator between '{before}' and '{after}'.", f"To multiply write {before}*{after}."
        )

    def parse(self) -> Function:
        """Parse the complete formula."""
        function = self.parse_sum()
        if self.token.kind == "end":
            return function
        if self.token.text in (")", ","):
            raise self.build_error(
                f"'{self.token.text}' without an opening parenthesis.", "Remove it, or add the missing '('."
            )
        raise self.missing_operator_error()

    def parse_sum(self) -> Function:
        """Parse a sum. A long sum becomes a loop, not a deep tree."""
        terms = [(1, self.parse_product())]
        while sign := self.accept("+", "-"):
            terms.append((1 if sign.text == "+" else -1, self.parse_product()))
        if len(terms) == 1:
            return terms[0][1]

        def add(x: Tensor, y: Tensor) -> Tensor:
            total = terms[0][1](x, y)
            for sign, term in terms[1:]:
                if sign > 0:
                    total = total + term(x, y)
                else:
                    total = total - term(x, y)
            return total

        return add

    def parse_product(self) -> Function:
        """Parse a product."""
        factors = [("*", self.parse_signed())]
        while sign := self.accept("*", "/"):
            factors.append((sign.text, self.parse_signed()))
        if len(factors) == 1:
            return factors[0][1]

        def multiply(x: Tensor, y: Tensor) -> Tensor:
            total = factors[0][1](x, y)
            for sign, factor in factors[1:]:
                if sign == "*":
                    total = total * factor(x, y)
                else:
                    total = total / factor(x, y)
            return total

        return multiply

    def parse_signed(self) -> Function:
        """Parse a signed power. All nesting passes through here, so the depth is counted here."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.build_error(f"nested deeper than {MAX_DEPTH} levels.", "Use fewer parentheses.")
        sign = self.accept("+", "-")
        if sign:
            operand = self.parse_signed()
        else:
            operand = self.parse_power()
        self.depth -= 1
        if sign and sign.text == "-":
            return lambda x, y: -operand(x, y)
        return operand

    def parse_power(self) -> Function:
        """Parse a power."""
        base = self.parse_atom()
        if not self.accept("^", "**"):
            return base
        exponent = self.parse_signed()
        return lambda x, y: torch.pow(base(x, y), exponent(x, y))

    def parse_atom(self) -> Function:
        """Parse a number, a variable, a constant, a function call or an expression in parentheses."""
        token = self.token
        if token.kind == "number":
            self.index += 1
            return self.build_constant(float(token.text), token)
        if token.kind == "name":
            self.index += 1
            return self.parse_name(token)
        opening = self.accept("(")
        if not opening:
            problem = f"unexpected '{token.text}'"
            if token.kind == "end":
                problem = "the formula ends"
            raise self.build_error(
                f"{problem}; expected a number, x, y or a parenthesis.", "Complete the formula, or remove the operator."
            )
        inner = self.parse_sum()
        self.expect_closing(opening)
        return inner

    def build_constant(self, value: float, token: _Token) -> Function:
        """Build the function that returns `value`."""
        if not math.isfinite(value):
            raise self.build_error("the number is too large.", "Give a smaller one.", token)
        constant = torch.tensor(value, dtype=torch.float64)
        return lambda x, y: constant

    def parse_name(self, token: _Token) -> Function:
        """Parse what follows after a name: nothing for x, y and constants, arguments for a function."""
        name = token.text
        is_call = self.token.text == "("
        if name in UNARY_FUNCTIONS or name in VARIADIC_FUNCTIONS:
            if not is_call:
                raise self.build_error(f"expected '(' after the function '{name}'.", f"For example: {name}(x).")
            return self.parse_call(token)
        if is_call and (name in CONSTANTS or name in "xy"):
            raise self.build_error(f"'{name}' is not a function.", f"To multiply write {name}*(…).", token)
        if name == "x":
            return lambda x, y: x
        if name == "y":
            return lambda x, y: y
        if name in CONSTANTS:
            return self.build_constant(CONSTANTS[name], token)
        raise self.unknown_name_error(token, is_call)

    def unknown_name_error(self, token: _Token, is_call: bool) -> OptionError:
        """Build the error for an unknown name, with the nearest known names."""
        name = token.text
        if len(name) < 5 and set(name) <= set("xy"):
            cure = f"To multiply write {'*'.join(name)}."
        elif is_call:
            cure = did_you_mean(name, [*UNARY_FUNCTIONS, *VARIADIC_FUNCTIONS])
        else:
            cure = did_you_mean(name, ["x", "y", *CONSTANTS])
        return self.build_error(f"unknown name '{name}'.", cure, token)

    def parse_call(self, token: _Token) -> Function:
        """Parse the arguments of a function."""
        name = token.text
        opening = self.accept("(")
        assert opening is not None
        arguments = [self.parse_sum()]
        while self.accept(","):
            arguments.append(self.parse_sum())
        self.expect_closing(opening)
        if name in VARIADIC_FUNCTIONS and len(arguments) < 2:
            raise self.build_error(f"{name} needs at least two arguments.", f"For example: {name}(x, y).", token)
        if name in UNARY_FUNCTIONS and len(arguments) > 1:
            raise self.build_error(
                f"{name} takes one argument; got {len(arguments)}.", f"For example: {name}(x).", token
            )
        return _apply_function(UNARY_FUNCTIONS.get(name) or VARIADIC_FUNCTIONS[name], arguments)

    def expect_closing(self, opening: _Token) -> None:
        """Consume the closing parenthesis. Raises OptionError if it is missing."""
        if self.accept(")"):
            return
        if self.token.kind in ("number", "name") or self.token.text == "(":
            raise self.missing_operator_error()
        end = f"before '{self.token.text}'"
        if self.token.kind == "end":
            end = "at the end"
        raise self.build_error(f"the parenthesis is not closed {end}.", "Add the missing ')'.", opening)


def _apply_function(function: Callable[..., Tensor], arguments: Sequence[Function]) -> Function:
    """Return `function` of its arguments; more than two arguments are reduced pairwise."""
    if len(arguments) == 1:
        return lambda x, y: function(arguments[0](x, y))
    return lambda x, y: reduce(function, [argument(x, y) for argument in arguments])
