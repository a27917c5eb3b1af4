"""Drawings of every kind become images in the format of MNIST that show the same character."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits

from tests.helpers.drawn_digits import KINDS, render
from thalweg.data.images.handwriting import normalize_handwriting
from thalweg.errors import DataError


def _idx(path, head):
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=head)


@pytest.fixture(scope="module")
def mnist(real_data):
    """Training images, their labels, test images, their labels; some of each."""
    folder = real_data / "mnist"
    return (
        _idx(folder / "train-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)[:10000],
        _idx(folder / "train-labels-idx1-ubyte.gz", 8)[:10000],
        _idx(folder / "t10k-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)[:1000],
        _idx(folder / "t10k-labels-idx1-ubyte.gz", 8)[:1000],
    )


@pytest.fixture(scope="module")
def digits():
    """scikit-learn's digits (N, 8, 8) uint8."""
    return (load_digits().images * (255 / 16)).round().astype(np.uint8)


@pytest.fixture(scope="module")
def strokes(digits):
    """Fifteen digits, white on black, in the format of 28 pixels."""
    return [
        normalize_handwriting(np.asarray(Image.fromarray(d).resize((80, 80), Image.Resampling.BICUBIC)))
        for d in digits[:15]
    ]


def nearest(train, labels, images):
    """Return the labels of the nearest training images (1-nearest-neighbor classifier)."""
    a, b = (np.reshape(x, (len(x), -1)).astype(np.float32) / 255 for x in (train, images))
    return labels[np.argmin((a**2).sum(1) - 2 * b @ a.T, axis=1)]


def assert_normalized(image, size=28, longer=20):
    rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
    assert image.shape == (size, size) and image.dtype == np.uint8
    assert image.max() == 255
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == longer
    weight = image / image.sum(dtype=np.float64)
    for axis, ends in ((1, rows), (0, columns)):
        center = weight.sum(axis) @ np.arange(size)
        assert abs(center - size / 2) <= 0.51 or ends[0] == 0 or ends[-1] == size - 1


def test_images_of_mnist_are_unchanged_in_either_polarity(mnist):
    for images in (mnist[2], 255 - mnist[2]):
        difference = np.array(
            [
                np.abs(normalize_handwriting(p).astype(int) - true).mean()
                for p, true in zip(images, mnist[2], strict=True)
            ]
        )
        assert (difference == 0).mean() >= 0.995
        assert difference.mean() < 0.02


def test_rendered_drawings_are_classified_as_well_as_their_originals(mnist):
    train, labels, images, truth = mnist
    random = np.random.default_rng(0)
    rows = random.choice(len(images), 8 * len(KINDS), replace=False)
    normalized = [
        normalize_handwriting(render(images[row], KINDS[n % len(KINDS)], random)) for n, row in enumerate(rows)
    ]
    originals = (nearest(train, labels, images[rows]) == truth[rows]).mean()
    assert (nearest(train, labels, normalized) == truth[rows]).mean() >= originals - 0.04


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_drawing_is_normalized_and_then_unchanged(strokes, kind):
    random = np.random.default_rng(KINDS.index(kind))
    for stroke in strokes[:6]:
        image = normalize_handwriting(render(stroke, kind, random))
        assert_normalized(image)
        np.testing.assert_array_equal(normalize_handwriting(image), image)


def test_a_clean_enlargement_becomes_the_original(strokes):
    for stroke in strokes:
        large = Image.fromarray(255 - stroke).resize((300, 300), Image.Resampling.BICUBIC)
        again = normalize_handwriting(large).astype(int)
        assert np.corrcoef(again.ravel(), stroke.ravel())[0, 1] > 0.93


