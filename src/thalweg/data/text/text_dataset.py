"""Text, read character by character: one file, several, or a folder of .txt and .md files in sorted order.

The splits are consecutive: the first 90 % of the text is train, the last 10 % test, and val is the end of train. Files
named train, val (or valid, validation) and test keep their splits. The alphabet comes from train alone.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import DataError, OptionError, ResourceError
from ...io.download import data_roots, find_data_file
from ..base import SPLITS, DataRequest, Dataset, NamedData, UnreadableFile
from .grammar import NUM_CHARACTERS, generate_sentences
from .text_file import TEXT_SUFFIXES, read_text_file

#: stands for every character that is not in the alphabet; its index is 0
UNKNOWN = "\N{REPLACEMENT CHARACTER}"
#: fraction of a text that becomes the test split where the source has none
TEST_FRACTION = 0.1
#: a text has to be at least this long to be split
MIN_CHARACTERS = 200
#: shorter training texts are learned by heart
FEW_CHARACTERS = 200_000

#: a training with weights goes on only if they know all characters of the text but this fraction
MAX_MISSING_FRACTION = 0.1

DEFAULT_NAME = "sentences"
#: texts that have a name: their file below THALWEG_DATA or the cache, and where it comes from
NAMED_TEXTS = {"tinyshakespeare": ("tinyshakespeare/input.txt", "karpathy/char-rnn, data/tinyshakespeare/input.txt")}

_SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class TextSplit:
    """A text as indices (N,) int32 into an alphabet."""

    text: str
    alphabet: tuple[str, ...]
    tokens: np.ndarray

    def __len__(self) -> int:
        return len(self.text)

    def names(self, rows: Sequence[int]) -> list[str]:
        """Return 'character 12,345' for each row, counted from 1."""
        return [f"character {row + 1:,}" for row in rows]

    def keys(self) -> None:
        """Return None: characters have no identities by which copies could be found."""

    def tokens_in(self, alphabet: Sequence[str]) -> np.ndarray:
        """Return the tokens (N,) int32 in an alphabet that may differ from the split's own."""
        if tuple(alphabet) == self.alphabet:
            return self.tokens
        return encode_text(self.text, alphabet)


@dataclass(frozen=True)
class TextDataset(Dataset[TextSplit]):
    """Texts of the three splits in one alphabet, whose first symbol is the unknown one."""

    alphabet: tuple[str, ...] = (UNKNOWN,)


def build_alphabet(text: str) -> tuple[str, ...]:
    """Return the unknown symbol, then the characters of a text in order of their code points."""
    return (UNKNOWN, *sorted(set(text) - {UNKNOWN}))


def encode_text(text: str, alphabet: Sequence[str]) -> np.ndarray:
    """Return the indices (N,) int32 of the characters in an alphabet; 0 for characters that it does not have."""
    known = np.array(list(map(ord, alphabet[1:])), np.uint32)
    order = np.argsort(known)
    # surrogates are no characters, but a file name as text can hold them
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    if not len(known):
        return np.zeros(len(codes), np.int32)
    position = np.searchsorted(known, codes, sorter=order).clip(max=len(known) - 1)
    index = order[position]
    return np.where(known[index] == codes, index + 1, 0).astype(np.int32)


def encode_prompt(prompt: str, alphabet: Sequence[str]) -> list[int]:
    """Return the tokens of a prompt. Raises OptionError that names characters which the alphabet does not have."""
    unknown = sorted(set(prompt) - set(alphabet[1:]))
    if unknown:
        raise OptionError(
            f"--prompt: unknown characters {_quote(unknown)}; expected those of the training text.",
            f"Known: {''.join(filter(str.isprintable, alphabet[1:]))}",
            option="prompt",
            value=prompt,
            allowed=alphabet[1:],
        )
    return encode_text(prompt, alphabet).tolist()


def check_alphabet(old: Sequence[str], new: Sequence[str]) -> None:
    """Raise OptionError where weights of alphabet `old` know too few characters of a text of alphabet `new`."""
    missing = sorted(set(new) - set(old))
    if len(missing) > MAX_MISSING_FRACTION * len(new):
        raise OptionError(
            f"--weights: {len(missing)} of the text's {len(new)} characters are unknown to them: {_quote(missing)}.",
            "Train without --weights, or take those of a similar text.",
            option="weights",
            value=missing,
        )


