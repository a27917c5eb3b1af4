"""Text becomes tokens and splits: by position, with an alphabet from train, and errors that say where and how long."""

from __future__ import annotations

import codecs
import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.data.base import DataRequest
from thalweg.data.text import training_size
from thalweg.data.text.grammar import generate_sentences
from thalweg.data.text.text_dataset import (
    MIN_CHARACTERS,
    UNKNOWN,
    build_alphabet,
    decode_tokens,
    encode_prompt,
    encode_text,
    is_text_source,
    make_toy_dataset,
    read_text_dataset,
)
from thalweg.data.text.text_file import decode_text, read_text, read_text_file
from thalweg.data.text.text_report import check_text_dataset
from thalweg.errors import DataError, OptionError

LINE = "The quick brown fox jumps over the lazy dog.\n"


def read(source, alphabet=None, **kwargs):
    return read_text_dataset(DataRequest(source if isinstance(source, str) else str(source), **kwargs), alphabet)


def write_files(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8", newline="")
    return folder


# --- tokens -----------------------------------------------------------------------------------------------------------


@given(st.text(max_size=60))
def test_text_survives_tokens(text):
    alphabet = build_alphabet(text)
    tokens = encode_text(text, alphabet)
    assert tokens.dtype == np.int32 and len(tokens) == len(text)
    assert decode_tokens(tokens, alphabet) == text
    assert alphabet[0] == UNKNOWN and list(alphabet[1:]) == sorted(set(text) - {UNKNOWN})


@given(st.text(max_size=40), st.text(max_size=40))
def test_foreign_characters_become_the_unknown_symbol(known, text):
    alphabet = build_alphabet(known)
    shown = decode_tokens(encode_text(text, alphabet), alphabet)
    assert shown == "".join(c if c in known else UNKNOWN for c in text)


def test_an_alphabet_may_be_in_any_order():
    assert encode_text("abc", [UNKNOWN, "c", "a"]).tolist() == [2, 0, 1]
    assert encode_text("a\ud800", [UNKNOWN, "a"]).tolist() == [1, 0]


def test_unknown_characters_of_a_prompt_are_named():
    assert encode_prompt("ba", [UNKNOWN, "a", "b"]) == [2, 1]
    with pytest.raises(OptionError) as error:
        encode_prompt("a€b☃", [UNKNOWN, "a", "b"])
    assert error.value.option == "prompt" and error.value.allowed == ["a", "b"]
    assert "'€'" in str(error.value) and "'☃'" in str(error.value)


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        "naïve\n☃ 🐍".encode(),
        codecs.BOM_UTF8 + "naïve\n☃ 🐍".encode(),
        "naïve\n☃ 🐍".encode("utf-16"),
        "naïve\r\n☃ 🐍".encode(),
    ],
    ids=["utf-8", "utf-8 with mark", "utf-16", "windows line ends"],
)
def test_one_text_in_many_encodings(content):
    assert decode_text(content, "x") == "naïve\n☃ 🐍"


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_wrong_bytes_are_refused_with_their_position(tmp_path, mark):
    path = tmp_path / "latin.txt"
    path.write_bytes(mark + b"caf\xe9 au lait")
    with pytest.raises(DataError) as error:
        read_text_file(path)
    assert error.value.path == path and error.value.value == len(mark) + 3 and error.value.cure


def test_a_binary_file_is_refused():
    with pytest.raises(DataError) as error:
        decode_text(b"ab\0cd", "x.bin")
    assert error.value.path == "x.bin" and error.value.value == 2


def test_a_source_is_a_path_bytes_or_the_text_itself(tmp_path):
    path = write_files(tmp_path, a="one\r\ntwo") / "a.txt"
    assert read_text(path) == read_text(b"one\r\ntwo") == read_text("one\rtwo") == "one\ntwo"
    for nothing in ("", b"", codecs.BOM_UTF8, 7, None):
        with pytest.raises(DataError):
            read_text(nothing)


# --- datasets ---------------------------------------------------------------------------------------------------------


def test_splits_are_consecutive(tmp_path):
    text = generate_sentences(5000, seed=3)
    write_files(tmp_path, book=text)
    data = read(tmp_path / "book.txt", val_fraction=0.2)
    assert data.train.text + data.val.text + data.test.text == text
    assert len(data.train) + len(data.val) == int(len(text) * 0.9)
    assert len(data.train) == int(int(len(text) * 0.9) * 0.8)
    assert data.alphabet == build_alphabet(data.train.text)
    assert data.train.tokens.dtype == np.int32 and data.name == "book" and data.unit == "character"
    assert data.official_splits == () and data.train.keys() is None
    assert data.test.names([0, 12_344]) == ["character 1", "character 12,345"]


