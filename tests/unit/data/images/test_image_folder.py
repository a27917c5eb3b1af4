"""Image folders as people have them: junk, wrappers, nested folders, odd names, broken files."""

import os
import subprocess
import sys
import unicodedata
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.unit.data.images import corpus
from thalweg.data.images import image_folder as module
from thalweg.data.images.image_folder import read_image_folder
from thalweg.data.images.raw_dataset import ReadOptions
from thalweg.errors import DataError, NotFoundError, OptionError, ResourceError

REPOSITORY = Path(__file__).resolve().parents[4]


def test_folders_are_classes_and_every_image_is_read(tmp_path):
    corpus.folder(tmp_path / "set", {"dog": 8, "cat": 9})
    data = corpus.load(tmp_path / "set")
    assert data.classes == ("cat", "dog") and data.shape == (20, 20, 3) and data.sizes == {(20, 20): 17}
    assert (data.name, data.format, data.unreadable, data.is_handwriting) == ("set", "image folder", (), False)
    names = []
    for split in data.splits.values():
        for image, label, source in zip(split.images, split.labels, split.sources, strict=True):
            assert source.split(os.sep)[-2] == data.classes[label]
            assert np.array_equal(image, np.asarray(Image.open(source)))
            names.append(source)
    assert len(set(names)) == 17


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("Training", "validation", "Testing"), ("train", "valid", "test")]
)
def test_official_splits_are_used(tmp_path, names):
    for name, count in zip(names, (6, 3, 4), strict=True):
        corpus.folder(tmp_path / name, {"a": count, "b": count})
    data = corpus.load(tmp_path)
    assert [len(data.splits[p]) for p in ("train", "val", "test")] == [12, 6, 8]
    assert all(f"{os.sep}{names[2]}{os.sep}" in s for s in data.test.sources)


def test_a_missing_test_split_is_taken_from_training_images(tmp_path):
    corpus.folder(tmp_path / "train", {"a": 20, "b": 20})
    corpus.folder(tmp_path / "val", {"a": 5, "b": 5})
    data = corpus.load(tmp_path)
    assert len(data.val) == 10 and len(data.test) >= 2 and len(data.train) + len(data.test) == 40


def test_a_class_may_be_called_train(tmp_path):
    corpus.folder(tmp_path, {"train": 4, "bus": 4, "car": 4})
    assert corpus.load(tmp_path).classes == ("bus", "car", "train")


def test_nested_folders_belong_to_their_class(tmp_path):
    corpus.folder(tmp_path / "set", {"a": 3, "b": 3, "a/deep/er": 4})
    found = read_image_folder(tmp_path / "set", ReadOptions())
    assert np.bincount(found.splits["train"].labels).tolist() == [7, 3]


def test_a_wrapper_folder_is_skipped(tmp_path):
    corpus.folder(tmp_path / "outer" / "inner", {"a": 3, "b": 3})
    assert corpus.load(tmp_path / "outer").classes == ("a", "b")


def test_files_of_the_operating_system_are_ignored(tmp_path):
    corpus.folder(tmp_path, {"a": 8, "b": 8})
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / "__MACOSX").mkdir()
    for name in (".DS_Store", "Thumbs.db", "a/.DS_Store", "a/._0.png", "b/desktop.ini", "a/Thumbs.db"):
        (tmp_path / name).write_bytes(b"junk")
    data = corpus.load(tmp_path)
    assert (data.classes, data.unreadable, data.warnings) == (("a", "b"), (), ())


def test_skipped_entries_are_reported(tmp_path):
    corpus.folder(tmp_path / "train", {"a": 6, "b": 6})
    corpus.folder(tmp_path / "annotations", {"c": 2})
    corpus.random_image(77).save(tmp_path / "train" / "loose.png")
    (tmp_path / "train" / "a" / "photo.heic").write_bytes(b"x")
    notes = " ".join(corpus.load(tmp_path).warnings)
    assert "'annotations'" in notes and "1 image directly in" in notes and "1 .heic" in notes


def test_the_dataset_does_not_depend_on_the_order_of_directory_listings(tmp_path, monkeypatch):
    corpus.folder(tmp_path, {"b": 5, "a": 6, "ä": 4})
    scandir = os.scandir
    one = corpus.load(tmp_path)

    @contextmanager
    def scan_backwards(path):
        with scandir(path) as entries:
            yield sorted(entries, key=lambda entry: entry.name, reverse=True)

    monkeypatch.setattr(module.os, "scandir", scan_backwards)
    two = corpus.load(tmp_path)
    assert one.fingerprint == two.fingerprint and one.classes == two.classes == ("a", "b", "ä")


