"""Threads that work ahead change nothing but the time: order, contents, reasons and memory stay."""

import threading
import time

import numpy as np
import pytest

from tests.unit.data.images import corpus
from thalweg.data.images.image_decoding import ImageReadError, decode_image
from thalweg.data.images.image_loading import PREFETCH_PER_THREAD, decode_images, load_images, prefetch_map
from thalweg.data.images.raw_dataset import ReadOptions


@pytest.mark.parametrize("workers", [1, 2, 5, None])
def test_results_come_in_the_order_of_the_items(workers):
    def late(number: int) -> int:
        time.sleep(0.001 * (number % 3))
        return number**2

    assert list(prefetch_map(late, range(50), workers)) == [number**2 for number in range(50)]
    assert list(prefetch_map(late, (), workers)) == []


def test_no_more_is_taken_than_a_few_for_each_thread():
    taken = []
    results = prefetch_map(lambda number: number, (taken.append(k) or k for k in range(1000)), workers=2)
    for _ in range(10):
        next(results)
    assert 10 <= len(taken) <= 10 + 2 * PREFETCH_PER_THREAD
    results.close()
    assert len(taken) <= 10 + 2 * PREFETCH_PER_THREAD


def test_threads_work_at_the_same_time():
    together = threading.Barrier(2, timeout=10)
    assert sorted(prefetch_map(lambda _: together.wait(), range(4), workers=2)) == [0, 0, 1, 1]


def test_what_goes_wrong_is_raised_at_its_item():
    results = prefetch_map(lambda number: 1 / number, [2, 1, 0, 4], workers=2)
    assert [next(results), next(results)] == [0.5, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def files(folder, count: int) -> list:
    paths = []
    for number in range(count):
        paths.append(folder / f"{number}.{'jpg' if number % 2 else 'png'}")
        form = "JPEG" if number % 2 else "PNG"
        paths[-1].write_bytes(corpus.encoded(corpus.picture(number, (60 + number, 50)), form))
    return paths


def test_many_files_are_decoded_as_each_alone_and_the_unreadable_say_why(tmp_path):
    paths = files(tmp_path, 20)
    paths[7].write_bytes(b"no picture")
    paths.insert(12, tmp_path / "missing.png")
    results = list(decode_images(paths, 3, 24, resize=32))
    assert len(results) == 21
    for path, result in zip(paths, results, strict=True):
        if path.name in ("7.jpg", "missing.png"):
            assert isinstance(result, ImageReadError) and str(result)
        else:
            assert np.array_equal(result, decode_image(path, 3, 24, resize=32))


def test_a_set_of_files_can_be_brought_to_a_margin(tmp_path):
    paths = files(tmp_path, 5)
    found = load_images(paths, ReadOptions(24, 3, 32))
    assert np.array_equal(found.images, np.stack([decode_image(path, 3, 24, resize=32) for path in paths]))
    assert np.array_equal(
        load_images(paths, ReadOptions(None, 3, 80)).images, load_images(paths, ReadOptions(None, 3)).images
    )