def test_tiny_shakespeare_has_the_published_split(tmp_path):
    write_files(tmp_path, input="x" * 1_115_394)
    data = read(tmp_path / "input.txt", val_fraction=0.0)
    assert (len(data.train), len(data.val), len(data.test)) == (1_003_854, 0, 111_540)


def test_files_named_after_splits_keep_them(tmp_path):
    write_files(tmp_path, train=LINE * 20, valid="fox\n", test="dog\n")
    data = read(tmp_path)
    assert data.train.text == LINE * 20 and data.val.text == "fox\n" and data.test.text == "dog\n"
    assert data.official_splits == ("train", "val", "test")
    (tmp_path / "valid.txt").rename(tmp_path / "more.txt")  # no longer all named after splits
    assert read(tmp_path).official_splits == ()


def test_official_splits_are_completed_from_train(tmp_path):
    write_files(tmp_path, **{"ptb.train": LINE * 20, "ptb.test": "dog\n"})
    data = read(tmp_path)
    assert data.test.text == "dog\n" and len(data.train) == int(900 * 0.9) and len(data.val) == 90
    assert data.official_splits == ("train", "test")


def test_a_folder_is_read_in_sorted_order_without_hidden_and_other_files(tmp_path):
    (tmp_path / "b").mkdir()
    write_files(tmp_path / "b", two="second" + LINE * 10)
    write_files(tmp_path, a="first" + LINE * 10)
    (tmp_path / "c.md").write_text("third" + LINE * 10, encoding="utf-8")
    (tmp_path / ".hidden.txt").write_text("hidden", encoding="utf-8")
    (tmp_path / "d.csv").write_text("1,2", encoding="utf-8")
    data = read(tmp_path)
    text = data.train.text + data.val.text + data.test.text
    assert [text.index(word) for word in ("first", "second", "third")] == [0, 455, 911]
    assert "hidden" not in text and "1,2" not in text


def test_several_files_are_joined_in_their_order_on_lines_of_their_own(tmp_path):
    write_files(tmp_path, a="no line feed at the end " * 10, b=LINE * 10)
    data = read(f"{tmp_path}/b.txt, {tmp_path}/a.txt")
    assert data.train.text.startswith("The quick")
    whole = read_text_dataset(DataRequest(f"{tmp_path}/a.txt,{tmp_path}/b.txt"))
    assert "end \nThe" in whole.train.text


def test_a_name_with_a_comma_is_one_file(tmp_path):
    write_files(tmp_path, **{"a,b": LINE * 10})
    assert read(tmp_path / "a,b.txt").name == "a,b"


def test_an_unreadable_file_of_a_folder_is_skipped_or_refused(tmp_path):
    write_files(tmp_path, a=LINE * 10)
    (tmp_path / "b.txt").write_bytes(b"\xff\xfa")
    data = read(tmp_path)
    assert [file.path for file in data.unreadable] == [str(tmp_path / "b.txt")]
    with pytest.raises(DataError) as error:
        read(tmp_path, strict=True)
    assert error.value.path == tmp_path / "b.txt"
    (tmp_path / "a.txt").unlink()
    with pytest.raises(DataError) as error:
        read(tmp_path)
    assert error.value.path == tmp_path


@pytest.mark.parametrize("source", ["missing.txt", "empty"])
def test_what_is_not_there_is_refused_with_its_path(tmp_path, source):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError) as error:
        read(tmp_path / source)
    assert error.value.path == tmp_path / source


@pytest.mark.parametrize("length", [0, 1, MIN_CHARACTERS - 1])
def test_a_text_that_is_too_short_is_refused_with_its_size(tmp_path, length):
    write_files(tmp_path, a="x" * length)
    with pytest.raises(DataError) as error:
        read(tmp_path / "a.txt")
    assert error.value.value == length and error.value.allowed == [MIN_CHARACTERS]


