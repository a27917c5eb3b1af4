"""The concept convolution: kernels against SciPy, steps against their own sums, invalid settings."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from scipy.signal import correlate2d

import thalweg
from thalweg.cli import main as cli
from thalweg.concepts.convolution.compute import ConvolutionSettings, convolution
from thalweg.concepts.convolution.kernels import KERNELS, parse_kernels
from thalweg.config.options import parse_options
from thalweg.errors import OptionError
from thalweg.plots import style

GRAY = np.random.default_rng(1).integers(0, 256, (24, 30), np.uint8)
COLOR = np.random.default_rng(2).integers(0, 256, (20, 17, 3), np.uint8)


def explain(image_HWC, **settings):
    return convolution(ConvolutionSettings(**settings), image_HWC, "noise")


def color_numbers(**settings):
    return explain(COLOR, **settings).numbers


def gray_numbers(**settings):
    return explain(GRAY[..., None], **settings).numbers


def constant_image(level):
    return np.full((12, 12, 1), level, np.uint8)


# --- kernels ----------------------------------------------------------------------------------------------------------


def test_the_edge_kernel_is_zero_on_uniform_images():
    assert parse_kernels("edge")[0][0].tolist() == [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]]
    for level in (0, 77, 255):
        numbers = explain(constant_image(level)).numbers
        assert not np.any(numbers["output"])
        assert numbers["output_kind"] == "signed"


@pytest.mark.parametrize("name", ["blur", "gauss", "identity", "sharpen", "emboss"])
def test_kernels_that_sum_to_one_keep_uniform_images(name):
    assert parse_kernels(name)[0][0].sum() == pytest.approx(1, abs=1e-15)
    numbers = explain(constant_image(77), kernel=name).numbers
    np.testing.assert_allclose(numbers["output"], 77, atol=1e-12)
    assert numbers["color_limit"] == pytest.approx(255)


def test_named_kernels_match_scipy():
    x = GRAY.astype(float)
    inner = np.s_[1:-1, 1:-1]
    sobel_x = ndimage.sobel(x, axis=1)[inner]
    sobel_y = ndimage.sobel(x, axis=0)[inner]
    binomial = np.poly1d([0.5, 0.5]) ** 4
    gauss = np.outer(binomial.coeffs, binomial.coeffs)
    expected = {
        "sobel-x": sobel_x,
        "sobel-y": sobel_y,
        "sobel": np.hypot(sobel_x, sobel_y),
        "blur": ndimage.uniform_filter(x, 3)[inner],
        "gauss": correlate2d(x, gauss, mode="valid"),
    }
    for name, output in expected.items():
        np.testing.assert_allclose(gray_numbers(kernel=name)["output"][0], output, atol=1e-9)
    assert gray_numbers(kernel="identity")["output"][0] == x[inner].tolist()


def test_a_kernel_can_be_text_rows_or_an_array():
    rows = [[1, 0, -1], [2, 0, -2]]
    expected = correlate2d(GRAY.astype(float), rows, mode="valid")
    for kernel in ("1,0,-1;2,0,-2", " 1, 0,-1 ; 2,0,-2;", rows, np.array(rows)):
        numbers = thalweg.explain("convolution", GRAY, kernel=kernel).result.numbers
        np.testing.assert_allclose(numbers["output"][0], expected, atol=1e-9)
        assert numbers["kernel"] == "custom"


@pytest.mark.parametrize(
    ("kernel", "value", "line"),
    [
        ("edgee", "edgee", None),
        ("", "", None),
        ("nan", "nan", None),
        ("1,2;3", [3.0], 2),
        ("1,2;3,a", "a", 2),
        ("1,2;;3,4", "", 2),
        ("1,inf", np.inf, 1),
        ("1;1e9", 1e9, 2),
        ("1,2,3,4,5,6,7,8", 8, None),
        (";".join("12345678"), 8, None),
        ([[1, 2], [3]], [3], 2),
    ],
)
def test_invalid_kernels_are_rejected(kernel, value, line):
    with pytest.raises(OptionError) as error:
        parse_kernels(kernel)
    assert (error.value.option, error.value.value, error.value.line) == ("kernel", value, line)
    assert error.value.cure


def test_a_misspelled_kernel_gets_a_suggestion():
    with pytest.raises(OptionError) as error:
        parse_kernels("edgee")
    assert "'edge'" in error.value.cure
    assert error.value.allowed == list(KERNELS)


# --- steps of the crop ------------------------------------------------------------------------------------------------

SETTINGS = [
    {},
    {"kernel": "sobel", "padding": 1, "stride": 2},
    {"kernel": "1,2,3,4;5,6,7,8", "dilation": 2},
    {"channels": "color", "kernel": "gauss"},
    {"channels": "color", "depthwise": True},
    {"channels": "color+gray", "groups": 2, "kernel": "sobel", "padding": 2},
    {"transposed": True, "stride": 2, "padding": 1},
    {"transposed": True, "channels": "color", "kernel": "1,2", "stride": 3},
    {"transposed": True, "channels": "color+gray", "groups": 2, "dilation": 2, "kernel": "sharpen"},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_crop_is_a_part_of_the_image(settings):
    numbers = color_numbers(**settings)
    values = np.array(numbers["crop"]["values"])
    top, left = numbers["crop"]["corner"]
    image = np.array(numbers["image"])
    np.testing.assert_array_equal(values, image[:, top : top + values.shape[1], left : left + values.shape[2]])


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_every_step_adds_up_and_the_last_step_has_the_full_output(settings):
    numbers = color_numbers(**settings)
    assert numbers["max_difference"] < 1e-10
    output = np.array(numbers["crop"]["output"])
    kernels = np.array(numbers["kernels"])
    for step in numbers["crop"]["steps"]:
        row, column = step["position"]
        np.testing.assert_allclose(step["products"], kernels * np.array(step["window"]), atol=1e-12)
        assert step["channel_sums"][-1] == pytest.approx([np.sum(product) for product in step["products"]])
        assert step["total"] == pytest.approx(np.sum(step["channel_sums"], axis=0))
        if step["complete"] and not numbers["transposed"]:
            total = np.hypot(*step["total"]) if len(kernels) == 2 else step["total"][0]
            assert output[step["group"], row, column] == pytest.approx(total, abs=1e-9)
            assert step["output"][row][column] == pytest.approx(total, abs=1e-9)
    last_output = np.array(numbers["crop"]["steps"][-1]["output"], dtype=float)  # None becomes NaN
    is_done = ~np.isnan(last_output)
    np.testing.assert_allclose(last_output[is_done], output[-1][is_done], atol=1e-9)
    assert not output[-1][~is_done].any()
    assert is_done.all() or numbers["stride"] > len(kernels[0])


def test_groups_add_up_their_channels():
    depthwise = np.array(color_numbers(channels="color", depthwise=True)["output"])
    full = np.array(color_numbers(channels="color")["output"])
    assert depthwise.shape[0] == 3
    np.testing.assert_allclose(depthwise.sum(0), full[0], atol=1e-9)
    for channel in range(3):
        expected = correlate2d(COLOR[..., channel].astype(float), KERNELS["edge"][0], mode="valid")
        np.testing.assert_allclose(depthwise[channel], expected, atol=1e-9)


def test_gray_values_match_pillow():
    gray = np.array(color_numbers()["image"][0])
    assert np.abs(gray - np.asarray(Image.fromarray(COLOR).convert("L"))).max() <= 1
    assert gray_numbers()["image"][0] == GRAY.tolist()


def test_a_stack_has_the_sizes_and_receptive_fields_of_its_layers():
    result = explain(GRAY[..., None], stride=2, layers=4)
    layers = result.numbers["layers"]
    assert [layer["receptive_field"] for layer in layers] == [[3, 3], [7, 7], [15, 15], [31, 31]]
    assert [layer["size"] for layer in layers] == [[11, 14], [5, 6], [2, 2], None]
    assert len(result.notes) == 1
    assert result.key_numbers["receptive field"] == "3 x 3 pixels; 31 x 31 after 4 layers"
    assert result.numbers["size_formula"] == "width: floor((30 + 2·0 - 1·(3 - 1) - 1) / 2) + 1 = 14"


def test_the_crop_can_be_chosen():
    assert gray_numbers(crop=[3, 5])["crop"]["values"][0] == GRAY[3:13, 5:15].tolist()


# --- invalid settings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "option", "value", "allowed"),
    [
        ({"groups": 2}, "groups", 2, [1]),
        ({"groups": 2, "channels": "color"}, "groups", 2, [1, 3]),
        ({"crop": [90, 0]}, "crop", [90, 0], [[0, 0], [86, 86]]),
        ({"crop": [1]}, "crop", [1], [[0, 0], [86, 86]]),
        ({"kernel": "1,2;3"}, "kernel", [3.0], None),
    ],
    ids=str,
)
def test_invalid_settings_are_rejected_with_the_allowed_values(settings, option, value, allowed):
    with pytest.raises(OptionError) as error:
        explain(np.zeros((96, 96, 1), np.uint8), **settings)
    assert (error.value.option, error.value.value, error.value.allowed) == (option, value, allowed)


@pytest.mark.parametrize(
    "setting", [{"stride": 0}, {"padding": 5}, {"image_size": 2}, {"layers": 9}, {"channels": "infrared"}], ids=str
)
def test_settings_out_of_range_are_rejected(setting):
    with pytest.raises(OptionError):
        parse_options(setting, ConvolutionSettings)


@pytest.mark.parametrize("setting", ["stride=0", "groups=2", "crop=90,0", "channels=infrared", "kernel=1,2;3"])
def test_the_command_line_names_the_invalid_setting(setting, capsys):
    assert cli.invoke(["explain", "convolution", "--set", setting]) == 2
    assert setting.partition("=")[0] in capsys.readouterr().err


def test_a_rejected_number_of_groups_suggests_other_channels():
    for groups, channels in ((2, "color+gray"), (3, "color")):
        with pytest.raises(OptionError) as error:
            gray_numbers(groups=groups)
        assert error.value.cure.endswith(f"--set channels={channels}")


TINY = np.zeros((3, 4, 1), np.uint8)
LARGE_KERNEL = "1,1,1,1;1,1,1,1;2,2,2,2;1,2,3,4;9,9,9,9"


@pytest.mark.parametrize(
    ("image", "settings", "option", "value"),
    [
        (TINY, {"kernel": "gauss"}, "kernel", [5, 5]),
        (GRAY[..., None], {"kernel": "gauss", "dilation": 4}, "dilation", 17),
        (TINY, {"kernel": "1", "transposed": True, "padding": 2}, "padding", 2),
        (
            np.zeros((255, 256, 1), np.uint8),
            {"transposed": True, "stride": 4, "kernel": LARGE_KERNEL},
            "image_size",
            [1021, 1024],
        ),
    ],
    ids=["kernel", "dilation", "padding", "image_size"],
)
def test_sizes_that_do_not_fit_are_rejected(image, settings, option, value):
    with pytest.raises(OptionError) as error:
        explain(image, **settings)
    assert (error.value.option, error.value.value) == (option, value)


def test_padding_makes_a_kernel_fit():
    assert explain(TINY, kernel="gauss", padding=1).numbers["sizes"]["output"] == [1, 2]


# --- plots and captions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [SETTINGS[1], SETTINGS[5], SETTINGS[8], {"kernel": "9"}], ids=str)
def test_unusual_settings_are_plotted_in_one_size(settings):
    frames = explain(COLOR[:9], **settings).frames
    images = [frames[index].draw() for index in (0, 1, -2, -1)]
    assert len({image.size for image in images}) == 1
    assert all(len(frame.caption) <= 300 for frame in frames)
    assert len(frames) <= 40


def plot_texts(frame):
    return frame.plot.__wrapped__(*frame.args).axes[0].texts


@pytest.mark.parametrize("kernel", ["gauss", "1000,-999;123.456,1000", "-1.23456,0.5;0.001,2"])
def test_plot_and_caption_show_the_same_sum(kernel):
    for frame in explain(GRAY[..., None], kernel=kernel).frames[1:-2]:
        total = frame.caption.rsplit(" ", 1)[1][:-1]
        assert "e" not in total
        assert any(text.get_text().endswith(f"= {total}") for text in plot_texts(frame))


def test_printed_products_add_up_to_the_printed_sum():
    """A learner who adds them up by hand needs the fourth digit of a weight."""
    for frame in explain(GRAY[..., None], kernel="1000,-999;123.45,1000").frames[1:-2]:
        texts = [text.get_text().replace("−", "-") for text in plot_texts(frame)]
        factors = [text.split(" · ") for text in texts if " · " in text and text != "Weight · value in the window:"]
        products = [float(weight) * float(value) for weight, value in factors]
        (total,) = [text.removeprefix("= ") for text in texts if text.startswith("= ")]
        assert len(products) == 4
        assert sum(products) == pytest.approx(float(total), abs=0.5)


def test_channel_sums_fit_into_the_plot():
    frame = explain(COLOR, kernel="sobel", channels="color+gray").frames[-3]
    (line,) = [text for text in plot_texts(frame) if " + green " in text.get_text()]
    assert "…" not in line.get_text()
    assert all(f" {name} " in line.get_text() for name in ("red", "green", "blue", "gray"))
    assert style.text_width(line.get_text(), line.get_fontsize()) <= style.WIDTH


def test_a_photo_is_downscaled_and_explained(tmp_path, capsys):
    photo = tmp_path / "photo.jpg"
    Image.fromarray(np.kron(COLOR, np.ones((20, 20, 1), np.uint8))).save(photo)
    out = tmp_path / "photo.png"
    command = ["explain", "convolution", str(photo), "--set", "kernel=sobel", "--save", str(out), "--json"]
    assert cli.invoke(command) == 0
    output = capsys.readouterr()
    content = json.loads(output.out)
    assert content["numbers"]["sizes"] == {"image": [128, 109], "window": [3, 3], "output": [126, 107]}
    assert "340 x 400" in output.err and "109 x 128" in output.err
    assert out.stat().st_size > 10_000
    assert content["command"].endswith("photo.jpg --set kernel=sobel")
