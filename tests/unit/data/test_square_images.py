"""Images to generate from: any folder, named data sets, classes on demand, splits by content, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thalweg.data.base import DataRequest
from thalweg.data.images.square_images import (
    SquareImages,
    check_classes,
    load_square_images,
    make_shapes,
    require_classes,
    spread_rows,
)
from thalweg.errors import DataError, NotFoundError, OptionError

RNG = np.random.default_rng(0)


def save(path: Path, width: int, height: int, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty images of all sizes and modes, some of them in folders, one copy, and a file that is none."""
    root = tmp_path / "images"
    for index in range(40):
        place = root / ("a/b" if index % 3 == 0 else "" if index % 3 == 1 else "c")
        mode = ("RGB", "L", "RGBA", "P", "1")[index % 5]
        save(place / f"{index:02d}.png", 20 + index, 60 - index, mode)
    (root / "copy.png").write_bytes((root / "01.png").read_bytes())
    (root / "broken.png").write_bytes(b"no image")
    return root


def test_folders_are_read_flat_and_nested(folder):
    dataset = load_square_images(DataRequest(str(folder)))
    assert dataset.shape == (32, 32, 3)
    assert sum(len(split) for split in dataset.splits.values()) == 41
    assert all(len(split) for split in dataset.splits.values())
    assert [file.path for file in dataset.unreadable] == [str(folder / "broken.png")]
    assert len(dataset.all) == 41 and dataset.summary == "32x32 RGB"
    assert Path(dataset.train.names([0])[0]).is_file()


def test_a_table_beside_images_is_ignored(folder):
    (folder / "labels.csv").write_text("file,what\n01.png,a cat\n", encoding="utf-8")
    assert len(load_square_images(DataRequest(str(folder))).all) == 41


def test_copies_stay_in_one_split_and_names_do_not_matter(folder):
    before = load_square_images(DataRequest(str(folder)))
    keys = {name: set(split.keys().tolist()) for name, split in before.splits.items()}
    assert not keys["train"] & keys["val"] and not keys["train"] & keys["test"] and not keys["val"] & keys["test"]
    for index, path in enumerate(sorted(folder.rglob("*.png"))):
        path.rename(folder / f"{index * 37 % 101:03d}.png")
    after = load_square_images(DataRequest(str(folder)))
    assert {name: set(split.keys().tolist()) for name, split in after.splits.items()} == keys


def test_the_center_square_is_kept_and_resized(tmp_path):
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[:, 32:96] = 255
    for index in range(20):
        pixels[index, 40 + index] = 0
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    dataset = load_square_images(DataRequest(str(tmp_path)), image_size=16)
    assert dataset.shape == (16, 16, 1)
    assert dataset.all.images.mean() > 240


def test_official_splits_stay(tmp_path):
    for name, count in (("train", 30), ("test", 4)):
        for index in range(count):
            save(tmp_path / name / f"{index}.png", 40, 40, "L")
    dataset = load_square_images(DataRequest(str(tmp_path)))
    assert len(dataset.test) == 4 and set(dataset.official_splits) == {"train", "test"}
    assert len(dataset.train) + len(dataset.val) == 30 and len(dataset.val)


def test_named_data_is_read_without_labels():
    dataset = load_square_images(DataRequest("digits"))
    assert dataset.shape == (16, 16, 1) and dataset.name == "digits"
    assert sum(len(split) for split in dataset.splits.values()) == 1797
    assert 120 < len(dataset.test) < 240
    again = load_square_images(DataRequest("digits"))
    assert again.fingerprint == dataset.fingerprint
    larger = load_square_images(DataRequest("digits"), image_size=64, channels=3)
    assert larger.shape == (64, 64, 3) and larger.fingerprint != dataset.fingerprint


def test_folders_of_classes_and_arrays_are_read_too(tmp_path):
    images = RNG.integers(0, 256, (50, 28, 28, 1), np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=np.arange(50) % 3)
    dataset = load_square_images(DataRequest(str(tmp_path / "a.npz")))
    assert dataset.shape == (32, 32, 1) and len(dataset.all) == 50


@pytest.mark.parametrize("size", [1, 24, 28, 100, 2048])
def test_sizes_that_are_no_power_of_two_are_rejected(size):
    with pytest.raises(OptionError) as error:
        load_square_images(DataRequest("digits"), image_size=size)
    assert error.value.option == "image_size" and error.value.value == size and 32 in error.value.allowed


def test_sizes_up_to_1024_are_read(tmp_path):
    for index in range(3):
        save(tmp_path / f"{index}.png", 30 + index, 40, "L")
    assert load_square_images(DataRequest(str(tmp_path)), image_size=1024).shape == (1024, 1024, 1)


# --- classes ----------------------------------------------------------------------------------------------------------


def label_of_level(split: SquareImages) -> np.ndarray:
    """Return the labels that images of one level each were saved with: dark 0, light 1."""
    return (split.images.mean((1, 2, 3)) > 127).astype(np.int64)


