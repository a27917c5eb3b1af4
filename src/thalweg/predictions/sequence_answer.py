"""A sequence that was made, what was to be remembered of it, and what a model answered at every step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from .base import DisplayedPrediction, encode_png


@dataclass(frozen=True, repr=False)
class SequenceAnswer(DisplayedPrediction):
    """One sequence with its target and an answer.

    Attributes:
        source: Number of the sample.
        problem: adding, copy or temporal-order.
        steps: Steps T of the sequence.
        target: Sum, order, or the symbols to repeat.
        answer: The same, as the model answered it.
        correct: Whether the answer counts as right.
        seed: What the sequence was made from.
        inputs: Numbers and marks (T, 2), or symbols (T,).
        answers_TK: Answers at every step: the sum (T, 1), else probabilities.
    """

    source: str
    problem: str
    steps: int
    target: float | str
    answer: float | str
    correct: bool
    seed: int
    inputs: np.ndarray = field(repr=False)
    answers_TK: np.ndarray = field(repr=False)

    def __repr__(self) -> str:
        return f"<{self.brief()[0]}>"

    def brief(self) -> list[str]:
        """Return one line: "sample 1, 100 steps: target 1.234, answer 1.229, right"."""
        verdict = "right" if self.correct else "wrong"
        target, answer = map(format_answer, (self.target, self.answer))
        return [f"{self.source}, {self.steps:,} steps: target {target}, answer {answer}, {verdict}"]

    def rows(self) -> list[dict[str, Any]]:
        """Return one row."""
        return [self.json()]

    def json(self) -> dict[str, Any]:
        """Return {"source", "seed", "problem", "steps", "target", "answer", "correct"}."""
        return {
            "source": self.source,
            "seed": self.seed,
            "problem": self.problem,
            "steps": self.steps,
            "target": self.target,
            "answer": self.answer,
            "correct": self.correct,
        }

    def draw(self) -> Image.Image:
        """Draw the sequence, and the answer as it forms."""
        from ..plots.memory_sequence import plot_sequence

        return plot_sequence(self.problem, self.inputs, self.answers_TK, self.target, self.brief()[0])

    def files(self) -> dict[str, bytes]:
        """Return the drawing."""
        return {".png": encode_png(self.draw())}


def format_answer(value: float | str) -> str:
    """Format a sum with three decimals; symbols stay."""
    return value if isinstance(value, str) else f"{value:.3f}"
