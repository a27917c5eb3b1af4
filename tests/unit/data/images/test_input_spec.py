"""From files, arrays of any type and Pillow images to the input of a model."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from thalweg import api
from thalweg.data.base import SPLITS, DataRequest
from thalweg.data.images.dataset import ImageDataset, ImageSplit
from thalweg.data.images.image_decoding import decode_image
from thalweg.data.images.input_spec import (
    InputSpec,
    eval_batch_size,
    load_for_model,
    normalize_drawings,
    pad_to_square,
    preprocess_image,
    to_normalized_float,
    to_uint8,
)
from thalweg.errors import DataError
from thalweg.predictions.base import UnreadableSource

GRAY = np.arange(0, 256, dtype=np.uint8).reshape(16, 16)
COLOR = np.stack([GRAY, GRAY[::-1], GRAY.T], axis=2)
SPEC = InputSpec(["a"], 3, [16, 16], [0.5] * 3, [0.5] * 3)


@pytest.mark.parametrize("dtype", ["uint16", ">u2", "int64", "float32", "float64"])
@pytest.mark.parametrize("image", [GRAY, GRAY[..., None], COLOR], ids=["gray", "one channel", "color"])
def test_every_number_type_gives_the_same_image(image, dtype):
    scale = 1.0
    if dtype.endswith(("16", "u2")):
        scale = 257.0
    if "float" in dtype:
        scale = 1 / 255
    scaled = image * scale
    if scale >= 1:
        scaled = scaled.round()
    converted = to_uint8(scaled.astype(dtype))
    assert np.array_equal(converted, to_uint8(image)) and converted.dtype == np.uint8


def test_true_is_white():
    assert to_uint8(GRAY > 100).max() == 255 and np.array_equal(to_uint8(GRAY > 100) > 0, GRAY > 100)


def test_overshoot_of_resizing_is_clipped():
    assert to_uint8(np.array([[-1e-6, 1 + 1e-6]])).tolist() == [[0, 255]]


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 0, 3), np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros(4, np.uint8),
        GRAY.astype(np.float32),
        GRAY / 255 - 0.5,
        np.full((4, 4), np.nan),
        -GRAY.astype(np.int16),
        GRAY.astype(np.int32) * 300,
        GRAY.astype(complex),
        GRAY.astype(object),
        np.full((4, 4), "white"),
    ],
    ids=lambda array: f"{array.dtype} {array.shape}",
)
@pytest.mark.parametrize("handwriting", [False, True])
def test_an_array_that_is_not_an_image_is_rejected_with_its_shape_or_type(array, handwriting):
    with pytest.raises(DataError) as error:
        preprocess_image(array, replace(SPEC, handwriting=handwriting))
    assert error.value.value in (array.shape, str(array.dtype))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_pillow_image_is_rotated_as_its_file_is(orientation):
    exif = Image.Exif()
    file = io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(COLOR).save(file, "PNG", exif=exif)
    assert np.array_equal(preprocess_image(Image.open(file), SPEC), preprocess_image(file.getvalue(), SPEC))
    assert np.array_equal(preprocess_image(Image.open(file), SPEC), decode_image(file.getvalue()))


def truncated_image() -> Image.Image:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(file, "JPEG")
    return Image.open(io.BytesIO(file.getvalue()[:1500]))


def test_a_truncated_pillow_image_is_reported_and_the_others_are_predicted():
    stroke = np.zeros((28, 28), np.uint8)
    stroke[4:24, 13:16] = 255
    results = list(api.load("digits-lenet").predict([truncated_image(), stroke, Image.new("L", (0, 0)), stroke]))
    assert [isinstance(result, UnreadableSource) for result in results] == [True, False, True, False]
    assert results[0].source == "image 0" and results[0].reason and results[2].reason
    with pytest.raises(DataError):
        preprocess_image(truncated_image(), SPEC)


def drawings(tmp_path) -> ImageDataset:
    stroke = np.full((40, 40), 255, np.uint8)
    stroke[5:35, 18:22] = 0
    images = np.stack([stroke, np.full((40, 40), 255, np.uint8), stroke.T])[..., None]
    Image.fromarray(stroke).resize((80, 80)).save(tmp_path / "file.png")
    split = ImageSplit(images, np.array([0, 1, 1]), ["a", "blank", str(tmp_path / "file.png")])
    splits = {"train": split, "val": split.take(np.array([], np.int64)), "test": split.take(np.array([1]))}
    return ImageDataset("d", "arrays", "", splits, "", "2 classes, 40x40 gray", classes=("x", "y"))


def test_drawings_become_mnist_images_and_blank_ones_are_skipped(tmp_path):
    data = normalize_drawings(drawings(tmp_path), InputSpec(["x", "y"], 1, [28, 28], [0.5], [0.5], handwriting=True))
    assert [len(split) for split in data.splits.values()] == [2, 0, 0]
    assert data.train.labels.tolist() == [0, 1] and data.shape == (28, 28, 1) and data.is_handwriting
    assert [file.path for file in data.unreadable] == ["blank", "blank"]
    assert data.train.images[0, 14, 14, 0] > 200 and data.train.images[0, 0, 0, 0] == 0


def test_images_are_padded_with_black_to_squares():
    images = np.full((3, 5, 8, 1), 200, np.uint8)
    split = ImageSplit(images, np.array([0, 1, 0]), ["a", "b", "c"])
    data = ImageDataset("d", "arrays", "", dict.fromkeys(SPLITS, split), "", "", classes=("x", "y"))
    padded = pad_to_square(data)
    assert padded.shape == (8, 8, 1)
    assert (padded.val.images[:, 1:6] == 200).all() and padded.val.images.sum() == images.sum()
    assert padded.warnings and pad_to_square(padded) is padded


def test_large_images_are_not_padded():
    split = ImageSplit(np.zeros((2, 5, 600, 1), np.uint8), np.array([0, 1]), ["a", "b"])
    data = ImageDataset("d", "arrays", "", dict.fromkeys(SPLITS, split), "", "", classes=("x", "y"))
    with pytest.raises(DataError) as error:
        pad_to_square(data)
    assert list(error.value.value) == [600, 5]


# --- the model's input -----------------------------------------------------------------------------------------------


def test_levels_are_standardized_per_channel():
    spec = InputSpec(["a"], 3, [16, 16], [0.1, 0.2, 0.3], [0.5, 0.25, 2.0])
    x_BCHW = to_normalized_float(torch.from_numpy(COLOR[None]), spec)
    expected = (COLOR / 255 - np.array(spec.mean)) / np.array(spec.std)
    np.testing.assert_allclose(x_BCHW[0].permute(1, 2, 0).numpy(), expected, atol=1e-5)
    assert x_BCHW.is_contiguous(memory_format=torch.channels_last)
    gray = InputSpec(["a"], 1, [16, 16], [0.1], [0.5])
    x_BCHW = to_normalized_float(torch.from_numpy(GRAY[None, ..., None]), gray)
    np.testing.assert_allclose(x_BCHW[0, 0].numpy(), (GRAY / 255 - 0.1) / 0.5, atol=1e-5)


def test_tensors_are_images_with_channels_first_or_last():
    tensor = torch.from_numpy(COLOR / 255)
    assert np.array_equal(to_uint8(tensor.permute(2, 0, 1)), COLOR)
    assert np.array_equal(to_uint8(tensor), COLOR)


@pytest.mark.parametrize(
    ("side", "device", "expected"), [(28, "cpu", 500), (224, "cpu", 9), (4096, "cpu", 1), (224, "cuda", 398)]
)
def test_large_images_are_predicted_in_small_batches(side, device, expected):
    assert eval_batch_size(InputSpec(["a"], 1, [side, side], [0.5], [0.5]), device) == expected


# --- arrays of images with labels ------------------------------------------------------------------------------------


def test_arrays_become_a_data_set_with_sorted_classes():
    random = np.random.default_rng(0)
    images = random.random((60, 6, 8))
    labels = np.array(["dog", "cat"])[np.arange(60) % 2]
    data = load_for_model(DataRequest((images, labels)), None, None)
    assert data.classes == ("cat", "dog") and data.shape == (8, 8, 1) and len(data.all) == 60
    for index, source in enumerate(data.test.sources):
        row = int(source.removeprefix("row "))
        assert data.classes[data.test.labels[index]] == labels[row]
        assert np.array_equal(data.test.images[index, 1:7, :, 0], np.round(images[row] * 255))


@pytest.mark.parametrize("counts", [(3, 2), (0, 0)], ids=str)
def test_as_many_images_as_labels_are_needed(counts):
    with pytest.raises(DataError) as error:
        load_for_model(DataRequest((np.zeros((counts[0], 4, 4), np.uint8), np.zeros(counts[1]))), None, None)
    assert error.value.value == counts
