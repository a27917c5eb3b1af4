"""Copies that were planted are found, and what is only alike is not taken for a copy."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.unit.data.images import corpus
from thalweg.data.images.dataset import ImageSplit
from thalweg.data.images.duplicates import (
    DuplicatePair,
    find_exact_duplicates,
    find_near_duplicates,
    leaked_rows,
    leaked_test_rows,
    near_duplicate_pairs,
)
from thalweg.data.images.idx import parse_idx


def recompressed(image: Image.Image, quality: int = 70) -> Image.Image:
    return Image.open(io.BytesIO(corpus.encoded(image, "JPEG", quality=quality)))


def resized(image: Image.Image, fraction: float) -> Image.Image:
    other = tuple(round(side * fraction) for side in image.size)
    return image.resize(other, Image.Resampling.BICUBIC).resize(image.size, Image.Resampling.BILINEAR)


WAYS = {
    "jpeg": recompressed,
    "smaller": lambda p: resized(p, 0.75),
    "larger": lambda p: recompressed(resized(p, 2.5)),
    "brighter": lambda p: p.point(lambda v: min(255, round(v * 0.8 + 30))),
    "mirrored": lambda p: p.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "mirrored jpeg": lambda p: recompressed(p.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
}


def planted(base: np.ndarray, queries: np.ndarray, each: int) -> tuple[np.ndarray, dict[int, tuple[int, str]]]:
    """The queries with `each` copies of base images per way, and {row: (original, way)}."""
    numbers = np.random.default_rng(0)
    queries, truth = queries.copy(), {}
    places = numbers.choice(len(queries), each * len(WAYS), replace=False).tolist()
    originals = numbers.choice(len(base), each * len(WAYS), replace=False).tolist()
    for place, original, way in zip(places, originals, list(WAYS) * each, strict=True):
        values = base[original]
        copy = WAYS[way](Image.fromarray(values[..., 0] if values.shape[2] == 1 else values))
        queries[place] = np.asarray(copy).reshape(values.shape)
        truth[place] = (original, way)
    return queries, truth


def judge(base: np.ndarray, queries: np.ndarray, each: int) -> None:
    queries, truth = planted(base, queries, each)
    found = {row: (original, mirrored) for row, original, mirrored in near_duplicate_pairs(queries, [base])}
    for way in WAYS:
        expected = {row: (original, way.startswith("mirrored")) for row, (original, w) in truth.items() if w == way}
        hits = sum(found.get(row) == answer for row, answer in expected.items())
        assert hits >= 0.95 * len(expected), way
    assert len(set(found) - set(truth)) <= 0.01 * (len(queries) - len(truth))


@pytest.mark.parametrize("channels, side", [(1, 28), (3, 32), (3, 64)])
def test_duplicates_are_found_and_other_images_are_not(channels, side):
    images = np.stack([np.asarray(corpus.random_image(n, (side, side), channels)) for n in range(900)])
    images = images.reshape(900, side, side, channels)
    judge(images[:600], images[600:], each=20)


def test_duplicates_are_found_among_similar_handwritten_digits():
    root = corpus.real_data("mnist")
    if root is None:
        pytest.skip("MNIST is not on this machine (THALWEG_DATA)")
    images = parse_idx((root / "t10k-images-idx3-ubyte.gz").read_bytes(), 3, "t10k")[..., None]
    judge(images[:8000], images[8000:], each=40)


def split(images: np.ndarray, labels=None) -> ImageSplit:
    labels = np.zeros(len(images), np.int64) if labels is None else np.array(labels)
    return ImageSplit(images, labels, [str(n) for n in range(len(images))])


IMAGES = np.stack([np.asarray(corpus.random_image(n)) for n in range(60)])


def test_exact_duplicates_are_paired_with_the_first_image():
    train, test = IMAGES[:10], IMAGES[[20, 3, 21, 20]]
    pairs = find_exact_duplicates({"train": split(train), "val": split(IMAGES[:0]), "test": split(test)})
    assert pairs == [DuplicatePair(("train", 3), ("test", 1)), DuplicatePair(("test", 0), ("test", 3))]


def test_an_exact_duplicate_is_not_reported_again_as_a_near_one():
    splits = {"train": split(IMAGES[:40]), "val": split(IMAGES[[40, 5]]), "test": split(IMAGES[[5, 7, 41]])}
    assert find_near_duplicates(splits, find_exact_duplicates(splits)) == []
    pairs = find_near_duplicates(splits, [])
    assert [pair.second for pair in pairs] == [("val", 1), ("test", 0), ("test", 1)]


def test_near_duplicates_are_searched_in_every_earlier_split():
    other = IMAGES[:, :, ::-1] // 2
    splits = {"train": split(IMAGES[:20]), "val": split(IMAGES[20:40]), "test": split(other[[3, 33, 50]])}
    assert find_near_duplicates(splits, []) == [
        DuplicatePair(("train", 3), ("test", 0), True),
        DuplicatePair(("val", 13), ("test", 1), True),
    ]


def test_a_frame_of_a_video_is_a_duplicate_although_others_are_alike():
    noise = np.random.default_rng(0).integers(-2, 3, (12, *IMAGES.shape[1:]))
    film = np.clip(IMAGES[0].astype(int) + noise, 0, 255).astype(np.uint8)
    found = list(near_duplicate_pairs(film[:1], [np.concatenate([IMAGES[1:40], film[1:]])]))
    assert [row for row, _, _ in found] == [0]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_very_small_datasets_are_compared_too(count):
    found = list(near_duplicate_pairs(np.stack([IMAGES[0] // 2 + 40, IMAGES[50]]), [IMAGES[:count]]))
    assert found == [(0, 0, False)]


def test_images_without_contrast_are_not_duplicates():
    flat = np.full((20, 16, 16, 1), 7, np.uint8) + np.arange(20, dtype=np.uint8)[:, None, None, None]
    assert list(near_duplicate_pairs(flat[:5] + 100, [flat])) == []


def test_leaked_rows_are_the_exact_and_near_duplicates_of_training_images():
    test = np.stack([IMAGES[50], IMAGES[3], IMAGES[51], IMAGES[7, :, ::-1], IMAGES[50], IMAGES[3], IMAGES[9] // 2 + 40])
    found = leaked_rows(split(IMAGES[:40]), split(test))
    assert found.dtype == np.int64 and found.tolist() == [1, 3, 5, 6]
    assert leaked_rows(split(IMAGES[:40]), split(IMAGES[40:])).tolist() == []
    for empty in (
        leaked_rows(split(IMAGES[:40]), split(IMAGES[:0])),
        leaked_rows(split(IMAGES[:0]), split(IMAGES[:3])),
    ):
        assert empty.dtype == np.int64 and empty.tolist() == []


def test_leaked_rows_are_cached_by_the_content_of_the_images(tmp_path, monkeypatch):
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path))
    calls = []

    def count_calls(train: ImageSplit, test: ImageSplit) -> np.ndarray:
        calls.append(1)
        return leaked_rows(train, test)

    monkeypatch.setattr("thalweg.data.images.duplicates.leaked_rows", count_calls)

    def rows(train: np.ndarray, test: np.ndarray) -> list[int]:
        return leaked_test_rows(split(train), split(test)).tolist()

    test = IMAGES[[50, 3, 51]]
    assert rows(IMAGES[:40], test) == rows(IMAGES[:40], test) == [1]
    assert len(calls) == 1
    assert rows(IMAGES[:40], IMAGES[[3, 50, 51]]) == [0]
    assert rows(IMAGES[10:40], test) == []
    assert len(calls) == 3
    poisoned = ("", "[1,", "{}", "null", '["a"]', "[-1]", "[999999]", "[3]", "[1, 1]", "[true]", "[1.0]", "[[1]]")
    for content in poisoned:
        for file in (tmp_path / "duplicates").iterdir():
            file.write_text(content, encoding="utf-8")
        assert rows(IMAGES[:40], test) == [1], content
    assert len(calls) == 3 + len(poisoned)


def test_leaked_rows_are_found_without_a_usable_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path))
    (tmp_path / "duplicates").write_text("not a folder", encoding="utf-8")
    assert leaked_test_rows(split(IMAGES[:40]), split(IMAGES[[50, 3, 51]])).tolist() == [1]
