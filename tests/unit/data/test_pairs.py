"""Sentence pairs: what is read, what is skipped with a count, what is refused, and splits that leak nothing."""

from __future__ import annotations

import gzip
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thalweg.data.base import DataRequest
from thalweg.data.pairs import build_vocabulary
from thalweg.data.pairs.batches import EncodedPairs, PairBatches, iterate_by_length
from thalweg.data.pairs.build_vocabulary import build_piece_vocabulary, build_word_vocabulary
from thalweg.data.pairs.pair_dataset import PairDataset
from thalweg.data.pairs.pair_report import check_pair_dataset
from thalweg.data.pairs.pair_sources import LanguageChoice, is_pair_source, parse_languages, read_pair_dataset
from thalweg.data.pairs.tokens import Vocabulary, join_tokens, normalize_text, split_words
from thalweg.data.pairs.toy_language import generate_pairs
from thalweg.errors import DataError, OptionError, ResourceError

ENGLISH = [f"Sentence number {i} is here." for i in range(40)]
GERMAN = [f"Satz Nummer {i} ist hier." for i in range(40)]


def read(path: Path | str, languages: tuple[str, str] | None = None, **settings) -> PairDataset:
    request = {name: settings.pop(name) for name in ("make_splits", "fold", "val_fraction") if name in settings}
    return read_pair_dataset(DataRequest(str(path), **request), LanguageChoice(languages), **settings)


def write_table(path: Path, *lines: str) -> Path:
    rows = [f"{source}\t{target}" for source, target in zip(ENGLISH, GERMAN, strict=True)]
    path.write_text("\n".join([*rows, *lines]) + "\n", encoding="utf-8")
    return path


def write_lines(path: Path, lines: list[str]) -> Path:
    content = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


# --- reading ----------------------------------------------------------------------------------------------------------


def test_a_table_is_read_and_further_columns_are_left_out_with_a_note(tmp_path):
    dataset = read(write_table(tmp_path / "pairs.tsv", "One more.\tNoch einer.\tCC BY 2.0"))
    assert sum(map(len, dataset.splits.values())) == 41
    assert dataset.languages == ("source", "target")
    assert any("columns after the second" in warning for warning in dataset.warnings)


def test_a_header_is_no_pair(tmp_path):
    path = tmp_path / "pairs.tsv"
    rows = [f"{source}\t{target}" for source, target in zip(ENGLISH, GERMAN, strict=True)]
    path.write_text("\n".join(["source\ttarget", *rows]), encoding="utf-8")
    assert sum(map(len, read(path).splits.values())) == 40


def test_a_table_in_a_zip_and_in_a_gz_is_the_same(tmp_path):
    plain = write_table(tmp_path / "pairs.tsv")
    with zipfile.ZipFile(tmp_path / "pairs.zip", "w") as archive:
        archive.write(plain, "data/pairs.txt")
        archive.writestr("_about.txt", "not pairs")
    (tmp_path / "pairs.tsv.gz").write_bytes(gzip.compress(plain.read_bytes()))
    fingerprints = {read(tmp_path / name).fingerprint for name in ("pairs.tsv", "pairs.zip", "pairs.tsv.gz")}
    assert len(fingerprints) == 1


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_folder_of_aligned_files_keeps_its_splits(tmp_path, ending):
    for name, rows in (("train", slice(0, 30)), ("val", slice(30, 35)), ("test_2016", slice(35, 40))):
        write_lines(tmp_path / f"{name}.en{ending}", ENGLISH[rows])
        write_lines(tmp_path / f"{name}.de{ending}", GERMAN[rows])
    dataset = read(tmp_path, ("en", "de"))
    assert dataset.official_splits == ("train", "val", "test")
    assert dataset.test.sources == tuple(ENGLISH[35:]) and dataset.test.targets == tuple(GERMAN[35:])
    assert dataset.test.names([1]) == [f"{tmp_path / f'test_2016.en{ending}'}, line 2"]
    backward = read(tmp_path, ("de", "en"))
    assert backward.test.sources == dataset.test.targets
    assert read(tmp_path).languages == ("de", "en")
    alone = read(tmp_path / "test_2016", ("en", "de"), make_splits=False)
    assert alone.train.sources == dataset.test.sources


