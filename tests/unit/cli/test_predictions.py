"""Predictions as table, CSV and JSON lines; what came in on standard input; listings."""

import csv
import io
import json
import os
from collections import namedtuple
from dataclasses import dataclass

import pytest
from PIL import Image

from thalweg.cli import predictions as answers
from thalweg.errors import DataError


@dataclass
class Answer:
    """A prediction as the command line sees one; `chances` by class, in the order of the classes."""

    source: str
    chances: dict

    @property
    def classes(self):
        return tuple(self.chances)

    @property
    def label(self):
        return self.top(1)[0][0]

    def top(self, k):
        return sorted(self.chances.items(), key=lambda pair: -pair[1])[:k]

    def json(self):
        top = [{"label": label, "probability": chance} for label, chance in self.top(5)]
        return {"source": self.source, "label": self.label, "top": top}


@dataclass
class Unread:
    source: str
    reason: str


FEW = Answer("a.png", {"cat": 0.1, "dog": 0.9})
MANY = Answer("b.png", {f"class {k:02}": (k + 1) / 78 for k in range(12)})


def test_few_classes_are_a_table_with_a_column_each(capsys):
    assert answers.print_predictions([FEW, Answer("b.png", {"cat": 1.0, "dog": 0.0})], "table", None) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "  cat    dog  answer  source",
        "0.100  0.900  dog     a.png",
        "1.000  0.000  cat     b.png",
    ]


def test_many_classes_are_the_five_likeliest(capsys):
    answers.print_predictions([MANY], "table", None)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "b.png"
    assert lines[1] == "  0.154  class 11"
    assert len(lines) == 6


def test_the_number_of_classes_can_be_asked_for(capsys):
    answers.print_predictions([FEW], "table", 1)
    assert capsys.readouterr().out.splitlines() == ["a.png", "  0.900  dog"]


def test_csv_of_few_classes_has_a_column_each(capsys):
    answers.print_predictions([FEW], "csv", None)
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert rows == [["source", "label", "cat", "dog"], ["a.png", "dog", "0.1", "0.9"]]


def test_csv_of_many_classes_has_a_column_per_rank(capsys):
    answers.print_predictions([MANY], "csv", 2)
    head, row = csv.reader(io.StringIO(capsys.readouterr().out))
    assert head == ["source", "label", "label_1", "probability_1", "label_2", "probability_2"]
    assert row[:3] == ["b.png", "class 11", "class 11"] and float(row[3]) == pytest.approx(12 / 78)


def test_a_row_of_csv_has_as_many_cells_as_there_are_headings(capsys):
    answers.print_predictions([FEW], "csv", 5)
    head, row = csv.reader(io.StringIO(capsys.readouterr().out))
    assert len(head) == len(row) == 12 and row[2:] == ["dog", "0.9", "cat", "0.1", *[""] * 6]


def test_a_file_name_cannot_become_a_formula_or_a_command(capsys):
    answers.print_predictions([Answer("=cmd.png", {"cat": 1.0, "dog": 0.0})], "csv", None)
    answers.print_predictions([Answer("\x1b[2J.png", {"cat": 1.0, "dog": 0.0})], "table", None)
    shown = capsys.readouterr().out
    assert "'=cmd.png" in shown and "\x1b" not in shown and "\\x1b[2J.png" in shown


def test_json_is_one_object_per_line(capsys):
    answers.print_predictions([FEW, MANY], "json", None)
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == {
        "source": "a.png",
        "label": "dog",
        "top": [{"label": "dog", "probability": 0.9}, {"label": "cat", "probability": 0.1}],
    }
    assert second["source"] == "b.png"


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_the_unreadable_is_named_the_rest_answered_and_the_code_is_3(form, capsys):
    code = answers.print_predictions([Unread("bad\x1b.png", "is cut off"), FEW], form, None)
    shown = capsys.readouterr()
    assert code == 3
    assert "unreadable: bad\\x1b.png: is cut off" in shown.err
    assert "a.png" in shown.out and "bad" not in shown.out


def test_answers_are_shown_as_they_come(capsys):
    def slowly():
        yield FEW
        assert "a.png" in capsys.readouterr().out
        yield FEW

    answers.print_predictions(slowly(), "table", None)


def standard_input(content: bytes) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8")


def test_standard_input_is_read_only_where_it_is_asked_for():
    assert answers.expand_stdin(["a.png"], None) == ["a.png"]


def test_standard_input_is_a_list_of_paths():
    paths = "x.png\r\n数 据.png\n\n".encode()
    assert answers.expand_stdin(["a.png", "-"], standard_input(paths)) == ["a.png", "x.png", "数 据.png"]


@pytest.mark.skipif(os.name != "posix", reason="names are text here")
@pytest.mark.parametrize("end", [b"\n", b"\0"], ids=["lines", "find -print0"])
def test_a_path_may_hold_anything_but_what_divides_paths(end):
    names = [b"caf\xe9.png", "a\u2028b.png".encode(), b"c\x0b\x85.png", b"P2", b"BM.bmp", b" d.png"]
    found = answers.expand_stdin(["-"], standard_input(end.join(names) + end))
    assert found == list(map(os.fsdecode, names))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM"])
@pytest.mark.parametrize("share", [1, 0.5])
def test_standard_input_is_a_picture_even_a_damaged_one(form, share):
    file = io.BytesIO()
    Image.linear_gradient("L").save(file, form)
    content = file.getvalue()[: int(share * len(file.getvalue()))]
    assert answers.expand_stdin(["-"], standard_input(content)) == [content]


def test_a_picture_that_is_written_in_plain_text_is_a_picture():
    plain = b"P2\n2 2\n255\n0 255\n255 0\n"
    assert answers.expand_stdin(["-"], standard_input(plain)) == [plain]


def test_an_empty_standard_input_is_refused():
    with pytest.raises(DataError, match="standard input is empty"):
        answers.expand_stdin(["-"], standard_input(b" \n"))


Row = namedtuple("Row", ["name", "count"])


@dataclass
class Entry:
    name: str
    count: int


@pytest.mark.parametrize("rows", [[{"name": "a", "count": 3}], [Row("a", 3)], [Entry("a", 3)]])
def test_rows_of_any_kind_become_the_same_table(rows):
    assert answers.format_rows(rows, json=False) == ["name  count", "a         3"]
    assert json.loads(answers.format_rows(rows, json=True)[0]) == [{"name": "a", "count": 3}]


def test_no_rows_are_said_to_be_none():
    assert answers.format_rows([], json=False) == ["none"]
    assert json.loads(answers.format_rows([], json=True)[0]) == []


def test_rows_too_wide_for_the_terminal_become_blocks(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    row = {
        "name": "lenet",
        "about": "five words " * 5,
        "paper": None,
        "arguments": {"classes": None, "widths": (128, 64)},
    }
    lines = answers.format_rows([row, {**row, "name": "mlp"}], json=False)
    assert lines[0] == "lenet" and lines.count("  arguments  widths=128,64") == 2
    assert all(len(line) <= 40 for line in lines) and not any("paper" in line for line in lines)
