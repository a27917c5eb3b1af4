"""Translated sentences, each with what the model looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from .base import DisplayedPrediction, encode_png


@dataclass(frozen=True)
class Sentence:
    """A sentence and its translation.

    Attributes:
        source: The sentence.
        text: Its translation.
        score: Log-probability of the translation, divided by a power of its length: nearer to 0 is surer.
        source_tokens: What the model read, S tokens.
        target_tokens: What it wrote, T tokens.
        attention: (T, S): where the model looked as it wrote each token; rows sum to 1. None where it is not known.
    """

    source: str
    text: str
    score: float = 0.0
    source_tokens: tuple[str, ...] = ()
    target_tokens: tuple[str, ...] = ()
    attention: np.ndarray | None = None


@dataclass(frozen=True, repr=False)
class TranslationPrediction(DisplayedPrediction):
    """The translation of a text, sentence by sentence, a line each."""

    source: str
    sentences: tuple[Sentence, ...]

    def __repr__(self) -> str:
        return f"<{self.source}: {self.text[:60]!r}>"

    @property
    def text(self) -> str:
        """The translation, a line for each line of the source."""
        return "\n".join(sentence.text for sentence in self.sentences)

    def brief(self) -> list[str]:
        """Return the lines of the translation."""
        return [sentence.text for sentence in self.sentences]

    def rows(self) -> list[dict[str, Any]]:
        """Return a row per sentence: {"source", "text"}."""
        return [{"source": sentence.source, "text": sentence.text} for sentence in self.sentences]

    def json(self) -> dict[str, Any]:
        """Return {"source", "text", "sentences"}: the name or sentence, its translation, and all by themselves."""
        sentences = []
        for sentence in self.sentences:
            sentences.append({"source": sentence.source, "text": sentence.text, "score": sentence.score})
        return {"source": self.source, "text": self.text, "sentences": sentences}

    def draw(self) -> Image.Image:
        """Draw the attention of the first sentence that has any, else the texts."""
        from ..plots.attention import plot_attention, plot_sentences

        for sentence in self.sentences:
            if sentence.attention is not None and sentence.target_tokens:
                return plot_attention(sentence.attention, sentence.source_tokens, sentence.target_tokens)
        return plot_sentences([(sentence.source, sentence.text) for sentence in self.sentences])

    def files(self) -> dict[str, bytes]:
        """Return the translation, and the drawing."""
        return {".txt": (self.text + "\n").encode("utf-8", "replace"), ".png": encode_png(self.draw())}


@dataclass(frozen=True)
class AttentionExplanation:
    """What a translator looked at: `images` by name, and the translations with their probability per token."""

    prediction: TranslationPrediction
    predictions: Sequence[tuple[str, float]]
    notes: dict[str, str] = field(default_factory=dict)

    def images(self) -> dict[str, Image.Image]:
        """Return the attention as a heat map."""
        return {"attention": self.prediction.draw()}

    def json(self) -> dict[str, Any]:
        """Return the translation, its tokens, and the attention as rows."""
        sentences = []
        for sentence in self.prediction.sentences:
            rows = [] if sentence.attention is None else sentence.attention.round(6).tolist()
            sentences.append(
                {
                    "source_tokens": list(sentence.source_tokens),
                    "target_tokens": list(sentence.target_tokens),
                    "attention": rows,
                }
            )
        return {**self.prediction.json(), "attention": sentences}
