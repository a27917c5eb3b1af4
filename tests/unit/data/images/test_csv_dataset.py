"""Tables in every encoding and by every hand: labels survive exactly, or the line is named."""

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
        corpus.picture(number).save(root / f"{number}.png")
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
def test_what_is_written_is_read(rows, delimiter, encoding, end):
    rows = [(a, b) for a, b in rows if a.strip() and b.strip()]
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, lineterminator=end)
    writer.writerows([("path", "label"), *rows])
    if not rows:
        return
    got, notes = parse_table(file.getvalue().encode(encoding), "x.csv")
    assert [(r.path, r.label) for r in got] == [(a.strip(), b.strip()) for a, b in rows] and not notes


@given(st.binary(max_size=120))
@settings(max_examples=150, deadline=None)
def test_any_bytes_give_rows_or_a_named_error(content):
    try:
        assert parse_table(b"path,label\n" + content, "x.csv")[0]
    except DataError as error:
        assert "x.csv" in str(error) and error.cure


def test_labels_that_look_like_something_else_survive():
    labels = [label for label in LABELS if label]
    content = "path,label\n" + "".join(f"{k}.png,{label}\n" for k, label in enumerate(labels))
    assert [r.label for r in parse_table(content.encode(), "x.csv")[0]] == labels


def test_windows_letters_are_read_and_told():
    rows, notes = parse_table("path;label\nx.png;Käse\n".encode("cp1252"), "x.csv")
    assert rows[0].label == "Käse" and "Windows-1252" in notes[0]


def test_headers_may_have_blanks_capitals_and_usual_names():
    rows, _ = parse_table(b" Filename , CLASS ,split\nx.png, a ,VAL\n", "x.csv")
    assert (rows[0].path, rows[0].label, rows[0].part) == ("x.png", "a", "val")


@pytest.mark.parametrize(
    "content, told",
    [
        (b"paht,label\nx,a\n", "line 1.*no column 'path'"),
        (b"path,lable\nx,a\n", "Is it 'lable'"),
        (b"x.png,cat\ny.png,dog\n", "no column 'path'"),
        (b"path,label,class\nx,a,b\n", "both the column label"),
        (b"path,label\nx.png\n", "line 2: 1 column, the header has 2"),
        (b"path,label\nx.png,a\ny.png,b,c\n", "line 3: 3 columns"),
        (b"path,label\nx.png, \n", "line 2: the label is empty"),
        (b"path,label\n,a\n", "line 2: the path is empty"),
        (b"path,label,split\nx.png,a,trian\n", "line 2: the split 'trian'"),
        (b"path,label\nx.png,a\0\n", "line 2: a zero byte"),
        (b'path,label\nx.png,"a\n', "line"),
        (b"path,label\nx.png," + b"a" * 200_000 + b"\n", "line 2: field larger"),
        (b"path,label\n", "no line below the header"),
        (b"", "no line below the header"),
        (b"\xff\xfe\x00\xd8\x00", "neither UTF-8"),
        (b"path,label\nx,\x81\n", "neither UTF-8"),
    ],
)
def test_every_mistake_is_named_with_its_line(content, told):
    with pytest.raises(DataError, match=told) as error:
        parse_table(content, "x.csv")
    assert "x.csv" in str(error.value) and error.value.cure


def test_a_table_names_a_set(tmp_path):
    path = table(tmp_path, "path,label\n" + lines())
    for source in (path, tmp_path):
        data = corpus.load(source)
        assert data.classes == ("cat", "dog") and data.format == "table of pictures"
        assert sum(len(s) for s in data.splits.values()) == 12 and data.shape == (20, 20, 3)
        for split in data.splits.values():
            for label, file in zip(split.labels, split.sources, strict=True):
                assert data.classes[label] == ("cat" if int(file.split("/")[-1][:-4]) % 2 else "dog")


def test_quoted_line_breaks_do_not_move_the_count(tmp_path):
    path = table(tmp_path, 'path,label\n0.png,"two\nlines"\n1.png,a\nmissing.png,a\n2.png,"two\nlines"\n')
    data = corpus.load(path)
    assert data.classes == ("a", "two\nlines") and "line 5" in data.unreadable[0].path


def test_splits_and_groups_of_the_table_are_kept(tmp_path):
    rows = "".join(f"{n}.png,{'ab'[n % 2]},{'test' if n < 4 else 'train'},{n // 4}\n" for n in range(40))
    data = corpus.load(table(tmp_path, "path,label,split,group\n" + rows, count=40), val_fraction=0.4)
    assert {int(s.split("/")[-1][:-4]) for s in data.test.sources} == {0, 1, 2, 3}
    groups = [{int(s.split("/")[-1][:-4]) // 4 for s in split.sources} for split in data.splits.values()]
    assert not groups[0] & groups[1] and len(groups[1]) >= 1


def test_a_group_on_two_sides_is_told(tmp_path):
    rows = "".join(f"{n}.png,{'ab'[n % 2]},{'test' if n < 4 else 'train'},same\n" for n in range(12))
    data = corpus.load(table(tmp_path, "path,label,split,group\n" + rows))
    assert any("1 group in more than one split" in note for note in data.warnings)


def test_rows_without_a_group_are_not_one_group(tmp_path):
    text = "path,label,group\n" + lines(extra=",")
    text = text.replace("0.png,dog,", "0.png,dog,x", 1)
    found = read_table(table(tmp_path, text), ReadOptions())
    assert len(np.unique(found.groups)) == 12


def test_missing_and_broken_pictures_are_named_and_skipped(tmp_path):
    path = table(tmp_path, "path,label\n" + lines() + "dgo.png,dog\n13.png,cat\n")
    (tmp_path / "dog.png").write_bytes(b"no picture")
    (tmp_path / "13.png").write_bytes(b"no picture")
    data = corpus.load(path)
    assert [b.path.split("/")[-1] for b in data.unreadable] == ["labels.csv, line 14: dgo.png", "13.png"]
    assert "did you mean 'dog.png'" in data.unreadable[0].reason
    with pytest.raises(DataError, match="2 unreadable files"):
        corpus.load(path, strict=True)


def test_a_table_whose_files_are_all_missing_is_refused(tmp_path):
    path = table(tmp_path, "path,label\n" + lines(), count=0)
    with pytest.raises(DataError, match="line 2: there is no file"):
        corpus.load(path)


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
def test_paths_that_lead_out_of_the_folder_are_refused(tmp_path, outside):
    corpus.picture(1).save(tmp_path / "x.png")
    (tmp_path / "in").mkdir()
    path = table(tmp_path / "in", f"path,label\n0.png,dog\n{outside},cat\n")
    with pytest.raises(DataError, match=r"labels.csv, line 3: .* leads out"):
        corpus.load(path)


def test_backslashes_and_detours_inside_the_folder_are_fine(tmp_path):
    (tmp_path / "a").mkdir()
    for number in range(6):
        corpus.picture(number).save(tmp_path / "a" / f"{number}.png")
    rows = "".join(f"a\\{n}.png,x\n" if n % 2 else f"./a/../a/{n}.png,y\n" for n in range(6))
    assert corpus.load(table(tmp_path, "path,label\n" + rows, count=0)).classes == ("x", "y")


def test_a_table_is_left_as_it_was(tmp_path):
    path = table(tmp_path, "path,label\n" + lines())
    before = corpus.tree(tmp_path)
    corpus.load(path)
    assert corpus.tree(tmp_path) == before