@pytest.fixture
def class_folder(tmp_path: Path) -> Path:
    """Dark and light images of mixed sizes and modes, in one folder each, and a table of the same."""
    rows = ["path,label"]
    for index in range(60):
        name = "light" if index % 2 else "dark"
        path = tmp_path / name / f"{index:02d}.png"
        path.parent.mkdir(exist_ok=True)
        level = (200 if index % 2 else 20) + index // 2
        Image.new("L" if index % 3 else "RGB", (20 + index, 50), level if index % 3 else (level,) * 3).save(path)
        rows.append(f"{name}/{index:02d}.png,{name}")
    (tmp_path / "table.csv").write_text("\n".join(rows), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("source", ["", "table.csv"])
def test_folders_and_tables_have_classes(class_folder, source):
    if source == "":
        (class_folder / "table.csv").unlink()
    size = None if source == "" else 32
    dataset = load_square_images(DataRequest(str(class_folder / source)), size, has_classes=True)
    assert dataset.classes == ("dark", "light") and dataset.shape[:2] == (32, 32)
    assert dataset.summary.startswith("2 classes, ")
    for split in dataset.splits.values():
        np.testing.assert_array_equal(split.labels, label_of_level(split))
    np.testing.assert_array_equal(dataset.all.labels, label_of_level(dataset.all))
    np.testing.assert_array_equal(dataset.train.spread(5).labels, label_of_level(dataset.train.spread(5)))
    assert require_classes(dataset) == ["dark", "light"]


def test_without_being_asked_for_there_are_no_classes(class_folder):
    plain = load_square_images(DataRequest(str(class_folder)))
    assert plain.classes == () and plain.train.labels is None and plain.all.labels is None
    with_classes = load_square_images(DataRequest(str(class_folder)), has_classes=True)
    assert plain.fingerprint != with_classes.fingerprint
    with pytest.raises(DataError) as error:
        require_classes(plain)
    assert error.value.option == "conditional" and error.value.value == []


def test_named_data_has_classes():
    dataset = load_square_images(DataRequest("digits:3,5"), has_classes=True)
    assert dataset.classes == ("3", "5") and dataset.shape == (16, 16, 1)
    counts = np.bincount(dataset.train.labels)
    assert len(counts) == 2 and counts.min() > 100


def test_a_folder_without_classes_is_refused(folder):
    for path in folder.rglob("*.png"):
        if path.parent != folder:
            path.unlink()
    for name in ("a/b", "a", "c"):
        (folder / name).rmdir()
    with pytest.raises(DataError) as error:
        load_square_images(DataRequest(str(folder)), has_classes=True)
    assert Path(error.value.path) == folder
    one = load_square_images(DataRequest("digits:3"), has_classes=True)
    with pytest.raises(DataError) as error:
        require_classes(one)
    assert error.value.value == ["3"]


def test_other_classes_than_a_models_are_refused():
    shapes = make_shapes(20)
    assert shapes.classes == ("disc", "square")
    assert check_classes(shapes, []) is check_classes(shapes, ["disc", "square"]) is shapes
    with pytest.raises(DataError) as error:
        check_classes(shapes, ["square", "disc"])
    assert error.value.value == ["disc", "square"] and error.value.allowed == ["square", "disc"]


# --- what is refused --------------------------------------------------------------------------------------------------


def test_one_image_is_no_data_set(tmp_path):
    with pytest.raises(DataError) as error:
        load_square_images(DataRequest(str(tmp_path)))
    assert error.value.value == 0
    for name in ("a.png", "copy of a.png"):
        Image.new("L", (40, 40), 7).save(tmp_path / name)
        with pytest.raises(DataError) as error:
            load_square_images(DataRequest(str(tmp_path)))
        assert error.value.value == 1
    Image.new("L", (40, 40), 99).save(tmp_path / "b.png")
    assert len(load_square_images(DataRequest(str(tmp_path))).all) == 3


def test_unreadable_files_are_errors_where_all_have_to_be_read(folder):
    with pytest.raises(DataError) as error:
        load_square_images(DataRequest(str(folder), strict=True))
    assert error.value.value == [str(folder / "broken.png")]


def test_a_missing_folder_is_not_found(tmp_path):
    with pytest.raises(NotFoundError):
        load_square_images(DataRequest(str(tmp_path / "none")))


def test_everything_is_training_data_where_nothing_is_split(folder):
    dataset = load_square_images(DataRequest(str(folder), make_splits=False))
    assert len(dataset.train) == 41 and not len(dataset.test) and not len(dataset.val)


def test_a_part_is_evenly_spread():
    split = make_shapes(100).train
    assert split.spread(10_000) is split
    assert spread_rows(10, 4).tolist() == [0, 3, 6, 9]
    part = split.spread(7)
    assert isinstance(part, SquareImages) and len(part) == 7
    np.testing.assert_array_equal(part.images[-1], split.images[-1])
