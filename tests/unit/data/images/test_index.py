"""The index of a collection: a file is read once, and again only if it is new or has changed."""

import os
import time

import numpy as np
import pytest

from tests.unit.data.images import corpus
from thalweg.data.images import index as module
from thalweg.data.images.array_store import cache_path
from thalweg.data.images.encoded import ImageFiles
from thalweg.data.images.image_folder import list_images
from thalweg.data.images.index import index_images


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "cache"))
    corpus.folder(tmp_path / "set", {"a": 8, "b": 8})
    (tmp_path / "set" / "b" / "broken.png").write_bytes(b"<html>")
    return tmp_path / "set"


@pytest.fixture
def read_names(monkeypatch) -> list[str]:
    """The files that are read."""
    names = []
    read = module._read_file
    monkeypatch.setattr(module, "_read_file", lambda path: names.append(os.path.basename(path)) or read(path))
    return names


def files(root) -> ImageFiles:
    return ImageFiles([os.path.relpath(path, root) for path in list_images(root)], str(root), os.path.realpath(root))


def test_only_new_and_changed_files_are_read_again(root, read_names):
    first = index_images(files(root))
    assert len(read_names) == 17 and len(first.rows) == 16 and list(first.reasons) == [16]
    read_names.clear()
    second = index_images(files(root))
    assert read_names == []
    for name in ("digest", "height", "width", "flags", "format"):
        assert np.array_equal(getattr(second, name), getattr(first, name))
    assert second.reasons == first.reasons
    (root / "a" / "0.png").unlink()
    same_size = (root / "a" / "1.png").stat().st_size
    (root / "a" / "1.png").write_bytes(bytes(same_size))  # overwritten in place: no folder changes
    os.utime(root / "a" / "1.png", ns=(0, time.time_ns() + 10**9))
    corpus.random_image(99).save(root / "a" / "new.png")
    corpus.random_image(98).save(root / "b" / "broken.png")
    third = index_images(files(root))
    assert sorted(read_names) == ["1.png", "broken.png", "new.png"]
    assert len(third.digest) == 17 and list(third.reasons) == [0]
    assert np.array_equal(third.digest[1:7], first.digest[2:8])


def test_a_file_that_the_system_does_not_give_is_looked_for_again(root, read_names, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(module, "_read_file", lambda path: (_ for _ in ()).throw(PermissionError(13, "denied")))
        denied = index_images(files(root))
        assert len(denied.reasons) == 17 and "permission" in denied.reasons[0]
    assert len(index_images(files(root)).rows) == 16 and len(read_names) == 17


@pytest.mark.parametrize("damage", ["cut", "noise", "foreign", "short", "pickle", "format"])
def test_a_damaged_or_foreign_index_is_rebuilt(root, read_names, damage):
    expected = index_images(files(root)).digest
    path = cache_path("index", os.path.realpath(root))
    content = path.read_bytes()
    with np.load(path) as file:
        arrays = dict(file)
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(len(content)))
    elif damage == "foreign":
        np.savez(path, **{**arrays, "subject": np.frombuffer(b"/elsewhere", np.uint8)})
    elif damage == "short":
        np.savez(path, **{**arrays, "height": arrays["height"][:-1]})
    elif damage == "pickle":
        np.savez(path, **{**arrays, "height": np.array([{}, {}], object)})
    else:
        np.savez(path, **{**arrays, "format": arrays["format"] + np.uint8(100)})
    read_names.clear()
    assert np.array_equal(index_images(files(root)).digest, expected)
    assert len(read_names) == 17
    read_names.clear()
    index_images(files(root))
    assert read_names == []


def test_an_interrupted_reading_is_continued(root, read_names):
    def interrupt(done: int, total: int) -> None:
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index_images(files(root), interrupt)
    read_names.clear()
    assert len(index_images(files(root)).rows) == 16
    assert len(read_names) == 7


def test_a_cache_that_cannot_be_written_only_costs_time(root, monkeypatch, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "file"))
    assert len(index_images(files(root)).rows) == 16


def test_known_files_take_microseconds(tmp_path, monkeypatch):
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "cache"))
    content = corpus.encoded(corpus.random_image(1), "JPEG")
    names = [f"{number:05d}.jpg" for number in range(600)]
    for name in names:
        (tmp_path / name).write_bytes(content)
    encoded = ImageFiles(names, str(tmp_path), "x")
    index_images(encoded)
    monkeypatch.setattr(module, "_inspect", lambda *args: pytest.fail("a known file was read"))
    start = time.process_time()
    assert len(index_images(encoded).rows) == 600
    assert time.process_time() - start < 0.15
