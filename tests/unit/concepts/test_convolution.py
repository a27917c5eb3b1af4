"""The concept convolution: kernels by name against SciPy, what is written out against its own sums, wrong settings."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from scipy.signal import correlate2d

import thalweg
from thalweg.cli import main as cli
from thalweg.concepts.convolution.compute import ConvolutionSettings, convolution
from thalweg.concepts.convolution.kernels import KERNELS, parse_kernels
from thalweg.errors import OptionError
from thalweg.plots import style

GREY = np.random.default_rng(1).integers(0, 256, (24, 30), np.uint8)
COLOUR = np.random.default_rng(2).integers(0, 256, (20, 17, 3), np.uint8)


def numbers(picture_HWC, **given):
    return convolution(ConvolutionSettings(**given), picture_HWC, "noise").numbers


def grey(**given):
    return numbers(GREY[..., None], **given)


# --- kernels ----------------------------------------------------------------------------------------------------------


def test_the_edge_kernel_is_that_of_the_talk_and_answers_0_to_an_even_picture():
    assert parse_kernels("edge")[0][0].tolist() == [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]]
    for level in (0, 77, 255):
        found = numbers(np.full((12, 12, 1), level, np.uint8))
        assert not np.any(found["output"]) and found["kind"] == "signed"


@pytest.mark.parametrize("name", ["blur", "gauss", "identity", "sharpen", "emboss"])
def test_kernels_that_add_up_to_one_leave_an_even_picture_as_it_is(name):
    assert parse_kernels(name)[0][0].sum() == pytest.approx(1, abs=1e-15)
    found = numbers(np.full((12, 12, 1), 77, np.uint8), kernel=name)
    np.testing.assert_allclose(found["output"], 77, atol=1e-12)
    assert found["white"] == pytest.approx(255)


def test_the_answers_are_those_of_scipy():
    x = GREY.astype(float)
    inner = np.s_[1:-1, 1:-1]
    across, down = ndimage.sobel(x, axis=1)[inner], ndimage.sobel(x, axis=0)[inner]
    np.testing.assert_allclose(grey(kernel="sobel-x")["output"][0], across, atol=1e-9)
    np.testing.assert_allclose(grey(kernel="sobel-y")["output"][0], down, atol=1e-9)
    np.testing.assert_allclose(grey(kernel="sobel")["output"][0], np.hypot(across, down), atol=1e-9)
    np.testing.assert_allclose(grey(kernel="blur")["output"][0], ndimage.uniform_filter(x, 3)[inner], atol=1e-9)
    binomial = np.poly1d([0.5, 0.5]) ** 4
    gauss = np.outer(binomial.coeffs, binomial.coeffs)
    np.testing.assert_allclose(grey(kernel="gauss")["output"][0], correlate2d(x, gauss, mode="valid"), atol=1e-9)
    assert grey(kernel="identity")["output"][0] == x[inner].tolist()


def test_a_kernel_can_be_written_out_as_text_as_rows_and_as_an_array():
    rows = [[1, 0, -1], [2, 0, -2]]
    expected = correlate2d(GREY.astype(float), rows, mode="valid")
    for given in ("1,0,-1;2,0,-2", " 1, 0,-1 ; 2,0,-2;", rows, np.array(rows)):
        found = thalweg.explain("convolution", GREY, kernel=given).result.numbers
        np.testing.assert_allclose(found["output"][0], expected, atol=1e-9)
        assert found["kernel"] == "yours"


@pytest.mark.parametrize(
    "kernel, told",
    [
        ("edgee", "Did you mean 'edge'"),
        ("", "none named ''"),
        ("nan", "none named 'nan'"),
        ("1,2;3", "row 2 has 1 number, row 1 has 2"),
        ("1,2;3,a", "row 2, '3,a': 'a' is no number"),
        ("1,2;;3,4", "row 2 is empty"),
        ("1,inf", "inf in row 1"),
        ("1;1e9", "1e.09 in row 2"),
        ("1,2,3,4,5,6,7,8", "row 1 has 8 numbers"),
        (";".join("12345678"), "there are 8 rows"),
        ([[1, 2], [3]], "row 2 has 1 number"),
    ],
)
def test_what_is_no_kernel_is_refused(kernel, told):
    with pytest.raises(OptionError) as caught:
        parse_kernels(kernel)
    assert re.search(told, str(caught.value))


# --- what is written out ----------------------------------------------------------------------------------------------

SETTINGS = [
    {},
    {"kernel": "sobel", "padding": 1, "stride": 2},
    {"kernel": "1,2,3,4;5,6,7,8", "dilation": 2},
    {"channels": "colour", "kernel": "gauss"},
    {"channels": "colour", "depthwise": True},
    {"channels": "colour+grey", "groups": 2, "kernel": "sobel", "padding": 2},
    {"transposed": True, "stride": 2, "padding": 1},
    {"transposed": True, "channels": "colour", "kernel": "1,2", "stride": 3},
    {"transposed": True, "channels": "colour+grey", "groups": 2, "dilation": 2, "kernel": "sharpen"},
]


@pytest.mark.parametrize("given", SETTINGS, ids=str)
def test_every_step_adds_up_and_the_last_has_the_whole_output(given):
    found = numbers(COLOUR, **given)
    assert found["largest_difference"] < 1e-10
    crop, output = found["crop"], np.array(found["crop"]["output"])
    values, kernels = np.array(crop["values"]), np.array(found["kernels"])
    top, left = crop["at"]
    np.testing.assert_array_equal(
        values, np.array(found["picture"])[:, top : top + values.shape[1], left : left + values.shape[2]]
    )
    for step in crop["steps"]:
        row, column = step["place"]
        np.testing.assert_allclose(step["terms"], kernels * np.array(step["under"]), atol=1e-12)
        assert step["parts"][-1] == pytest.approx([np.sum(terms) for terms in step["terms"]])
        assert step["sums"] == pytest.approx(np.sum(step["parts"], axis=0))
        if step["whole"] and not found["transposed"]:
            total = np.hypot(*step["sums"]) if len(kernels) == 2 else step["sums"][0]
            assert output[step["group"], row, column] == pytest.approx(total, abs=1e-9)
            assert step["output"][row][column] == pytest.approx(total, abs=1e-9)
    last = crop["steps"][-1]
    shown = np.array([[np.nan if value is None else value for value in values] for values in last["output"]])
    known = ~np.isnan(shown)
    np.testing.assert_allclose(shown[known], output[-1][known], atol=1e-9)
    assert not output[-1][~known].any() and (known.all() or found["stride"] > len(kernels[0]))


def test_groups_add_up_the_channels_that_they_hold():
    apart = np.array(numbers(COLOUR, channels="colour", depthwise=True)["output"])
    whole = np.array(numbers(COLOUR, channels="colour")["output"])
    assert apart.shape[0] == 3
    np.testing.assert_allclose(apart.sum(0), whole[0], atol=1e-9)
    for channel in range(3):
        expected = correlate2d(COLOUR[..., channel].astype(float), KERNELS["edge"][0], mode="valid")
        np.testing.assert_allclose(apart[channel], expected, atol=1e-9)


def test_grey_is_that_of_pillow():
    found = np.array(numbers(COLOUR)["picture"][0])
    assert np.abs(found - np.asarray(Image.fromarray(COLOUR).convert("L"))).max() <= 1
    assert np.array(numbers(GREY[..., None])["picture"][0]).tolist() == GREY.tolist()


def test_the_stack_has_the_sizes_and_fields_of_its_layers():
    found = grey(stride=2, layers=4)
    assert [layer["field"] for layer in found["layers"]] == [[3, 3], [7, 7], [15, 15], [31, 31]]
    assert [layer["size"] for layer in found["layers"]] == [[11, 14], [5, 6], [2, 2], None]
    result = convolution(ConvolutionSettings(stride=2, layers=4), GREY[..., None], "noise")
    assert "after layer 4" in result.notes[0]
    assert result.key_numbers["field"] == "3 x 3 pixels; of 4 layers 31 x 31"
    assert found["formula"] == "width: floor((30 + 2·0 - 1·(3 - 1) - 1) / 2) + 1 = 14"


def test_the_crop_can_be_placed():
    assert grey(at=[3, 5])["crop"]["values"][0] == GREY[3:13, 5:15].tolist()


@pytest.mark.parametrize(
    "setting, told",
    [
        ("stride=0", "stride: 0 is not from 1 to 4"),
        ("padding=5", "padding: 5 is not"),
        ("groups=2", "groups: the channels (grey) cannot be divided into 2 groups"),
        ("groups=2", "or other channels: --set channels=colour+grey"),
        ("groups=3", "or other channels: --set channels=colour\n"),
        ("at=90,0", "Give a row up to 86"),
        ("at=1", "at: 1 is no corner"),
        ("side=2", "side: 2 is not from 4 to 256"),
        ("channels=infrared", "colour+grey"),
        ("kernel=1,2;3", "row 2 has 1 number"),
    ],
)
def test_wrong_settings_are_refused_with_what_is_allowed(setting, told, capsys):
    assert cli.invoke(["explain", "convolution", "--set", setting]) == 2
    assert told in capsys.readouterr().err


def test_windows_that_do_not_fit_are_refused():
    tiny = np.zeros((3, 4, 1), np.uint8)
    with pytest.raises(OptionError, match="5 x 5 is larger than the picture of 4 x 3"):
        numbers(tiny, kernel="gauss")
    assert numbers(tiny, kernel="gauss", padding=1)["sizes"]["output"] == [1, 2]
    with pytest.raises(OptionError, match="reaches over 17"):
        grey(kernel="gauss", dilation=4)
    with pytest.raises(OptionError, match="nothing is left"):
        numbers(tiny, kernel="1", transposed=True, padding=2)
    with pytest.raises(OptionError, match="1024 x 1021 is too large"):
        numbers(
            np.zeros((255, 256, 1), np.uint8),
            transposed=True,
            stride=4,
            kernel="1,1,1,1;1,1,1,1;2,2,2,2;1,2,3,4;9,9,9,9",
        )


@pytest.mark.parametrize("given", [SETTINGS[1], SETTINGS[5], SETTINGS[8], {"kernel": "9"}], ids=str)
def test_it_is_drawn_with_unusual_settings_in_one_size(given):
    result = convolution(ConvolutionSettings(**given), COLOUR[:9], "noise")
    some = [result.frames[place].draw() for place in (0, 1, -2, -1)]
    assert len({image.size for image in some}) == 1
    assert all(len(frame.caption) <= 300 for frame in result.frames) and len(result.frames) <= 40


def _texts(frame):
    return frame.plot.figure(*frame.args).axes[0].texts


@pytest.mark.parametrize(
    "given", [{"kernel": "gauss"}, {"kernel": "1000,-999;123.456,1000"}, {"kernel": "-1.23456,0.5;0.001,2"}], ids=str
)
def test_picture_and_caption_tell_the_same_sum(given):
    for frame in convolution(ConvolutionSettings(**given), GREY[..., None], "noise").frames[1:-2]:
        told = frame.caption.rsplit(" ", 1)[1][:-1]
        assert "e" not in told
        assert any(text.get_text().endswith(f"= {told}") for text in _texts(frame))


def test_the_products_that_are_written_out_add_up_to_the_sum_that_is_told():
    """As a pupil would add them up by hand; a kernel's fourth digit counts there."""
    for frame in convolution(ConvolutionSettings(kernel="1000,-999;123.45,1000"), GREY[..., None], "noise").frames[
        1:-2
    ]:
        texts = [text.get_text().replace("−", "-") for text in _texts(frame)]
        products = [float(w) * float(x) for w, x in (text.split(" · ") for text in texts if " · " in text)]
        (told,) = [text.removeprefix("= ") for text in texts if text.startswith("= ")]
        assert len(products) == 4 and sum(products) == pytest.approx(float(told), abs=0.5)


def test_the_sums_of_all_channels_are_told_whole():
    asked = ConvolutionSettings(kernel="sobel", channels="colour+grey")
    frame = convolution(asked, COLOUR, "noise").frames[-3]
    (line,) = [text for text in _texts(frame) if text.get_text().startswith("channels so far")]
    assert "…" not in line.get_text() and all(f" {name} " in line.get_text() for name in ("red", "green", "blue"))
    assert style.text_width(line.get_text(), line.get_fontsize()) <= style.WIDTH


def test_it_works_on_a_photograph_of_the_users_own(tmp_path, capsys):
    photo = tmp_path / "photo.jpg"
    Image.fromarray(np.kron(COLOUR, np.ones((20, 20, 1), np.uint8))).save(photo)
    out = tmp_path / "photo.png"
    command = ["explain", "convolution", str(photo), "--set", "kernel=sobel", "--save", str(out), "--json"]
    assert cli.invoke(command) == 0
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert found["numbers"]["sizes"] == {"picture": [128, 109], "window": [3, 3], "output": [126, 107]}
    assert "from 340 x 400 to 109 x 128" in told.err and out.stat().st_size > 10_000
    assert found["command"].endswith("photo.jpg --set kernel=sobel")
