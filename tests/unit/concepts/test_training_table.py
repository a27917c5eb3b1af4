"""Training on points of the user's own: tables as people keep them, and what is wrong with some, told by the line."""

import numpy as np
import pytest

import thalweg
from thalweg.cli import main as cli
from thalweg.errors import DataError, NotFoundError, OptionError

#: x, y and a label on 12 lines
ROWS = [(0.5 * i, (-1) ** i + 0.1 * i, "ab"[i % 2]) for i in range(12)]
GOOD = "x,y,label\n" + "".join(f"{x},{y},{k}\n" for x, y, k in ROWS)


def numbers_of(tmp_path, content, **settings):
    """The numbers for a table of this content, and the notes."""
    file = tmp_path / "points.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    result = thalweg.explain("training", file, epochs=1, hidden=[2], **settings).result
    return result.numbers, list(result.notes)


def test_a_table_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.csv").write_text(GOOD)
    assert cli.invoke(["explain", "training", "mine.csv", "--set", "epochs=3"]) == 0
    assert (tmp_path / "explained" / "training.png").exists() and "training  " in capsys.readouterr().out


def test_spaces_quotes_semicolons_a_mark_and_decimal_commas(tmp_path):
    lines = [' Sepal length (cm) ; "petal; length"; kind '] + [
        f'{x:.2f} ; {y:.3f};"class {"IJK"[i % 3]}"'.replace(".", ",") for i, (x, y, _) in enumerate(ROWS)
    ]
    numbers, notes = numbers_of(tmp_path, "\ufeff" + "\r\n".join(lines))
    assert numbers["axes"] == ["Sepal length (cm)", "petal; length"]
    assert numbers["classes"] == ["class I", "class J", "class K"] and not notes
    np.testing.assert_allclose(numbers["points"], [(x, y) for x, y, _ in ROWS])
    assert numbers["labels"] == [0, 1, 2] * 4 and numbers["set"] == "points.csv"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
def test_letters_of_other_encodings(tmp_path, encoding):
    numbers, notes = numbers_of(tmp_path, GOOD.replace("label", "Größe").encode(encoding))
    assert numbers["classes"] == ["a", "b"] and len(notes) == (encoding == "cp1252")


def test_labels_that_are_numbers_are_the_last_column_or_the_one_that_is_called_so(tmp_path):
    numbers, _ = numbers_of(tmp_path, "p\tq\tr\n" + "".join(f"{x}\t{y}\t{10 if k == 'a' else 2}\n" for x, y, k in ROWS))
    assert numbers["axes"] == ["p", "q"] and numbers["classes"] == ["2", "10"]
    numbers, _ = numbers_of(tmp_path, "Class,q,r\n" + "".join(f"{k == 'a':d},{x},{y}\n" for x, y, k in ROWS))
    assert numbers["axes"] == ["q", "r"] and numbers["labels"] == [1, 0] * 6