def test_two_files_with_a_comma_are_read_and_reversed(tmp_path):
    source = write_lines(tmp_path / "a.en", ENGLISH)
    target = write_lines(tmp_path / "b.de", GERMAN)
    dataset = read(f"{source},{target}", make_splits=False)
    assert dataset.languages == ("en", "de") and len(dataset.train) == 40
    backward = read(f"{source},{target}", make_splits=False, reverse=True)
    assert backward.languages == ("de", "en") and backward.train.sources == dataset.train.targets


def test_three_languages_need_the_option(tmp_path):
    for language in ("en", "de", "fr"):
        write_lines(tmp_path / f"train.{language}", ENGLISH)
    with pytest.raises(DataError) as error:
        read(tmp_path)
    assert error.value.option == "languages" and "--languages" in error.value.message
    assert "de, en, fr" in error.value.message
    with pytest.raises(DataError) as error:
        read(tmp_path, ("en", "es"))
    assert error.value.allowed == ["de", "en", "fr"]
    assert read(tmp_path, ("en", "fr")).languages == ("en", "fr")


def test_the_languages_of_a_model_decide_where_none_are_named(tmp_path):
    for language in ("en", "de", "fr"):
        write_lines(tmp_path / f"train.{language}", [f"{language} {line}" for line in ENGLISH])
    request = DataRequest(str(tmp_path))
    choice = LanguageChoice(("fr", "de"), is_fallback=True)
    assert read_pair_dataset(request, choice).languages == ("fr", "de")
    (tmp_path / "train.fr").unlink()
    assert read_pair_dataset(request, choice).languages == ("de", "en")


def test_fra_eng_is_read_in_both_directions_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("THALWEG_DATA", str(tmp_path))
    (tmp_path / "fra-eng").mkdir()
    monkeypatch.chdir(tmp_path / "fra-eng")
    with zipfile.ZipFile(tmp_path / "fra-eng" / "fra-eng.zip", "w") as archive:
        archive.write(write_table(tmp_path / "fra.txt"), "fra.txt")
    forward = read("fra-eng")
    backward = read("fra-eng", ("fr", "en"))
    assert (forward.languages, backward.languages) == (("en", "fr"), ("fr", "en"))
    assert set(backward.train.targets) <= set(ENGLISH) and set(forward.train.sources) <= set(ENGLISH)
    with pytest.raises(DataError, match="expected two of en, fr"):
        read("fra-eng", ("en", "de"))


@pytest.mark.parametrize("text", ["en", "en,", "en,en", "en,de,fr", ""])
def test_languages_are_two(text):
    with pytest.raises(OptionError) as error:
        parse_languages(text)
    assert error.value.option == "languages"


# --- what is skipped, and what is refused -----------------------------------------------------------------------------


def test_files_of_different_lengths_are_refused(tmp_path):
    write_lines(tmp_path / "train.en", ENGLISH)
    write_lines(tmp_path / "train.de", GERMAN[:-1])
    with pytest.raises(DataError, match="40 lines .* 39; expected equally many") as error:
        read(tmp_path, ("en", "de"))
    assert error.value.line == 40


def test_empty_lines_are_skipped_with_a_count(tmp_path):
    write_lines(tmp_path / "train.en", [*ENGLISH, "", "Alone."])
    write_lines(tmp_path / "train.de", [*GERMAN, "", " "])
    dataset = read(tmp_path, ("en", "de"))
    assert sum(map(len, dataset.splits.values())) == 40
    assert any("2 lines with an empty side skipped" in warning for warning in dataset.warnings)


def test_a_source_of_ten_thousand_words_is_skipped_with_a_count(tmp_path):
    dataset = read(write_table(tmp_path / "pairs.tsv", "word " * 10_000 + "\tkurz"), max_length=100)
    assert sum(map(len, dataset.splits.values())) == 40
    assert any("1 pair of more than 100 words skipped; see --max-length" in warning for warning in dataset.warnings)


