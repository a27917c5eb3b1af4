"""A class with its probability: the prediction of a classifier."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from .base import DisplayedPrediction, encode_png, to_image

#: with so many classes or fewer, every class has a column of its own in CSV
MAX_COLUMNS = 10


@dataclass(frozen=True, repr=False)
class LabelPrediction(DisplayedPrediction):
    """Probabilities (K,) of `classes` for one image; `input_HWC` uint8 is the image as the model read it."""

    source: str
    classes: tuple[str, ...]
    probabilities: np.ndarray
    input_HWC: np.ndarray = field(repr=False)
    top_k: int | None = None

    def __repr__(self) -> str:
        label, probability = self.top(1)[0]
        return f"<{self.source}: {label} {probability:.3f}>"

    @property
    def label(self) -> str:
        """The most probable class."""
        return self.classes[int(self.probabilities.argmax())]

    @property
    def num_listed(self) -> int:
        """How many classes are listed: `top_k`; by default all of up to ten, else five."""
        if self.top_k is not None:
            return min(self.top_k, len(self.classes))
        if len(self.classes) <= MAX_COLUMNS:
            return len(self.classes)
        return 5

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """Return the `count` most probable classes with their probabilities, best first."""
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(self.classes[index], float(self.probabilities[index])) for index in order]

    def brief(self) -> list[str]:
        """Return a line per class, best first."""
        return [f"{probability:.3f}  {label}" for label, probability in self.top(self.num_listed)]

    def rows(self) -> list[dict[str, Any]]:
        """Return one row: a column per class where there are few, else the best by rank."""
        row: dict[str, Any] = {"source": self.source, "label": self.label}
        if self.top_k is None and len(self.classes) <= MAX_COLUMNS:
            for name, probability in zip(self.classes, self.probabilities, strict=True):
                column = name
                if column in row:
                    column = f"class {name}"
                row[column] = float(probability)
            return [row]
        for rank, (label, probability) in enumerate(self.top(self.num_listed), 1):
            row[f"label_{rank}"] = label
            row[f"probability_{rank}"] = probability
        return [row]

    def json(self) -> dict[str, Any]:
        """Return {"source", "label", "top": [{"label", "probability"}, …]}."""
        top = []
        for label, probability in self.top(self.top_k or 5):
            top.append({"label": label, "probability": probability})
        return {"source": self.source, "label": self.label, "top": top}

    @property
    def input_image(self) -> Image.Image:
        """The image as the model read it."""
        return to_image(self.input_HWC)

    def draw(self) -> Image.Image:
        """Draw the model's input beside bars of its probabilities."""
        from ..plots.class_scores import plot_probabilities

        ranked = self.top(max(self.num_listed, 10))
        labels = []
        probabilities = []
        for label, probability in ranked:
            labels.append(label)
            probabilities.append(probability)
        return plot_probabilities(self.input_HWC, labels, probabilities)

    def files(self) -> dict[str, bytes]:
        """Return the drawing, and the model's input."""
        return {".png": encode_png(self.draw()), "-input.png": encode_png(self.input_image)}