def _quote(symbols: Sequence[str]) -> str:
    """List at most twelve characters with quotes."""
    quoted = ", ".join(map(repr, symbols[:12]))
    if len(symbols) > 12:
        quoted += ", …"
    return quoted


def decode_tokens(tokens: Iterable[int], alphabet: Sequence[str]) -> str:
    """Return the text of indices into an alphabet."""
    return "".join(alphabet[token] for token in tokens)


def make_text_split(text: str, alphabet: Sequence[str]) -> TextSplit:
    """Return a text with its tokens."""
    return TextSplit(text, tuple(alphabet), encode_text(text, alphabet))


@dataclass(frozen=True)
class RawTexts:
    """What was read: texts by split ("all" where the source has no splits), and files that were skipped."""

    name: str
    format: str
    path: str
    texts: Mapping[str, str]
    unreadable: tuple[UnreadableFile, ...] = ()


def read_text_dataset(request: DataRequest, alphabet: Sequence[str] | None = None) -> TextDataset:
    """Read a text and split it.

    Args:
        request: Source and splits; the source is a file, several with commas between, a folder, or "sentences".
        alphabet: A model's alphabet; characters that it does not have are read as unknown. None: the one of train.

    Returns:
        The dataset.

    Raises:
        DataError: For what is no text, and for texts that are too short.
    """
    raw = read_raw_texts(request.source, request.strict)
    texts = split_texts(raw.texts, request)
    shortest = 1
    if request.make_splits and alphabet is None:  # the text will be trained on
        shortest = MIN_CHARACTERS
    _check_length(raw, texts, shortest)
    return build_text_dataset(raw, texts, alphabet)


def make_toy_dataset(num_characters: int = 12_000, seed: int = 1) -> TextDataset:
    """Make a small dataset of the grammar's sentences."""
    raw = RawTexts("toy", "generated text", "toy", {"all": generate_sentences(num_characters, seed)})
    return build_text_dataset(raw, split_texts(raw.texts, DataRequest("toy")))


def build_text_dataset(raw: RawTexts, texts: Mapping[str, str], alphabet: Sequence[str] | None = None) -> TextDataset:
    """Build a dataset of texts by split. Without an alphabet, take the one of train."""
    if alphabet is None:
        own = build_alphabet(texts["train"])
    else:
        own = tuple(alphabet)
    splits = {}
    official_splits = []
    total = 0
    sha = hashlib.sha256()
    for name in SPLITS:
        splits[name] = make_text_split(texts[name], own)
        total += len(splits[name])
        if name in raw.texts:
            official_splits.append(name)
        content = texts[name].encode("utf-8", "surrogatepass")
        sha.update(f"{name} {len(content)}\n".encode())
        sha.update(content)
    return TextDataset(
        name=raw.name,
        format=raw.format,
        path=raw.path,
        splits=splits,
        fingerprint=sha.hexdigest(),
        summary=f"{total:,} characters, {len(own) - 1} symbols",
        unit="character",
        official_splits=tuple(official_splits),
        unreadable=raw.unreadable,
        warnings=tuple(_find_warnings(splits, is_new=alphabet is None)),
        alphabet=own,
    )


# --- reading ----------------------------------------------------------------------------------------------------------


def read_raw_texts(source: str | os.PathLike[str] | Sequence[str], strict: bool = False) -> RawTexts:
    """Read the texts of a source. Raises DataError."""
    if source == DEFAULT_NAME:
        return RawTexts(DEFAULT_NAME, "generated text", DEFAULT_NAME, {"all": generate_sentences()})
    if isinstance(source, str) and source in NAMED_TEXTS and not os.path.exists(source):
        path = find_named_text(source)
        return RawTexts(source, "text file", str(path), {"all": read_text_file(path)})
    paths = _list_sources(source)
    if len(paths) == 1 and paths[0].is_dir():
        files = list_text_files(paths[0])
        if not files:
            raise DataError(
                f"{paths[0]}: the folder holds no text; expected files that end in {', '.join(TEXT_SUFFIXES)}.",
                "Give the file itself if its name ends otherwise.",
                path=paths[0],
                allowed=TEXT_SUFFIXES,
            )
        return _join_files(files, paths[0].resolve().name, "text folder", paths[0], strict)
    if len(paths) == 1:
        text = read_text_file(paths[0])
        return RawTexts(paths[0].stem, "text file", str(paths[0]), {"all": text})
    files = []
    for path in paths:
        if path.is_dir():
            files += list_text_files(path)
        else:
            files.append(path)
    return _join_files(files, paths[0].stem, "text files", paths[0].parent, strict=True)


