"""Formulas of x and y: values match Python and NumPy, and every text is either parsed or rejected."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thalweg.cli import main as cli
from thalweg.concepts.descent import expression
from thalweg.concepts.descent.expression import MAX_DEPTH, MAX_LENGTH, parse_formula
from thalweg.errors import OptionError

X, Y = 1.25, -0.5


def evaluate(text: str, x: float = X, y: float = Y) -> float:
    return float(parse_formula(text)(torch.tensor(x, dtype=torch.float64), torch.tensor(y, dtype=torch.float64)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x**2 + sin(3*y)", X**2 + math.sin(3 * Y)),
        ("x^2", X**2),
        ("-x^2", -(X**2)),
        ("(-x)^2", X**2),
        ("2^3^2", 512),
        ("2**-1", 0.5),
        ("-2^-2", -0.25),
        ("x - y - 1", X - Y - 1),
        ("8 / 4 / 2", 1),
        ("8 / 4 * 2", 4),
        ("2 + 3 * 4 ^ 2 / 8 - 1", 7),
        ("--x + +y", X + Y),
        ("x*-y", -X * Y),
        ("1e-3 + 2.5E1 + .5 + 3.", 28.501),
        ("pi * e", math.pi * math.e),
        ("max(x, y, 3) + min(x, y)", 3 + Y),
        ("  x\t+\n y ", X + Y),
        ("sin (x)", math.sin(X)),
    ],
)
def test_formulas_mean_what_they_mean_in_python(text, expected):
    assert evaluate(text) == pytest.approx(expected, rel=1e-15)


NUMPY_FUNCTIONS = {
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "relu": lambda v: np.maximum(v, 0),
    "sigmoid": lambda v: 1 / (1 + np.exp(-v)),
}


@pytest.mark.parametrize("name", expression.UNARY_FUNCTIONS)
def test_every_function_matches_numpy(name):
    for x in (0.3, 0.9, -0.4, 2.0):
        with np.errstate(invalid="ignore"):
            expected = NUMPY_FUNCTIONS.get(name, getattr(np, name, None))(x)
        assert evaluate(f"{name}(x)", x) == pytest.approx(expected, rel=1e-14, nan_ok=True)


@pytest.mark.parametrize("name", expression.UNARY_FUNCTIONS)
def test_every_function_has_its_derivative(name):
    function = parse_formula(f"{name}(x) * y^2")
    step = 1e-6
    x = torch.tensor([0.3, 0.8], dtype=torch.float64, requires_grad=True)
    y = torch.tensor(1.5, dtype=torch.float64)
    (derivative,) = torch.autograd.grad(function(x, y).sum(), x)
    with torch.no_grad():
        expected = (function(x + step, y) - function(x - step, y)) / (2 * step)
    torch.testing.assert_close(derivative, expected, rtol=1e-7, atol=1e-8)


# --- random formulas, against Python's own evaluation -----------------------------------------------------------------

ATOMS = st.sampled_from(["x", "y", "pi", "e"]) | st.integers(0, 9).map(lambda n: f"{n}.0")


def combine(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Combine formulas without parentheses of their own, so that precedence decides."""
    operators = st.sampled_from(["+", "-", "*", "/", "**", " + ", "*-", "--"])
    two = st.tuples(inner, operators, inner).map("".join)
    three = st.tuples(inner, operators, inner, operators, inner).map("".join)
    parenthesized = inner.map(lambda formula: f"({formula})")
    unary = st.tuples(st.sampled_from(["sqrt", "abs", "-", "-abs"]), parenthesized).map("".join)
    variadic = st.tuples(st.sampled_from(["min", "max"]), inner, inner).map(lambda t: f"{t[0]}({t[1]},{t[2]})")
    return two | three | parenthesized | unary | variadic


FORMULAS = st.recursive(ATOMS, combine, max_leaves=12).filter(lambda text: len(text) <= MAX_LENGTH)
NAMES = {"sqrt": np.sqrt, "abs": np.abs, "min": np.minimum, "max": np.maximum}
NAMES |= {"pi": np.float64(math.pi), "e": np.float64(math.e), "n": np.float64, "__builtins__": {}}


