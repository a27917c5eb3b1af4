"""`data check` finds what was planted, says it in words and as JSON, and shows a batch."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.unit.data.images import corpus
from thalweg.data.images.validate import check_dataset
from thalweg.errors import DataError
from thalweg.plots.contact_sheet import contact_sheet

QUIET = {"notice": lambda message: None}


@pytest.fixture
def planted(tmp_path):
    """A divided folder with two bad files, an exact copy, three near ones and a copy with another label."""
    corpus.folder(tmp_path / "train", {"cat": 40, "dog": 42, "fox": 4}, (60, 40))
    corpus.folder(tmp_path / "test", {"cat": 12, "dog": 12, "fox": 3}, (60, 40))
    (tmp_path / "train" / "cat" / "7.png").write_bytes(b"no picture")
    (tmp_path / "test" / "dog" / "3.png").write_bytes((tmp_path / "test" / "dog" / "4.png").read_bytes()[:300])
    shutil.copy(tmp_path / "train" / "cat" / "1.png", tmp_path / "test" / "cat" / "same.png")
    with Image.open(tmp_path / "train" / "cat" / "2.png") as image:
        image.save(tmp_path / "test" / "cat" / "jpeg.jpg", quality=70)
        image.resize((90, 60)).save(tmp_path / "test" / "cat" / "large.png")
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "test" / "cat" / "mirror.png")
    shutil.copy(tmp_path / "train" / "dog" / "5.png", tmp_path / "train" / "cat" / "torn.png")
    return tmp_path


def names(pairs) -> set[tuple[str, str]]:
    return {(p["one"]["source"].replace("\\", "/"), p["two"]["source"].replace("\\", "/")) for p in pairs}


def test_everything_planted_is_found_and_nothing_else(planted):
    before = corpus.tree(planted)
    found = check_dataset(planted, valid=0.0, **QUIET).json()
    original = "train/cat/2.png"
    assert names(found["exact"]) == {("train/cat/1.png", "test/cat/same.png")}
    assert names(found["near"]) == {(original, f"test/cat/{n}") for n in ("jpeg.jpg", "large.png", "mirror.png")}
    assert [p["mirrored"] for p in found["near"]] == [False, False, True]
    assert names(found["torn"]) == {("train/cat/torn.png", "train/dog/5.png")}
    assert {b["source"].replace("\\", "/").rpartition("/train/")[2].rpartition("/test/")[2] for b in found["bad"]} == {
        "cat/7.png",
        "dog/3.png",
    }
    assert found["few"] == ["fox"] and not found["fine"]
    assert found["counts"] == {"train": [40, 42, 4], "valid": [0, 0, 0], "test": [16, 11, 3]}
    assert found["sizes"] == [{"width": 60, "height": 40, "files": 116}, {"width": 90, "height": 60, "files": 1}]
    assert found["classes"] == ["cat", "dog", "fox"] and found["shape"] == [64, 64, 3]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert corpus.tree(planted) == before


def test_the_terminal_is_told_the_same(planted):
    text = "\n".join(check_dataset(planted, valid=0.0, **QUIET).lines())
    for told in (
        "folders of pictures, 3 classes, 64 x 64 RGB",
        "2 files that cannot be used:",
        "7.png: ",
        "1 picture in two sets, exactly the same:",
        "test/cat/same.png (test) = train/cat/1.png (train)",
        "3 pictures in two sets, nearly the same:",
        "mirrored",
        "with different labels",
        "Fewer than 10 training examples: 'fox'",
        "Sizes of the files: 60 x 40 (116), 90 x 60 (1)",
    ):
        assert told in text.replace("\\", "/"), told
    assert "Nothing found" not in text


def test_a_sound_set_is_called_sound(tmp_path):
    found = check_dataset(corpus.folder(tmp_path / "set", {"a": 60, "b": 60}), **QUIET)
    assert found.fine and found.lines()[-1].startswith("Nothing found")
    totals = [line.split() for line in found.lines() if line.startswith("all")][0][1:]
    assert sum(map(int, totals)) == 120


def test_a_lopsided_set_is_told(tmp_path):
    found = check_dataset(corpus.folder(tmp_path / "set", {"a": 260, "b": 20}), near=False, **QUIET)
    assert found.imbalance == 13 and any("13 times as large" in line for line in found.lines()) and not found.fine


def test_many_classes_do_not_fill_the_screen(tmp_path):
    corpus.folder(tmp_path, {f"{n:03}": 3 for n in range(60)}, (8, 8))
    lines = check_dataset(tmp_path, near=False, **QUIET).lines()
    assert any("and 30 more classes" in line for line in lines) and len(lines) < 60


def test_strict_refuses_what_check_would_list(planted):
    with pytest.raises(DataError, match="2 files cannot be used"):
        check_dataset(planted, strict=True, **QUIET)


def test_the_near_copies_can_be_left_out(planted):
    assert check_dataset(planted, near=False, **QUIET).near == ()


def test_one_batch_is_drawn_with_its_labels(planted):
    page = check_dataset(planted, near=False, **QUIET).picture()
    assert page.mode == "RGB" and page.width == 648 and page.height > 600
    assert np.asarray(page).std() > 20


def test_a_sheet_shows_the_pictures_themselves():
    images = np.stack([np.asarray(corpus.picture(n, (36, 36))) for n in range(3)])
    page = np.asarray(contact_sheet(images, ["a", "a name that is far too long for one cell", "数据\n"]))
    assert np.array_equal(page[8:80, 8:80], images[0].repeat(2, 0).repeat(2, 1))
    assert (page[8:80, 80:88] == 255).all()
    assert (page[81:96, 8:40] < 128).any()
    assert np.asarray(contact_sheet(images[..., :1], ["", "", ""])).shape == page.shape
