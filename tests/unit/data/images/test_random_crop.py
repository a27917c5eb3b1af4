"""Boxes are a function of (seed, epoch, row), and are cut from the upright image as Pillow's crop and resize do."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from thalweg.data.images.image_decoding import ImageReadError
from thalweg.data.images.photo_augment import CROP_RATIO
from thalweg.data.images.random_crop import ImageKey, decode_box, draw_box, split_crop


def encode(image: Image.Image, format: str = "JPEG", orientation: int = 1, **options) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    image.save(buffer, format, exif=exif, **options)
    return buffer.getvalue()


def smooth_image(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """An image without sharp edges, which JPEG and draft keep."""
    small = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


@given(
    st.integers(0, 9),
    st.integers(0, 2**40),
    st.tuples(st.integers(1, 900), st.integers(1, 900)),
    st.floats(0, 1),
    st.sampled_from([0.5, 1.0, 2.0]),
)
def test_a_box_lies_in_the_image_and_depends_on_its_key_alone(seed, row, size, min_area, ratio):
    box = draw_box(ImageKey(seed, 3, row), size, min_area, ratio)
    left, top, right, bottom = box
    assert 0 <= left < right <= size[1] and 0 <= top < bottom <= size[0]
    assert box == draw_box(ImageKey(seed, 3, row), size, min_area, ratio)


def test_areas_and_ratios_are_those_of_the_paper():
    boxes = np.array([draw_box(ImageKey(1, 2, row), (600, 600), 0.25) for row in range(3000)])
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    area = width * height / 600**2
    ratio = width / height
    assert 0.248 < area.min() < 0.26 and 0.9 < area.max() <= 1 and 0.55 < area.mean() < 0.6
    assert CROP_RATIO[0] - 0.01 < ratio.min() < 0.76 and 1.31 < ratio.max() < CROP_RATIO[1] + 0.01
    assert abs(np.log(ratio).mean()) < 0.01 and len(np.unique(boxes, axis=0)) > 2900
    center = (boxes[:, :2] + boxes[:, 2:]).mean(0) / 2
    assert np.abs(center - 300).max() < 5
    others = [draw_box(key, (600, 600), 0.25) for key in (ImageKey(2, 2, 0), ImageKey(1, 3, 0), ImageKey(1, 2, 1))]
    assert tuple(boxes[0]) not in others and len(set(others)) == 3


def test_an_image_without_room_gives_its_center():
    assert draw_box(ImageKey(0, 0, 0), (100, 1000), 0.9) == (433, 0, 566, 100)
    assert draw_box(ImageKey(0, 0, 0), (1000, 100), 0.9) == (0, 433, 100, 566)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("divisor", [1, 4])
def test_a_box_is_cut_from_the_upright_image(orientation, divisor):
    stored = smooth_image(80 * divisor, 48 * divisor)
    content = encode(stored, orientation=orientation, quality=95)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    seen = []

    def draw(height: int, width: int):
        seen.append((width, height))
        return draw_box(ImageKey(0, 1, 2), (height, width), 0.3)

    decoded = decode_box(content, 3, (9, 11), draw)
    assert seen == [upright.size] and decoded.shape == (9, 11, 3)
    box = draw_box(ImageKey(0, 1, 2), upright.size[::-1], 0.3)
    expected = np.asarray(upright.resize((11, 9), Image.Resampling.BILINEAR, box))
    assert np.abs(decoded.astype(int) - expected).max() <= 8  # of which draft takes most


def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size(monkeypatch):
    requested = []
    draft = JpegImageFile.draft

    def record(image: JpegImageFile, mode: str | None, size: tuple[int, int]):
        requested.append(size)
        return draft(image, mode, size)

    monkeypatch.setattr(JpegImageFile, "draft", record)
    content = encode(smooth_image(320, 160))
    whole = decode_box(content, 3, (16, 16), lambda height, width: (0, 0, width, height))
    assert requested == [(80, 40)] and whole.shape == (16, 16, 3)
    decode_box(content, 3, (16, 16), lambda height, width: (0, 0, 63, 63))
    assert len(requested) == 1  # half of 63 pixels is less than twice 16
    decode_box(encode(smooth_image(321, 160)), 3, (16, 16), lambda height, width: (0, 0, width, height))
    assert len(requested) == 1


@pytest.mark.parametrize(("mode", "channels"), [("L", 3), ("RGB", 1), ("P", 3), ("RGBA", 3), ("I;16", 1)])
def test_every_mode_becomes_the_channels_of_the_model(mode, channels):
    image = smooth_image(40, 30, "L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    decoded = decode_box(encode(image, "PNG"), channels, (8, 8), whole_image)
    assert decoded.shape == (8, 8, channels) and decoded.std() > 5


def whole_image(height: int, width: int):
    return 0, 0, width, height


def test_what_cannot_be_read_says_why(tmp_path):
    content = encode(smooth_image(64, 64))
    with pytest.raises(ImageReadError, match="truncated"):
        decode_box(content[: len(content) // 2], 3, (8, 8), whole_image)
    with pytest.raises(ImageReadError, match="no such file"):
        decode_box(tmp_path / "vanished.jpg", 3, (8, 8), whole_image)


def test_crop_is_taken_out_of_an_augmentation():
    assert split_crop("flip, shift=3") == (None, "flip, shift=3")
    assert split_crop("none") == (None, "none")
