"""Images that stay on disk give what images in memory give, without being held."""

import os
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from tests.unit.data.images import corpus
from thalweg.data.base import DataRequest
from thalweg.data.images import image_loading
from thalweg.data.images.dataset import channel_mean_std
from thalweg.data.images.encoded import ImageFiles
from thalweg.data.images.image_decoding import decode_image
from thalweg.data.images.image_loading import load_images
from thalweg.data.images.input_spec import InputSpec, load_for_model, normalize_drawings
from thalweg.data.images.raw_dataset import ReadOptions
from thalweg.data.images.stored_images import StoredImages
from thalweg.errors import DataError, OptionError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("options", [{}, {"image_size": 8}, {"image_size": (6, 9), "channels": 1}])
def test_images_on_disk_equal_those_in_memory(tmp_path, options):
    root = corpus.folder(tmp_path / "set", {"a": 30, "b": 30}, (24, 18))
    memory = corpus.load(root, storage="memory", **options)
    disk = corpus.load(root, storage="disk", **options)
    assert disk.classes == memory.classes and disk.shape == memory.shape and disk.sizes == memory.sizes
    for name, split in disk.splits.items():
        assert isinstance(split.images, StoredImages)
        assert list(split.sources) == list(memory.splits[name].sources)
        assert np.array_equal(split.images[:], memory.splits[name].images)
        assert np.array_equal(split.labels, memory.splits[name].labels)
    assert np.array_equal(disk.all.images[:], memory.all.images)
    assert any("--storage" in line for line in disk.warnings)
    assert not any("--storage" in line for line in memory.warnings)
    assert np.allclose(channel_mean_std(disk.train.images), channel_mean_std(memory.train.images))


def test_the_split_and_the_fingerprint_depend_on_contents_alone(tmp_path):
    one = corpus.folder(tmp_path / "one", {"a": 30, "b": 30})
    two = tmp_path / "two"
    for path in sorted(one.rglob("*.png")):
        copy = two / path.parent.name / "deep" / f"{99 - int(path.stem)} other.png"
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    contents = []
    for root in (one, two):
        data = corpus.load(root, storage="disk")
        files = {}
        for name, split in data.splits.items():
            files[name] = {open(source, "rb").read() for source in split.sources}
        contents.append(files)
    assert contents[0] == contents[1]
    fingerprint = corpus.load(one, storage="disk").fingerprint
    assert fingerprint == corpus.load(one, storage="disk").fingerprint
    assert fingerprint != corpus.load(one, storage="disk", image_size=8).fingerprint
    corpus.random_image(7777).save(one / "a" / "3.png")
    assert fingerprint != corpus.load(one, storage="disk").fingerprint


def test_the_storage_is_chosen_by_size(tmp_path, monkeypatch):
    root = corpus.folder(tmp_path / "set", {"a": 10, "b": 10})
    assert isinstance(corpus.load(root).train.images, np.ndarray)
    needed = 20 * 20 * 20 * 3
    monkeypatch.setattr(image_loading, "get_free_memory", lambda: 4 * needed)  # a quarter is just enough
    assert isinstance(corpus.load(root).train.images, np.ndarray)
    monkeypatch.setattr(image_loading, "get_free_memory", lambda: 4 * needed - 4)
    assert isinstance(corpus.load(root).train.images, StoredImages)
    monkeypatch.setattr(image_loading, "get_free_memory", lambda: None)
    monkeypatch.setattr(image_loading, "MAX_MEMORY_BYTES", needed - 1)
    assert isinstance(corpus.load(root).train.images, StoredImages)
    with pytest.raises(OptionError) as error:
        corpus.load(root, storage="disc")
    assert (error.value.option, error.value.value) == ("storage", "disc")
    assert "disk" in error.value.allowed


def break_file(path, kind: str) -> None:
    content = path.read_bytes()
    if kind == "cut":
        path.write_bytes(content[:-30])
    elif kind == "half":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_bytes(b"<html>")
    else:
        path.write_bytes(content[:-40] + bytes([content[-40] ^ 255]) + content[-39:])  # within the pixels


@pytest.mark.parametrize("image_format", ["png", "jpg", "webp", "gif", "bmp", "tif"])
def test_the_same_files_are_unreadable_as_in_memory(tmp_path, image_format):
    for kind in ("cut", "half", "empty", "text", "flip"):
        path = tmp_path / f"{kind}.{image_format}"
        corpus.random_image(1, (50, 40)).save(path)
        break_file(path, kind)
    corpus.random_image(2, (50, 40)).save(tmp_path / f"fine.{image_format}")
    longer = tmp_path / f"longer.{image_format}"
    corpus.random_image(3, (50, 40)).save(longer)
    longer.write_bytes(longer.read_bytes() + bytes(200))
    paths = sorted(tmp_path.glob("*.*"))
    paths.append(tmp_path / f"gone.{image_format}")
    memory = load_images(ImageFiles(paths), ReadOptions(16, 3, storage="memory"))
    disk = load_images(ImageFiles(paths), ReadOptions(16, 3, storage="disk"))
    assert disk.rows.tolist() == memory.rows.tolist()
    assert [file.path for file in disk.unreadable] == [file.path for file in memory.unreadable]
    assert {"empty", "text", "gone"} <= {os.path.basename(file.path).split(".")[0] for file in disk.unreadable}
    assert np.array_equal(disk.images[:], memory.images)
    assert np.array_equal(disk.files, memory.files)


