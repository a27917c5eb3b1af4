"""What every prediction can do, and the source that could not be read."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from PIL import Image


@runtime_checkable
class Prediction(Protocol):
    """One answer of a model: to a source, or a sample that it made."""

    @property
    def source(self) -> str:
        """The name of the source: a path, a URL, a title; for samples the number of the sample."""
        ...

    def brief(self) -> list[str]:
        """Return lines for a terminal; where models are compared, each model's lines form a column."""
        ...

    def rows(self) -> list[dict[str, Any]]:
        """Return CSV rows: one per image, box or time step, all with the same keys."""
        ...

    def json(self) -> dict[str, Any]:
        """Return one JSON object, without NaN."""
        ...

    def colored(self, color: bool) -> list[str]:
        """Return lines for a terminal that shows colors; without `color`, those of `brief`."""
        ...

    def draw(self) -> Image.Image:
        """Draw the prediction."""
        ...

    def files(self) -> dict[str, bytes]:
        """Return what --save writes, by suffix: {".png": ...}."""
        ...


def encode_png(image: Image.Image) -> bytes:
    """Encode an image as PNG."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def to_image(image_HWC: np.ndarray) -> Image.Image:
    """Convert pixels of one or three channels to an image."""
    if image_HWC.shape[2] == 1:
        return Image.fromarray(image_HWC[..., 0])
    return Image.fromarray(image_HWC)


class DisplayedPrediction:
    """Base of predictions that display themselves in a terminal and in a notebook."""

    def brief(self) -> list[str]:
        """Return lines for a terminal."""
        raise TypeError(f"{type(self).__name__} has no text")

    def colored(self, color: bool) -> list[str]:
        """Return the lines of `brief`."""
        return self.brief()

    def draw(self) -> Image.Image:
        """Draw the prediction."""
        raise TypeError(f"{type(self).__name__} cannot be drawn")

    def _repr_png_(self) -> bytes:
        return encode_png(self.draw())


@dataclass(frozen=True)
class UnreadableSource:
    """A source that could not be read, with the reason. It is false, has no label and no rows."""

    source: str
    reason: str
    label: ClassVar[None] = None

    def __bool__(self) -> bool:
        return False

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """Return no classes, so that loops over predictions survive an unreadable file."""
        return []

    def json(self) -> dict[str, Any]:
        """Return the source and the reason."""
        return {"source": self.source, "error": self.reason}
