"""Texts as predictions: lines, rows, JSON, colors and files."""

from __future__ import annotations

import json
import math
import re
import sys
import types
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from thalweg.predictions.base import Prediction
from thalweg.predictions.text import TextPrediction

SAMPLE = TextPrediction("sample 1", "Hello,\nworld")
READ = TextPrediction("a.txt", "aé\n", np.array([0.5, 7.0, 2.5], np.float32))


def strip_colors(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_texts_are_predictions():
    assert isinstance(SAMPLE, Prediction) and isinstance(READ, Prediction)


def test_a_written_text_is_its_lines():
    assert SAMPLE.brief() == ["Hello,", "world"]
    assert SAMPLE.rows() == [{"source": "sample 1", "text": "Hello,\nworld"}]
    assert SAMPLE.json() == {"source": "sample 1", "text": "Hello,\nworld"}
    assert SAMPLE.colored(True) == SAMPLE.colored(False) == ["Hello,", "world"]


def test_a_text_that_was_read_has_the_surprise_of_each_character():
    assert READ.nats_per_character == pytest.approx(10 / 3)
    assert READ.bits_per_character == pytest.approx(10 / 3 / math.log(2))
    assert READ.rows()[1] == {"source": "a.txt", "position": 2, "character": "é", "nats": 7.0}
    assert READ.json()["characters"] == 3 and READ.json()["nats_per_character"] == pytest.approx(10 / 3)
    assert len(READ.brief()) == 1 and "3.333" in READ.brief()[0]


def test_every_character_has_one_figure():
    with pytest.raises(ValueError):
        TextPrediction("x", "abc", [1.0])


@given(st.text(max_size=30))
def test_json_and_rows_are_json(text):
    prediction = TextPrediction("x", text, np.ones(len(text), np.float32))
    json.dumps([prediction.json(), prediction.rows()], allow_nan=False)
    assert prediction.brief() and repr(prediction)


def test_an_empty_text_has_no_nan():
    assert TextPrediction("x", "", []).json()["nats_per_character"] == 0.0


def test_surprising_characters_get_a_background():
    line, first, last = READ.colored(True)
    assert [line] == READ.brief() == READ.colored(False)
    assert first.startswith("a\x1b[") and first.endswith("\x1b[0m") and strip_colors(first) == "aé"
    assert last == ""


@given(st.text(max_size=40), st.randoms(use_true_random=False))
def test_a_text_never_commands_the_terminal(text, random):
    prediction = TextPrediction("x", text, [random.random() * 8 for _ in text])
    plain = [strip_colors(line) for line in prediction.colored(True)[1:]]
    assert plain == TextPrediction("x", text).colored(True)
    assert all(c.isprintable() or c == "\t" or unicodedata.category(c) == "Zs" for c in "".join(plain))
    assert "\x1b" not in TextPrediction("x", "\x1b[2J").colored(True)[0]


def test_no_color_crosses_a_line_feed():
    lines = TextPrediction("x", "ab\ncd", [9.0] * 5).colored(True)[1:]
    assert all(line.count("\x1b[38") == line.count("\x1b[0m") == 1 for line in lines)


@pytest.mark.parametrize("prediction", [SAMPLE, READ], ids=["written", "read"])
def test_files_are_the_text_and_its_drawing(prediction, monkeypatch):
    calls = []

    def plot(characters, nats, title):
        calls.append((characters, list(nats), title))
        return Image.new("RGB", (4, 3))

    module = types.ModuleType("thalweg.plots.text_surprise")
    module.plot_text_surprise = plot
    monkeypatch.setitem(sys.modules, "thalweg.plots.text_surprise", module)
    files = prediction.files()
    assert files[".txt"].decode("utf-8") == prediction.text
    assert files[".png"].startswith(b"\x89PNG")
    characters, nats, title = calls[0]
    assert "".join(characters) == prediction.text and title == prediction.source
    assert nats == ([0.0] * 12 if prediction.nats is None else [0.5, 7.0, 2.5])


def test_the_drawing_is_an_image():
    assert READ.draw().width > 100