def test_odd_images_are_described_as_in_memory(tmp_path):
    frames = [corpus.random_image(n) for n in range(3)]
    frames[0].save(tmp_path / "0.gif", save_all=True, append_images=frames[1:])
    corpus.random_image(1).save(tmp_path / "1.png", "JPEG")
    turned = Image.new("RGB", (10, 30), "red")
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "2.jpg", exif=exif)
    paths = sorted(tmp_path.glob("*.*"))
    memory = load_images(ImageFiles(paths), ReadOptions(storage="memory"))
    disk = load_images(ImageFiles(paths), ReadOptions(storage="disk"))
    assert disk.warnings[1:] == memory.warnings and len(memory.warnings) == 3
    assert disk.sizes == memory.sizes and disk.sizes[30, 10] == 1
    assert isinstance(disk.images, StoredImages) and disk.images.sizes[2].tolist() == [10, 30]


def test_gray_files_have_one_channel(tmp_path):
    root = corpus.folder(tmp_path / "set", {"a": 4, "b": 4}, channels=1)
    assert corpus.load(root, storage="disk").shape == (20, 20, 1)
    corpus.random_image(9).save(root / "b" / "2.png")
    assert corpus.load(root, storage="disk").shape == (20, 20, 3)


def test_images_are_indexed_like_an_array(tmp_path):
    root = corpus.folder(tmp_path / "set", {"a": 12, "b": 12})
    images = corpus.load(root, storage="disk", make_splits=False).train.images
    array = images[:]
    assert isinstance(images, StoredImages) and array.shape == images.shape == (24, 20, 20, 3)
    for rows in (3, -1, np.int64(2), slice(2, 20, 3), [5, 5, 1], np.array([4, 0]), np.arange(24) % 2 == 0):
        assert np.array_equal(images[rows], array[rows])
    assert np.array_equal(np.stack(list(images)), array)
    assert np.array_equal(images.take(np.array([7, 3]))[0], array[7])
    with pytest.raises(IndexError):
        images[24]
    with pytest.raises(TypeError):
        np.asarray(images)


def test_a_file_that_vanishes_later_is_named(tmp_path):
    root = corpus.folder(tmp_path / "set", {"a": 12, "b": 12})
    data = corpus.load(root, storage="disk")
    vanished = data.train.sources[5]
    os.remove(vanished)
    with pytest.raises(DataError) as error:
        data.train.images[:]
    assert error.value.path == vanished
    assert np.isfinite(channel_mean_std(data.train.images)).all()  # the others are enough


def test_a_strict_request_refuses_unreadable_files_on_disk(tmp_path):
    root = corpus.folder(tmp_path / "set", {"a": 6, "b": 6})
    break_file(root / "a" / "1.png", "half")
    with pytest.raises(DataError) as error:
        corpus.load(root, storage="disk", strict=True)
    assert error.value.value == [str(root / "a" / "1.png")]


def test_tables_groups_and_relative_paths_work_on_disk(tmp_path, monkeypatch):
    root = corpus.folder(tmp_path / "set", {"a": 10, "b": 10})
    rows = [f"{name}/{n}.png,{name},{name}{n // 2}" for name in "ab" for n in range(10)]
    (root / "table.csv").write_text("path,label,group\n" + "\n".join(rows), encoding="utf-8")
    monkeypatch.chdir(root)
    for source in (".", "table.csv", "../set"):
        memory = corpus.load(source, storage="memory")
        disk = corpus.load(source, storage="disk")
        for name, split in disk.splits.items():
            assert list(split.sources) == list(memory.splits[name].sources)
            assert np.array_equal(split.images[:], memory.splits[name].images)


def test_drawings_on_disk_are_normalized_from_their_files(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(4):
            drawing = Image.new("L", (60, 60), 255)
            drawing.paste(0, (20 + number, 15, 30 + number, 45 if name == "a" else 25))
            drawing.save(tmp_path / "set" / name / f"{number}.png")
    spec = InputSpec(["a", "b"], 1, [28, 28], [0.1], [0.3], handwriting=True)
    arrays = []
    for storage in ("memory", "disk"):
        data = load_for_model(DataRequest(tmp_path / "set", make_splits=False), None, spec, storage)
        arrays.append(normalize_drawings(data, spec).train.images)
    assert isinstance(arrays[1], np.ndarray) and np.array_equal(*arrays)


def test_loading_to_disk_holds_no_pixels(tmp_path):
    root = corpus.folder(tmp_path / "set", {"a": 12, "b": 12}, (200, 200))
    corpus.load(root, storage="disk", image_size=200)  # imports, caches
    tracemalloc.start()
    data = corpus.load(root, storage="disk", image_size=200)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert data.train.images.nbytes > 1_500_000 and peak < 900_000
    assert np.array_equal(data.train.images[0], decode_image(data.train.sources[0], 3))