def test_of_more_columns_the_first_two_are_used_and_others_can_be_named(tmp_path):
    content = "id,name,a,b,c,species\n" + "".join(f"{i},n{i},{x},{y},{y - x},{k}\n" for i, (x, y, k) in enumerate(ROWS))
    numbers, notes = numbers_of(tmp_path, content)
    assert numbers["axes"] == ["a", "b"], "a column that counts the rows says nothing"
    assert notes[0].startswith("Of 3 columns of numbers a and b are used, and species as the label; not used: c.")
    numbers, notes = numbers_of(tmp_path, content, columns=["c", "a", "species"])
    assert numbers["axes"] == ["c", "a"] and not notes
    np.testing.assert_allclose(numbers["points"], [(y - x, x) for x, y, _ in ROWS])
    with pytest.raises(NotFoundError, match="column named 'specie'") as found:
        numbers_of(tmp_path, content, columns="c,a,specie")
    assert "species" in found.value.cure
    with pytest.raises(OptionError, match="three different columns"):
        numbers_of(tmp_path, content, columns="a,species")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "points.csv: there is no point in it"),
        ("x,y,label\n", "points.csv: there is no point in it"),
        (GOOD[10:], "line 1: the first line should name the columns"),
        (GOOD + "1,,a\n", "line 14, column 'y': the cell is empty"),
        (GOOD + "\n1,2,\n", "line 15, column 'label': the cell is empty"),
        (GOOD + "1,two,a\n", "line 14, column 'y': 'two' is no finite number"),
        (GOOD + "NaN,2,a\n", "line 14, column 'x': 'NaN' is no finite number"),
        (GOOD + "1,1e999,a\n", "line 14, column 'y': '1e999' is no finite number"),
        (GOOD + "1,2\n", "line 14: 2 columns, the header has 3"),
        (GOOD + '1,2,"a\n', "line 14: unexpected end of data"),
        (GOOD.encode() + b"1,2,\0\n", "line 14: a zero byte"),
        ("x,x,label\n1,2,a\n", "line 1: two columns are named 'x'"),
        ("x,kind\n1,a\n2,b\n", "line 1: two columns of numbers and one of labels are needed, and only 'x' is left"),
        ("u,v,w\n1,a,b\n2,c,d\n", "line 1: which column is the label? These hold texts: 'v', 'w'"),
        (GOOD.replace(",b\n", ",a\n"), "all points have the label 'a'"),
        ("x,y,label\n1,2,a\n3,4,b\n", "there are 2 points"),
        ("x,y,z\n" + "".join(f"{i},{i},{i * i}\n" for i in range(20)), "20 different labels"),
    ],
)
def test_what_is_wrong_with_a_table_is_told_by_its_line(tmp_path, content, told, capsys):
    file = tmp_path / "points.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert cli.invoke(["explain", "training", str(file), "--save", str(tmp_path / "a.png")]) == 3
    error = capsys.readouterr().err
    assert told in error and "points.csv" in error and len(error.strip().splitlines()) == 2
    assert not (tmp_path / "a.png").exists()


def test_files_that_are_none(tmp_path):
    (tmp_path / "points.csv").write_text(GOOD)
    with pytest.raises(NotFoundError, match="There is no file") as found:
        thalweg.explain("training", tmp_path / "point.csv")
    assert "points.csv" in found.value.cure
    with pytest.raises(DataError, match="cannot be read as a table"):
        thalweg.explain("training", tmp_path)
    with pytest.raises(OptionError, match="one word too many"):
        thalweg.explain("training", "a.csv", "b.csv")
    with pytest.raises(OptionError, match=r"Both points\.csv and the set moons"):
        thalweg.explain("training", tmp_path / "points.csv", set="moons")
    with pytest.raises(OptionError, match="networks of its own"):
        thalweg.explain("training", weights="imagenet")


def test_points_in_python():
    points, labels = np.array([row[:2] for row in ROWS]), np.array([row[2] for row in ROWS])
    numbers = thalweg.explain("training", (points, labels), epochs=1).result.numbers
    assert numbers["points"] == points.tolist() and numbers["classes"] == ["a", "b"]
    for given, told in [
        ((points,), "pair"),
        ((points.T, labels), "do not fit"),
        ((points, labels[:5]), "do not fit"),
        ((np.where(points == 1.5, np.nan, points), labels), "Row 3"),
        ((labels, labels), "not numbers"),
    ]:
        with pytest.raises(DataError, match=told):
            thalweg.explain("training", given)


def test_of_very_many_points_some_are_drawn_by_the_seed():
    points = np.random.default_rng(0).standard_normal((6000, 2))
    labels = (points[:, 0] > 0).astype(int)
    first = thalweg.explain("training", (points, labels), epochs=1, batch=1000)
    assert len(first.result.numbers["points"]) == 5000 and first.result.notes == [
        "5000 of 6000 points are used, drawn by the seed."
    ]
    other = thalweg.explain("training", (points, labels), epochs=1, batch=1000, seed=1)
    assert other.result.numbers["points"] != first.result.numbers["points"]


def test_numbers_of_any_size_and_a_column_that_never_changes_can_be_learned_and_drawn():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    far = np.stack([1e9 + labels + 0.1 * rng.standard_normal(60), 1e-9 * rng.standard_normal(60)], 1)
    still = np.stack([labels + 0.1 * rng.standard_normal(60), np.full(60, 7.0)], 1)
    for points in (far, still):
        shown = thalweg.explain("training", (points, labels), epochs=60)
        assert shown.result.numbers["runs"][0]["curves"]["train"]["accuracy"][-1] == 1
        assert shown.draw().size == (1800, 1260)
