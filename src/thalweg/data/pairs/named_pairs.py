"""Sentence pairs that have a name: found below THALWEG_DATA or in the cache, else downloaded, verified by checksum."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import ResourceError
from ...io.download import cache_dir, fetch, find_data_file, is_offline
from ..base import NamedData
from .toy_language import DEFAULT_NAME, NUM_PAIRS


@dataclass(frozen=True)
class NamedPairs:
    """Sentence pairs that are read by name.

    Attributes:
        name: The name, and the folder below THALWEG_DATA or the cache.
        languages: The languages that are read where none are named.
        main_file: The file or, of several, a file that is there where all are.
        is_folder: Whether the folder is read, or the main file alone.
        base_url: Address in front of the names of the files; empty for files that have no lasting address.
        checksums: SHA-256 by file.
        homepage: Where people find the files.
        summary: Number of pairs.
        license: Terms of the pairs, and whose they are.
        size: Bytes of the files that have an address; None where none has.
    """

    name: str
    languages: tuple[str, str]
    main_file: str
    is_folder: bool
    homepage: str
    summary: str
    license: str
    size: int | None = None
    base_url: str = ""
    checksums: Mapping[str, str] = field(default_factory=dict)


_MULTI30K_CHECKSUMS = {
    "train.en.gz": "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f",
    "train.de.gz": "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6",
    "train.fr.gz": "622e75069e9f4c577425c4f277116ce66e63a2401c0a2312d90073cb12379a3c",
    "val.en.gz": "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28",
    "val.de.gz": "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a",
    "val.fr.gz": "ca3106f1a72390591d25f6c45cb4cd39dec4cd3f123e099748a3ce5256c160e9",
    "test_2016_flickr.en.gz": "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9",
    "test_2016_flickr.de.gz": "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8",
    "test_2016_flickr.fr.gz": "6d326e188d259fb1d04ac19eae3af956559b3a0b93d7635e56c90987c40c8b90",
}

NAMED_PAIRS = {
    "multi30k": NamedPairs(
        name="multi30k",
        languages=("en", "de"),
        main_file="train.en.gz",
        is_folder=True,
        homepage="github.com/multi30k/dataset",
        summary="29,000 + 1,014 + 1,000 captions of photographs in English, German and French",
        license="for research; Elliott et al. 2016, arXiv:1605.00459",
        size=1_945_824,
        base_url="https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw/",
        checksums=_MULTI30K_CHECKSUMS,
    ),
    "fra-eng": NamedPairs(
        name="fra-eng",
        languages=("en", "fr"),
        main_file="fra-eng.zip",
        is_folder=False,
        homepage="www.manythings.org/anki",
        summary="short sentences in English and French, more with every year",
        license="CC BY 2.0; tatoeba.org",
    ),
}


def list_named_pairs() -> list[NamedData]:
    """List the sentence pairs that have a name."""
    default = NamedData(
        DEFAULT_NAME,
        "English sentences of a small grammar, and a made-up language",
        f"{NUM_PAIRS:,} pairs",
        "Apache-2.0",
    )
    return [default, *map(_describe, NAMED_PAIRS.values())]


def _describe(dataset: NamedPairs) -> NamedData:
    path = find_named_pairs(dataset)
    size = dataset.size
    if size is None and path is not None:
        size = path.stat().st_size
    return NamedData(
        dataset.name,
        f"from {dataset.homepage}",
        dataset.summary,
        dataset.license,
        where=str(path) if path else None,
        bytes=size,
        fetch=lambda offline, log: locate_named_pairs(dataset, offline, log),
    )


def find_named_pairs(dataset: NamedPairs) -> Path | None:
    """Return the folder or file of a named dataset on this machine; None where it is not."""
    file = find_data_file(f"{dataset.name}/{dataset.main_file}")
    if file is None:
        return None
    return file.parent if dataset.is_folder else file


def locate_named_pairs(dataset: NamedPairs, offline: bool, log: Callable[[str], None]) -> Path:
    """Return the folder or file of a named dataset; it is downloaded if it is nowhere.

    Args:
        dataset: The dataset.
        offline: Never use the network.
        log: Called with notices for the user.

    Returns:
        The path that is read.

    Raises:
        ResourceError: Where it is nowhere and cannot be downloaded.
    """
    path = find_named_pairs(dataset)
    if path is not None:
        return path
    folder = cache_dir() / "data" / dataset.name
    if not dataset.base_url or offline or is_offline():
        raise ResourceError(
            f"'{dataset.name}' is not on this machine: {dataset.main_file}; expected it below THALWEG_DATA or in "
            f"{folder}.",
            f"Put the files there ({dataset.homepage}; {dataset.license}), or allow the network where they have an "
            "address.",
            path=folder,
            value=dataset.main_file,
        )
    for name, checksum in dataset.checksums.items():
        fetch(dataset.base_url + name, folder / name, sha256=checksum, notice=log)
    return folder