def list_named_texts() -> list[NamedData]:
    """List the texts that have a name."""
    default = NamedData(
        DEFAULT_NAME, "little English sentences from a small grammar", f"{NUM_CHARACTERS:,} characters", "Apache-2.0"
    )
    path = find_data_file(NAMED_TEXTS["tinyshakespeare"][0])
    shakespeare = NamedData(
        "tinyshakespeare",
        "plays of Shakespeare in one file, by Karpathy 2015",
        "1,115,394 characters, 65 symbols",
        "public domain",
        where=str(path) if path else None,
        bytes=1_115_394,
        fetch=lambda offline, log: find_named_text("tinyshakespeare"),
    )
    return [default, shakespeare]


def find_named_text(name: str) -> Path:
    """Return the file of a text that has a name. Raises ResourceError where it is not on this machine."""
    file, origin = NAMED_TEXTS[name]
    path = find_data_file(file)
    if path is not None:
        return path
    roots = data_roots()
    raise ResourceError(
        f"The text '{name}' is not on this machine; expected {file} below {' or '.join(map(str, roots))}.",
        f"Put it there; it comes from {origin}.",
        path=roots[0] / file,
        value=name,
    )


def _list_sources(source: str | os.PathLike[str] | Sequence[str]) -> list[Path]:
    """Return the paths that a source names: itself if it exists, else its parts between commas."""
    if isinstance(source, str | os.PathLike):
        whole = os.fspath(source)
        parts = [whole]
        if not os.path.exists(whole) and "," in whole:
            parts = list(map(str.strip, whole.split(",")))
    else:
        parts = list(source)
    paths = list(map(Path, filter(None, parts)))
    if not paths:
        raise DataError("The source is empty; expected the path of a text.", value=str(source))
    for path in paths:
        if not path.exists():
            raise DataError(
                f"{path}: there is no such file or folder; expected a text.",
                f"Check the path, or give {DEFAULT_NAME} for the text that comes with Thalweg.",
                path=path,
            )
    return paths


def list_text_files(folder: Path) -> list[Path]:
    """Return the text files of a folder and its folders, sorted by path; hidden ones are left out."""
    files = []
    for path in sorted(folder.rglob("*")):
        is_hidden = "/." in f"/{path.relative_to(folder).as_posix()}"
        if path.suffix.lower() in TEXT_SUFFIXES and path.is_file() and not is_hidden:
            files.append(path)
    return files


def is_text_source(path: Path) -> bool:
    """Whether a path is a text file, or a folder that holds text files and nothing else."""
    if not path.is_dir():
        return path.suffix.lower() in TEXT_SUFFIXES and path.is_file()
    files = []
    for file in path.iterdir():
        if not file.name.startswith("."):
            files.append(file)
    for file in files:
        if not file.is_file() or file.suffix.lower() not in TEXT_SUFFIXES:
            return False
    return bool(files)


def _join_files(files: Sequence[Path], name: str, kind: str, folder: Path, strict: bool) -> RawTexts:
    """Join files in their order; files that are all named after splits, with a train among them, keep theirs."""
    official = _name_splits(files)
    parts: dict[str, list[str]] = {}
    unreadable = []
    for path in files:
        try:
            text = read_text_file(path)
        except DataError as error:
            if strict or official:
                raise
            unreadable.append(UnreadableFile(str(path), error.message))
            continue
        parts.setdefault(official.get(path, "all"), []).append(text)
    if not parts:
        raise DataError(
            f"{folder}: none of {len(files)} text files can be read; the first: {unreadable[0].reason}", path=folder
        )
    texts = {}
    for split, joined in parts.items():
        texts[split] = _join_texts(joined)
    return RawTexts(name, kind, str(folder), texts, tuple(unreadable))


