"""Tables in every encoding: labels survive exactly, or the error names the line."""

import csv
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.data.images import corpus
from thalweg.data.images.csv_dataset import parse_table, read_table
from thalweg.data.images.raw_dataset import ReadOptions
from thalweg.errors import DataError

LABELS = ["NA", "None", "null", "nan", "001", "1", "1.0", "TRUE", "", "dog"]


def table(root, text, name="labels.csv", count=12, encoding="utf-8"):
    for number in range(count):
        corpus.random_image(number).save(root / f"{number}.png")
    (root / name).write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return root / name


def lines(count=12, extra=""):
    return "".join(f"{n}.png,{'cat' if n % 2 else 'dog'}{extra}\n" for n in range(count))


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1, max_size=8),
            st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1, max_size=8),
        ),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.sampled_from(["\n", "\r\n"]),
)
@settings(max_examples=150, deadline=None)
def test_rows_survive_writing_and_reading(rows, delimiter, encoding, end):
    rows = [(a, b) for a, b in rows if a.strip() and b.strip()]
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, lineterminator=end)
    writer.writerows([("path", "label"), *rows])
    if not rows:
        return
    parsed, warnings = parse_table(file.getvalue().encode(encoding), "x.csv")
    assert [(r.path, r.label) for r in parsed] == [(a.strip(), b.strip()) for a, b in rows] and not warnings


@given(st.binary(max_size=120))
@settings(max_examples=150, deadline=None)
def test_any_bytes_give_rows_or_an_error_with_the_file_name(content):
    try:
        assert parse_table(b"path,label\n" + content, "x.csv")[0]
    except DataError as error:
        assert "x.csv" in str(error) and error.cure


def test_labels_that_look_like_missing_values_survive():
    labels = [label for label in LABELS if label]
    content = "path,label\n" + "".join(f"{k}.png,{label}\n" for k, label in enumerate(labels))
    assert [r.label for r in parse_table(content.encode(), "x.csv")[0]] == labels


def test_windows_1252_is_read_and_reported():
    rows, warnings = parse_table("path;label\nx.png;Käse\n".encode("cp1252"), "x.csv")
    assert rows[0].label == "Käse" and "Windows-1252" in warnings[0]


def test_headers_may_have_spaces_and_capitals():
    rows, _ = parse_table(b" Filename , CLASS ,split\nx.png, a ,VAL\n", "x.csv")
    assert (rows[0].path, rows[0].label, rows[0].split) == ("x.png", "a", "val")


@pytest.mark.parametrize("path", ["path", "file", "filename", "image", "img", "filepath"])
@pytest.mark.parametrize("label", ["label", "class", "category", "target"])
def test_common_column_names_are_accepted(path, label):
    rows, _ = parse_table(f"{label},{path}\na,x.png\n".encode(), "x.csv")
    assert (rows[0].path, rows[0].label) == ("x.png", "a")


def test_a_column_named_label_wins_over_category_and_target():
    rows, _ = parse_table(b"category,image,filepath,label,target\nc,x.png,y.png,a,t\n", "x.csv")
    assert (rows[0].path, rows[0].label) == ("x.png", "a")


@pytest.mark.parametrize(
    ("content", "line", "value"),
    [
        (b"paht,label\nx,a\n", 1, "path"),
        (b"path,lable\nx,a\n", 1, "label"),
        (b"x.png,cat\ny.png,dog\n", 1, "path"),
        (b"path,label,class\nx,a,b\n", 1, ["label", "class"]),
        (b"path,category,target\nx,a,b\n", 1, ["category", "target"]),
        (b"path,label\nx.png\n", 2, 1),
        (b"path,label\nx.png,a\ny.png,b,c\n", 3, 3),
        (b"path,label\nx.png, \n", 2, "label"),
        (b"path,label\n,a\n", 2, "path"),
        (b"path,label,split\nx.png,a,trian\n", 2, "trian"),
        (b"path,label\nx.png,a\0\n", 2, None),
        (b'path,label\nx.png,"a\n', 2, None),
        (b"path,label\nx.png," + b"a" * 200_000 + b"\n", 2, None),
        (b"path,label\n", None, None),
        (b"", None, None),
        (b"\xff\xfe\x00\xd8\x00", None, None),
        (b"path,label\nx,\x81\n", None, None),
    ],
)
def test_every_mistake_is_reported_with_its_line(content, line, value):
    with pytest.raises(DataError) as error:
        parse_table(content, "x.csv")
    assert (error.value.path, error.value.line, error.value.value) == ("x.csv", line, value)
    assert "x.csv" in str(error.value) and error.value.cure