@given(FORMULAS, st.sampled_from([-2.0, -0.5, 0.0, 1.5, 3.0]), st.sampled_from([-1.0, 0.0, 0.25, 2.0]))
def test_random_formulas_match_python(text, x, y):
    """Uses only operations that every library rounds alike, so that only a parser error can make a difference."""
    numbers = "".join(f"n({part})" if part.endswith(".0") else part for part in _split_numbers(text))
    with np.errstate(all="ignore"):
        expected = eval(numbers, {**NAMES, "x": np.float64(x), "y": np.float64(y)})  # noqa: S307 - the reference
    np.testing.assert_allclose(evaluate(text, x, y), expected, rtol=1e-9, atol=1e-9)


def _split_numbers(text: str) -> list[str]:
    """Split the text around its numbers, all of which are a digit and '.0'."""
    parts = []
    rest = text
    while ".0" in rest:
        i = rest.index(".0")
        parts += [rest[: i - 1], rest[i - 1 : i + 2]]
        rest = rest[i + 2 :]
    return [*parts, rest]


@given(st.text(max_size=60) | st.text(alphabet="xy+-*/^()., 0123456789eEpisncomax_'[]{}=:;@", max_size=80))
def test_any_text_is_parsed_or_rejected(text):
    try:
        parse_formula(text)(torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    except OptionError as error:
        assert error.cure and error.exit_code == 2


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "position", "suggestion"),
    [
        ("x**2 + sin(3y)", 13, "3*y"),
        ("2 x", 3, "2*x"),
        ("xy", 1, "x*y"),
        ("sinn(x)", 1, "'sin'"),
        ("x + z", 5, "e, pi, x, y"),
        ("sin x", 5, "sin(x)"),
        ("x +", 4, ""),
        ("x + * y", 5, ""),
        ("(x + 1", 1, "')'"),
        ("x + 1)", 6, "'('"),
        ("x, y", 2, ""),
        ("()", 2, ""),
        ("x(2)", 1, "x*(…)"),
        ("sin(x, y)", 1, "sin(x)"),
        ("max(x)", 1, "max(x, y)"),
        ("1e999", 1, ""),
        ("x = y", 3, ""),
        ("x + √y", 5, ""),
    ],
)
def test_syntax_errors_point_at_the_character(text, position, suggestion):
    with pytest.raises(OptionError) as error:
        parse_formula(text)
    assert (error.value.option, error.value.value) == ("formula", text)
    assert error.value.cure and suggestion in error.value.cure
    _, excerpt, caret = error.value.message.split("\n")
    assert excerpt == f"  {text}" and caret == " " * (position + 1) + "^"


@pytest.mark.parametrize(
    "text",
    ["__import__('os').system('x')", "x.__class__", "[x for x in y]", "lambda: x", "x if y else 1", "'x'", "y;x"],
)
def test_code_is_rejected(text):
    with pytest.raises(OptionError) as error:
        parse_formula(text)
    assert error.value.message.endswith("^")


def test_long_and_deep_formulas_are_rejected_and_flat_ones_are_not():
    deep = "(" * (MAX_DEPTH - 1) + "x" + ")" * (MAX_DEPTH - 1)
    assert evaluate(deep) == X
    assert evaluate("+".join("x" * (MAX_LENGTH // 2))) == pytest.approx(X * (MAX_LENGTH // 2))
    too_deep = [
        f"({deep})",
        "-" * MAX_DEPTH + "x",
        "^".join("x" * (MAX_DEPTH + 1)),
        "sin(" * MAX_DEPTH + "x" + ")" * MAX_DEPTH,
    ]
    too_long = ["(" * 100_000, "x" * (MAX_LENGTH + 1), "1" * 100_000]
    empty = ["", "  \n"]
    for text in (*too_deep, *too_long, *empty):
        with pytest.raises(OptionError) as error:
            parse_formula(text)
        assert error.value.option == "formula"
        # only syntax errors and errors of depth point at a character
        assert ("^" in error.value.message.split("\n")[-1]) == (text in too_deep)


def test_only_the_excerpt_around_the_error_is_shown_of_a_long_formula():
    with pytest.raises(OptionError) as error:
        parse_formula("x*" * 100 + "$" + "*y" * 50)
    _, excerpt, caret = error.value.message.split("\n")
    assert excerpt[caret.index("^")] == "$" and len(excerpt) < 80 and excerpt.count("…") == 2


def test_the_command_line_shows_the_caret(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.invoke(["explain", "descent", "--set", "formula=x**2 + 3y"]) == 2
    lines = capsys.readouterr().err.splitlines()
    i = next(i for i, line in enumerate(lines) if line.strip() == "x**2 + 3y")
    assert lines[i][lines[i + 1].index("^")] == "y" and "3*y" in lines[i + 2]