def _join_texts(texts: Sequence[str]) -> str:
    """Join texts so that each begins on a line of its own."""
    if len(texts) == 1:
        return texts[0]
    joined = []
    for text in texts:
        joined.append(text)
        if text and not text.endswith("\n"):
            joined.append("\n")
    return "".join(joined)


def _name_splits(files: Sequence[Path]) -> dict[Path, str]:
    """Return the split of each file, as in train.txt or ptb.valid.txt; empty unless all files have one."""
    splits = {}
    for path in files:
        split = _SPLIT_NAMES.get(path.stem.lower().rpartition(".")[2])
        if split is None:
            return {}
        splits[path] = split
    if "train" not in splits.values():
        return {}
    return splits


# --- splitting --------------------------------------------------------------------------------------------------------


def split_texts(texts: Mapping[str, str], request: DataRequest) -> dict[str, str]:
    """Return the texts of train, val and test.

    Args:
        texts: Texts by split as the source has them; the text under "all" is split by position.
        request: Says how much becomes validation split.

    Returns:
        A text, which may be empty, for each of the three splits.

    Raises:
        OptionError: For a fold that is none.
        DataError: For a fold where the source has a validation split.
    """
    result = {}
    for name in SPLITS:
        result[name] = texts.get(name, "")
    result["train"] += texts.get("all", "")
    if not request.make_splits:
        return result
    if "test" not in texts:
        result["train"], result["test"] = _cut_end(result["train"], TEST_FRACTION)
    if request.fold is not None:
        if "val" in texts:
            raise DataError(
                f"{request.source} has a validation split of its own; --fold needs one that is taken from train.",
                "Leave --fold out, or join the files.",
                path=request.source,
            )
        result["train"], result["val"] = _cut_fold(result["train"], request.fold)
    elif "val" not in texts:
        result["train"], result["val"] = _cut_end(result["train"], request.val_fraction)
    return result


def _cut_end(text: str, fraction: float) -> tuple[str, str]:
    cut = int(len(text) * (1 - fraction))
    return text[:cut], text[cut:]


def _cut_fold(text: str, fold: str) -> tuple[str, str]:
    """Return the text without its k-th of n equal parts, and that part; `fold` is "k/n"."""
    match = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", fold)
    if not match or not 1 <= int(match[1]) <= int(match[2]) or int(match[2]) < 2:
        raise OptionError(
            f"--fold: {fold!r} is not allowed; expected k/n with k from 1 to n, such as 2/5.",
            option="fold",
            value=fold,
        )
    k = int(match[1])
    n = int(match[2])
    start = len(text) * (k - 1) // n
    stop = len(text) * k // n
    return text[:start] + text[stop:], text[start:stop]


def _check_length(raw: RawTexts, texts: Mapping[str, str], shortest: int) -> None:
    """Raise DataError for texts that are too short to train on, or empty."""
    counts = []
    for name, text in texts.items():
        counts.append(f"{name} {len(text):,}")
    sizes = ", ".join(counts)
    total = sum(map(len, texts.values()))
    train = texts["train"]
    if total < shortest or shortest > 1 and len(train) < shortest // 2:
        raise DataError(
            f"{raw.path}: {total:,} characters ({sizes}); expected at least {shortest}.",
            "Give a longer text; 200,000 characters or more are a good start.",
            path=raw.path,
            value=total,
            allowed=[shortest],
        )
    if shortest > 1 and not texts["test"]:
        raise DataError(f"{raw.path}: the test split is empty ({sizes}).", "Give test.txt a text.", path=raw.path)


def _find_warnings(splits: Mapping[str, TextSplit], is_new: bool) -> Iterable[str]:
    """Yield what the user should know: a short text, and characters outside the alphabet."""
    count = len(splits["train"])
    if is_new and count < FEW_CHARACTERS:
        yield f"train has {count:,} characters; below {FEW_CHARACTERS:,} a model soon learns the text by heart"
    for name, split in splits.items():
        unknown = split.tokens == 0
        if unknown.any():
            symbols = set()
            for index in np.flatnonzero(unknown):
                symbols.add(split.text[index])
            yield (
                f"{name}: {int(unknown.sum()):,} of {len(split):,} characters are not in the alphabet and are read as "
                f"unknown: {_quote(sorted(symbols))}"
            )
