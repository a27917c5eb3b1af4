"""Surfaces of two numbers to go down on: each is a loss over the plane, with its gradient by differentiation.

Rosenbrock 1960, doi:10.1093/comjnl/3.3.175; Beale 1958 and Himmelblau 1972 as listed by Surjanovic and Bingham,
sfu.ca/~ssurjano. The others are the plainest polynomials that have the shape in question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .expression import Function, parse_formula


@dataclass(frozen=True)
class TestFunction:
    """A loss over the plane, what of the plane is shown, where to start, and what is known of it.

    `window` is (left, right, lower, upper) and `minima` all points of no lower neighbour, the lowest first; `noise` is
    the standard deviation of what is added to each of the gradient's two numbers.
    """

    title: str
    function: Function
    window: tuple[float, float, float, float]
    start: tuple[float, float]
    minima: tuple[tuple[float, float], ...] = ()
    noise: float = 0.0

    def slope(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(loss, its derivative along x, along y) at points, each in the shape of `x` and `y`."""
        with torch.enable_grad():
            x, y = x.detach().requires_grad_(), y.detach().requires_grad_()
            # the last term gives a formula without x or y its shape and its derivative of zero
            loss = self.function(x, y) + 0 * (x + y)
            along_x, along_y = torch.autograd.grad(loss.sum(), (x, y))
        return loss.detach(), along_x, along_y

    def at(self, point: Sequence[float]) -> tuple[float, float, float]:
        """(loss, derivative along x, along y) at a point, in plain numbers."""
        return tuple(map(float, self.slope(*torch.tensor(point, dtype=torch.float64))))

    def curvature(self, x: Tensor, y: Tensor) -> Tensor:
        """The largest size of a second derivative in any direction at points, by differences of the slopes."""
        step = 1e-4 * (self.window[1] - self.window[0])
        (_, xx, xy), (_, below_xx, below_xy) = self.slope(x + step, y), self.slope(x - step, y)
        (_, _, yy), (_, _, below_yy) = self.slope(x, y + step), self.slope(x, y - step)
        a, b, c = ((high - low) / (2 * step) for high, low in ((xx, below_xx), (xy, below_xy), (yy, below_yy)))
        # of a symmetric matrix [[a, b], [b, c]] the eigenvalue that is largest in size
        return (a + c).abs() / 2 + torch.sqrt((a - c) ** 2 / 4 + b**2)


#: how many times steeper across the valley than along it
VALLEY_RATIO = 25


def _valley(x: Tensor, y: Tensor) -> Tensor:
    return (x**2 + VALLEY_RATIO * y**2) / 2


def _saddle(x: Tensor, y: Tensor) -> Tensor:
    return x**2 / 2 + (y**2 - 1) ** 2 / 4


def _two_basins(x: Tensor, y: Tensor) -> Tensor:
    # the slope along x is (x + 1) x (x - 2): a basin, a ridge, a deeper basin
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
        f"A valley, {VALLEY_RATIO} times as steep across as along", _valley, (-4, 4, -4, 4), (-3.4, 3), ((0, 0),)
    ),
    "saddle": TestFunction("A saddle between two minima", _saddle, (-2, 2, -2, 2), (-1.7, 1e-6), ((0, 1), (0, -1))),
    "two-basins": TestFunction(
        "A local minimum beside the global one", _two_basins, (-2.5, 3, -2.75, 2.75), (-2, 1.7), ((2, 0), (-1, 0))
    ),
    "rosenbrock": TestFunction("Rosenbrock's banana", _rosenbrock, (-2, 2, -1, 3), (-0.6, 2.4), ((1, 1),)),
    "beale": TestFunction("Beale's function", _beale, (-4.5, 4.5, -4.5, 4.5), (1, 1.5), ((3, 0.5),)),
    "himmelblau": TestFunction(
        "Himmelblau's four minima",
        _himmelblau,
        (-5, 5, -5, 5),
        (0, -0.5),
        ((3, 2), (-2.805118, 3.131312), (-3.779310, -3.283186), (3.584428, -1.848126)),
    ),
    "noisy": TestFunction(
        "A bowl of which only noisy slopes are seen", _bowl, (-4, 4, -4, 4), (-3.4, 3), ((0, 0),), 1.0
    ),
}


def from_formula(text: str) -> TestFunction:
    """The surface that a formula of x and y writes down. Raises OptionError where it is none."""
    return TestFunction(f"f(x, y) = {' '.join(text.split())}", parse_formula(text), (-3, 3, -3, 3), (-2, 2))
