"""Predictions as table, CSV and JSON lines; standard input; listings."""

import csv
import io
import json
import os
from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from thalweg.cli import predictions
from thalweg.errors import DataError
from thalweg.predictions.base import UnreadableSource
from thalweg.predictions.label import LabelPrediction
from thalweg.predictions.text import TextPrediction

INPUT_HWC = np.zeros((2, 2, 1), np.uint8)


def predict_labels(source, top_k=None, **probabilities):
    return LabelPrediction(source, tuple(probabilities), np.array(list(probabilities.values())), INPUT_HWC, top_k)


FEW = predict_labels("a.png", cat=0.1, dog=0.9)
MANY = LabelPrediction("b.png", tuple(f"class {k:02}" for k in range(12)), np.arange(1, 13) / 78, INPUT_HWC)


def read_csv(text):
    return list(csv.reader(io.StringIO(text)))


def test_few_classes_are_a_table_with_a_column_each(capsys):
    assert predictions.print_predictions([FEW, predict_labels("b.png", cat=1.0, dog=0.0)], "table") == 0
    assert capsys.readouterr().out.splitlines() == [
        "  cat    dog  label  source",
        "0.100  0.900    dog  a.png",
        "1.000  0.000    cat  b.png",
    ]


def test_many_classes_are_the_five_most_probable(capsys):
    predictions.print_predictions([MANY], "table")
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["b.png", "  0.154  class 11"]
    assert len(lines) == 6


def test_top_k_limits_the_listed_classes(capsys):
    predictions.print_predictions([predict_labels("a.png", top_k=1, cat=0.1, dog=0.9)], "table")
    assert capsys.readouterr().out.splitlines() == ["a.png", "  0.900  dog"]


def test_csv_of_few_classes_has_a_column_each(capsys):
    predictions.print_predictions([FEW], "csv")
    assert read_csv(capsys.readouterr().out) == [["source", "label", "cat", "dog"], ["a.png", "dog", "0.1", "0.9"]]


def test_csv_of_many_classes_has_a_column_per_rank(capsys):
    predictions.print_predictions([MANY], "csv")
    header, row = read_csv(capsys.readouterr().out)
    assert header[:6] == ["source", "label", "label_1", "probability_1", "label_2", "probability_2"]
    assert len(header) == len(row) == 12
    assert row[:3] == ["b.png", "class 11", "class 11"] and float(row[3]) == pytest.approx(12 / 78)


def test_file_names_are_neither_formulas_nor_control_sequences(capsys):
    predictions.print_predictions([predict_labels("=cmd.png", cat=1.0, dog=0.0)], "csv")
    predictions.print_predictions([predict_labels("\x1b[2J.png", cat=1.0, dog=0.0)], "table")
    output = capsys.readouterr().out
    assert "'=cmd.png" in output and "\x1b" not in output and "\\x1b[2J.png" in output


def test_json_is_one_object_per_line(capsys):
    predictions.print_predictions([FEW, MANY], "json")
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == {
        "source": "a.png",
        "label": "dog",
        "top": [{"label": "dog", "probability": 0.9}, {"label": "cat", "probability": 0.1}],
    }
    assert second["source"] == "b.png"


def test_a_read_text_is_a_block_in_a_table_and_a_row_per_character_in_csv(capsys):
    read = TextPrediction("book", "ab", np.array([0.5, 1.5]))
    predictions.print_predictions([read], "table")
    assert capsys.readouterr().out.splitlines()[0] == "book"
    predictions.print_predictions([read], "csv")
    rows = read_csv(capsys.readouterr().out)
    assert rows[0] == ["source", "position", "character", "nats"] and len(rows) == 3


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_an_unreadable_source_is_reported_and_the_code_is_3(form, capsys):
    code = predictions.print_predictions([UnreadableSource("bad\x1b.png", "is cut off"), FEW], form)
    captured = capsys.readouterr()
    assert code == 3
    assert "bad\\x1b.png: is cut off" in captured.err
    assert "a.png" in captured.out and "bad" not in captured.out


def test_predictions_are_printed_as_they_come(capsys):
    def predict_slowly():
        yield FEW
        assert "a.png" in capsys.readouterr().out
        yield FEW

    predictions.print_predictions(predict_slowly(), "table")


def standard_input(content: bytes) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8")


def test_standard_input_is_read_only_for_a_dash():
    assert predictions.expand_stdin(["a.png"], None) == ["a.png"]


def test_standard_input_is_a_list_of_paths():
    paths = "x.png\r\n数 据.png\n\n".encode()
    assert predictions.expand_stdin(["a.png", "-"], standard_input(paths)) == ["a.png", "x.png", "数 据.png"]


@pytest.mark.skipif(os.name != "posix", reason="names are text here")
@pytest.mark.parametrize("end", [b"\n", b"\0"], ids=["lines", "find -print0"])
def test_paths_may_hold_anything_but_their_separator(end):
    names = [b"caf\xe9.png", "a\u2028b.png".encode(), b"c\x0b\x85.png", b"P2", b"BM.bmp", b" d.png"]
    paths = predictions.expand_stdin(["-"], standard_input(end.join(names) + end))
    assert paths == list(map(os.fsdecode, names))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM"])
@pytest.mark.parametrize("fraction", [1, 0.5])
def test_standard_input_is_an_image_even_a_damaged_one(form, fraction):
    file = io.BytesIO()
    Image.linear_gradient("L").save(file, form)
    content = file.getvalue()[: int(fraction * len(file.getvalue()))]
    assert predictions.expand_stdin(["-"], standard_input(content)) == [content]


def test_an_image_in_plain_text_is_an_image():
    plain = b"P2\n2 2\n255\n0 255\n255 0\n"
    assert predictions.expand_stdin(["-"], standard_input(plain)) == [plain]


def test_an_empty_standard_input_is_rejected():
    with pytest.raises(DataError):
        predictions.expand_stdin(["-"], standard_input(b" \n"))


Row = namedtuple("Row", ["name", "count"])


@dataclass
class Entry:
    name: str
    count: int


@pytest.mark.parametrize("rows", [[{"name": "a", "count": 3}], [Row("a", 3)], [Entry("a", 3)]])
def test_rows_of_any_kind_become_the_same_table(rows):
    assert predictions.format_rows(rows, json=False) == ["name  count", "a         3"]
    assert json.loads(predictions.format_rows(rows, json=True)[0]) == [{"name": "a", "count": 3}]


def test_no_rows_are_none():
    assert predictions.format_rows([], json=False) == ["none"]
    assert json.loads(predictions.format_rows([], json=True)[0]) == []


def test_rows_too_wide_for_the_terminal_become_blocks(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    row = {
        "name": "lenet",
        "summary": "five words " * 5,
        "paper": None,
        "arguments": {"num_classes": None, "widths": (128, 64)},
    }
    lines = predictions.format_rows([row, {**row, "name": "mlp"}], json=False)
    assert lines[0] == "lenet" and lines.count("  arguments  widths=128,64") == 2
    assert all(len(line) <= 40 for line in lines) and not any("paper" in line for line in lines)
