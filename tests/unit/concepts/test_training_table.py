"""Training on the user's own points: table formats, and errors in tables with file, line and column."""

import numpy as np
import pytest

import thalweg
from thalweg.cli import main as cli
from thalweg.errors import DataError, NotFoundError, OptionError

#: x, y and a label on 12 lines
ROWS = [(0.5 * i, (-1) ** i + 0.1 * i, "ab"[i % 2]) for i in range(12)]
GOOD = "x,y,label\n" + "".join(f"{x},{y},{k}\n" for x, y, k in ROWS)


def train_on_table(tmp_path, content, **settings):
    """Run the concept on a table with this content; return its numbers and notes."""
    file = tmp_path / "points.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    result = thalweg.explain("training", file, epochs=1, hidden=[2], **settings).result
    return result.numbers, list(result.notes)


def test_a_table_is_read_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.csv").write_text(GOOD)
    assert cli.invoke(["explain", "training", "mine.csv", "--set", "epochs=3"]) == 0
    assert (tmp_path / "explained" / "training.png").exists() and "training  " in capsys.readouterr().out


def test_spaces_quotes_semicolons_byte_order_mark_and_decimal_commas_are_understood(tmp_path):
    lines = [' Sepal length (cm) ; "petal; length"; kind '] + [
        f'{x:.2f} ; {y:.3f};"class {"IJK"[i % 3]}"'.replace(".", ",") for i, (x, y, _) in enumerate(ROWS)
    ]
    numbers, notes = train_on_table(tmp_path, "\ufeff" + "\r\n".join(lines))
    assert numbers["axes"] == ["Sepal length (cm)", "petal; length"]
    assert numbers["classes"] == ["class I", "class J", "class K"] and not notes
    np.testing.assert_allclose(numbers["points"], [(x, y) for x, y, _ in ROWS])
    assert numbers["labels"] == [0, 1, 2] * 4 and numbers["dataset"] == "points.csv"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
def test_other_encodings_are_read(tmp_path, encoding):
    numbers, notes = train_on_table(tmp_path, GOOD.replace("label", "Größe").encode(encoding))
    assert numbers["classes"] == ["a", "b"] and len(notes) == (encoding == "cp1252")


def test_numeric_labels_are_the_last_column_or_a_column_with_a_label_name(tmp_path):
    numbers, _ = train_on_table(
        tmp_path, "p\tq\tr\n" + "".join(f"{x}\t{y}\t{10 if k == 'a' else 2}\n" for x, y, k in ROWS)
    )
    assert numbers["axes"] == ["p", "q"] and numbers["classes"] == ["2", "10"]
    numbers, _ = train_on_table(tmp_path, "Class,q,r\n" + "".join(f"{k == 'a':d},{x},{y}\n" for x, y, k in ROWS))
    assert numbers["axes"] == ["q", "r"] and numbers["labels"] == [1, 0] * 6


def test_the_first_two_numeric_columns_are_used_unless_columns_are_named(tmp_path):
    content = "id,name,a,b,c,species\n" + "".join(f"{i},n{i},{x},{y},{y - x},{k}\n" for i, (x, y, k) in enumerate(ROWS))
    numbers, notes = train_on_table(tmp_path, content)
    assert numbers["axes"] == ["a", "b"], "a column of row numbers is not a feature"
    assert len(notes) == 1 and all(name in notes[0] for name in ("a", "b", "c", "species"))
    numbers, notes = train_on_table(tmp_path, content, columns=["c", "a", "species"])
    assert numbers["axes"] == ["c", "a"] and not notes
    np.testing.assert_allclose(numbers["points"], [(y - x, x) for x, y, _ in ROWS])
    with pytest.raises(NotFoundError) as error:
        train_on_table(tmp_path, content, columns="c,a,specie")
    assert "species" in error.value.cure
    with pytest.raises(OptionError):
        train_on_table(tmp_path, content, columns="a,species")


