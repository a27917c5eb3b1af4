"""Find the sentence pairs that a source means: a table, two aligned files, a folder of them, or a name."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import DataError, OptionError
from ..base import SPLITS, DataRequest
from .named_pairs import NAMED_PAIRS, locate_named_pairs
from .pair_dataset import PairDataset, RawPairs, build_pair_dataset
from .pair_files import TABLE_SUFFIXES, PairLines, read_aligned, read_lines, read_table
from .toy_language import DEFAULT_NAME, NUM_PAIRS, generate_pairs

#: languages of a table whose user names none
TABLE_LANGUAGES = ("source", "target")
_SPLIT_PREFIXES = {"train": "train", "valid": "val", "val": "val", "dev": "val", "test": "test"}
_LANGUAGE_FILE = re.compile(r"(?P<stem>.+)\.(?P<language>[A-Za-z]{2,3}(?:[-_][A-Za-z]{2,4})?)", re.DOTALL)
#: endings that are no languages
_OTHER_SUFFIXES = {"txt", "tsv", "tab", "csv", "zip", "tar", "md", "py", "exe", "pdf", "png", "jpg", "gz", "xml", "yml"}

Languages = tuple[str, str]
#: file by language, by name in front of the language
Files = dict[str, dict[str, Path]]


@dataclass(frozen=True)
class LanguageChoice:
    """Source and target language, None where the source of the data decides.

    `is_fallback`: they are those of a model, and need not be there where the source has two languages only.
    """

    names: Languages | None = None
    is_fallback: bool = False


#: the source of the data decides
FREE_CHOICE = LanguageChoice()


def parse_languages(text: str | None) -> Languages | None:
    """Return the two languages of 'en,de'; None for None. Raises OptionError."""
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    if len(names) != 2 or not all(names) or names[0] == names[1]:
        raise OptionError(
            f"--languages: {text!r} is not allowed; expected two, the source first, as en,de.",
            option="languages",
            value=text,
        )
    return names[0], names[1]


def read_pair_dataset(
    request: DataRequest, choice: LanguageChoice = FREE_CHOICE, max_length: int = 10**9, reverse: bool = False
) -> PairDataset:
    """Read sentence pairs and split them.

    Args:
        request: Source and splits.
        choice: The languages.
        max_length: Pairs of which one side has more words are left out.
        reverse: Translate the second column or language into the first.

    Returns:
        The dataset.

    Raises:
        DataError: For what holds no sentence pairs.
        ResourceError: For a named dataset that is not on this machine, without a network.
    """
    raw = _read_raw_pairs(request, choice)
    if reverse:
        raw = _swap_sides(raw)
    return build_pair_dataset(raw, request, max_length)


def make_toy_dataset(count: int = 260, seed: int = 1) -> PairDataset:
    """Make a small dataset of the toy language: short sentences of few words."""
    lines = generate_pairs(count, seed, is_simple=True)
    raw = RawPairs("toy", "generated pairs", "toy", ("english", "valley"), {"all": lines})
    return build_pair_dataset(raw, DataRequest("toy"), 100)


def _swap_sides(raw: RawPairs) -> RawPairs:
    pairs = {}
    for name, lines in raw.pairs.items():
        pairs[name] = PairLines(lines.name, lines.targets, lines.sources, lines.lines, lines.warnings)
    return RawPairs(raw.name, raw.format, raw.path, (raw.languages[1], raw.languages[0]), pairs, raw.warnings)


def _read_raw_pairs(request: DataRequest, choice: LanguageChoice) -> RawPairs:
    source = request.source
    if source == DEFAULT_NAME:
        lines = generate_pairs(NUM_PAIRS)
        return RawPairs(DEFAULT_NAME, "generated pairs", DEFAULT_NAME, ("english", "valley"), {"all": lines})
    if source in NAMED_PAIRS and not os.path.exists(source):
        dataset = NAMED_PAIRS[source]
        path = locate_named_pairs(dataset, request.offline, request.log)
        if dataset.is_folder:
            return _read_path(path, choice if choice.names else LanguageChoice(dataset.languages))
        return _orient(_read_path(path, LanguageChoice(dataset.languages)), choice)
    if not isinstance(source, str | os.PathLike):
        raise DataError(
            f"{type(source).__name__} is no source of sentence pairs; expected a path or a name.", "Give a path."
        )
    return _read_path(Path(source), choice)


def _orient(raw: RawPairs, choice: LanguageChoice) -> RawPairs:
    """Return the pairs of a table whose languages are known in the direction of `choice`. Raises DataError."""
    if choice.names is None or choice.names == raw.languages:
        return raw
    if set(choice.names) == set(raw.languages):
        return _swap_sides(raw)
    if choice.is_fallback:
        return raw
    raise _language_error(Path(raw.path), sorted(raw.languages), choice.names)


def _read_path(path: Path, choice: LanguageChoice) -> RawPairs:
    if path.is_dir():
        return _read_folder(path, choice)
    if path.is_file():
        lines = read_table(path)
        return RawPairs(path.stem, "table of pairs", str(path), choice.names or TABLE_LANGUAGES, {"all": lines})
    return _read_two_files(path, choice)


# --- two files --------------------------------------------------------------------------------------------------------


def _read_two_files(path: Path, choice: LanguageChoice) -> RawPairs:
    """Read 'a.en,a.de', or the files that begin with a path and end with a language."""
    parts = [Path(part.strip()) for part in str(path).split(",")]
    if len(parts) == 2 and all(part.is_file() for part in parts):
        chosen = choice.names or _languages_of(parts)
        lines = read_aligned(parts[0], parts[1])
        return RawPairs(_split_name(parts[0])[0], "aligned files", str(path), chosen, {"all": lines})
    files: Files = {}
    if path.parent.is_dir():
        listed = list_language_files(path.parent)
        files = {stem: by_language for stem, by_language in listed.items() if stem == path.name}
    if not files:
        raise DataError(
            f"{path}: there is no such file or folder; expected sentence pairs.",
            f"Check the path: a table of pairs, two files with a comma between, a folder, {', '.join(NAMED_PAIRS)} or "
            f"{DEFAULT_NAME}.",
            path=path,
        )
    chosen = _choose_languages(path, files, choice)
    lines = _read_stem(path, files[path.name], chosen)
    return RawPairs(path.name, "aligned files", str(path), chosen, {"all": lines})


def _split_name(path: Path) -> tuple[str, str]:
    """Return stem and language of 'train.en' or 'train.en.gz'; the language is empty where the name has none."""
    name = path.name.removesuffix(".gz")
    match = _LANGUAGE_FILE.fullmatch(name)
    if not match or match["language"].lower() in _OTHER_SUFFIXES:
        return path.stem, ""
    return match["stem"], match["language"]


def _languages_of(paths: Sequence[Path]) -> Languages:
    names = [_split_name(path)[1] for path in paths]
    if all(names) and names[0] != names[1]:
        return names[0], names[1]
    return TABLE_LANGUAGES


# --- folders ----------------------------------------------------------------------------------------------------------


def list_language_files(folder: Path) -> Files:
    """Return the files of a folder that end with a language, as train.en or train.en.gz, by stem and language."""
    files: Files = {}
    for path in sorted(folder.iterdir()):
        stem, language = _split_name(path)
        if language and path.is_file():
            files.setdefault(stem, {}).setdefault(language, path)
    return {stem: by_language for stem, by_language in files.items() if len(by_language) > 1}


def _read_folder(folder: Path, choice: LanguageChoice) -> RawPairs:
    tables = _list_tables(folder)
    if "train" in tables:
        pairs = {split: read_table(path) for split, path in tables.items()}
        return RawPairs(folder.resolve().name, "tables of pairs", str(folder), choice.names or TABLE_LANGUAGES, pairs)
    files = list_language_files(folder)
    stems, others = _choose_stems(files)
    if not stems:
        raise DataError(
            f"{folder}: the folder holds no sentence pairs; expected train.en and train.de (of any two languages), or "
            "train.tsv.",
            "Name both files alike but for the language, or give the table itself.",
            path=folder,
        )
    chosen = _choose_languages(folder, {stem: files[stem] for stem in stems.values()}, choice)
    pairs = {split: _read_stem(folder / stem, files[stem], chosen) for split, stem in stems.items()}
    warnings = []
    if others:
        warnings.append(f"{folder}: {', '.join(others)} left out; `thalweg evaluate RUN {folder / others[0]}` reads it")
    return RawPairs(folder.resolve().name, "aligned files", str(folder), chosen, pairs, tuple(warnings))


def _list_tables(folder: Path) -> dict[str, Path]:
    """Return the tables of a folder that are named after splits."""
    tables: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        split = _split_of(path.name.split(".")[0])
        if path.is_file() and path.suffix.lower() in TABLE_SUFFIXES and split is not None:
            tables.setdefault(split, path)
    return tables


def _split_of(stem: str) -> str | None:
    for prefix, split in _SPLIT_PREFIXES.items():
        if stem.lower().startswith(prefix):
            return split
    return None


def _choose_stems(files: Files) -> tuple[dict[str, str], list[str]]:
    """Return the first stem of each split, and those that are left out; a single pair of files has no splits."""
    stems: dict[str, str] = {}
    others = []
    for stem in sorted(files):
        split = _split_of(stem)
        if split is None or split in stems:
            others.append(stem)
        else:
            stems[split] = stem
    if "train" in stems:
        return {split: stems[split] for split in SPLITS if split in stems}, others
    if len(files) == 1:
        return {"all": next(iter(files))}, []
    return {}, []


def _choose_languages(path: Path, files: Files, choice: LanguageChoice) -> Languages:
    """Return source and target language. Raises DataError where there are more than two, or not those."""
    available = sorted(set.intersection(*(set(by_language) for by_language in files.values())))
    if choice.names is not None and set(choice.names) <= set(available):
        return choice.names
    is_open = choice.names is None or choice.is_fallback
    if is_open and len(available) == 2:
        return available[0], available[1]
    raise _language_error(path, available, None if is_open else choice.names)


def _language_error(path: Path, available: Sequence[str], languages: Languages | None) -> DataError:
    listed = ", ".join(available) or "none"
    if languages is None:
        return DataError(
            f"{path}: {len(available)} languages ({listed}); expected --languages to name two, the source first.",
            f"Give --languages {','.join(available[:2])}, or the other way around.",
            option="languages",
            path=path,
            value=list(available),
        )
    return DataError(
        f"{path}: --languages {','.join(languages)} are not both there; expected two of {listed}.",
        "Check the endings of the files.",
        option="languages",
        path=path,
        value=list(languages),
        allowed=available,
    )


def _read_stem(stem: Path, by_language: dict[str, Path], languages: Languages) -> PairLines:
    return read_aligned(by_language[languages[0]], by_language[languages[1]])


def is_pair_source(path: Path) -> bool:
    """Whether a path looks like sentence pairs: a table whose first lines have two texts, or a folder of both."""
    if path.is_dir():
        try:
            stems, _ = _choose_stems(list_language_files(path))
        except OSError:
            return False
        return bool(stems)
    if path.suffix.lower() not in TABLE_SUFFIXES or not path.is_file():
        return False
    try:
        lines = read_lines(path)[:5]
    except DataError:
        return False
    return all(_has_two_texts(line.split("\t")) for line in lines)


def _has_two_texts(columns: Sequence[str]) -> bool:
    """Whether the first two columns hold letters, not numbers."""
    if len(columns) < 2:
        return False
    return all(sum(map(str.isalpha, column)) > len(column) / 2 for column in columns[:2])
