"""Threads that read ahead change only the time: order, contents, reasons and memory stay the same."""

import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.unit.data.images import corpus
from thalweg.data.images import image_loading
from thalweg.data.images.encoded import ImageFiles
from thalweg.data.images.image_decoding import decode_image
from thalweg.data.images.image_loading import count_pillow_warnings, load_images
from thalweg.data.images.raw_dataset import ReadOptions
from thalweg.data.prefetch import PREFETCH_PER_THREAD, prefetch_map


@pytest.mark.parametrize("workers", [1, 2, 5, None])
def test_results_are_in_the_order_of_the_items(workers):
    def square_slowly(number: int) -> int:
        time.sleep(0.001 * (number % 3))
        return number**2

    assert list(prefetch_map(square_slowly, range(50), workers)) == [number**2 for number in range(50)]
    assert list(prefetch_map(square_slowly, (), workers)) == []


def test_only_a_few_items_per_thread_are_read_ahead():
    taken = []
    results = prefetch_map(lambda number: number, (taken.append(k) or k for k in range(1000)), workers=2)
    for _ in range(10):
        next(results)
    assert 10 <= len(taken) <= 10 + 2 * PREFETCH_PER_THREAD
    results.close()
    assert len(taken) <= 10 + 2 * PREFETCH_PER_THREAD


def test_threads_run_at_the_same_time():
    barrier = threading.Barrier(2, timeout=10)
    assert sorted(prefetch_map(lambda _: barrier.wait(), range(4), workers=2)) == [0, 0, 1, 1]


def test_an_exception_is_raised_at_its_item():
    results = prefetch_map(lambda number: 1 / number, [2, 1, 0, 4], workers=2)
    assert [next(results), next(results)] == [0.5, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def write_images(folder: Path, count: int) -> list[Path]:
    paths = []
    for number in range(count):
        paths.append(folder / f"{number}.{'jpg' if number % 2 else 'png'}")
        image_format = "JPEG" if number % 2 else "PNG"
        paths[-1].write_bytes(corpus.encoded(corpus.random_image(number, (60 + number, 50)), image_format))
    return paths


def test_files_are_decoded_as_each_alone_and_unreadable_ones_are_listed(tmp_path):
    paths = write_images(tmp_path, 20)
    paths[7].write_bytes(b"not an image")
    paths.insert(12, tmp_path / "missing.png")
    loaded = load_images(ImageFiles(paths), ReadOptions(24, 3, 32))
    assert loaded.rows.tolist() == [row for row in range(21) if row not in (7, 12)]
    assert [file.path for file in loaded.unreadable] == [str(paths[7]), str(paths[12])]
    assert all(file.reason for file in loaded.unreadable)
    expected = [decode_image(paths[row], 3, 24, resize=32) for row in loaded.rows]
    assert np.array_equal(loaded.images, np.stack(expected))


def test_resize_is_ignored_without_an_image_size(tmp_path):
    paths = write_images(tmp_path, 5)
    with_resize = load_images(ImageFiles(paths), ReadOptions(None, 3, 80))
    without_resize = load_images(ImageFiles(paths), ReadOptions(None, 3))
    assert np.array_equal(with_resize.images, without_resize.images)


def test_progress_counts_every_file_once(tmp_path):
    paths = write_images(tmp_path, 12)
    paths[3].write_bytes(b"not an image")
    paths[5].write_bytes(paths[5].read_bytes()[:400])
    calls = []
    load_images(ImageFiles(paths), ReadOptions(24, 3, progress=lambda done, total: calls.append((done, total))))
    assert calls[0] == (0, 12) and calls[-1] == (12, 12)
    done = [done for done, _ in calls[1:]]
    assert done == list(range(done[0], 13)) and 2 <= done[0] <= 3


def corrupt_exif_image() -> bytes:
    """A JPEG whose EXIF data Pillow warns about."""
    content = corpus.encoded(corpus.random_image(1, (30, 30)), "JPEG")
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x05" + b"\x01\x12\0\x03\0\0\0\x40\0\0\xff\xff"
    return content[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + content[2:]


def test_warnings_of_pillow_are_counted_and_not_printed(tmp_path, capfd):
    corpus.folder(tmp_path, {"a": 6, "b": 6})
    for number in range(3):
        (tmp_path / "a" / f"corrupt {number}.jpg").write_bytes(corrupt_exif_image())
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        data = corpus.load(tmp_path)
    line = next(line for line in data.warnings if "Pillow" in line)
    assert int(line.split()[0]) >= 3 and "Tag data" in line
    assert capfd.readouterr().err == ""


def test_warnings_of_others_are_shown_while_those_of_pillow_are_counted():
    with pytest.warns(UserWarning, match="not of Pillow"), count_pillow_warnings() as texts:
        warnings.warn("not of Pillow", stacklevel=1)
    assert texts == []


def test_a_large_image_in_an_ordinary_folder_prints_no_bomb_warning(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    corpus.folder(tmp_path, {"a": 6, "b": 6}, (40, 40))
    data = corpus.load(tmp_path)
    assert not any("Pillow" in line for line in data.warnings)
    assert capfd.readouterr().err == ""


def test_warnings_are_counted_by_one_thread_at_a_time():
    assert image_loading._counting_warnings.acquire(blocking=False)
    try:
        with count_pillow_warnings() as texts:
            assert texts == []
    finally:
        image_loading._counting_warnings.release()
