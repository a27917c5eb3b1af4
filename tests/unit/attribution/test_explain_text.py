"""Cells that follow a text: their AUC against scikit-learn, and a cell that was built to follow quotes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from thalweg.attribution.explain_text import compute_auc, explain_text, find_properties, stretch, trace_cells
from thalweg.data.text.text_dataset import build_alphabet
from thalweg.data.text.vocabulary import CharacterVocabulary
from thalweg.predictions.text import TextPrediction
from thalweg.registry import get_models

TEXT = 'He said "come here" and (perhaps) "GO AWAY" again.\nThen nothing.\n' * 8
VOCABULARY = CharacterVocabulary(build_alphabet(TEXT))


def build(name: str = "lstm", **kwargs):
    torch.manual_seed(0)
    return get_models("write")[name](num_tokens=VOCABULARY.size, width=6, **kwargs).eval()


def explain(model, text: str = TEXT, num_cells: int = 2):
    return explain_text(model, TextPrediction("text", text, np.ones(len(text))), VOCABULARY, num_cells)


def test_the_auc_is_that_of_scikit_learn():
    random = np.random.default_rng(0)
    values = random.integers(0, 5, (200, 3)).astype(float)
    holds = random.random(200) < 0.3
    expected = [roc_auc_score(holds, values[:, column]) for column in range(3)]
    assert compute_auc(values, holds).tolist() == pytest.approx(expected)


def test_properties_are_those_of_the_text():
    properties = find_properties('a "b" (c)\nDE')
    shown = {name: "".join("x" if holds else "." for holds in values) for name, values in properties.items()}
    assert shown["inside quotes"] == "..xx........"
    assert shown["inside brackets"] == "......xx...."
    assert shown["capitals"] == "..........xx"


@pytest.mark.parametrize("name", ["rnn", "gru", "lstm"])
def test_cells_of_all_layers_are_traced_and_named(name):
    model = build(name, layers=2)
    values, sizes = trace_cells(model, TEXT, VOCABULARY)
    assert values.shape == (len(TEXT), 12) and sizes == [6, 6] and np.abs(values).max() <= 1
    result = explain(model)
    assert len(result.cells) == 8 and {cell.layer for cell in result.cells} <= {1, 2}
    assert all(0 <= cell.cell < 6 and 0 <= cell.auc <= 1 for cell in result.cells)
    assert result.json()["cells"][0].keys() == {"property", "layer", "cell", "auc"}
    assert [label for label, _ in result.predictions] == [cell.label for cell in result.cells]


def test_a_cell_that_follows_quotes_is_found():
    model = build("lstm", layers=1)
    rnn = model.features.rnn.layers[0]
    with torch.no_grad():
        model.features.embedding.weight.zero_()
        model.features.embedding.weight[VOCABULARY.alphabet.index('"'), 0] = 1.0
        rnn.weight_hh_l0[:, 3] = 0
        rnn.weight_hh_l0[3::6] = 0
        rnn.weight_ih_l0[3::6] = 0
        rnn.weight_ih_l0[3, 0] = 20.0  # the input gate opens at a quote only
        rnn.bias_ih_l0[3] = -10.0
        rnn.bias_ih_l0[9] = 10.0  # the forget gate stays open
        rnn.weight_ih_l0[15, 0] = 5.0
        rnn.weight_hh_l0[15, 3] = -20.0  # the second quote brings it back down
    cells = [cell for cell in explain(model, num_cells=1).cells if cell.text_property == "inside quotes"]
    assert cells[0].cell == 3 and cells[0].auc > 0.95


def test_values_are_stretched_around_their_median():
    values = stretch(np.array([0.991, 0.992, 0.993, 0.994, 0.995]))
    assert values[2] == 0 and (np.diff(values) > 0).all() and np.abs(values).max() == 1
    assert stretch(np.ones(5)).tolist() == [0] * 5


def test_every_cell_is_drawn():
    result = explain(build(), TEXT[:300], num_cells=1)
    images = result.images()
    assert list(images)[0] == "surprise" and len(images) == 1 + len(result.cells) > 1
    assert all(image.size[0] > 400 for image in images.values())


def test_what_cannot_be_searched_is_said():
    result = explain(build(), text="short")
    assert result.cells == [] and set(result.notes) == set(find_properties("a"))
    others = get_models("write")["gpt"](num_tokens=VOCABULARY.size, width=16).eval()
    assert explain(others).cells == [] and explain(others).notes and explain(others).draw() is not None
