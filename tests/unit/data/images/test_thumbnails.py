"""Thumbnails of files and of arrays show the same, are made once, and name what cannot be read."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.unit.data.images import corpus
from thalweg.data.images import thumbnails
from thalweg.data.images.dataset import ImageSplit, sha256_rows
from thalweg.data.images.duplicates import find_near_duplicates
from thalweg.data.images.encoded import ImageFiles
from thalweg.data.images.stored_images import StoredImages
from thalweg.data.images.thumbnails import make_thumbnails


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "thumbnails"


def store(folder: Path, images: dict[str, Image.Image | bytes], size=(64, 64), resize=None) -> StoredImages:
    """Write images as files of the format that their names say; return them as stored images."""
    folder.mkdir(exist_ok=True)
    paths = [folder / name for name in images]
    for path, image in zip(paths, images.values(), strict=True):
        path.write_bytes(image) if isinstance(image, bytes) else image.save(path, quality=95)
    digests = np.concatenate([sha256_rows(np.frombuffer(path.read_bytes(), np.uint8)[None]) for path in paths])
    return StoredImages(ImageFiles(paths), digests, np.zeros((len(paths), 2), np.int32), size, 3, resize)


def photo(seed: int, size: tuple[int, int]) -> Image.Image:
    """Smooth colors with a bright block in a corner, by which a turned image is known."""
    image = corpus.random_image(seed, size)
    image.paste((255, 255, 255), (0, 0, size[0] // 3, size[1] // 3))
    return image


@pytest.mark.parametrize("size, resize", [((64, 64), None), ((224, 224), 256), ((48, 96), None), ((64, 32), 80)])
@pytest.mark.parametrize("shape", [(640, 480), (301, 407), (90, 90), (1200, 250), (30, 20)])
def test_a_thumbnail_of_a_file_shows_what_a_model_sees(tmp_path, shape, size, resize):
    image = photo(1, shape)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = io.BytesIO()
    image.save(turned, "JPEG", quality=95, exif=exif)
    stored = store(tmp_path / "set", {"a.jpg": image, "b.png": image, "turned.jpg": turned.getvalue()}, size, resize)
    found = make_thumbnails(stored).pixels.astype(float)
    # luma, as files are decoded to, instead of the mean of the colors
    gray = np.stack([np.asarray(Image.fromarray(pixels).convert("L")) for pixels in stored[:]])[..., None]
    expected = make_thumbnails(gray).pixels.astype(float)
    assert found.shape == expected.shape == (3, 32, 32)
    assert np.abs(found - expected).mean(axis=(1, 2)).max() < 4
    assert expected.std() > 20


def test_thumbnails_of_arrays_are_averages_of_areas():
    images = np.random.default_rng(0).integers(0, 256, (5, 96, 64, 3), np.uint8)
    expected = images.reshape(5, 32, 3, 32, 2, 3).mean(axis=(2, 4, 5))
    assert np.abs(make_thumbnails(images).pixels - expected).max() <= 0.51
    small = images[:, :20, :28]
    assert make_thumbnails(small).pixels.shape == (5, 20, 20)
    assert np.array_equal(make_thumbnails(images[:, :32, :32, :1]).pixels, images[:, :32, :32, 0])


def test_files_are_decoded_once_and_broken_ones_are_tried_again(tmp_path, monkeypatch, cache):
    images: dict = {f"{n}.jpg": photo(n, (160, 120)) for n in range(6)}
    images["broken.jpg"] = corpus.encoded(photo(9, (160, 120)), "JPEG")[:700]
    images["empty.png"] = b""
    stored = store(tmp_path / "set", images)
    steps = []
    first = make_thumbnails(stored, lambda done, total: steps.append((done, total)))
    assert steps == [(n, 8) for n in range(1, 9)]
    assert sorted(first.unreadable) == [6, 7] and "empty" in first.unreadable[7]
    assert (first.seconds[:6] > 0).all()
    assert first.file_bytes[:6].tolist() == [(tmp_path / "set" / f"{n}.jpg").stat().st_size for n in range(6)]

    (tmp_path / "set" / "empty.png").write_bytes(corpus.encoded(photo(7, (160, 120))))
    decoded = []
    decode = thumbnails.decode_gray_center
    monkeypatch.setattr(thumbnails, "decode_gray_center", lambda *a: decoded.append(Path(a[0]).name) or decode(*a))
    again = make_thumbnails(stored)
    assert sorted(decoded) == ["broken.jpg", "empty.png"] and list(again.unreadable) == [6]
    assert np.array_equal(again.pixels[:6], first.pixels[:6]) and again.pixels[7].any()

    for content in (b"", b"PK\x03\x04", b"\0" * 5000):
        for file in cache.iterdir():
            file.write_bytes(content)
        assert np.array_equal(make_thumbnails(stored).pixels, again.pixels)


def test_the_cache_is_bounded(tmp_path, monkeypatch, cache):
    monkeypatch.setattr(thumbnails, "MAX_CACHE_BYTES", 6000)
    for seed in range(5):
        make_thumbnails(store(tmp_path / str(seed), {"a.png": photo(seed, (20, 20))}))
    assert 1 <= len(list(cache.iterdir())) < 5
    assert sum(file.stat().st_size for file in cache.iterdir()) <= 6000


def test_a_missing_file_and_an_unusable_cache_are_no_errors(tmp_path, monkeypatch):
    stored = store(tmp_path / "set", {"a.png": photo(1, (40, 40)), "b.png": photo(2, (40, 40))})
    (tmp_path / "set" / "b.png").unlink()
    (tmp_path / "cache").write_text("not a folder", encoding="utf-8")
    assert list(make_thumbnails(stored).unreadable) == [1]


def test_near_duplicates_of_files_are_those_of_their_pixels(tmp_path):
    originals = {f"{n}.jpg": photo(n, (320, 240)) for n in range(60)}
    test = {f"{n}.png": photo(n, (320, 240)) for n in range(100, 120)}
    test["small.jpg"] = photo(3, (320, 240)).resize((200, 150), Image.Resampling.BICUBIC)
    test["mirrored.jpg"] = photo(7, (320, 240)).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    stored = {"train": store(tmp_path / "train", originals), "test": store(tmp_path / "test", test)}
    files = {}
    arrays = {}
    for name, images in stored.items():
        labels = np.zeros(len(images), np.int64)
        files[name] = ImageSplit(images, labels, images.encoded.names(range(len(images))))
        arrays[name] = ImageSplit(images[:], labels, files[name].sources)
    pairs = find_near_duplicates(files, [])
    assert [(pair.first, pair.second, pair.mirrored) for pair in pairs] == [
        (("train", 3), ("test", 20), False),
        (("train", 7), ("test", 21), True),
    ]
    assert find_near_duplicates(arrays, []) == pairs
