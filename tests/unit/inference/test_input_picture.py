"""The subject picture: every kind of source, turned and flattened, brought to size; and what is no picture."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from thalweg.inference.inputs.picture import limit_size, load, sample_drawing

from thalweg.cli import main as cli
from thalweg.errors import DataError, OptionError, ResourceError

ASKED = SimpleNamespace(image_size=64)
PICTURE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def pixels(given, side=64):
    return load([given], SimpleNamespace(image_size=side), None, False)["picture_HWC"]


def test_without_words_there_is_a_still_life_of_ours():
    found = load([], SimpleNamespace(image_size=96), None, True)
    assert found["told"] == "a still life" and not found["notes"]
    np.testing.assert_array_equal(found["picture_HWC"], sample_drawing())
    assert sample_drawing().shape == (96, 96, 3) and sample_drawing().std() > 40
    assert load([], ASKED, None, True)["picture_HWC"].shape == (64, 64, 3)


def test_files_arrays_and_images_are_the_same_picture(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(PICTURE).save(path)
    for given in (path, str(path), path.read_bytes(), Image.open(path), PICTURE, PICTURE / 255):
        np.testing.assert_array_equal(pixels(given), PICTURE)
    np.testing.assert_array_equal(pixels(str(tmp_path)), PICTURE)  # a folder with one picture in it
    assert load([str(path)], ASKED, None, False)["told"] == str(path)


def test_a_photograph_is_turned_as_its_exif_says(tmp_path):
    path, exif = tmp_path / "turned.png", Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PICTURE).save(path, exif=exif)
    np.testing.assert_array_equal(pixels(path), np.rot90(PICTURE, -1))


@pytest.mark.parametrize("mode, channels", [("1", 1), ("L", 1), ("I;16", 1), ("P", 3), ("RGBA", 3), ("CMYK", 3)])
def test_odd_modes_become_grey_or_colour(tmp_path, mode, channels):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    if mode == "I;16":
        Image.fromarray((np.arange(600, dtype=np.uint16) * 100).reshape(20, 30)).save(path)
    else:
        Image.fromarray(PICTURE).convert(mode).save(path)
    found = pixels(path)
    assert found.shape == (20, 30, channels) and found.dtype == np.uint8 and found.std() > 10


def test_what_is_transparent_lies_on_white():
    clear = np.zeros((4, 4, 4), np.uint8)
    clear[0, 0] = (10, 20, 30, 255)
    found = pixels(clear)
    assert found[0, 0].tolist() == [10, 20, 30] and (found[1:] == 255).all()


@pytest.mark.parametrize("shape, expected", [((200, 100), (64, 32)), ((100, 200), (32, 64)), ((3, 900), (1, 64))])
def test_larger_pictures_keep_their_proportions(shape, expected):
    found = load([np.full((*shape, 3), 9, np.uint8) + np.uint8([0, 1, 2])], ASKED, None, False)
    assert found["picture_HWC"].shape == (*expected, 3)
    assert (found["picture_HWC"] == [9, 10, 11]).all()
    assert f"from {shape[1]} x {shape[0]} to {expected[1]} x {expected[0]}" in found["notes"][0]


def test_smaller_pictures_stay_as_they_are():
    assert limit_size(PICTURE, 30) is PICTURE and limit_size(PICTURE[..., :1], 15).shape == (10, 15, 1)


@pytest.mark.parametrize("concept", ["convolution", "pooling"])
@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n cut off"])
def test_a_file_that_is_no_picture_is_named(tmp_path, capsys, concept, content):
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    assert cli.invoke(["explain", concept, str(path)]) == 3
    told = capsys.readouterr().err
    assert f"{path}: " in told and "photo.jpg" in told


def test_a_picture_that_is_cut_off_a_missing_one_and_several_are_refused(tmp_path, capsys):
    path = tmp_path / "a.jpg"
    Image.fromarray(PICTURE).resize((300, 200)).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert cli.invoke(["explain", "convolution", str(path)]) == 3
    assert "a.jpg: damaged or cut off" in capsys.readouterr().err
    assert cli.invoke(["explain", "convolution", str(tmp_path / "none.png")]) == 3
    assert "none.png: there is no such file." in capsys.readouterr().err
    path.write_bytes(whole)
    (tmp_path / "b.jpg").write_bytes(whole)
    assert cli.invoke(["explain", "convolution", str(tmp_path)]) == 3
    assert "are two at least" in capsys.readouterr().err
    assert cli.invoke(["explain", "convolution", str(path), str(path)]) == 2
    assert "one word too many" in capsys.readouterr().err


@pytest.mark.parametrize("given", [np.zeros(5), np.zeros((2, 2, 2)), np.full((3, 3), np.nan), np.full((3, 3), 7.5), 5])
def test_arrays_that_are_no_pictures_are_refused(given):
    with pytest.raises(DataError, match="no picture|no kind of source"):
        pixels(given)


def test_weights_and_addresses_without_a_network_are_refused():
    with pytest.raises(OptionError, match="loads no weights"):
        load([], ASKED, "imagenet", False)
    with pytest.raises(ResourceError, match="https://example.org/a.png: It was not fetched"):
        load(["https://example.org/a.png"], ASKED, None, True)