def test_a_misspelled_column_is_suggested():
    with pytest.raises(DataError) as error:
        parse_table(b"path,lable\nx,a\n", "x.csv")
    assert "'lable'" in error.value.cure and "label" in error.value.allowed


def test_a_table_or_its_folder_gives_a_dataset(tmp_path):
    path = table(tmp_path, "path,label\n" + lines())
    for source in (path, tmp_path):
        data = corpus.load(source)
        assert data.classes == ("cat", "dog") and data.format == "table of images"
        assert sum(len(s) for s in data.splits.values()) == 12 and data.shape == (20, 20, 3)
        for split in data.splits.values():
            for label, file in zip(split.labels, split.sources, strict=True):
                assert data.classes[label] == ("cat" if int(file.split("/")[-1][:-4]) % 2 else "dog")


def test_quoted_line_breaks_keep_line_numbers_right(tmp_path):
    path = table(tmp_path, 'path,label\n0.png,"two\nlines"\n1.png,a\nmissing.png,a\n2.png,"two\nlines"\n')
    data = corpus.load(path)
    assert data.classes == ("a", "two\nlines") and "line 5" in data.unreadable[0].path


def test_splits_and_groups_of_the_table_are_used(tmp_path):
    rows = "".join(f"{n}.png,{'ab'[n % 2]},{'test' if n < 4 else 'train'},{n // 4}\n" for n in range(40))
    data = corpus.load(table(tmp_path, "path,label,split,group\n" + rows, count=40), val_fraction=0.4)
    assert {int(s.split("/")[-1][:-4]) for s in data.test.sources} == {0, 1, 2, 3}
    groups = [{int(s.split("/")[-1][:-4]) // 4 for s in split.sources} for split in data.splits.values()]
    assert not groups[0] & groups[1] and len(groups[1]) >= 1


def test_a_group_in_two_splits_is_reported(tmp_path):
    rows = "".join(f"{n}.png,{'ab'[n % 2]},{'test' if n < 4 else 'train'},same\n" for n in range(12))
    data = corpus.load(table(tmp_path, "path,label,split,group\n" + rows))
    assert any("1 group in more than one split" in note for note in data.warnings)


def test_each_row_without_a_group_is_its_own_group(tmp_path):
    text = "path,label,group\n" + lines(extra=",")
    text = text.replace("0.png,dog,", "0.png,dog,x", 1)
    raw = read_table(table(tmp_path, text), ReadOptions())
    assert len(np.unique(raw.groups)) == 12


def test_missing_and_broken_images_are_listed_and_skipped(tmp_path):
    path = table(tmp_path, "path,label\n" + lines() + "dgo.png,dog\n13.png,cat\n")
    (tmp_path / "dog.png").write_bytes(b"not an image")
    (tmp_path / "13.png").write_bytes(b"not an image")
    data = corpus.load(path)
    assert [b.path.split("/")[-1] for b in data.unreadable] == ["labels.csv, line 14: dgo.png", "13.png"]
    assert "did you mean 'dog.png'" in data.unreadable[0].reason
    assert any("1 file of the table is missing, e.g. dgo.png" in line for line in data.warnings)
    with pytest.raises(DataError) as error:
        corpus.load(path, strict=True)
    assert len(error.value.value) == 2


def test_missing_files_are_reported_before_missing_classes(tmp_path):
    rows = "".join(f"nope/x_{n}.jpg,cat\n" for n in range(5))
    path = table(tmp_path, "path,label\n" + "0.png,dog\n1.png,dog\n" + rows)
    with pytest.raises(DataError) as error:
        corpus.load(path)
    assert (error.value.line, error.value.value) == (4, "nope/x_0.jpg")
    assert "5 files" in error.value.message and "class" not in error.value.message


def test_a_table_whose_files_are_all_missing_is_rejected(tmp_path):
    path = table(tmp_path, "path,label\n" + lines(), count=0)
    with pytest.raises(DataError) as error:
        corpus.load(path)
    assert (error.value.line, error.value.value) == (2, "0.png")


@pytest.mark.parametrize(("label", "is_number"), [("{}.5", True), ("name {}", False)])
def test_labels_that_are_all_different_are_rejected(tmp_path, label, is_number):
    rows = "".join(f"{n}.png,{label.format(n)}\n" for n in range(12))
    with pytest.raises(DataError) as error:
        corpus.load(table(tmp_path, "path,label\n" + rows))
    assert "12 different labels for 12 images" in error.value.message
    assert ("numbers" in error.value.message) == is_number


def test_labels_that_are_all_different_can_be_evaluated(tmp_path):
    rows = "".join(f"{n}.png,class {n}\n" for n in range(12))
    data = corpus.load(table(tmp_path, "path,label\n" + rows), make_splits=False)
    assert len(data.train) == 12 and len(data.classes) == 12


@pytest.mark.parametrize(("values", "reported"), [("{}", True), ("{}.25", True), ("name {}", False)])
def test_labels_that_look_like_measurements_are_reported(tmp_path, values, reported):
    rows = "".join(f"{n}.png,{values.format(max(n, 3))}\n" for n in range(12))
    data = corpus.load(table(tmp_path, "path,label\n" + rows))
    assert any("look like numbers" in line for line in data.warnings) == reported


def test_digits_as_labels_are_not_reported(tmp_path):
    rows = "".join(f"{n}.png,{n % 2}\n" for n in range(12))
    data = corpus.load(table(tmp_path, "path,label\n" + rows))
    assert not any("numbers" in line for line in data.warnings)


@pytest.mark.parametrize(("cell", "reported"), [("deer;wild", 6), ("deer|wild", 6), ('"dog, wild"', 6), ('"a, b"', 0)])
def test_several_labels_in_one_cell_are_reported(tmp_path, cell, reported):
    rows = "".join(f"{n}.png,{cell if n % 2 else 'dog'}\n" for n in range(12))
    data = corpus.load(table(tmp_path, "path,label\n" + rows))
    found = [line for line in data.warnings if "several labels" in line]
    assert len(found) == (1 if reported else 0)
    assert not found or found[0].startswith(f"{reported} cells")


def test_files_outside_of_the_folder_through_links_are_reported(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "elsewhere").mkdir()
    path = table(tmp_path / "set", "path,label\n" + lines() + "link/0.png,dog\nsingle.png,cat\ninside.png,cat\n")
    for number in (100, 101):
        corpus.random_image(number).save(tmp_path / "elsewhere" / f"{number - 100}.png")
    (tmp_path / "set" / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "set" / "single.png").symlink_to(tmp_path / "elsewhere" / "1.png")
    (tmp_path / "set" / "inside.png").symlink_to(tmp_path / "set" / "1.png")
    data = corpus.load(path)
    warning = next(line for line in data.warnings if "outside" in line)
    assert warning.startswith("2 files") and "link" in warning
    assert sum(len(split) for split in data.splits.values()) == 15


def test_a_table_in_a_linked_folder_reports_nothing_outside(tmp_path):
    (tmp_path / "set").mkdir()
    table(tmp_path / "set", "path,label\n" + lines())
    (tmp_path / "link").symlink_to(tmp_path / "set", target_is_directory=True)
    assert not any("outside" in line for line in corpus.load(tmp_path / "link").warnings)


@pytest.mark.parametrize(
    "outside",
    [
        "/etc/passwd",
        "../x.png",
        "a/../../x.png",
        "..",
        "C:\\x.png",
        "..\\x.png",
        "\\x.png",
        "https://example.org/x.png",
    ],
)
def test_paths_outside_of_the_folder_are_rejected(tmp_path, outside):
    corpus.random_image(1).save(tmp_path / "x.png")
    (tmp_path / "in").mkdir()
    path = table(tmp_path / "in", f"path,label\n0.png,dog\n{outside},cat\n")
    with pytest.raises(DataError) as error:
        corpus.load(path)
    assert (error.value.line, error.value.value) == (3, outside)


def test_backslashes_and_detours_inside_the_folder_are_accepted(tmp_path):
    (tmp_path / "a").mkdir()
    for number in range(6):
        corpus.random_image(number).save(tmp_path / "a" / f"{number}.png")
    rows = "".join(f"a\\{n}.png,x\n" if n % 2 else f"./a/../a/{n}.png,y\n" for n in range(6))
    assert corpus.load(table(tmp_path, "path,label\n" + rows, count=0)).classes == ("x", "y")


def test_reading_changes_no_file(tmp_path):
    path = table(tmp_path, "path,label\n" + lines())
    before = corpus.tree(tmp_path)
    corpus.load(path)
    assert corpus.tree(tmp_path) == before
