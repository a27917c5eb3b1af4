"""Sampling from a character model: temperature, then top-k, then top-p.

Top-k: Fan, Lewis, Dauphin 2018, arXiv:1805.04833. Top-p: Holtzman et al. 2020, arXiv:1904.09751.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...metrics.text import use_single_thread
from .recurrent import CharacterModel
from .stepping import Stepper

_SENTENCE_ENDS = (".", "!", "?", "…")


@dataclass(frozen=True)
class Sampler:
    """How the next token is drawn from the logits."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def probabilities(self, logits_V: Tensor) -> Tensor:
        """Return the probabilities (V,) float64 from which the next token is drawn.

        Args:
            logits_V: Logits; -inf for tokens that must not be drawn.

        Returns:
            The softmax of logits / temperature, cut to the `top_k` most probable tokens and then to the smallest set of
            tokens that together have at least `top_p`; the rest is 0. Among equals the token with the lower index wins.
        """
        scaled_V = logits_V.double() / self.temperature
        scaled_V = scaled_V - scaled_V.max()  # a tiny temperature must not overflow
        probabilities_V, order_V = scaled_V.softmax(0).sort(descending=True, stable=True)
        if self.top_k is not None:
            probabilities_V[self.top_k :] = 0
            probabilities_V /= probabilities_V.sum()
        if self.top_p is not None:
            before_V = probabilities_V.cumsum(0) - probabilities_V
            probabilities_V[before_V >= self.top_p] = 0
            probabilities_V /= probabilities_V.sum()
        return torch.zeros_like(probabilities_V).scatter(0, order_V, probabilities_V)


@torch.inference_mode()
def generate_tokens(
    model: nn.Module, prompt: Sequence[int], sampler: Sampler, seed: int, forbidden: Sequence[int] = ()
) -> Iterator[int]:
    """Yield tokens without end, each drawn given all before it.

    Args:
        model: A character model in evaluation mode.
        prompt: Tokens that are read first, at least one.
        sampler: How tokens are drawn.
        seed: Seed of the draws; the same on every device.
        forbidden: Tokens that are never drawn.

    Yields:
        The next token.
    """
    generator = torch.Generator().manual_seed(seed)
    step = make_step(model)
    *context, token = prompt
    for earlier in context:
        step(earlier)
    while True:
        with use_single_thread():
            logits_V = step(token).float().cpu()
        logits_V[list(forbidden)] = float("-inf")
        cumulative_V = sampler.probabilities(logits_V).cumsum(0)
        draw = torch.rand((), generator=generator, dtype=torch.float64) * cumulative_V[-1]
        token = int(torch.searchsorted(cumulative_V, draw, right=True))
        yield token


def make_step(model: nn.Module) -> Callable[[int], Tensor]:
    """Return a function that reads one token of a text and returns the logits (V,) of the next."""
    device = next(model.parameters()).device
    if isinstance(model, CharacterModel) and device.type == "cpu":
        return Stepper(model).step
    state = None

    def step(token: int) -> Tensor:
        nonlocal state
        logits_BTV, state = model(torch.tensor([[token]], device=device), state)
        return logits_BTV[0, -1]

    return step


def cut_at_end(characters: Iterator[str], stop: str) -> Iterator[str]:
    """Yield characters up to the first end of a sentence or a paragraph, the last one included.

    Args:
        characters: The characters of a sample.
        stop: "length" yields them all; "sentence" ends after a period, question or exclamation mark that white space
            follows; "paragraph" after an empty line.

    Yields:
        Characters.
    """
    last = ""
    for character in characters:
        if stop == "sentence" and last in _SENTENCE_ENDS and character.isspace():
            return
        yield character
        if stop == "paragraph" and last == character == "\n":
            return
        last = character
