"""Three problems that can only be solved by remembering over many steps, at any length.

Adding and temporal order: Hochreiter and Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735, experiments 4 and 6. Copy:
Arjovsky, Shah and Bengio 2016, arXiv:1511.06464, section 4.1, after the former.

Differs from 1997, as later papers do: numbers of `adding` are in [0, 1] and the target is their sum; all sequences of a
set have the same length. Of `temporal-order` the relevant symbols stand at the same fractions of the length.

N sequences, T steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

ProblemName = Literal["adding", "copy", "temporal-order"]
PROBLEMS: tuple[ProblemName, ...] = ("adding", "copy", "temporal-order")

#: different symbols that `copy` repeats, then a blank and a delimiter
NUM_COPY_SYMBOLS = 8
BLANK = 8
DELIMITER = 9
#: symbols of `temporal-order`: four distractors, X and Y, and the marks of begin and end
NUM_DISTRACTORS = 4
X, Y, BEGIN, END = 4, 5, 6, 7
#: where the relevant symbols of `temporal-order` stand, as fractions of the length
ORDER_POSITIONS = {2: ((0.1, 0.2), (0.5, 0.6)), 3: ((0.1, 0.2), (0.33, 0.43), (0.66, 0.76))}
#: what is to be remembered: numbers, symbols, symbols
DEFAULT_SYMBOLS = {"adding": 2, "copy": 10, "temporal-order": 2}
MIN_LENGTHS = {"adding": 2, "copy": 1, "temporal-order": 20}
#: an answer to `adding` is right if it is nearer than this (1997)
MAX_ERROR = 0.04
#: `adding` is solved below this mean squared error; the others below this fraction of the memoryless loss
SOLVED_MSE = 0.01
SOLVED_FRACTION = 0.1


@dataclass(frozen=True)
class Problem:
    """A problem at one length.

    Attributes:
        name: adding, copy or temporal-order.
        length: Steps of a sequence; of `copy` the blanks, whose last is the delimiter.
        symbols: What is to be remembered: 2 numbers of `adding`, symbols of the others.
    """

    name: ProblemName
    length: int
    symbols: int

    @property
    def steps(self) -> int:
        """Steps T of a sequence."""
        return self.length + 2 * self.symbols if self.name == "copy" else self.length

    @property
    def num_inputs(self) -> int:
        """Numbers that the model reads in a step: a number and a mark, or a symbol as one-hot vector."""
        return {"adding": 2, "copy": DELIMITER + 1, "temporal-order": END + 1}[self.name]

    @property
    def num_outputs(self) -> int:
        """Numbers that the model answers: the sum, logits of symbols, or logits of orders."""
        return {"adding": 1, "copy": DELIMITER + 1, "temporal-order": 2**self.symbols}[self.name]

    @property
    def memoryless_loss(self) -> float:
        """The loss of the best predictor that remembers nothing: mean squared error, else nats."""
        if self.name == "adding":
            return 1 / 6
        if self.name == "copy":
            return self.symbols * math.log(NUM_COPY_SYMBOLS) / self.steps
        return self.symbols * math.log(2)

    @property
    def solved_loss(self) -> float:
        """The loss below which the problem counts as solved."""
        return SOLVED_MSE if self.name == "adding" else SOLVED_FRACTION * self.memoryless_loss

    @property
    def title(self) -> str:
        """Name and length."""
        return f"{self.name}-{self.length}"


@dataclass(frozen=True)
class Sequences:
    """Sequences and what is to be answered.

    Attributes:
        inputs: (N, T, 2) float32 of `adding`, else symbols (N, T) uint8.
        targets: Sums (N,) float32, symbols (N, T) int64, or orders (N,) int64.
    """

    inputs: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)


def generate_sequences(problem: Problem, count: int, key: Sequence[int]) -> Sequences:
    """Make sequences.

    Args:
        problem: What they are.
        count: How many.
        key: Seeds of the random numbers; the same key makes the same sequences.

    Returns:
        The sequences.
    """
    random = np.random.default_rng(list(key))
    generators = {"adding": _generate_adding, "copy": _generate_copy, "temporal-order": _generate_temporal_order}
    return generators[problem.name](problem, count, random)


def _generate_adding(problem: Problem, count: int, random: np.random.Generator) -> Sequences:
    """Uniform numbers, two of them marked, one in each half; the target is the sum of the marked ones."""
    half = problem.length // 2
    inputs_NT2 = np.zeros((count, problem.length, 2), np.float32)
    inputs_NT2[..., 0] = random.random((count, problem.length), np.float32)
    rows_N = np.arange(count)
    first_N = random.integers(0, half, count)
    second_N = random.integers(half, problem.length, count)
    inputs_NT2[rows_N, first_N, 1] = 1
    inputs_NT2[rows_N, second_N, 1] = 1
    targets_N = inputs_NT2[rows_N, first_N, 0] + inputs_NT2[rows_N, second_N, 0]
    return Sequences(inputs_NT2, targets_N)


def _generate_copy(problem: Problem, count: int, random: np.random.Generator) -> Sequences:
    """Symbols, blanks, a delimiter, blanks; the target is blank, and after the delimiter the symbols."""
    symbols_NS = random.integers(0, NUM_COPY_SYMBOLS, (count, problem.symbols), np.uint8)
    inputs_NT = np.full((count, problem.steps), BLANK, np.uint8)
    inputs_NT[:, : problem.symbols] = symbols_NS
    inputs_NT[:, problem.symbols + problem.length - 1] = DELIMITER
    targets_NT = np.full((count, problem.steps), BLANK, np.int64)
    targets_NT[:, -problem.symbols :] = symbols_NS
    return Sequences(inputs_NT, targets_NT)


def _generate_temporal_order(problem: Problem, count: int, random: np.random.Generator) -> Sequences:
    """Distractors with two or three of X and Y among them; the target is their order as a binary number, X is 0."""
    inputs_NT = random.integers(0, NUM_DISTRACTORS, (count, problem.length), np.uint8)
    inputs_NT[:, 0] = BEGIN
    inputs_NT[:, -1] = END
    targets_N = np.zeros(count, np.int64)
    for low, high in ORDER_POSITIONS[problem.symbols]:
        position_N = random.integers(round(low * problem.length), round(high * problem.length) + 1, count)
        is_y_N = random.integers(0, 2, count)
        inputs_NT[np.arange(count), position_N] = np.where(is_y_N, Y, X)
        targets_N = 2 * targets_N + is_y_N
    return Sequences(inputs_NT, targets_N)