@pytest.mark.parametrize(
    ("content", "fragments"),
    [
        ("", []),
        ("x,y,label\n", []),
        (GOOD[10:], ["line 1"]),
        (GOOD + "1,,a\n", ["line 14", "'y'"]),
        (GOOD + "\n1,2,\n", ["line 15", "'label'"]),
        (GOOD + "1,two,a\n", ["line 14", "'y'", "'two'"]),
        (GOOD + "NaN,2,a\n", ["line 14", "'x'", "'NaN'"]),
        (GOOD + "1,1e999,a\n", ["line 14", "'y'", "'1e999'"]),
        (GOOD + "1,2\n", ["line 14", "2", "3"]),
        (GOOD + '1,2,"a\n', ["line 14"]),
        (GOOD.encode() + b"1,2,\0\n", ["line 14"]),
        ("x,x,label\n1,2,a\n", ["line 1", "'x'"]),
        ("x,kind\n1,a\n2,b\n", ["line 1", "'kind'"]),
        ("u,v,w\n1,a,b\n2,c,d\n", ["line 1", "v, w"]),
        (GOOD.replace(",b\n", ",a\n"), ["'a'"]),
        ("x,y,label\n1,2,a\n3,4,b\n", ["2"]),
        ("x,y,z\n" + "".join(f"{i},{i},{i * i}\n" for i in range(20)), ["20"]),
    ],
)
def test_invalid_tables_are_rejected_with_file_line_and_column(tmp_path, content, fragments, capsys):
    file = tmp_path / "points.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert cli.invoke(["explain", "training", str(file), "--save", str(tmp_path / "a.png")]) == 3
    error = capsys.readouterr().err
    for fragment in ("points.csv", *fragments):
        assert fragment in error
    lines = error.strip().splitlines()
    assert lines[0].startswith("error: ") and (len(lines) == 2 or (len(lines) == 1 and "; expected " in lines[0]))
    assert not (tmp_path / "a.png").exists()


def test_files_that_are_not_tables_are_rejected(tmp_path):
    (tmp_path / "points.csv").write_text(GOOD)
    with pytest.raises(NotFoundError) as error:
        thalweg.explain("training", tmp_path / "point.csv")
    assert "points.csv" in error.value.cure
    with pytest.raises(DataError):
        thalweg.explain("training", tmp_path)
    with pytest.raises(OptionError):
        thalweg.explain("training", "a.csv", "b.csv")
    with pytest.raises(OptionError) as error:
        thalweg.explain("training", tmp_path / "points.csv", dataset="moons")
    assert (error.value.option, error.value.value) == ("dataset", "moons")
    with pytest.raises(OptionError):
        thalweg.explain("training", weights="imagenet")


def test_arrays_are_accepted_or_rejected_with_the_row():
    points = np.array([row[:2] for row in ROWS])
    labels = np.array([row[2] for row in ROWS])
    numbers = thalweg.explain("training", (points, labels), epochs=1).result.numbers
    assert numbers["points"] == points.tolist() and numbers["classes"] == ["a", "b"]
    with_nan = np.where(points == 1.5, np.nan, points)
    for arrays in [(points,), (points.T, labels), (points, labels[:5]), (with_nan, labels), (labels, labels)]:
        with pytest.raises(DataError) as error:
            thalweg.explain("training", arrays)
        assert arrays[0] is not with_nan or "3" in error.value.message


def test_a_random_subset_of_very_many_points_is_used():
    points = np.random.default_rng(0).standard_normal((6000, 2))
    labels = (points[:, 0] > 0).astype(int)
    first = thalweg.explain("training", (points, labels), epochs=1, batch_size=1000)
    assert len(first.result.numbers["points"]) == 5000
    (note,) = first.result.notes
    assert "5000" in note and "6000" in note
    other = thalweg.explain("training", (points, labels), epochs=1, batch_size=1000, seed=1)
    assert other.result.numbers["points"] != first.result.numbers["points"]


def test_coordinates_of_any_magnitude_and_constant_columns_are_learned_and_drawn():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    extreme = np.stack([1e9 + labels + 0.1 * rng.standard_normal(60), 1e-9 * rng.standard_normal(60)], 1)
    constant = np.stack([labels + 0.1 * rng.standard_normal(60), np.full(60, 7.0)], 1)
    for points in (extreme, constant):
        rendered = thalweg.explain("training", (points, labels), epochs=60)
        assert rendered.result.numbers["runs"][0]["curves"]["train"]["accuracy"][-1] == 1
        assert rendered.draw().size == (1800, 1260)
