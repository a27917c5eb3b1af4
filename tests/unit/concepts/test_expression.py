"""Formulas of x and y: the values are those of Python and NumPy, and no text does anything but be read or refused."""

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


def value(text: str, x: float = X, y: float = Y) -> float:
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
def test_what_it_means_is_what_python_means(text, expected):
    assert value(text) == pytest.approx(expected, rel=1e-15)


NUMPY = {
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "relu": lambda v: np.maximum(v, 0),
    "sigmoid": lambda v: 1 / (1 + np.exp(-v)),
}


@pytest.mark.parametrize("name", expression.UNARY_FUNCTIONS)
def test_every_function_is_numpys(name):
    for at in (0.3, 0.9, -0.4, 2.0):
        with np.errstate(invalid="ignore"):
            expected = NUMPY.get(name, getattr(np, name, None))(at)
        assert value(f"{name}(x)", at) == pytest.approx(expected, rel=1e-14, nan_ok=True)


@pytest.mark.parametrize("name", expression.UNARY_FUNCTIONS)
def test_every_function_has_its_slope(name):
    function, step = parse_formula(f"{name}(x) * y^2"), 1e-6
    x, y = torch.tensor([0.3, 0.8], dtype=torch.float64, requires_grad=True), torch.tensor(1.5, dtype=torch.float64)
    (slope,) = torch.autograd.grad(function(x, y).sum(), x)
    with torch.no_grad():
        expected = (function(x + step, y) - function(x - step, y)) / (2 * step)
    torch.testing.assert_close(slope, expected, rtol=1e-7, atol=1e-8)


# --- random formulas: ours as text, and what Python makes of the same ------------------------------------------------

ATOMS = st.sampled_from(["x", "y", "pi", "e"]) | st.integers(0, 9).map(lambda n: f"{n}.0")


def joined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Without brackets of their own, so that precedence decides."""
    operators = st.sampled_from(["+", "-", "*", "/", "**", " + ", "*-", "--"])
    two = st.tuples(inner, operators, inner).map("".join)
    three = st.tuples(inner, operators, inner, operators, inner).map("".join)
    bracket = inner.map(lambda one: f"({one})")
    one = st.tuples(st.sampled_from(["sqrt", "abs", "-", "-abs"]), bracket).map("".join)
    many = st.tuples(st.sampled_from(["min", "max"]), inner, inner).map(lambda t: f"{t[0]}({t[1]},{t[2]})")
    return two | three | bracket | one | many


FORMULAS = st.recursive(ATOMS, joined, max_leaves=12).filter(lambda text: len(text) <= MAX_LENGTH)
NAMES = {"sqrt": np.sqrt, "abs": np.abs, "min": np.minimum, "max": np.maximum}
NAMES |= {"pi": np.float64(math.pi), "e": np.float64(math.e), "n": np.float64, "__builtins__": {}}


@given(FORMULAS, st.sampled_from([-2.0, -0.5, 0.0, 1.5, 3.0]), st.sampled_from([-1.0, 0.0, 0.25, 2.0]))
def test_random_formulas_have_the_value_that_python_gives_them(text, x, y):
    """Only operations that every library rounds alike, so that nothing but a misreading can make a difference."""
    numbers = "".join(f"n({part})" if part.endswith(".0") else part for part in _parts(text))
    with np.errstate(all="ignore"):
        expected = eval(numbers, {**NAMES, "x": np.float64(x), "y": np.float64(y)})  # noqa: S307 - the reference
    np.testing.assert_allclose(value(text, x, y), expected, rtol=1e-9, atol=1e-9)


def _parts(text: str) -> list[str]:
    """The text cut around its numbers, which all are a digit and '.0'."""
    parts, rest = [], text
    while ".0" in rest:
        place = rest.index(".0")
        parts += [rest[: place - 1], rest[place - 1 : place + 2]]
        rest = rest[place + 2 :]
    return [*parts, rest]


@given(st.text(max_size=60) | st.text(alphabet="xy+-*/^()., 0123456789eEpisncomax_'[]{}=:;@", max_size=80))
def test_any_text_is_read_or_refused(text):
    try:
        parse_formula(text)(torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    except OptionError as error:
        assert error.cure and error.exit_code == 2


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("x**2 + sin(3y)", 13, "between '3' and 'y' an operator is missing.*write 3\\*y"),
        ("2 x", 3, "operator is missing"),
        ("xy", 1, "'xy' is not known.*write x\\*y"),
        ("sinn(x)", 1, "'sinn' is not known.*'sin'"),
        ("x + z", 5, "'z' is not known.*Known: e, pi, x, y"),
        ("sin x", 5, "after the function 'sin' its bracket is missing"),
        ("x +", 4, "the formula ends where"),
        ("x + * y", 5, "there is '\\*' where"),
        ("(x + 1", 1, "bracket is not closed"),
        ("x + 1)", 6, "nothing before this '\\)'"),
        ("x, y", 2, "nothing before this ','"),
        ("()", 2, "there is '\\)' where"),
        ("x(2)", 1, "'x' is not a function"),
        ("sin(x, y)", 1, "takes one number, not 2"),
        ("max(x)", 1, "needs at least two"),
        ("1e999", 1, "too large"),
        ("x = y", 3, "'=' has no meaning"),
        ("x + √y", 5, "'√' has no meaning"),
    ],
)
def test_a_mistake_is_pointed_at(text, place, said):
    with pytest.raises(OptionError, match=f"(?s)at character {place}: .*{said}") as raised:
        parse_formula(text)
    _, shown, caret = raised.value.message.split("\n")
    assert shown == f"  {text}" and caret == " " * (place + 1) + "^"


@pytest.mark.parametrize(
    "text",
    ["__import__('os').system('x')", "x.__class__", "[x for x in y]", "lambda: x", "x if y else 1", "'x'", "y;x"],
)
def test_programs_are_no_formulas(text):
    with pytest.raises(OptionError, match="at character"):
        parse_formula(text)


def test_long_and_deep_formulas_are_refused_and_flat_ones_are_not():
    deep = "(" * (MAX_DEPTH - 1) + "x" + ")" * (MAX_DEPTH - 1)
    assert value(deep) == X
    for text in (
        f"({deep})",
        "-" * MAX_DEPTH + "x",
        "^".join("x" * (MAX_DEPTH + 1)),
        "sin(" * MAX_DEPTH + "x" + ")" * MAX_DEPTH,
    ):
        with pytest.raises(OptionError, match=f"more than {MAX_DEPTH} parts"):
            parse_formula(text)
    assert value("+".join("x" * (MAX_LENGTH // 2))) == pytest.approx(X * (MAX_LENGTH // 2))
    for text in ("(" * 100_000, "x" * (MAX_LENGTH + 1), "1" * 100_000):
        with pytest.raises(OptionError, match="characters"):
            parse_formula(text)
    for text in ("", "  \n"):
        with pytest.raises(OptionError, match="empty"):
            parse_formula(text)


def test_of_a_long_formula_only_the_part_around_the_mistake_is_shown():
    with pytest.raises(OptionError) as raised:
        parse_formula("x*" * 100 + "$" + "*y" * 50)
    _, shown, caret = raised.value.message.split("\n")
    assert shown[caret.index("^")] == "$" and len(shown) < 80 and shown.count("…") == 2


def test_the_command_line_points_too(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.invoke(["explain", "descent", "--set", "formula=x**2 + 3y"]) == 2
    told = capsys.readouterr().err.splitlines()
    at = next(number for number, line in enumerate(told) if line.strip() == "x**2 + 3y")
    assert told[at][told[at + 1].index("^")] == "y" and "3*y" in told[at + 2]