def test_the_shortest_text_can_be_split(tmp_path):
    write_files(tmp_path, a="xy" * (MIN_CHARACTERS // 2))
    assert all(len(split) for split in read(tmp_path / "a.txt").splits.values())


def test_an_empty_official_train_is_refused(tmp_path):
    write_files(tmp_path, train="", test=LINE * 10)
    with pytest.raises(DataError):
        read(tmp_path)


def test_text_is_read_in_the_terms_of_a_model(tmp_path):
    write_files(tmp_path, a="xyz!")
    data = read(tmp_path / "a.txt", alphabet=(UNKNOWN, "y", "x"), make_splits=False)
    assert data.train.tokens.tolist() == [2, 1, 0, 0] and len(data.test) == len(data.val) == 0
    assert len(data.warnings) == 1 and "'!', 'z'" in data.warnings[0]
    assert data.train.tokens_in([UNKNOWN, "z"]).tolist() == [0, 0, 1, 0]


def test_folds_are_consecutive_parts(tmp_path):
    text = generate_sentences(2000)
    write_files(tmp_path, a=text)
    parts = [read(tmp_path / "a.txt", fold=f"{k}/3") for k in (1, 2, 3)]
    assert "".join(data.val.text for data in parts) == text[: int(len(text) * 0.9)]
    assert len(parts[1].train) + len(parts[1].val) == int(len(text) * 0.9)
    for wrong in ("0/3", "4/3", "1/1", "half"):
        with pytest.raises(OptionError) as error:
            read(tmp_path / "a.txt", fold=wrong)
        assert error.value.option == "fold" and error.value.value == wrong


def test_a_fold_of_official_splits_is_refused(tmp_path):
    write_files(tmp_path, train=LINE * 20, val=LINE, test=LINE)
    with pytest.raises(DataError) as error:
        read(tmp_path, fold="1/2")
    assert error.value.path == str(tmp_path)


def test_the_fingerprint_covers_every_split(tmp_path):
    write_files(tmp_path, train=LINE * 20, val="ab", test="cd")
    first = read(tmp_path).fingerprint
    assert len(first) == hashlib.sha256().digest_size * 2 and read(tmp_path).fingerprint == first
    write_files(tmp_path, val="abc", test="d")  # the same characters, cut elsewhere
    assert read(tmp_path).fingerprint != first


# --- the default text -------------------------------------------------------------------------------------------------


def test_the_default_text_is_long_and_depends_on_the_seed_alone():
    text = generate_sentences()
    assert len(text) >= 200_000 and text == generate_sentences()
    assert text[:1000] != generate_sentences(seed=1)[:1000]
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "4a5389019fb51397"


def test_the_default_text_closes_what_it_opens_and_agrees():
    text = generate_sentences(50_000)
    for paragraph in text.split("\n\n"):
        assert paragraph.count('"') % 2 == 0
        depth = 0
        for character in paragraph:
            depth += (character == "(") - (character == ")")
            assert 0 <= depth <= 4
        assert depth == 0
    assert "((" not in text and " a old" not in text and " an b" not in text
    assert " these rivers " in text and " these river " not in text


def test_the_default_dataset_needs_no_file():
    data = read("sentences")
    assert data.name == "sentences" and len(data.train) > 200_000 and data.warnings == ()
    assert make_toy_dataset().fingerprint == make_toy_dataset().fingerprint


# --- sizes, recognition, report ---------------------------------------------------------------------------------------


@given(st.integers(2, 3_000_000))
def test_every_text_gets_rows_that_it_can_fill(count):
    rows = training_size.default_batch_size(count)
    length = training_size.default_sequence_length(count, rows)
    assert 1 <= rows <= 32 and 1 <= length <= 128
    assert count >= rows * (length + 1)
    assert training_size.default_epochs(count) >= 1


def test_text_files_and_folders_are_recognized(tmp_path):
    write_files(tmp_path, a="x")
    assert is_text_source(tmp_path) and is_text_source(tmp_path / "a.txt")
    (tmp_path / "photo.png").write_bytes(b"")
    assert not is_text_source(tmp_path) and not is_text_source(tmp_path / "photo.png")
    assert not is_text_source(tmp_path / "none.txt")


def test_the_report_counts_characters_and_repeated_lines(tmp_path):
    write_files(
        tmp_path, train=LINE * 20, val="fox\n", test=LINE + "This line of the test text is nowhere else to be read.\n"
    )
    report = check_text_dataset(read(tmp_path))
    assert report.counts["o"] == 4 * 20 and report.repeated_fraction == {"val": 0.0, "test": 0.5}
    assert not report.ok and report.json()["characters"]["val"] == 4
    assert any("test" in line and "50.0 %" in line for line in report.lines())


def test_an_iterable_of_paths_is_a_source(tmp_path):
    from thalweg.data.text.text_dataset import read_raw_texts

    write_files(tmp_path, a=LINE, b="second\n")
    assert read_raw_texts([str(tmp_path / "b.txt"), tmp_path / "a.txt"]).texts == {"all": "second\n" + LINE}