def test_one_column_is_refused_with_its_line(tmp_path):
    with pytest.raises(DataError, match="line 41: one column: 'No tab here.'") as error:
        read(write_table(tmp_path / "pairs.tsv", "No tab here."))
    assert error.value.line == 41 and error.value.cure


def test_mixed_encodings_are_refused_with_file_and_line(tmp_path):
    write_lines(tmp_path / "train.en", ENGLISH)
    (tmp_path / "train.de").write_bytes("\n".join([*GERMAN[:-1], "Ein Bär."]).encode("latin-1"))
    with pytest.raises(DataError, match=r"train.de, line 40: byte .*0xe4.* is not UTF-8") as error:
        read(tmp_path, ("en", "de"))
    assert error.value.line == 40 and "iconv" in error.value.cure


@pytest.mark.parametrize("content", [b"", b"A dog.\tEin Hund.\n"])
def test_too_few_pairs_are_refused(tmp_path, content):
    path = tmp_path / "pairs.tsv"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read(path)
    assert error.value.cure


def test_a_folder_without_pairs_and_a_missing_file_are_refused(tmp_path):
    (tmp_path / "train.txt").write_text("no pairs", encoding="utf-8")
    (tmp_path / "other").mkdir()
    for path in (tmp_path / "other", tmp_path / "missing.tsv"):
        with pytest.raises(DataError) as error:
            read(path)
        assert "expected" in error.value.message and error.value.cure


def test_a_named_dataset_that_is_nowhere_is_not_downloaded_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("THALWEG_DATA", str(tmp_path))
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for name in ("multi30k", "fra-eng"):
        with pytest.raises(ResourceError) as error:
            read_pair_dataset(DataRequest(name, offline=True))
        assert name in error.value.message and error.value.cure


def test_multi30k_is_read_by_name(real_data, monkeypatch):
    monkeypatch.setenv("THALWEG_DATA", str(real_data))
    dataset = read("multi30k")
    assert {name: len(split) for name, split in dataset.splits.items()} == {
        "train": 29_000,
        "val": 1_014,
        "test": 1_000,
    }
    assert dataset.languages == ("en", "de") and dataset.test.file.endswith("test_2016_flickr.en.gz")


# --- splits -----------------------------------------------------------------------------------------------------------


def repeated_table(path: Path) -> Path:
    """Write a table whose sources have several translations each, differing in case and spaces."""
    lines = []
    for index, source in enumerate(ENGLISH):
        lines += [f"{source}\t{GERMAN[index]}", f" {source.upper()}\tAnders {index}", f"{source}\tDritte {index}"]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("fold", [None, "1/3", "3/3"])
def test_no_source_is_in_two_splits(tmp_path, fold):
    dataset = read(repeated_table(tmp_path / "pairs.tsv"), fold=fold)
    keys = [set(split.keys().tolist()) for split in dataset.splits.values()]
    assert all(keys) and sum(map(len, keys)) == len(set.union(*keys)) == 40
    assert sum(map(len, dataset.splits.values())) == 120
    assert not any("are in train as well" in warning for warning in dataset.warnings)


def test_the_folds_cover_all_but_the_test_split(tmp_path):
    path = repeated_table(tmp_path / "pairs.tsv")
    folds = [set(read(path, fold=f"{k}/3").val.keys().tolist()) for k in (1, 2, 3)]
    assert not folds[0] & folds[1] and not folds[1] & folds[2]
    assert len(set.union(*folds)) == 40 - 4
    with pytest.raises(OptionError):
        read(path, fold="4/3")


def test_without_a_validation_fraction_there_is_no_validation_split(tmp_path):
    dataset = read(write_table(tmp_path / "pairs.tsv"), val_fraction=0.0)
    assert list(map(len, dataset.splits.values())) == [36, 0, 4]


