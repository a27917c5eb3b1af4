"""Answers for anything that holds a picture: files, folders, patterns, addresses, bytes, arrays, Pillow images."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .data.pictures import ahead
from .errors import DataError, ResourceError

#: files of a folder that are taken for pictures
ENDINGS = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".pgm", ".ppm", ".pbm"}
#: an address may send at most this much
MOST_BYTES = 50_000_000


@dataclass(frozen=True)
class Prediction:
    """The answer to one picture: `probabilities` (K,) of `classes`; `seen` (H, W, C) uint8 is what the network got."""

    source: str
    classes: tuple[str, ...]
    probabilities: np.ndarray
    seen_HWC: np.ndarray = field(repr=False)
    most: int = 5

    @property
    def label(self) -> str:
        """The most probable class."""
        return self.classes[int(self.probabilities.argmax())]

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """The `count` most probable classes with their probabilities, best first."""
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(self.classes[k], float(self.probabilities[k])) for k in order]

    def json(self) -> dict[str, Any]:
        """{"source", "label", "top": [{"label", "probability"}, …]}."""
        top = [{"label": label, "probability": probability} for label, probability in self.top(self.most)]
        return {"source": self.source, "label": self.label, "top": top}

    @property
    def seen(self) -> Image.Image:
        """What the network saw."""
        return Image.fromarray(self.seen_HWC[..., 0] if self.seen_HWC.shape[2] == 1 else self.seen_HWC)

    def draw(self) -> Image.Image:
        """What the network saw beside bars of its probabilities."""
        from .draw.scores import probabilities

        ranked = self.top(max(self.most, 10))
        return probabilities(self.seen_HWC, [label for label, _ in ranked], [p for _, p in ranked])


@dataclass(frozen=True)
class Unreadable:
    """A source that no answer can be given to, and why."""

    source: str
    reason: str


def predict(
    sources: Any,
    see: Callable[[Any], np.ndarray],
    ask: Callable[[Tensor], Tensor],
    classes: Sequence[str],
    top: int = 5,
    batch: int = 64,
    save: Any = None,
    offline: bool = False,
) -> Iterator[Prediction | Unreadable]:
    """An answer per picture, in order; pictures of them into the folder `save`, if given.

    `see` turns a source into what the network sees (H, W, C) uint8, `ask` a batch of those into probabilities (B, K).
    Raises DataError if there is no picture at all among the sources.
    """

    def answered(waiting: list[tuple[str, np.ndarray]]) -> Iterator[Prediction]:
        probabilities = ask(torch.from_numpy(np.stack([example for _, example in waiting]))).numpy() if waiting else ()
        for (name, example), row in zip(waiting, probabilities, strict=True):
            prediction = Prediction(name, tuple(classes), row, example, top)
            if save is not None:
                save_pictures(prediction, Path(save))
            yield prediction

    def looked(found: tuple[str, Any]) -> tuple[str, np.ndarray | str]:
        """The name of a source, and what the network sees of it, or why it sees nothing."""
        name, source = found
        try:
            return name, see(download(source, offline) if is_address(source) else source)
        except (DataError, ResourceError) as error:
            if isinstance(error, ResourceError) and not is_address(source):
                raise
            return name, error.message

    waiting, none = [], True
    for name, example in ahead(looked, pictures(sources)):  # threads read while the network answers
        none = False
        if isinstance(example, str):
            yield from answered(waiting)
            waiting = []
            yield Unreadable(name, example)
        else:
            waiting.append((name, example))
        if len(waiting) == batch:
            yield from answered(waiting)
            waiting = []
    yield from answered(waiting)
    if none:
        endings = ", ".join(sorted(ENDINGS))
        raise DataError("There is no picture among the sources.", cure=f"Give files that end in {endings}.")


def save_pictures(prediction: Prediction, folder: Path) -> None:
    """NAME.png, the answer drawn, and NAME-seen.png, what the network saw; existing files are not overwritten."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = re.sub(r"[^\w.-]+", "_", Path(prediction.source).stem)[:80] or "picture"
    number, name = 1, stem
    while (folder / f"{name}.png").exists():
        number += 1
        name = f"{stem}-{number}"
    try:
        prediction.draw().save(folder / f"{name}.png")
        prediction.seen.save(folder / f"{name}-seen.png")
    except OSError as error:
        raise ResourceError(f"Could not write {folder / name}.png: {error.strerror or error}.") from error


def pictures(sources: Any) -> Iterator[tuple[str, Any]]:
    """(name, content) of every picture; folders and patterns are opened up in sorted order."""
    if isinstance(sources, (str, os.PathLike, bytes, Image.Image, np.ndarray)):
        sources = [sources]
    if not isinstance(sources, Iterable):
        raise DataError(
            f"A {type(sources).__name__} is no source of pictures.",
            cure="Give a path, an address, an array or a Pillow image.",
        )
    for number, source in enumerate(sources):
        if isinstance(source, bytes):
            yield "-", source
        elif not isinstance(source, (str, os.PathLike)):
            yield getattr(source, "filename", "") or f"picture {number}", source
        elif is_address(source):
            yield str(source), str(source)
        elif Path(source).is_dir():
            files = sorted(
                p for p in Path(source).rglob("*") if p.suffix.lower() in ENDINGS and not p.name.startswith(".")
            )
            yield from ((str(p), p) for p in files)
        elif not Path(source).exists() and glob.has_magic(str(source)):
            yield from ((p, Path(p)) for p in sorted(glob.glob(str(source), recursive=True)) if Path(p).is_file())
        else:
            yield str(source), Path(source)


def is_address(source: Any) -> bool:
    """Whether a source is to be fetched: it was named as http:// or https://."""
    return isinstance(source, str) and source.startswith(("http://", "https://"))


def download(address: str, offline: bool) -> bytes:
    """What an address sends, at most 50 MB. Raises ResourceError."""
    from http.client import HTTPException
    from urllib.error import URLError
    from urllib.request import urlopen

    if offline or os.environ.get("THALWEG_OFFLINE") == "1":
        raise ResourceError(f"{address} was not fetched: the network is not to be used.", cure="Leave out --offline.")
    try:
        with urlopen(address, timeout=30) as answer:  # the scheme was checked by is_address
            content = answer.read(MOST_BYTES + 1)
    except (URLError, HTTPException, OSError, ValueError) as error:
        raise ResourceError(f"{address} could not be fetched: {error}.") from error
    if len(content) > MOST_BYTES:
        raise ResourceError(f"{address} sends more than {MOST_BYTES // 1_000_000} MB.")
    return content
