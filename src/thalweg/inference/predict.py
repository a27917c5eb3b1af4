"""Answers for anything that holds a picture: files, folders, patterns, addresses, bytes, arrays, Pillow images."""

from __future__ import annotations

import glob
import io
import os
import re
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..data.images.image_decoding import EXTENSIONS, describe_error
from ..data.images.image_loading import prefetch_map
from ..errors import DataError, NonFiniteError, OptionError, ResourceError
from ..io.download import is_offline

#: an address may send at most this much
MAX_BYTES = 50_000_000


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
        from ..plots.class_scores import plot_probabilities

        ranked = self.top(max(self.most, 10))
        return plot_probabilities(self.seen_HWC, [label for label, _ in ranked], [p for _, p in ranked])


@dataclass(frozen=True)
class UnreadableImage:
    """A source that no answer can be given to, and why."""

    source: str
    reason: str


class RemoteImage:
    """A picture that is still to be fetched: once, and kept until each of its `readers`, the networks, has read it."""

    def __init__(self, url: str, readers: int = 1):
        self.url, self.readers, self._lock = url, readers, threading.Lock()
        self._sent: bytes | ResourceError | None = None

    def read(self, offline: bool) -> bytes:
        """What the address sends. Raises ResourceError."""
        with self._lock:
            if self._sent is None:
                try:
                    self._sent = download(self.url, offline)
                except ResourceError as error:
                    self._sent = error
            sent, self.readers = self._sent, self.readers - 1
            if self.readers <= 0:
                self._sent = None
        if isinstance(sent, ResourceError):
            raise sent
        return sent


class ImageSource(NamedTuple):
    """One of the sources by name: a path, an address, bytes, an array, a Pillow image, or why it is none of these."""

    name: str
    content: Any

    def read(self, offline: bool = False) -> Any:
        """What is to be looked at. Raises DataError where there is nothing, ResourceError where it is not fetched."""
        if isinstance(self.content, UnreadableImage):
            raise DataError(self.content.reason)
        return self.content.read(offline) if isinstance(self.content, RemoteImage) else self.content


def predict_images(
    sources: Any,
    see: Callable[[Any], np.ndarray],
    ask: Callable[[Tensor], Tensor],
    classes: Sequence[str],
    top: int = 5,
    batch: int = 64,
    save: Any = None,
    offline: bool = False,
) -> Iterator[Prediction | UnreadableImage]:
    """An answer per picture, in order; pictures of them into the folder `save`, if given.

    `see` turns a source into what the network sees (H, W, C) uint8, `ask` a batch of those into probabilities (B, K).
    Raises DataError if there are no sources, NonFinite where the network answers with what is no number.
    """

    def answered(waiting: list[tuple[str, np.ndarray]]) -> Iterator[Prediction]:
        probabilities = ask(torch.from_numpy(np.stack([example for _, example in waiting]))).numpy() if waiting else ()
        for (name, example), row in zip(waiting, probabilities, strict=True):
            check_finite(row, name)
            prediction = Prediction(name, tuple(classes), row, example, top)
            if save is not None:
                _save(prediction, Path(save))
            yield prediction

    def looked(picture: ImageSource) -> tuple[str, np.ndarray | str]:
        """The name of a source, and what the network sees of it, or why it sees nothing."""
        try:
            return picture.name, see(picture.read(offline))
        except (DataError, ResourceError) as error:
            if isinstance(error, ResourceError) and not isinstance(picture.content, RemoteImage):
                raise
            return picture.name, f"{error.message} {error.cure}".strip()

    waiting, none = [], True
    for name, example in prefetch_map(looked, iter_sources(sources)):  # threads read while the network answers
        none = False
        if isinstance(example, str):
            yield from answered(waiting)
            waiting = []
            yield UnreadableImage(name, example)
        else:
            waiting.append((name, example))
        if len(waiting) == batch:
            yield from answered(waiting)
            waiting = []
    yield from answered(waiting)
    if none:
        endings = ", ".join(sorted(EXTENSIONS))
        raise DataError("There is no picture among the sources.", cure=f"Give files that end in {endings}.")


def check_finite(probabilities: np.ndarray, name: str) -> None:
    """Raises NonFinite where an answer to the picture of that name is no number: its label would mean nothing."""
    if not np.isfinite(probabilities).all():
        raise NonFiniteError(
            f"{name}: the network's answer is not a number.",
            cure="Its weights are not finite, or too large: give others, or train again with a smaller --lr.",
        )


