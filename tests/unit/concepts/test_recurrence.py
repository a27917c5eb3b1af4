"""The concept recurrence: states, gates and probabilities against the formulas; words, files and bad texts."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import thalweg
from thalweg.concepts.recurrence.character_network import build_network, train_network
from thalweg.concepts.recurrence.compute import RecurrenceSettings, compute_recurrence, recurrence, show_character
from thalweg.errors import DataError, OptionError
from thalweg.inference.inputs.text import load_input

SENTENCE = "the cat sat on the mat"


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_the_states_follow_the_formulas(cell):
    numbers = compute_recurrence(RecurrenceSettings(cell=cell, width=5, steps=3, characters=10), SENTENCE, "a text")
    assert numbers.text == SENTENCE[:10] and numbers.next_character == SENTENCE[10]
    assert numbers.difference < 1e-5
    hidden_TD = np.array(numbers.hidden)
    assert hidden_TD.shape == (10, 5)
    gates = {name: np.array(values) for name, values in numbers.gates.items()}
    if cell == "rnn":
        np.testing.assert_allclose(gates["candidate"], hidden_TD)
    elif cell == "gru":
        before_TD = np.concatenate([np.zeros((1, 5)), hidden_TD[:-1]])
        expected_TD = (1 - gates["update"]) * gates["candidate"] + gates["update"] * before_TD
        np.testing.assert_allclose(hidden_TD, expected_TD, atol=1e-6)
    else:
        cell_TD = np.array(numbers.cell_state)
        before_TD = np.concatenate([np.zeros((1, 5)), cell_TD[:-1]])
        np.testing.assert_allclose(
            cell_TD, gates["forget"] * before_TD + gates["input"] * gates["candidate"], atol=1e-6
        )
        np.testing.assert_allclose(hidden_TD, gates["output"] * np.tanh(cell_TD), atol=1e-6)


def test_the_first_step_of_an_untrained_lstm_is_that_of_its_weights():
    network = build_network("lstm", 3, 4, seed=2)
    numbers = compute_recurrence(RecurrenceSettings(width=4, steps=0, seed=2), "abc", "abc")
    weights = {name: value.detach().numpy() for name, value in network.layer.named_parameters()}
    gates = weights["weight_ih_l0"][:, 0] + weights["bias_ih_l0"] + weights["bias_hh_l0"]
    i, f, n, o = np.split(gates, 4)
    np.testing.assert_allclose(numbers.gates["forget"][0], sigmoid(f), atol=1e-6)
    np.testing.assert_allclose(numbers.hidden[0], sigmoid(o) * np.tanh(sigmoid(i) * np.tanh(n)), atol=1e-6)
    assert numbers.loss_before == numbers.loss_after == pytest.approx(math.log(3), abs=0.3)


def test_training_learns_the_text_and_guesses_are_the_most_probable():
    settings = RecurrenceSettings(cell="gru", steps=150, width=16, characters=30)
    numbers = compute_recurrence(settings, "abcabd" * 20, "letters")
    assert numbers.loss_after < 0.3 < 1 < numbers.loss_before
    for guesses, probability in zip(numbers.guesses, numbers.next_probability, strict=True):
        values = [guess.probability for guess in guesses]
        assert values == sorted(values, reverse=True) and sum(values) <= 1 + 1e-6
        assert probability <= values[0] + 1e-6
    assert numbers.guesses[0][0].character == "b" and numbers.guesses[1][0].character in "cd"


def test_training_leaves_the_global_random_state_alone():
    before = torch.random.get_rng_state()
    network = build_network("lstm", 4, 4, seed=0)
    train_network(network, torch.tensor([0, 1, 2, 3] * 20), 2, seed=0)
    assert torch.equal(before, torch.random.get_rng_state())


def test_every_character_is_a_frame_and_the_end_of_the_text_is_said():
    result = recurrence(RecurrenceSettings(steps=0, width=3), text="ab\n c", title="t")
    assert len(result.frames) == 5
    assert "a line feed" in result.frames[2].caption and "the text ends here" in result.frames[-1].caption
    assert "random" in result.notes[-1]
    assert result.frames[0].draw().size == result.frames[-1].draw().size
    assert show_character("\x07") == "U+0007"


def test_a_text_is_given_as_words_or_as_a_file(tmp_path):
    path = tmp_path / "poem.txt"
    path.write_text("roses\r\nare red", encoding="utf-8")
    for word in (str(path), path):
        assert load_input([word], None, None, True) == {"text": "roses\nare red", "title": "poem.txt", "notes": []}
    assert load_input(["roses are red"], None, None, True)["title"] == "your text"
    assert len(load_input(["long " * 10_000], None, None, True)["text"]) == 20_000
    shown = thalweg.explain("recurrence", "roses are red", steps=0, characters=4)
    assert shown.result.numbers["text"] == "rose"


def test_texts_that_are_none_are_refused(tmp_path):
    with pytest.raises(DataError, match="expected a text"):
        load_input(["  "], None, None, True)
    binary = tmp_path / "image.txt"
    binary.write_bytes(b"\x00\xff")
    with pytest.raises(DataError):
        load_input([binary], None, None, True)
    with pytest.raises(DataError):
        load_input([Path(tmp_path / "missing.txt")], None, None, True)
    with pytest.raises(OptionError, match="at least 3"):
        recurrence(RecurrenceSettings(), text="ab")
    with pytest.raises(OptionError, match="--weights|weights"):
        load_input(["abc"], None, "imagenet", True)