def test_two_spellings_of_one_name_are_one_class(tmp_path):
    corpus.folder(tmp_path / "train", {unicodedata.normalize("NFD", "café"): 4, "b": 4})
    corpus.folder(tmp_path / "test", {unicodedata.normalize("NFC", "café"): 2, "b": 2})
    assert corpus.load(tmp_path).classes == ("b", unicodedata.normalize("NFC", "café"))


def test_names_with_spaces_quotes_and_other_alphabets_survive(tmp_path):
    names = ("it's 1", "001", "None", "数据", "🐱")
    corpus.folder(tmp_path, dict.fromkeys(names, 3))
    assert corpus.load(tmp_path).classes == tuple(sorted(names))


@pytest.mark.parametrize("target", ["a", ".", "..", "/"])
def test_a_link_to_a_folder_that_contains_it_is_skipped(tmp_path, target):
    root = tmp_path / "set"
    corpus.folder(root, {"a": 4, "b": 4})
    (root / "a" / "again").symlink_to(root / target, target_is_directory=True)
    data = corpus.load(root)
    assert sum(len(split) for split in data.splits.values()) == 8
    warning = next(line for line in data.warnings if "link" in line)
    assert str(root / "a" / "again") in warning


def test_a_class_that_links_to_the_dataset_is_skipped(tmp_path):
    corpus.folder(tmp_path, {"a": 4, "b": 4})
    (tmp_path / "c").symlink_to(tmp_path, target_is_directory=True)
    data = corpus.load(tmp_path)
    assert data.classes == ("a", "b") and any("link" in line for line in data.warnings)


def test_links_between_classes_end(tmp_path):
    corpus.folder(tmp_path, {"a": 4, "b": 4})
    (tmp_path / "a" / "to b").symlink_to(tmp_path / "b", target_is_directory=True)
    (tmp_path / "b" / "to a").symlink_to(tmp_path / "a", target_is_directory=True)
    data = corpus.load(tmp_path)
    assert sum(len(split) for split in data.splits.values()) == 16
    assert any("different labels" in line for line in data.warnings)


def test_a_link_to_another_folder_is_followed(tmp_path):
    corpus.folder(tmp_path / "set", {"a": 4, "b": 4})
    corpus.folder(tmp_path / "more", {"x": 3})
    (tmp_path / "set" / "a" / "more").symlink_to(tmp_path / "more", target_is_directory=True)
    data = corpus.load(tmp_path / "set")
    assert sum(len(split) for split in data.splits.values()) == 11
    assert not any("link" in line for line in data.warnings)


def test_class_names_and_fingerprint_are_the_same_in_an_ascii_locale(tmp_path):
    corpus.folder(tmp_path / "é", {"é": 6, "z": 6, "数据": 6})
    (tmp_path / "é" / "z" / "0.png").rename(tmp_path / "é" / "z" / "ü.png")
    rows = "".join(f"{name}/{n}.png,{name}\n" for name in ("é", "数据") for n in range(6))
    (tmp_path / "é" / "labels.csv").write_text("path,label\n" + rows, encoding="utf-8")
    program = (
        "import os, sys; from tests.unit.data.images import corpus\n"
        "root = os.listdir(sys.argv[1])[0]\n"
        "for source in (root, os.path.join(root, 'labels.csv')):\n"
        "    data = corpus.load(os.path.join(sys.argv[1], source))\n"
        "    print(ascii((data.name, data.classes, data.fingerprint, len(data.unreadable))))\n"
    )
    outputs = []
    for variables in ({"LC_ALL": "C", "PYTHONUTF8": "0"}, {"PYTHONUTF8": "1"}):
        source_dirs = [str(REPOSITORY), str(REPOSITORY / "src")]
        environment = {**os.environ, **variables, "PYTHONPATH": os.pathsep.join(source_dirs)}
        run = [sys.executable, "-c", program, str(tmp_path)]
        outputs.append(subprocess.run(run, env=environment, capture_output=True, check=True).stdout)
    assert outputs[0] == outputs[1]
    assert ascii("é").strip("'").encode() in outputs[0] and b"udc" not in outputs[0]