def test_official_splits_that_share_sources_are_named(tmp_path):
    for name, rows in (("train", slice(0, 30)), ("val", slice(25, 35)), ("test", slice(35, 40))):
        write_lines(tmp_path / f"{name}.en", ENGLISH[rows])
        write_lines(tmp_path / f"{name}.de", GERMAN[rows])
    warnings = read(tmp_path, ("en", "de")).warnings
    assert any("val: 5 of 10 sources are in train as well" in warning for warning in warnings)


def test_the_fingerprint_follows_every_text(tmp_path):
    first = read(write_table(tmp_path / "a.tsv")).fingerprint
    assert first == read(write_table(tmp_path / "b.tsv")).fingerprint
    assert first != read(write_table(tmp_path / "c.tsv", "One more.\tNoch einer.")).fingerprint


def test_what_looks_like_pairs(tmp_path):
    table = write_table(tmp_path / "pairs.tsv")
    numbers = tmp_path / "numbers.tsv"
    numbers.write_text("1.5\t2.5\n2.5\t3.5\n", encoding="utf-8")
    book = tmp_path / "book.txt"
    book.write_text("Once upon a time.\n", encoding="utf-8")
    assert is_pair_source(table)
    assert not is_pair_source(numbers) and not is_pair_source(book) and not is_pair_source(tmp_path)


def test_the_report_finds_pairs_that_are_no_translations(tmp_path):
    path = write_table(tmp_path / "pairs.tsv", "Same.\tSame.", "One two three four five six seven eight nine.\tEins.")
    report = check_pair_dataset(read(path, make_splits=False))
    assert report.equal == [f"{path}, line 41"] and report.uneven == [f"{path}, line 42"]
    assert not report.ok and report.json()["pairs"]["train"] == 42
    assert any("translation is the source itself" in line for line in report.lines())
    assert report.picture().width > 100


def test_the_toy_language_is_the_same_for_the_same_seed():
    first = generate_pairs(50, seed=3)
    assert first == generate_pairs(50, seed=3) != generate_pairs(50, seed=4)
    assert all(source[0].isupper() and source[-1] in ".?" for source in first.sources)


# --- tokens -----------------------------------------------------------------------------------------------------------


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
def test_words_joined_are_the_text(text):
    assert join_tokens(split_words(text)) == normalize_text(text)


def test_words_and_punctuation_are_apart():
    assert split_words('"It\'s  me," he said.') == ['▁"', "It", "'", "s", "▁me", ",", '"', "▁he", "▁said", "."]


def test_a_word_vocabulary_knows_frequent_words_of_each_language():
    vocabulary = build_word_vocabulary(["a dog", "a cat", "a bird"], ["ein hund", "ein hund", "eine katze"])
    assert vocabulary.tokens == ["<pad>", "<unk>", "<s>", "</s>", "▁ein", "▁hund", "▁a"]
    assert vocabulary.target == [0, 1, 2, 3, 4, 5]
    assert vocabulary.encode_source("a cow") == [6, 1, 3]
    assert vocabulary.encode_target("ein hund") == [4, 5, 3]
    assert vocabulary.decode_target([4, 5, 3]) == "ein hund"


@pytest.fixture(scope="module")
def pieces() -> Vocabulary:
    pytest.importorskip("sentencepiece")
    lines = generate_pairs(300, seed=2)
    return build_piece_vocabulary(lines.sources, lines.targets, 120)


@given(st.text(alphabet="abcdeilmnorst .?ABxyzé", max_size=40))
def test_pieces_of_known_characters_joined_are_the_text(pieces, text):
    assert join_tokens(pieces.split(text)) == normalize_text(text)


def test_pieces_are_those_of_sentencepiece():
    """Held equal to the package, so that a trained model does not need it."""
    sentencepiece = pytest.importorskip("sentencepiece")
    import io

    lines = generate_pairs(300, seed=2)
    texts = [*lines.sources, *lines.targets]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        vocab_size=150,
        model_type="bpe",
        normalization_rule_name="identity",
        character_coverage=1.0,
        pad_id=0,
        unk_id=1,
        bos_id=2,
        eos_id=3,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    tokens = [processor.id_to_piece(index) for index in range(150)]
    vocabulary = Vocabulary(tokens, list(range(150)), has_pieces=True)
    for text in [*texts, "Unknown: Zwölf Ξξ boxes, quietly."]:
        assert vocabulary.encode_source(text) == [*processor.encode(text), 3]


