"""Packs hold the same images, smaller; they are shared, bounded, and made anew where they are not whole."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thalweg.data.images import pack as packs
from thalweg.data.images.encoded import ImageFiles
from thalweg.data.images.image_decoding import read_header
from thalweg.data.images.pack import PackedImages, pack_images, pack_side
from thalweg.data.images.stored_images import StoredImages
from thalweg.errors import ResourceError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "packs"


@pytest.fixture
def photos(tmp_path) -> StoredImages:
    """Large JPEGs, one of them on its side, a small PNG and a small JPEG."""
    rng = np.random.default_rng(0)
    paths = []
    for row in range(6):
        small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
        image = small.resize((40, 30) if row >= 4 else (200, 150), Image.Resampling.BICUBIC)
        paths.append(tmp_path / f"{row}.{'png' if row == 4 else 'jpg'}")
        exif = Image.Exif()
        exif[0x0112] = 6 if row == 1 else 1
        image.save(paths[-1], exif=exif)
    return store(paths)


def store(paths: list[Path]) -> StoredImages:
    digests = np.arange(32 * len(paths), dtype=np.uint8).reshape(-1, 32)
    return StoredImages(ImageFiles(paths), digests, np.zeros((len(paths), 2), np.int32), (32, 32), 3)


def mean_difference(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first.astype(int) - second).mean())


def test_a_pack_holds_the_images_smaller_and_upright(photos, cache):
    lines: list[str] = []
    packed = pack_images(photos, 60, lines.append)
    assert isinstance(packed.encoded, PackedImages) and len(packed.encoded) == len(photos) and len(lines) == 1
    sizes = []
    for row in range(4):
        header = read_header(packed.encoded.read(row))
        sizes.append((header.width, header.height))
        assert header.format == "JPEG"
    assert sizes == [(80, 60), (60, 80), (80, 60), (80, 60)]
    for row in (4, 5):  # these would only grow
        assert packed.encoded.read(row) == Path(photos.encoded.read(row)).read_bytes()
    assert mean_difference(packed[:], photos[:]) < 2.5
    taken = packed.take(np.array([5, 1]))
    assert np.array_equal(taken[:], packed[[5, 1]])
    assert taken.encoded.names([1]) == photos.encoded.names([1])
    total = sum(file.stat().st_size for file in cache.glob("*/pack.bin"))
    assert total == sum(len(packed.encoded.read(row)) for row in range(6))


def test_a_gray_model_gets_gray_jpegs(photos):
    gray = replace(photos, channels=1)
    packed = pack_images(gray, 60, print)
    with Image.open(io.BytesIO(packed.encoded.read(0))) as image:
        assert image.mode == "L"
    assert packed[:].shape == (6, 32, 32, 1) and mean_difference(packed[:], gray[:]) < 2.5


def test_sides_leave_room_for_random_boxes():
    assert [pack_side((224, 320), area) for area in (0.08, 0.35, None)] == [381, 258, 258]


def test_the_shorter_side_is_never_below_that_of_the_center_crop(photos):
    packed = pack_images(replace(photos, resize=70), 60, print)
    assert min(read_header(packed.encoded.read(0)).width, read_header(packed.encoded.read(0)).height) == 70


def test_equal_content_and_settings_share_a_pack(photos, cache):
    lines: list[str] = []
    pack_images(photos, 60, lines.append)
    pack_images(photos, 60, lines.append)
    assert len(lines) == 1
    pack_images(photos, 61, lines.append)
    pack_images(replace(photos, digests=photos.digests + 1), 60, lines.append)
    pack_images(replace(photos, channels=1), 60, lines.append)
    assert len(lines) == 4 and len(list(cache.glob("*/pack.json"))) == 4


def shorten(folder: Path) -> None:
    with open(folder / "pack.bin", "r+b") as file:
        file.truncate(100)


def change_settings(folder: Path) -> None:
    values = json.loads((folder / "pack.json").read_text())
    (folder / "pack.json").write_text(json.dumps({**values, "side": 61}))


DAMAGES = {
    "shortened": shorten,
    "no file": lambda folder: (folder / "pack.bin").unlink(),
    "foreign": change_settings,
    "not JSON": lambda folder: (folder / "pack.json").write_text("[" * 100_000),
    "index": lambda folder: (folder / "index.npz").write_bytes((folder / "index.npz").read_bytes()[:-1]),
    "empty": lambda folder: [file.unlink() for file in folder.iterdir()],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_pack_that_is_not_whole_is_made_anew(photos, cache, damage):
    expected = pack_images(photos, 60, print)[:]
    (folder,) = [path for path in cache.iterdir() if path.is_dir()]
    DAMAGES[damage](folder)
    lines: list[str] = []
    assert np.array_equal(pack_images(photos, 60, lines.append)[:], expected)
    assert len(lines) == 2 and str(folder) in lines[0]


def test_a_damaged_image_is_read_from_its_original(photos, cache):
    packed = pack_images(photos, 60, print)
    (folder,) = [path for path in cache.iterdir() if path.is_dir()]
    expected = packed[:]
    with open(folder / "pack.bin", "r+b") as file:
        file.seek(int(packed.encoded.pack.offsets[2]) + 50)
        file.write(b"\0\0\0\0")
    again = pack_images(photos, 60, print)
    assert np.array_equal(again[2:3], photos[2:3])
    assert np.array_equal(again[[0, 1, 3, 4, 5]], expected[[0, 1, 3, 4, 5]])
    shorten(folder)  # while it is open
    assert np.array_equal(packed[3:4], photos[3:4])


def test_an_unreadable_original_leaves_a_gap(photos, tmp_path):
    Path(photos.encoded.read(0)).write_bytes(b"no image")
    packed = pack_images(photos, 60, print)
    assert packed.encoded.read(0) == photos.encoded.read(0)
    assert np.array_equal(packed[1:], pack_images(photos, 60, print)[1:])


def test_too_small_a_disk_is_said_before_anything_is_written(photos, cache, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 100_001_000))
    with pytest.raises(ResourceError) as error:
        pack_images(photos, 60, print)
    assert error.value.option == "cache_images" and error.value.value > 1000 and error.value.exit_code == 5
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


def test_nothing_is_left_of_a_pack_that_could_not_be_written(photos, cache, monkeypatch):
    def fail(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(packs, "write_fsync", fail)
    with pytest.raises(ResourceError) as error:
        pack_images(photos, 60, print)
    assert error.value.path.parent == cache
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


def test_the_oldest_packs_are_removed_but_never_the_one_in_use(photos, cache, monkeypatch):
    for side in (60, 61, 62):
        last = pack_images(photos, side, print)
    by_age = sorted((path for path in cache.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for age, path in enumerate(by_age):
        os.utime(path, (age, age))
    draft = cache / "abc.1.draft"
    draft.mkdir()
    monkeypatch.setattr(packs, "MAX_BYTES", 1.5 * sum(file.stat().st_size for file in by_age[0].iterdir()))
    pack_images(photos, 60, print)
    assert by_age[0].exists() and not by_age[1].exists() and draft.exists()
    (draft / "pack.bin").write_bytes(bytes(10_000))
    os.utime(draft, (0, 0))
    monkeypatch.setattr(packs, "MAX_BYTES", 0)
    pack_images(photos, 60, print)
    assert by_age[0].exists() and not by_age[2].exists() and not draft.exists()
    assert last[:].shape == (6, 32, 32, 3)  # an open pack outlives its folder