def test_the_image_mode_does_not_matter(strokes):
    gray = (
        Image.fromarray(255 - strokes[3]).resize((200, 200), Image.Resampling.BICUBIC).point(lambda v: 255 * (v > 127))
    )
    expected = normalize_handwriting(gray)
    values = np.asarray(gray)
    clear = Image.merge("RGBA", [Image.new("L", gray.size, 30)] * 3 + [Image.fromarray(255 - values)])
    same = [gray.convert(mode) for mode in ("1", "LA", "P", "RGB", "RGBA", "CMYK", "F", "I")]
    same += [clear, Image.fromarray(values.astype(np.uint16) * 257)]
    same += [
        values,
        values[..., None],
        np.repeat(values[..., None], 3, axis=2),
        values > 0,
        values / 255,
        np.asarray(clear),
    ]
    for image in same:
        assert np.abs(normalize_handwriting(image).astype(int) - expected).mean() < 1
    assert (values == np.asarray(gray)).all()


def test_the_exif_orientation_is_applied(strokes):
    upright = Image.fromarray(255 - strokes[2]).resize((140, 140))
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    turned.getexif()[0x0112] = 6
    np.testing.assert_array_equal(normalize_handwriting(turned), normalize_handwriting(upright))


def test_a_small_drawing_on_a_large_sheet_is_read_at_full_resolution(strokes):
    small = np.asarray(Image.fromarray(strokes[5]).resize((112, 112), Image.Resampling.BICUBIC))
    sheet = np.full((1600, 2400), 255, np.uint8)
    sheet[1300:1412, 200:312] -= small
    assert np.abs(normalize_handwriting(sheet).astype(int) - normalize_handwriting(255 - small)).mean() < 4


def test_specks_are_removed_and_separate_strokes_are_not():
    image = Image.new("L", (200, 200), 240)
    draw = ImageDraw.Draw(image)
    draw.line((60, 60, 60, 100, 120, 110, 120, 150, 60, 155), fill=20, width=10)
    without = normalize_handwriting(image)
    draw.ellipse((180, 20, 184, 24), fill=20)
    np.testing.assert_array_equal(normalize_handwriting(image), without)
    draw.line((75, 42, 125, 42), fill=20, width=10)
    with_bar = normalize_handwriting(image)
    bar = with_bar[np.flatnonzero(with_bar.any(1))[0]]
    assert (bar > 0).sum() >= 7 and np.abs(with_bar.astype(int) - without).mean() > 5


@pytest.mark.parametrize("width", [1, 2, 40, 60])
def test_thin_and_thick_pens_get_the_thickness_of_mnist(width):
    image = Image.new("L", (400, 400), 255)
    ImageDraw.Draw(image).arc((60, 60, 340, 340), 20, 330, fill=0, width=width)
    shown = normalize_handwriting(image)
    crossings = (shown[14] > 127).sum()
    assert 1 <= crossings <= 9 and shown.max() == 255
    assert 0.06 < shown.mean() / 255 < 0.3


def test_the_small_format_is_filled_and_its_own_images_are_unchanged(digits):
    changed = sum(bool((normalize_handwriting(d, 8) != d).any()) for d in digits)
    assert changed / len(digits) < 0.02
    large = np.kron(digits[0], np.ones((20, 20), np.uint8))
    shown = normalize_handwriting(large, 8)
    assert shown.shape == (8, 8) and shown[0].any() and shown[-1].any()
    assert np.corrcoef(shown.ravel(), digits[0].ravel())[0, 1] > 0.8


def _blank_photo():
    return np.random.default_rng(0).normal(200, 3, (120, 90)).round().astype(np.uint8)


@pytest.mark.parametrize(
    "blank",
    [np.full((50, 60), 255, np.uint8), np.zeros((28, 28), np.uint8), np.full((1, 1, 3), 9, np.uint8), _blank_photo()],
    ids=["white", "black", "one pixel", "grain"],
)
def test_an_image_without_a_stroke_is_rejected(blank):
    with pytest.raises(DataError, match="no stroke") as error:
        normalize_handwriting(blank)
    assert "darker or lighter" in error.value.cure


def test_values_that_are_not_finite_are_rejected():
    with pytest.raises(DataError, match="not finite"):
        normalize_handwriting(np.full((9, 9), np.nan))
