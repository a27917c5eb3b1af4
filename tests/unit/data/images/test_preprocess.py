"""What a classifier sees of what Python hands it: arrays of any kind of numbers, and Pillow images."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from thalweg.data.images.image_decoding import decode_image
from thalweg.data.images.preprocess import preprocess_image, to_uint8
from thalweg.errors import DataError

GREY = np.arange(0, 256, dtype=np.uint8).reshape(16, 16)
COLOURED = np.stack([GREY, GREY[::-1], GREY.T], axis=2)
FACTS = {"size": [16, 16], "channels": 3, "ink": False}


@pytest.mark.parametrize("kind", ["uint16", ">u2", "int64", "float32", "float64"])
@pytest.mark.parametrize("picture", [GREY, GREY[..., None], COLOURED], ids=["grey", "one channel", "colours"])
def test_numbers_of_every_kind_are_the_same_picture(picture, kind):
    factor = 257 if kind.endswith(("16", "u2")) else 1 / 255 if "float" in kind else 1
    made = (picture * float(factor)).round().astype(kind) if factor >= 1 else (picture * factor).astype(kind)
    assert np.array_equal(to_uint8(made), to_uint8(picture)) and to_uint8(made).dtype == np.uint8


def test_true_is_white():
    assert to_uint8(GREY > 100).max() == 255 and np.array_equal(to_uint8(GREY > 100) > 0, GREY > 100)


def test_what_resizing_leaves_beyond_black_and_white_is_cut_off():
    assert to_uint8(np.array([[-1e-6, 1 + 1e-6]])).tolist() == [[0, 255]]


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 0, 3), np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros(4, np.uint8),
        GREY.astype(np.float32),
        GREY / 255 - 0.5,
        np.full((4, 4), np.nan),
        -GREY.astype(np.int16),
        GREY.astype(np.int32) * 300,
        GREY.astype(complex),
        GREY.astype(object),
        np.full((4, 4), "white"),
    ],
    ids=lambda array: f"{array.dtype} {array.shape}",
)
@pytest.mark.parametrize("ink", [False, True])
def test_an_array_that_is_no_picture_is_refused_with_a_cure(array, ink):
    with pytest.raises(DataError, match="is no picture") as error:
        preprocess_image(array, {**FACTS, "ink": ink})
    assert error.value.cure.startswith("Give ")


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_pillow_image_is_upright_as_its_file_is(turn):
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = turn
    Image.fromarray(COLOURED).save(file, "PNG", exif=exif)
    assert np.array_equal(preprocess_image(Image.open(file), FACTS), preprocess_image(file.getvalue(), FACTS))
    assert np.array_equal(preprocess_image(Image.open(file), FACTS), decode_image(file.getvalue()))


def cut_off() -> Image.Image:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(file, "JPEG")
    return Image.open(io.BytesIO(file.getvalue()[:1500]))


def test_a_pillow_image_that_is_cut_off_is_named_and_the_others_are_answered():
    from thalweg import api
    from thalweg.inference.predict import UnreadableImage

    stroke = np.zeros((28, 28), np.uint8)
    stroke[4:24, 13:16] = 255
    found = list(api.load("digits-lenet").predict([cut_off(), stroke, Image.new("L", (0, 0)), stroke]))
    assert [isinstance(one, UnreadableImage) for one in found] == [True, False, True, False]
    assert "cut off" in found[0].reason and found[0].source == "picture 0" and "no pixels" in found[2].reason
    with pytest.raises(DataError, match="cut off"):
        preprocess_image(cut_off(), FACTS)
