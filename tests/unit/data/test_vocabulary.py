"""Vocabularies: every text comes back as it was, and surprise is counted per character."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.data.text.text_dataset import build_alphabet, make_text_split
from thalweg.data.text.vocabulary import (
    ByteVocabulary,
    CharacterVocabulary,
    PieceVocabulary,
    make_vocabulary,
    spread_over_characters,
    train_pieces,
)
from thalweg.errors import OptionError, ResourceError

TEXTS = ["The old man and the sea.\n\n  Twice", "Hé  llo ☃!\t𝄞", "\n\n", "a"]


def vocabularies(text: str):
    yield CharacterVocabulary(build_alphabet(text))
    yield ByteVocabulary()
    try:
        yield PieceVocabulary(train_pieces("the old man of the sea\n" * 50, 300))
    except ResourceError:  # sentencepiece is an extra
        return


@pytest.mark.parametrize("text", TEXTS)
def test_every_text_comes_back_as_it_was(text):
    split = make_text_split(text, build_alphabet(text))
    for vocabulary in vocabularies(text):
        tokens = vocabulary.encode(split)
        assert tokens.dtype == np.int32 and 0 <= tokens.min() and tokens.max() < vocabulary.size
        decode = vocabulary.make_decoder()
        assert "".join(map(decode, tokens.tolist())) == text
        assert vocabulary.encode_prompt(text) == tokens.tolist()


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_begin_at_characters_in_order(text):
    split = make_text_split(text, build_alphabet(text))
    for vocabulary in vocabularies(text):
        begins = vocabulary.count_characters(split)
        assert len(begins) == len(vocabulary.encode(split)) and begins[0] == 0
        assert (np.diff(begins) >= 0).all() and begins[-1] < len(text)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8), st.integers(1, 3))
def test_spreading_keeps_the_sum(steps, last):
    begins = np.cumsum(steps) - steps[0]
    nats = np.arange(1.0, len(begins) + 1)
    spread = spread_over_characters(nats, begins, int(begins[-1]) + last)
    assert spread.sum() == pytest.approx(nats.sum(), rel=1e-5) and (spread > 0).all()


def test_a_token_is_spread_evenly_and_the_tokens_of_a_character_are_added():
    spread = spread_over_characters(np.array([2.0, 1.0, 3.0]), np.array([0, 2, 2]), 3)
    assert spread.tolist() == [1.0, 1.0, 4.0]
    assert spread_over_characters(np.zeros(0), np.zeros(0, int), 0).tolist() == []


def test_fewer_pieces_than_characters_are_refused():
    pytest.importorskip("sentencepiece")
    with pytest.raises(OptionError) as error:
        train_pieces("abc\n" * 50, 260)
    assert (error.value.option, error.value.allowed) == ("vocabulary_size", [261])
    assert PieceVocabulary(train_pieces("abc\n" * 50, 261)).size >= 259


def test_pieces_need_sentencepiece(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sentencepiece", None)
    with pytest.raises(ResourceError) as error:
        make_vocabulary("sentencepiece", [], "AAAA")
    assert "thalweg[text]" in error.value.cure
