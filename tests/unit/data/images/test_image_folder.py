"""Folders of pictures as people have them: junk, wrappers, nested folders, odd names, broken files."""

import os
import unicodedata

import numpy as np
import pytest
from PIL import Image

from tests.unit.data.images import corpus
from thalweg.data.images import image_folder as module
from thalweg.data.images.image_folder import read_image_folder
from thalweg.data.images.raw_dataset import ReadOptions
from thalweg.errors import DataError, NotFoundError, OptionError, ResourceError


def test_the_folders_are_the_classes_and_every_picture_is_read(tmp_path):
    corpus.folder(tmp_path / "set", {"dog": 8, "cat": 9})
    data = corpus.load(tmp_path / "set")
    assert data.classes == ("cat", "dog") and data.shape == (20, 20, 3) and data.sizes == {(20, 20): 17}
    assert (data.name, data.format, data.unreadable, data.is_handwriting) == ("set", "folders of pictures", (), False)
    names = []
    for split in data.splits.values():
        for image, label, source in zip(split.images, split.labels, split.sources, strict=True):
            assert source.split(os.sep)[-2] == data.classes[label]
            assert np.array_equal(image, np.asarray(Image.open(source)))
            names.append(source)
    assert len(set(names)) == 17


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("Training", "validation", "Testing"), ("train", "val", "test")]
)
def test_official_parts_are_kept(tmp_path, names):
    for name, count in zip(names, (6, 3, 4), strict=True):
        corpus.folder(tmp_path / name, {"a": count, "b": count})
    data = corpus.load(tmp_path)
    assert [len(data.splits[p]) for p in ("train", "val", "test")] == [12, 6, 8]
    assert all(f"{os.sep}{names[2]}{os.sep}" in s for s in data.test.sources)


def test_what_is_missing_is_taken_from_the_training_set(tmp_path):
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


def test_a_wrapping_folder_is_looked_into(tmp_path):
    corpus.folder(tmp_path / "outer" / "inner", {"a": 3, "b": 3})
    assert corpus.load(tmp_path / "outer").classes == ("a", "b")


def test_what_systems_leave_behind_is_no_class_and_no_picture(tmp_path):
    corpus.folder(tmp_path, {"a": 8, "b": 8})
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / "__MACOSX").mkdir()
    for name in (".DS_Store", "Thumbs.db", "a/.DS_Store", "a/._0.png", "b/desktop.ini", "a/Thumbs.db"):
        (tmp_path / name).write_bytes(b"junk")
    data = corpus.load(tmp_path)
    assert (data.classes, data.unreadable, data.warnings) == (("a", "b"), (), ())


def test_what_is_left_out_is_told(tmp_path):
    corpus.folder(tmp_path / "train", {"a": 6, "b": 6})
    corpus.folder(tmp_path / "annotations", {"c": 2})
    corpus.picture(77).save(tmp_path / "train" / "loose.png")
    (tmp_path / "train" / "a" / "photo.heic").write_bytes(b"x")
    notes = " ".join(corpus.load(tmp_path).warnings)
    assert "'annotations'" in notes and "1 picture in" in notes and "1 .heic" in notes


def test_the_order_in_which_the_disk_lists_files_does_not_matter(tmp_path, monkeypatch):
    corpus.folder(tmp_path, {"b": 5, "a": 6, "ä": 4})
    listed = os.listdir
    one = corpus.load(tmp_path)
    monkeypatch.setattr(module.os, "listdir", lambda path: sorted(listed(path), reverse=True))
    two = corpus.load(tmp_path)
    assert one.fingerprint == two.fingerprint and one.classes == two.classes == ("a", "b", "ä")


def test_two_spellings_of_one_name_are_one_class(tmp_path):
    corpus.folder(tmp_path / "train", {unicodedata.normalize("NFD", "café"): 4, "b": 4})
    corpus.folder(tmp_path / "test", {unicodedata.normalize("NFC", "café"): 2, "b": 2})
    assert corpus.load(tmp_path).classes == ("b", unicodedata.normalize("NFC", "café"))


def test_names_with_blanks_quotes_and_other_alphabets_survive(tmp_path):
    names = ("it's 1", "001", "None", "数据", "🐱")
    corpus.folder(tmp_path, dict.fromkeys(names, 3))
    assert corpus.load(tmp_path).classes == tuple(sorted(names))


def test_a_folder_that_links_to_itself_is_read_once(tmp_path):
    corpus.folder(tmp_path, {"a": 4, "b": 4})
    (tmp_path / "a" / "again").symlink_to(tmp_path / "a", target_is_directory=True)
    assert sum(len(s) for s in corpus.load(tmp_path).splits.values()) == 8


def test_every_broken_file_is_named_and_the_others_are_used(tmp_path):
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
    with pytest.raises(DataError, match="4 unreadable files") as refused:
        corpus.load(tmp_path, strict=True)
    assert all(name.replace("/", os.sep) in str(refused.value) for name in breaks)


def test_copies_of_a_picture_stay_on_one_side_whatever_they_are_called(tmp_path):
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


def test_another_size_leaves_every_picture_in_its_part(tmp_path):
    corpus.folder(tmp_path, {"a": 40, "b": 40})
    one, two = (corpus.load(tmp_path, image_size=size, channels=c) for size, c in ((20, 3), (8, 1)))
    assert one.shape == (20, 20, 3) and two.shape == (8, 8, 1)
    assert list(one.test.sources) == list(two.test.sources) and list(one.val.sources) == list(two.val.sources)


