"""Sources of predictions: files, folders, patterns, URLs, bytes, text, arrays, data frames, Pillow images."""

from __future__ import annotations

import glob
import io
import os
import stat
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from ..data.images.image_decoding import EXTENSIONS, describe_error
from ..data.series.table import is_frame
from ..errors import DataError, OptionError, ResourceError
from ..io.download import is_offline
from ..predictions.base import UnreadableSource
from ..tasks.base import InputType

#: a URL may send at most this much
MAX_BYTES = 50_000_000
#: endings of the files that are looked for in folders
SUFFIXES = {
    InputType.IMAGE: frozenset(EXTENSIONS),
    InputType.TEXT: frozenset({".txt", ".md"}),
    InputType.TABLE: frozenset({".csv", ".tsv", ".parquet"}),
    InputType.VIDEO: frozenset({".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif"}),
}


class RemoteFile:
    """A URL that is fetched once, and kept until each of `num_models` models has read it."""

    def __init__(self, url: str, num_models: int = 1):
        self.url = url
        self.num_models = num_models
        self._lock = threading.Lock()
        self._response: bytes | ResourceError | None = None

    def read(self, offline: bool) -> bytes:
        """Return what the URL sends. Raises ResourceError."""
        with self._lock:
            if self._response is None:
                try:
                    self._response = download(self.url, offline)
                except ResourceError as error:
                    self._response = error
            response = self._response
            self.num_models -= 1
            if self.num_models <= 0:
                self._response = None
        if isinstance(response, ResourceError):
            raise response
        return response


@dataclass(frozen=True)
class Source:
    """One source by name: a path, a URL, bytes, text, an array, a Pillow image, or why it is none of these."""

    name: str
    content: Any

    def read(self, offline: bool = False) -> Any:
        """Return what is to be preprocessed. Raises DataError where there is nothing, ResourceError without network."""
        if isinstance(self.content, UnreadableSource):
            raise DataError(self.content.reason)
        return self.content.read(offline) if isinstance(self.content, RemoteFile) else self.content


def iter_sources(sources: Any, input_type: InputType, num_models: int = 1) -> Iterator[Source]:
    """Yield every source; folders and patterns are expanded in sorted order.

    What this yielded may be given again. Raises DataError for what can be no source, and OptionError for an empty name.
    """
    if isinstance(sources, str | os.PathLike | bytes | Image.Image | np.ndarray | Tensor) or is_frame(sources):
        sources = [sources]
    if not isinstance(sources, Iterable) or isinstance(sources, io.IOBase):
        raise _source_error(sources)
    for index, source in enumerate(sources):
        yield from _expand(source, index, input_type, num_models)


def _expand(source: Any, index: int, input_type: InputType, num_models: int) -> Iterator[Source]:
    if isinstance(source, Source):
        yield source
    elif isinstance(source, bytes):
        yield Source("-", source)
    elif isinstance(source, Image.Image | np.ndarray | Tensor):
        yield Source(getattr(source, "filename", "") or f"{input_type.value} {index}", source)
    elif is_frame(source):
        yield Source(f"{input_type.value} {index}", source)
    elif is_url(source):
        yield Source(source, RemoteFile(source, num_models))
    elif input_type is InputType.TEXT and isinstance(source, str) and _is_plain_text(source):
        yield Source(source.strip()[:40] or "text", source)
    elif isinstance(source, str | os.PathLike):
        yield from _find_files(os.fspath(source), input_type)
    else:
        raise _source_error(source)


def _is_plain_text(source: str) -> bool:
    """Whether a word of the command line is a text itself: neither a file, a pattern nor a misspelled file name."""
    try:
        if os.path.lexists(source):
            return False
    except ValueError:
        return True
    if any(character.isspace() for character in source):
        return True
    is_file_name = Path(source).suffix.lower() in SUFFIXES[InputType.TEXT] or os.sep in source
    return bool(source) and not is_file_name and not glob.has_magic(source)


def _source_error(source: Any) -> DataError:
    return DataError(
        f"{type(source).__name__} is not a source; expected a path, URL, bytes, array, tensor, frame or Pillow image.",
        value=type(source).__name__,
    )


def _find_files(source: str, input_type: InputType) -> Iterator[Source]:
    """Yield the files that a path or a pattern means, or why there are none."""
    if not source:
        raise OptionError(
            "A source is empty; expected a file, a folder, a pattern or a URL.", option="source", value=""
        )
    paths = [source]
    unlisted: list[OSError] = []
    reason = f"there is no {input_type.value} in it"
    try:
        if stat.S_ISDIR(os.stat(source).st_mode):
            paths = _list_folder(source, input_type, unlisted)
    except (OSError, ValueError) as error:
        paths = sorted(filter(os.path.isfile, glob.glob(source, recursive=True))) if glob.has_magic(source) else []
        reason = describe_error(error, source)
    if not paths and not unlisted:
        yield Source(source, UnreadableSource(source, reason))
    for path in paths:
        yield Source(path, Path(path))
    for error in unlisted:  # a folder that may not be read is not an empty one
        name = str(error.filename)
        yield Source(name, UnreadableSource(name, describe_error(error, name)))


def _list_folder(folder: str, input_type: InputType, unlisted: list[OSError]) -> list[str]:
    paths = []
    for parent, _, names in os.walk(folder, onerror=unlisted.append):
        for name in names:
            path = Path(parent, name)
            if _is_wanted_file(path, input_type):
                paths.append(path)
    return [str(path) for path in sorted(paths)]


def _is_wanted_file(path: Path, input_type: InputType) -> bool:
    """Whether a file of a folder is read: not a pipe, for which one would wait; but a broken link is reported."""
    has_suffix = path.suffix.lower() in SUFFIXES[input_type] and not path.name.startswith(".")
    return has_suffix and (os.path.isfile(path) or not os.path.exists(path))


def is_url(source: Any) -> bool:
    """Whether a source is to be fetched: it was named as http:// or https://."""
    return isinstance(source, str) and source.lower().startswith(("http://", "https://"))


def download(url: str, offline: bool) -> bytes:
    """Return what a URL sends, at most 50 MB. Raises ResourceError, which leaves naming the URL to others."""
    from http.client import HTTPException
    from urllib.error import URLError
    from urllib.request import urlopen

    if offline or is_offline():
        raise ResourceError(
            "The URL was not fetched: the network is switched off.", "Leave out --offline and THALWEG_OFFLINE."
        )
    try:
        with urlopen(url, timeout=30) as response:  # the scheme was checked by is_url
            content = response.read(MAX_BYTES + 1)
    except (URLError, HTTPException, OSError, ValueError) as error:
        raise ResourceError(f"The URL could not be fetched: {error}.", "Check the URL and the network.") from error
    if len(content) > MAX_BYTES:
        raise ResourceError(f"The URL sends more than {MAX_BYTES // 1_000_000} MB.", "Download it and make it smaller.")
    return content
