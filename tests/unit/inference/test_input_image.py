"""The input image of a concept: every kind of source, upright, flattened and resized; and what is not an image."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from thalweg.cli import main as cli
from thalweg.errors import DataError, OptionError, ResourceError
from thalweg.inference.inputs.image import limit_size, load_input, sample_drawing

SETTINGS = SimpleNamespace(image_size=64)
IMAGE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def read_pixels(word, side=64):
    return load_input([word], SimpleNamespace(image_size=side), None, False)["image_HWC"]


def test_without_words_there_is_a_drawing():
    inputs = load_input([], SimpleNamespace(image_size=96), None, True)
    assert inputs["title"] and not inputs["notes"]
    np.testing.assert_array_equal(inputs["image_HWC"], sample_drawing())
    assert sample_drawing().shape == (96, 96, 3) and sample_drawing().std() > 40
    assert load_input([], SETTINGS, None, True)["image_HWC"].shape == (64, 64, 3)


def test_files_arrays_and_pillow_images_are_the_same_image(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(IMAGE).save(path)
    for word in (path, str(path), path.read_bytes(), Image.open(path), IMAGE, IMAGE / 255):
        np.testing.assert_array_equal(read_pixels(word), IMAGE)
    np.testing.assert_array_equal(read_pixels(str(tmp_path)), IMAGE)  # a folder with one image in it
    assert load_input([str(path)], SETTINGS, None, False)["title"] == str(path)


def test_exif_orientation_is_applied(tmp_path):
    path = tmp_path / "rotated.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(IMAGE).save(path, exif=exif)
    np.testing.assert_array_equal(read_pixels(path), np.rot90(IMAGE, -1))


@pytest.mark.parametrize("mode, channels", [("1", 1), ("L", 1), ("I;16", 1), ("P", 3), ("RGBA", 3), ("CMYK", 3)])
def test_odd_modes_become_gray_or_color(tmp_path, mode, channels):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    if mode == "I;16":
        Image.fromarray((np.arange(600, dtype=np.uint16) * 100).reshape(20, 30)).save(path)
    else:
        Image.fromarray(IMAGE).convert(mode).save(path)
    image = read_pixels(path)
    assert image.shape == (20, 30, channels) and image.dtype == np.uint8 and image.std() > 10


def test_transparent_pixels_become_white():
    clear = np.zeros((4, 4, 4), np.uint8)
    clear[0, 0] = (10, 20, 30, 255)
    image = read_pixels(clear)
    assert image[0, 0].tolist() == [10, 20, 30] and (image[1:] == 255).all()


@pytest.mark.parametrize("shape, expected", [((200, 100), (64, 32)), ((100, 200), (32, 64)), ((3, 900), (1, 64))])
def test_larger_images_keep_their_proportions(shape, expected):
    inputs = load_input([np.full((*shape, 3), 9, np.uint8) + np.uint8([0, 1, 2])], SETTINGS, None, False)
    assert inputs["image_HWC"].shape == (*expected, 3)
    assert (inputs["image_HWC"] == [9, 10, 11]).all()
    (note,) = inputs["notes"]
    assert f"{shape[1]} x {shape[0]}" in note and f"{expected[1]} x {expected[0]}" in note


def test_smaller_images_stay_unchanged():
    assert limit_size(IMAGE, 30) is IMAGE and limit_size(IMAGE[..., :1], 15).shape == (10, 15, 1)


@pytest.mark.parametrize("concept", ["convolution", "pooling"])
@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n cut off"])
def test_a_file_that_is_not_an_image_is_named(tmp_path, capsys, concept, content):
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    assert cli.invoke(["explain", concept, str(path)]) == 3
    assert f"{path}: " in capsys.readouterr().err


def test_truncated_missing_and_several_images_are_rejected(tmp_path, capsys):
    path = tmp_path / "a.jpg"
    Image.fromarray(IMAGE).resize((300, 200)).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert cli.invoke(["explain", "convolution", str(path)]) == 3
    assert "a.jpg: " in capsys.readouterr().err
    assert cli.invoke(["explain", "convolution", str(tmp_path / "none.png")]) == 3
    assert "none.png: " in capsys.readouterr().err
    path.write_bytes(whole)
    (tmp_path / "b.jpg").write_bytes(whole)
    assert cli.invoke(["explain", "convolution", str(tmp_path)]) == 3
    captured = capsys.readouterr().err
    assert "a.jpg" in captured and "b.jpg" in captured
    assert cli.invoke(["explain", "convolution", str(path), str(path)]) == 2


@pytest.mark.parametrize("word", [np.zeros(5), np.zeros((2, 2, 2)), np.full((3, 3), np.nan), np.full((3, 3), 7.5), 5])
def test_arrays_that_are_not_images_are_rejected(word):
    with pytest.raises(DataError):
        read_pixels(word)


def test_weights_and_urls_without_a_network_are_rejected():
    with pytest.raises(OptionError) as error:
        load_input([], SETTINGS, "imagenet", False)
    assert error.value.option == "weights"
    with pytest.raises(ResourceError) as error:
        load_input(["https://example.org/a.png"], SETTINGS, None, True)
    assert error.value.path == "https://example.org/a.png"