@pytest.mark.parametrize("size, kept", [((96, 96), 96), ((97, 97), 64), ((30, 20), 20), ((300, 100), 64)])
def test_small_pictures_of_one_size_keep_it_and_others_become_sixty_four(tmp_path, size, kept):
    data = corpus.load(corpus.folder(tmp_path, {"a": 3, "b": 3}, size))
    assert data.shape[:2] == (kept, kept)
    assert any("--image-size" in note for note in data.warnings) == (size != (kept, kept))


def test_pictures_of_many_sizes_become_sixty_four(tmp_path):
    corpus.folder(tmp_path / "x", {"a": 3}, (20, 20))
    corpus.folder(tmp_path / "x", {"b": 3}, (21, 20))
    assert corpus.load(tmp_path / "x").shape == (64, 64, 3)


def test_grey_pictures_are_one_channel_and_one_colour_picture_makes_three(tmp_path):
    corpus.folder(tmp_path, {"a": 4, "b": 4}, channels=1)
    assert corpus.load(tmp_path).shape == (20, 20, 1)
    expected = np.asarray(Image.open(tmp_path / "a" / "0.png"))
    corpus.picture(9).save(tmp_path / "b" / "2.png")
    found = read_image_folder(tmp_path, ReadOptions())
    assert found.splits["train"].images.shape == (8, 20, 20, 3)
    assert np.array_equal(found.splits["train"].images[0], np.repeat(expected[..., None], 3, axis=2))


def test_an_animation_is_told(tmp_path):
    corpus.folder(tmp_path, {"a": 3, "b": 3})
    frames = [corpus.picture(n) for n in range(3)]
    frames[0].save(tmp_path / "a" / "x.gif", save_all=True, append_images=frames[1:])
    assert any("first frame" in note for note in corpus.load(tmp_path).warnings)


def test_a_photograph_under_the_name_of_another_format_is_read_and_told(tmp_path):
    corpus.folder(tmp_path, {"a": 3, "b": 3})
    corpus.picture(1).save(tmp_path / "a" / "1.png", "JPEG")
    data = corpus.load(tmp_path)
    assert not data.unreadable and any("1.png is JPEG" in note for note in data.warnings)


def test_more_than_the_memory_holds_is_refused_before_it_is_read(tmp_path, monkeypatch):
    corpus.folder(tmp_path, {"a": 3, "b": 3})
    monkeypatch.setattr("thalweg.io.free_memory.get_free_memory", lambda: 10_000)
    with pytest.raises(ResourceError, match=r"6 pictures at 20 x 20 needs 7.2 kB of memory; 10.0 kB") as refused:
        corpus.load(tmp_path)
    assert "--image-size" in refused.value.cure


def refused(path, match, **options):
    with pytest.raises(DataError, match=match) as error:
        corpus.load(path, **options)
    assert error.value.cure and str(path) in str(error.value)


def test_degenerate_folders_are_refused_with_a_cure(tmp_path):
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "no folder that would be a class")
    corpus.picture(1).save(corpus.folder(tmp_path / "flat", {}).parent / "empty" / "x.png")
    refused(tmp_path / "empty", "1 picture and no folder")
    refused(corpus.folder(tmp_path / "one", {"a": 5}), "only one class, 'a'")
    refused(corpus.folder(tmp_path / "single", {"a": 1}), "only one class")
    refused(corpus.folder(tmp_path / "hollow", {"a": 5, "b": 0}), "no picture in 'b'")
    refused(corpus.folder(tmp_path / "two", {"a": 1, "b": 1}), "cannot be split")


def test_a_class_of_broken_pictures_is_refused(tmp_path):
    corpus.folder(tmp_path, {"a": 5, "b": 1})
    (tmp_path / "b" / "0.png").write_bytes(b"")
    refused(tmp_path, r"no readable training image for 'b'\. .*0\.png: the file is empty\.")


def test_a_test_class_that_training_does_not_have_is_refused(tmp_path):
    corpus.folder(tmp_path / "train", {"a": 3, "b": 3})
    corpus.folder(tmp_path / "test", {"a": 1, "bb": 1})
    with pytest.raises(DataError, match="'bb' is no class"):
        corpus.load(tmp_path)


def test_parts_without_a_training_set_are_refused(tmp_path):
    corpus.folder(tmp_path / "test", {"a": 3, "b": 3})
    corpus.folder(tmp_path / "val", {"a": 3, "b": 3})
    refused(tmp_path, "no folder 'train'")


def test_two_folders_for_one_part_are_refused(tmp_path):
    for name in ("train", "val", "valid"):
        corpus.folder(tmp_path / name, {"a": 3, "b": 3})
    refused(tmp_path, "both 'val' and 'valid'")


def test_an_empty_test_folder_is_replaced_and_told(tmp_path):
    corpus.folder(tmp_path / "train", {"a": 10, "b": 10})
    corpus.folder(tmp_path / "test", {"a": 0, "b": 0})
    data = corpus.load(tmp_path)
    assert len(data.test) and any("official test split is empty" in note for note in data.warnings)


def test_a_path_that_is_not_there_suggests_its_neighbour(tmp_path):
    corpus.folder(tmp_path / "flowers", {"a": 1})
    with pytest.raises(NotFoundError, match="flowers"):
        corpus.load(str(tmp_path / "flower"))
    with pytest.raises(NotFoundError, match="'mnist'"):
        corpus.load("mnsit")


@pytest.mark.parametrize("name", ["x.zip", "x.png", "x.bin", "data_batch_1"])
def test_files_that_are_no_data_set_say_what_is(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    refused(tmp_path / name, "not a dataset file")


@pytest.mark.parametrize("options", [{"channels": 4}, {"image_size": 0}])
def test_settings_that_make_no_picture_are_refused(tmp_path, options):
    with pytest.raises(OptionError, match="channels|--image-size"):
        corpus.load(corpus.folder(tmp_path, {"a": 3, "b": 3}), **options)
