"""Test functions of two parameters for optimizers, with gradients by automatic differentiation.

Rosenbrock 1960, doi:10.1093/comjnl/3.3.175; Beale 1958 and Himmelblau 1972 as listed by Surjanovic and Bingham,
sfu.ca/~ssurjano. The others are the simplest polynomials with the shape in question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .expression import Function, parse_formula

#: left, right, bottom, top
Window = tuple[float, float, float, float]


@dataclass(frozen=True)
class TestFunction:
    """A loss f(x, y) with a window to show and a start point.

    `minima` are all local minima, lowest first. `noise` is the standard deviation of Gaussian noise on each of the two
    partial derivatives.
    """

    title: str
    function: Function
    window: Window
    start: tuple[float, float]
    minima: tuple[tuple[float, float], ...] = ()
    noise: float = 0.0

    def evaluate(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (loss, ∂loss/∂x, ∂loss/∂y) at points, each in the shape of `x` and `y`."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            y = y.detach().requires_grad_()
            # adding 0 · (x + y) gives a constant formula its shape and a derivative of zero
            loss = self.function(x, y) + 0 * (x + y)
            gradient_x, gradient_y = torch.autograd.grad(loss.sum(), (x, y))
        return loss.detach(), gradient_x, gradient_y

    def evaluate_at(self, point: Sequence[float]) -> tuple[float, float, float]:
        """Return (loss, ∂loss/∂x, ∂loss/∂y) at one point, as Python numbers."""
        x, y = torch.tensor(point, dtype=torch.float64)
        loss, gradient_x, gradient_y = self.evaluate(x, y)
        return float(loss), float(gradient_x), float(gradient_y)

    def max_curvature(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the largest absolute eigenvalue of the Hessian at points, by central differences of the gradient."""
        h = 1e-4 * (self.window[1] - self.window[0])
        _, right_x, right_y = self.evaluate(x + h, y)
        _, left_x, left_y = self.evaluate(x - h, y)
        _, _, upper_y = self.evaluate(x, y + h)
        _, _, lower_y = self.evaluate(x, y - h)
        a = (right_x - left_x) / (2 * h)
        b = (right_y - left_y) / (2 * h)
        c = (upper_y - lower_y) / (2 * h)
        # largest absolute eigenvalue of the symmetric matrix [[a, b], [b, c]]
        return (a + c).abs() / 2 + torch.sqrt((a - c) ** 2 / 4 + b**2)


#: how many times the curvature across the valley exceeds the curvature along it
VALLEY_RATIO = 25


def _valley(x: Tensor, y: Tensor) -> Tensor:
    return (x**2 + VALLEY_RATIO * y**2) / 2


def _saddle(x: Tensor, y: Tensor) -> Tensor:
    return x**2 / 2 + (y**2 - 1) ** 2 / 4


def _two_basins(x: Tensor, y: Tensor) -> Tensor:
    # the derivative along x is (x + 1) x (x - 2): a basin, a ridge, a deeper basin
    return x**4 / 4 - x**3 / 3 - x**2 + 8 / 3 + y**2


def _rosenbrock(x: Tensor, y: Tensor) -> Tensor:
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def _beale(x: Tensor, y: Tensor) -> Tensor:
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def _himmelblau(x: Tensor, y: Tensor) -> Tensor:
    return (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2


def _bowl(x: Tensor, y: Tensor) -> Tensor:
    return (x**2 + 4 * y**2) / 2


TEST_FUNCTIONS = {
    "valley": TestFunction(
        f"A valley, {VALLEY_RATIO} times as steep across as along",
        _valley,
        window=(-4, 4, -4, 4),
        start=(-3.4, 3),
        minima=((0, 0),),
    ),
    "saddle": TestFunction(
        "A saddle point between two minima",
        _saddle,
        window=(-2, 2, -2, 2),
        start=(-1.7, 1e-6),
        minima=((0, 1), (0, -1)),
    ),
    "two-basins": TestFunction(
        "A local minimum beside the global one",
        _two_basins,
        window=(-2.5, 3, -2.75, 2.75),
        start=(-2, 1.7),
        minima=((2, 0), (-1, 0)),
    ),
    "rosenbrock": TestFunction(
        "Rosenbrock's function",
        _rosenbrock,
        window=(-2, 2, -1, 3),
        start=(-0.6, 2.4),
        minima=((1, 1),),
    ),
    "beale": TestFunction(
        "Beale's function",
        _beale,
        window=(-4.5, 4.5, -4.5, 4.5),
        start=(1, 1.5),
        minima=((3, 0.5),),
    ),
    "himmelblau": TestFunction(
        "Himmelblau's function",
        _himmelblau,
        window=(-5, 5, -5, 5),
        start=(0, -0.5),
        minima=((3, 2), (-2.805118, 3.131312), (-3.779310, -3.283186), (3.584428, -1.848126)),
    ),
    "noisy": TestFunction(
        "A bowl with noisy gradients",
        _bowl,
        window=(-4, 4, -4, 4),
        start=(-3.4, 3),
        minima=((0, 0),),
        noise=1.0,
    ),
}


def from_formula(text: str) -> TestFunction:
    """Build a test function from a formula of x and y. Raises OptionError for invalid formulas."""
    return TestFunction(f"f(x, y) = {' '.join(text.split())}", parse_formula(text), (-3, 3, -3, 3), (-2, 2))