def _save(prediction: Prediction, folder: Path) -> None:
    """NAME.png, the answer drawn, and NAME-seen.png, what the network saw; existing files are not overwritten."""
    from ..runs import artifacts as leave

    stem = re.sub(r"[^\w.-]+", "_", Path(prediction.source).stem)[:80] or "picture"
    number, name = 1, stem
    while any(os.path.lexists(folder / f"{name}{end}.png") for end in ("", "-seen")):
        number += 1
        name = f"{stem}-{number}"
    leave.save_images({name: prediction.draw(), f"{name}-seen": prediction.seen}, folder)


def iter_sources(sources: Any, readers: int = 1) -> Iterator[ImageSource]:
    """Every picture among the sources, for so many `readers`; folders and patterns are opened up in sorted order.

    What this gave may be given again, and stays as it is. Raises DataError for what can be no source, and OptionError
    for an empty name.
    """
    if isinstance(sources, (str, os.PathLike, bytes, Image.Image, np.ndarray)):
        sources = [sources]
    if not isinstance(sources, Iterable) or isinstance(sources, io.IOBase):
        raise _source_error(sources)
    for number, source in enumerate(sources):
        if isinstance(source, ImageSource):
            yield source
        elif isinstance(source, bytes):
            yield ImageSource("-", source)
        elif isinstance(source, (Image.Image, np.ndarray)):
            yield ImageSource(getattr(source, "filename", "") or f"picture {number}", source)
        elif is_url(source):
            yield ImageSource(source, RemoteImage(source, readers))
        elif isinstance(source, (str, os.PathLike)):
            yield from _find_files(os.fspath(source))
        else:
            raise _source_error(source)


def _source_error(source: Any) -> DataError:
    return DataError(
        f"{type(source).__name__} is no kind of source of pictures.",
        cure="Give a path, an address, the bytes of a file, an array or a Pillow image.",
    )


def _find_files(source: str) -> Iterator[ImageSource]:
    """The picture files that a path or a pattern means, or why there are none."""
    if not source:
        raise OptionError("A source is empty.", cure="Give a file, a folder, a pattern or an address.")
    found, closed, why = [source], [], "there is no picture in it"
    try:
        if stat.S_ISDIR(os.stat(source).st_mode):
            walked = os.walk(source, onerror=closed.append)
            files = (Path(folder, name) for folder, _, names in walked for name in names)
            found = [str(path) for path in sorted(filter(_is_image_file, files))]
    except (OSError, ValueError) as error:
        found = sorted(filter(os.path.isfile, glob.glob(source, recursive=True))) if glob.has_magic(source) else []
        why = describe_error(error, source)
    if not found and not closed:
        yield ImageSource(source, UnreadableImage(source, why))
    yield from (ImageSource(path, Path(path)) for path in found)
    for error in closed:  # a folder that may not be read is no empty one
        yield ImageSource(error.filename, UnreadableImage(error.filename, describe_error(error, error.filename)))


def _is_image_file(path: Path) -> bool:
    """Whether a file of a folder is taken for a picture: not a pipe, for which one would wait; but a broken link is."""
    named = path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")
    return named and (os.path.isfile(path) or not os.path.exists(path))


def is_url(source: Any) -> bool:
    """Whether a source is to be fetched: it was named as http:// or https://."""
    return isinstance(source, str) and source.lower().startswith(("http://", "https://"))


def download(address: str, offline: bool) -> bytes:
    """What an address sends, at most 50 MB. Raises ResourceError, which leaves it to others to name the address."""
    from http.client import HTTPException
    from urllib.error import URLError
    from urllib.request import urlopen

    if offline or is_offline():
        raise ResourceError(
            "It was not fetched: the network is not to be used.", cure="Leave out --offline and THALWEG_OFFLINE."
        )
    try:
        with urlopen(address, timeout=30) as answer:  # the scheme was checked by is_address
            content = answer.read(MAX_BYTES + 1)
    except (URLError, HTTPException, OSError, ValueError) as error:
        raise ResourceError(f"It could not be fetched: {error}.", cure="Check the address and the network.") from error
    if len(content) > MAX_BYTES:
        raise ResourceError(f"It sends more than {MAX_BYTES // 1_000_000} MB.", cure="Download it and make it smaller.")
    return content