def test_the_pieces_of_translations_are_their_own_list(pieces):
    lines = generate_pairs(300, seed=2)
    assert len(pieces.target) < len(pieces.tokens) == 120
    for text in lines.targets[:50]:
        assert pieces.decode_target(pieces.encode_target(text)) == text


def test_without_sentencepiece_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(ResourceError) as error:
        build_piece_vocabulary(["a"], ["b"], 100)
    assert 'pip install "thalweg[text]"' in error.value.cure


def test_a_size_that_few_sentences_do_not_give_is_refused_but_the_default_adapts():
    pytest.importorskip("sentencepiece")
    lines = generate_pairs(60, seed=2)
    with pytest.raises(OptionError) as error:
        build_piece_vocabulary(lines.sources, lines.targets, 30_000)
    assert error.value.option == "vocabulary_size" and error.value.value == 30_000
    vocabulary = build_piece_vocabulary(lines.sources, lines.targets)
    assert build_vocabulary.MIN_PIECES <= len(vocabulary.tokens) < build_vocabulary.DEFAULT_PIECES


# --- batches ----------------------------------------------------------------------------------------------------------


def random_pairs(count: int) -> EncodedPairs:
    generator = np.random.default_rng(0)
    sources = [[*generator.integers(4, 20, generator.integers(1, 15)).tolist(), 3] for _ in range(count)]
    targets = [[*generator.integers(4, 20, generator.integers(1, 15)).tolist(), 3] for _ in range(count)]
    return EncodedPairs(sources, targets)


CPU = torch.device("cpu")


def test_an_epoch_has_every_pair_once_and_little_padding():
    pairs = random_pairs(640)
    batches = PairBatches(pairs, 16, CPU, seed=1)
    rows = [batches.batch_indices(step) for step in range(batches.steps_per_epoch)]
    assert sorted(row for batch in rows for row in batch) == list(range(640))
    assert rows != [batches.batch_indices(step) for step in range(40, 80)]
    stream = iter(batches)
    fraction = [float((next(stream)["targets"] == 0).float().mean()) for _ in range(40)]
    assert np.mean(fraction) < 0.1


def test_batches_continue_where_they_stopped_and_ranks_share_them():
    pairs = random_pairs(200)
    whole = PairBatches(pairs, 8, CPU, seed=1)
    rest = PairBatches(pairs, 8, CPU, seed=1)
    stream = iter(whole)
    for _ in range(30):
        next(stream)
    rest.load_state_dict(whole.state_dict())
    for name, value in next(iter(rest)).items():
        assert torch.equal(value, next(stream)[name] if name == "source" else value)
    by_rank = [PairBatches(pairs, 8, CPU, 1, (rank, 2)) for rank in (0, 1)]
    for step in (0, 24, 25, 60):
        assert sorted(by_rank[0].batch_indices(step) + by_rank[1].batch_indices(step)) == sorted(
            whole.batch_indices(step)
        )
    with pytest.raises(DataError):
        PairBatches(pairs, 9, CPU, 1, (0, 2))


def test_the_decoder_reads_what_stands_before_its_targets():
    batch = next(iter(PairBatches(EncodedPairs([[7, 3]], [[5, 6, 3]]), 1, CPU, teacher_forcing=0.5)))
    assert batch["inputs"].tolist() == [[2, 5, 6]] and batch["targets"].tolist() == [[5, 6, 3]]
    assert batch["forcing"].tolist() == [1.0]


def test_measuring_reads_every_pair_once():
    pairs = random_pairs(50)
    assert sorted(row for rows in iterate_by_length(pairs, 8) for row in rows) == list(range(50))