def test_every_broken_file_is_listed_and_the_others_are_used(tmp_path):
    corpus.folder(tmp_path, {"a": 30, "b": 30})
    whole = (tmp_path / "a" / "0.png").read_bytes()
    breaks = {"a/3.png": whole[: len(whole) // 2], "a/9.png": b"", "b/1.png": b"<html>", "b/2.png": corpus.bomb(12_000)}
    for name, content in breaks.items():
        (tmp_path / name).write_bytes(content)
    before = corpus.tree(tmp_path)
    data = corpus.load(tmp_path)
    assert [os.path.relpath(b.path, tmp_path) for b in data.unreadable] == sorted(breaks)
    assert all(b.reason for b in data.unreadable)
    assert sum(len(s) for s in data.splits.values()) == 56
    assert corpus.tree(tmp_path) == before
    with pytest.raises(DataError) as error:
        corpus.load(tmp_path, strict=True)
    assert all(name.replace("/", os.sep) in str(error.value) for name in breaks)


def test_copies_of_an_image_stay_in_one_split_under_any_name(tmp_path):
    corpus.folder(tmp_path, {"a": 30, "b": 30})
    for number in range(0, 30, 2):
        image = Image.open(tmp_path / "a" / f"{number}.png")
        image.save(tmp_path / "a" / f"again {number}.bmp")
    data = corpus.load(tmp_path)
    side = {
        os.path.basename(s).split(".")[0]: part
        for part, x in data.splits.items()
        for s in x.sources
        if f"{os.sep}a{os.sep}" in s
    }
    assert all(side[str(n)] == side[f"again {n}"] for n in range(0, 30, 2)) and len(set(side.values())) > 1


def test_another_image_size_leaves_every_image_in_its_split(tmp_path):
    corpus.folder(tmp_path, {"a": 40, "b": 40})
    one, two = (corpus.load(tmp_path, image_size=size, channels=c) for size, c in ((20, 3), (8, 1)))
    assert one.shape == (20, 20, 3) and two.shape == (8, 8, 1)
    assert list(one.test.sources) == list(two.test.sources) and list(one.val.sources) == list(two.val.sources)


@pytest.mark.parametrize("size, kept", [((96, 96), 96), ((97, 97), 64), ((30, 20), 20), ((300, 100), 64)])
def test_small_images_of_one_size_keep_it_and_others_become_64(tmp_path, size, kept):
    data = corpus.load(corpus.folder(tmp_path, {"a": 3, "b": 3}, size))
    assert data.shape[:2] == (kept, kept)
    assert any("--image-size" in note for note in data.warnings) == (size != (kept, kept))


def test_images_of_several_sizes_become_64(tmp_path):
    corpus.folder(tmp_path / "x", {"a": 3}, (20, 20))
    corpus.folder(tmp_path / "x", {"b": 3}, (21, 20))
    assert corpus.load(tmp_path / "x").shape == (64, 64, 3)


def test_gray_images_have_one_channel_unless_one_image_has_colors(tmp_path):
    corpus.folder(tmp_path, {"a": 4, "b": 4}, channels=1)
    assert corpus.load(tmp_path).shape == (20, 20, 1)
    expected = np.asarray(Image.open(tmp_path / "a" / "0.png"))
    corpus.random_image(9).save(tmp_path / "b" / "2.png")
    found = read_image_folder(tmp_path, ReadOptions())
    assert found.splits["train"].images.shape == (8, 20, 20, 3)
    assert np.array_equal(found.splits["train"].images[0], np.repeat(expected[..., None], 3, axis=2))


def test_an_animation_is_reported(tmp_path):
    corpus.folder(tmp_path, {"a": 3, "b": 3})
    frames = [corpus.random_image(n) for n in range(3)]
    frames[0].save(tmp_path / "a" / "x.gif", save_all=True, append_images=frames[1:])
    assert any("first frame" in note for note in corpus.load(tmp_path).warnings)


def test_an_image_with_the_extension_of_another_format_is_read_and_reported(tmp_path):
    corpus.folder(tmp_path, {"a": 3, "b": 3})
    corpus.random_image(1).save(tmp_path / "a" / "1.png", "JPEG")
    data = corpus.load(tmp_path)
    assert not data.unreadable and any("1.png is JPEG" in note for note in data.warnings)


def test_a_dataset_larger_than_memory_is_rejected_before_reading(tmp_path, monkeypatch):
    corpus.folder(tmp_path, {"a": 3, "b": 3})
    monkeypatch.setattr("thalweg.io.free_memory.get_free_memory", lambda: 10_000)
    with pytest.raises(ResourceError, match=r"6 images of 20x20 needs 7.2 kB of memory; 10.0 kB") as error:
        corpus.load(tmp_path, storage="memory")
    assert "--image-size" in error.value.cure and "--storage disk" in error.value.cure


def load_error(path, **options) -> DataError:
    with pytest.raises(DataError) as error:
        corpus.load(path, **options)
    assert error.value.cure and str(path) in str(error.value)
    return error.value


def test_degenerate_folders_are_rejected_with_a_cure(tmp_path):
    (tmp_path / "empty").mkdir()
    assert load_error(tmp_path / "empty").path == tmp_path / "empty"
    corpus.random_image(1).save(corpus.folder(tmp_path / "flat", {}).parent / "empty" / "x.png")
    assert "1 image" in load_error(tmp_path / "empty").message
    assert load_error(corpus.folder(tmp_path / "one", {"a": 5})).value == ["a"]
    assert load_error(corpus.folder(tmp_path / "single", {"a": 1})).value == ["a"]
    assert load_error(corpus.folder(tmp_path / "hollow", {"a": 5, "b": 0})).value == ["b"]
    assert "cannot be split" in load_error(corpus.folder(tmp_path / "two", {"a": 1, "b": 1})).message


def test_a_class_of_broken_images_is_rejected(tmp_path):
    corpus.folder(tmp_path, {"a": 5, "b": 1})
    (tmp_path / "b" / "0.png").write_bytes(b"")
    error = load_error(tmp_path)
    assert error.value == ["b"] and "0.png: the file is empty" in error.message


def test_a_test_class_without_training_images_is_rejected(tmp_path):
    corpus.folder(tmp_path / "train", {"a": 3, "b": 3})
    corpus.folder(tmp_path / "test", {"a": 1, "bb": 1})
    error = load_error(tmp_path)
    assert error.value == ["bb"] and list(error.allowed) == ["a", "b"]


def test_splits_without_a_training_split_are_rejected(tmp_path):
    corpus.folder(tmp_path / "test", {"a": 3, "b": 3})
    corpus.folder(tmp_path / "val", {"a": 3, "b": 3})
    assert "no folder 'train'" in load_error(tmp_path).message


def test_two_folders_for_one_split_are_rejected(tmp_path):
    for name in ("train", "val", "valid"):
        corpus.folder(tmp_path / name, {"a": 3, "b": 3})
    assert load_error(tmp_path).value == ["val", "valid"]


def test_an_empty_test_folder_is_replaced_and_reported(tmp_path):
    corpus.folder(tmp_path / "train", {"a": 10, "b": 10})
    corpus.folder(tmp_path / "test", {"a": 0, "b": 0})
    data = corpus.load(tmp_path)
    assert len(data.test) and any("official test split is empty" in note for note in data.warnings)


def test_a_missing_path_suggests_similar_datasets(tmp_path):
    corpus.folder(tmp_path / "flowers", {"a": 1})
    with pytest.raises(NotFoundError) as error:
        corpus.load(str(tmp_path / "flower"))
    assert "flowers" in error.value.cure
    with pytest.raises(NotFoundError) as error:
        corpus.load("mnsit")
    assert "'mnist'" in error.value.cure


def test_only_datasets_are_suggested(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    corpus.folder(tmp_path / "photos", {"a/deep": 1})
    (tmp_path / "labels.csv").write_text("path,label\n", encoding="utf-8")
    (tmp_path / "set.npz").write_bytes(b"")
    for name in ("CHANGELOG.md", "LICENSE", "photo.png", "train.py"):
        (tmp_path / name).write_text("x", encoding="utf-8")
    for name in ("src", "empty", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / "src" / "main.py").write_text("x", encoding="utf-8")
    with pytest.raises(NotFoundError) as error:
        corpus.load("x")
    known = ["cifar10", "digits", "fashion-mnist", "mnist"]
    assert sorted(error.value.allowed) == sorted([*known, "photos", "labels.csv", "set.npz"])


@pytest.mark.parametrize("name", ["x.zip", "x.png", "x.bin", "data_batch_1"])
def test_files_that_are_not_datasets_are_rejected_with_a_cure(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    assert load_error(tmp_path / name).path == tmp_path / name


@pytest.mark.parametrize("options", [{"channels": 4}, {"image_size": 0}])
def test_invalid_image_options_are_rejected(tmp_path, options):
    with pytest.raises(OptionError) as error:
        corpus.load(corpus.folder(tmp_path, {"a": 3, "b": 3}), **options)
    assert {error.value.option: error.value.value} == options
