"""`data check` finds planted problems, reports them as text and JSON, and draws a batch."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.unit.data.images import corpus
from thalweg.errors import DataError
from thalweg.plots.contact_sheet import contact_sheet


@pytest.fixture
def planted(tmp_path):
    """A divided folder with two bad files, an exact copy, three near ones and a copy with another label."""
    corpus.folder(tmp_path / "train", {"cat": 40, "dog": 42, "fox": 4}, (60, 40))
    corpus.folder(tmp_path / "test", {"cat": 12, "dog": 12, "fox": 3}, (60, 40))
    (tmp_path / "train" / "cat" / "7.png").write_bytes(b"not an image")
    (tmp_path / "test" / "dog" / "3.png").write_bytes((tmp_path / "test" / "dog" / "4.png").read_bytes()[:300])
    shutil.copy(tmp_path / "train" / "cat" / "1.png", tmp_path / "test" / "cat" / "same.png")
    with Image.open(tmp_path / "train" / "cat" / "2.png") as image:
        image.save(tmp_path / "test" / "cat" / "jpeg.jpg", quality=70)
        image.resize((90, 60)).save(tmp_path / "test" / "cat" / "large.png")
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "test" / "cat" / "mirror.png")
    shutil.copy(tmp_path / "train" / "dog" / "5.png", tmp_path / "train" / "cat" / "torn.png")
    return tmp_path


def names(pairs) -> set[tuple[str, str]]:
    return {(p["first"]["source"].replace("\\", "/"), p["second"]["source"].replace("\\", "/")) for p in pairs}


def test_all_planted_problems_are_found_and_no_others(planted):
    before = corpus.tree(planted)
    found = corpus.check(planted, val_fraction=0.0).json()
    original = "train/cat/2.png"
    assert names(found["cross_split_duplicates"]) == {("train/cat/1.png", "test/cat/same.png")}
    assert names(found["near_duplicates"]) == {
        (original, f"test/cat/{n}") for n in ("jpeg.jpg", "large.png", "mirror.png")
    }
    assert [p["mirrored"] for p in found["near_duplicates"]] == [False, False, True]
    assert names(found["conflicting_labels"]) == {("train/cat/torn.png", "train/dog/5.png")}
    assert {
        b["path"].replace("\\", "/").rpartition("/train/")[2].rpartition("/test/")[2] for b in found["unreadable"]
    } == {
        "cat/7.png",
        "dog/3.png",
    }
    assert found["small_classes"] == ["fox"] and not found["ok"]
    assert found["counts"] == {"train": [40, 42, 4], "val": [0, 0, 0], "test": [16, 11, 3]}
    assert found["sizes"] == [{"width": 60, "height": 40, "files": 116}, {"width": 90, "height": 60, "files": 1}]
    assert found["classes"] == ["cat", "dog", "fox"] and found["shape"] == [64, 64, 3]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert corpus.tree(planted) == before


def test_the_text_report_lists_the_same_problems(planted):
    text = "\n".join(corpus.check(planted, val_fraction=0.0).lines())
    for expected in (
        "image folder, 3 classes, 64x64 RGB",
        "2 unreadable files:",
        "7.png: ",
        "1 exact duplicate across splits:",
        "test/cat/same.png (test) = train/cat/1.png (train)",
        "3 near duplicates across splits:",
        "mirrored",
        "with two different labels",
        "Fewer than 10 training examples: 'fox'",
        "File sizes: 60x40 (116), 90x60 (1)",
    ):
        assert expected in text.replace("\\", "/"), expected
    assert "No problems" not in text


def test_a_dataset_without_problems_is_ok(tmp_path):
    found = corpus.check(corpus.folder(tmp_path / "set", {"a": 60, "b": 60}))
    assert found.ok and found.lines()[-1].startswith("No problems")
    totals = [line.split() for line in found.lines() if line.startswith("all")][0][1:]
    assert sum(map(int, totals)) == 120


def test_class_imbalance_is_reported(tmp_path):
    found = corpus.check(corpus.folder(tmp_path / "set", {"a": 260, "b": 20}), near_duplicates=False)
    assert found.imbalance == 13 and any("13 times as large" in line for line in found.lines()) and not found.ok


def test_the_table_of_many_classes_is_cut(tmp_path):
    corpus.folder(tmp_path, {f"{n:03}": 3 for n in range(60)}, (8, 8))
    lines = corpus.check(tmp_path, near_duplicates=False).lines()
    assert any("and 30 more classes" in line for line in lines) and len(lines) < 60


def test_strict_rejects_unreadable_files(planted):
    with pytest.raises(DataError) as error:
        corpus.check(planted, strict=True)
    assert len(error.value.value) == 2


def test_the_search_for_near_duplicates_can_be_skipped(planted):
    assert corpus.check(planted, near_duplicates=False).near_duplicates == ()


def test_a_batch_is_drawn_with_its_labels(planted):
    page = corpus.check(planted, near_duplicates=False).picture()
    assert page.mode == "RGB" and page.width == 648 and page.height > 600
    assert np.asarray(page).std() > 20


def test_the_contact_sheet_shows_exact_pixels():
    images = np.stack([np.asarray(corpus.random_image(n, (36, 36))) for n in range(3)])
    page = np.asarray(contact_sheet(images, ["a", "a name that is far too long for one cell", "数据\n"]))
    assert np.array_equal(page[8:80, 8:80], images[0].repeat(2, 0).repeat(2, 1))
    assert (page[8:80, 80:88] == 255).all()
    assert (page[81:96, 8:40] < 128).any()
    assert np.asarray(contact_sheet(images[..., :1], ["", "", ""])).shape == page.shape
