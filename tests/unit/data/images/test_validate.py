"""`data check` finds planted problems, reports them as text and JSON, and draws a batch."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.unit.data.images import corpus
from thalweg.errors import DataError
from thalweg.plots.contact_sheet import contact_sheet


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path_factory.mktemp("cache")))


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
    assert found["sizes"] == [{"width": 60, "height": 40, "files": 115}, {"width": 90, "height": 60, "files": 1}]
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
        "File sizes: 60x40 (115), 90x60 (1)",
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


def test_the_slowest_and_the_largest_files_are_named(tmp_path):
    corpus.folder(tmp_path / "set", {"a": 20, "b": 20})
    corpus.random_image(1, (900, 700)).save(tmp_path / "set" / "a" / "wide.jpg", quality=20)
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "set" / "b" / "heavy.png")
    report = corpus.check(tmp_path / "set")
    found = report.json()
    assert len(found["slowest"]) == len(found["largest"]["pixels"]) == 3
    assert {**found["largest"]["pixels"][0], "seconds": 0, "bytes": 0, "split": ""} == {
        "split": "",
        "source": os.path.join("a", "wide.jpg"),
        "width": 900,
        "height": 700,
        "bytes": 0,
        "seconds": 0,
    }
    heavy = found["largest"]["bytes"][0]
    assert heavy["source"] == os.path.join("b", "heavy.png")
    assert heavy["bytes"] == (tmp_path / "set" / "b" / "heavy.png").stat().st_size
    seconds = [file["seconds"] for file in found["slowest"]]
    assert seconds == sorted(seconds, reverse=True) and seconds[-1] > 0
    assert any(line.startswith("Largest files: ") and "heavy.png (120" in line for line in report.lines())


def test_images_in_memory_and_on_disk_give_the_same_report(planted):
    on_disk = corpus.check(planted, val_fraction=0.0).json()
    in_memory = corpus.check(planted, val_fraction=0.0, storage="memory").json()
    assert in_memory["slowest"] == [] and len(on_disk["slowest"]) == 3
    # the fingerprint is of pixels in memory, of files on disk; in memory, a file with a header counts as a size
    for name in ("fingerprint", "slowest", "largest", "sizes", "warnings"):
        del on_disk[name], in_memory[name]
    assert on_disk == in_memory


def test_a_file_that_only_decoding_shows_to_be_broken_is_left_out(tmp_path):
    corpus.folder(tmp_path / "train", {"a": 12, "b": 12}, (60, 40))
    corpus.folder(tmp_path / "test", {"a": 4, "b": 4}, (60, 40))
    whole = corpus.encoded(corpus.random_image(5, (640, 480)), "JPEG")
    broken = tmp_path / "train" / "a" / "broken.jpg"
    broken.write_bytes(whole[: whole.find(b"\xff\xda")] + b"\xff\xd9")
    found = corpus.check(tmp_path, val_fraction=0.0).json()
    assert [Path(file["path"]).name for file in found["unreadable"]] == ["broken.jpg"] and not found["ok"]
    assert found["counts"]["train"] == [12, 12]
    with pytest.raises(DataError) as error:
        corpus.check(tmp_path, val_fraction=0.0, strict=True)
    assert [Path(path).name for path in error.value.value] == ["broken.jpg"]


def test_many_images_are_searched_by_lists_and_the_report_says_so(planted, monkeypatch):
    expected = corpus.check(planted, val_fraction=0.0)
    monkeypatch.setattr("thalweg.data.images.duplicates.MAX_EXACT", 10)
    report = corpus.check(planted, val_fraction=0.0)
    assert report.near_duplicates == expected.near_duplicates
    search = report.json()["near_duplicate_search"]
    assert search == {"method": "lists", "lists": 9, "probes": 9, "samples": 30, "recall": 1.0}
    assert expected.json()["near_duplicate_search"]["method"] == "exact"
    assert any("9 nearest of 9 lists" in line and "100.0 %" in line for line in report.lines())


def test_the_progress_counts_the_images_of_all_splits(planted):
    steps = []
    corpus.check(planted, val_fraction=0.0, progress=lambda done, total: steps.append((done, total)))
    assert steps[-116:] == [(done, 116) for done in range(1, 117)]
