"""The concept pooling: outputs against PyTorch, shift sensitivity by definition, invalid settings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import thalweg
from thalweg.cli import main as cli
from thalweg.concepts.pooling.compute import PoolingSettings, pooling, relative_change
from thalweg.config.options import parse_options
from thalweg.errors import OptionError

NOISE = np.random.default_rng(3).integers(0, 256, (20, 26, 1), np.uint8)


def explain(image_HWC=NOISE, **settings):
    return pooling(PoolingSettings(**settings), image_HWC, "noise")


@pytest.mark.parametrize(
    "settings", [{}, {"window": 3, "stride": 2, "padding": 1}, {"window": 5, "padding": 2}], ids=str
)
def test_outputs_match_pytorch(settings):
    numbers = explain(**settings).numbers
    x_11HW = torch.from_numpy(NOISE[..., 0].astype(float))[None, None]
    spec = (numbers["window"], numbers["stride"], numbers["padding"])
    np.testing.assert_array_equal(numbers["outputs"]["max"], F.max_pool2d(x_11HW, *spec)[0, 0])
    np.testing.assert_allclose(numbers["outputs"]["average"], F.avg_pool2d(x_11HW, *spec)[0, 0], atol=1e-10)
    assert numbers["max_difference"] < 1e-10
    assert list(np.shape(numbers["outputs"]["max"])) == numbers["sizes"]["output"]


def test_each_window_selects_one_pixel_if_windows_do_not_overlap():
    numbers = explain().numbers
    assert numbers["selected"]["fraction"] == 0.25
    assert numbers["selected"]["covered_fraction"] == 1
    rows, columns = np.array(numbers["selected"]["positions"]).T
    assert sorted(NOISE[rows, columns, 0]) == sorted(np.ravel(numbers["outputs"]["max"]))


def test_overlapping_windows_can_select_the_same_pixel():
    peak = np.zeros((5, 5, 1), np.uint8)
    peak[2, 2] = 9
    selected = explain(peak, window=3, stride=1, max_shift=1).numbers["selected"]
    assert selected["positions"] == [[2, 2]]
    assert selected["fraction"] == 1 / 25


def test_a_stride_above_the_window_leaves_pixels_uncovered():
    result = explain(window=1, stride=2)
    assert result.numbers["selected"]["covered_fraction"] == 0.25
    assert any("75 %" in note for note in result.notes)


@pytest.mark.parametrize(
    "settings", [{}, {"window": 3, "stride": 2, "padding": 1}, {"kind": "max", "window": 4}], ids=str
)
def test_every_step_matches_its_window(settings):
    numbers = explain(**settings).numbers
    crop = numbers["crop"]
    for step in crop["steps"]:
        row, column = step["position"]
        values = [value for row_values in step["window"] for value in row_values if value is not None]
        y, x = step["argmax"]
        assert step["max"] == max(values) == crop["values"][y][x]
        assert step["average"] == pytest.approx(sum(values) / numbers["window"] ** 2)
        for kind in numbers["kinds"]:
            assert crop["outputs"][kind][row][column] == pytest.approx(step[kind])
    assert crop["steps"][-1]["position"] == [size - 1 for size in np.shape(crop["outputs"][numbers["kinds"][0]])]


# --- shift sensitivity ------------------------------------------------------------------------------------------------


def test_changes_match_an_image_shifted_by_hand():
    shift_numbers = explain(window=3, stride=2, padding=1, max_shift=5).numbers["shift"]
    x_HW = torch.from_numpy(NOISE[..., 0].astype(float))
    pools = {
        "max": lambda view: F.max_pool2d(view[None, None], 3, 2, 1)[0, 0],
        "average": lambda view: F.avg_pool2d(view[None, None], 3, 2, 1)[0, 0],
        "subsampling": lambda view: view[::2, ::2],
        "image": lambda view: view,
    }
    for kind, pool in pools.items():
        original = pool(x_HW[:, 5:])
        for shift in range(6):
            shifted = pool(torch.roll(x_HW, shift, 1)[:, 5:])
            expected = ((shifted - original) ** 2).mean().sqrt() / original.std(correction=0)
            assert shift_numbers["change"][kind][shift] == pytest.approx(float(expected), abs=1e-12)
    assert shift_numbers["shifts"] == [0, 1, 2, 3, 4, 5]
    assert all(values[0] == 0 for values in shift_numbers["change"].values())


def test_stripes_change_most_at_half_of_their_period():
    stripes = np.tile(np.repeat(np.array([0, 200], np.uint8), 4), (24, 6))[..., None]
    for values in explain(stripes, max_shift=8).numbers["shift"]["change"].values():
        assert values[8] == pytest.approx(0, abs=1e-12)
        assert values[4] == pytest.approx(max(values)) == pytest.approx(2)


@given(st.integers(0, 1000), st.floats(0.1, 10), st.floats(-100, 100))
def test_the_change_does_not_depend_on_brightness_or_contrast(seed, gain, bias):
    original, shifted = np.random.default_rng(seed).normal(size=(2, 50, 50))
    change = relative_change(original, shifted)
    assert relative_change(gain * original + bias, gain * shifted + bias) == pytest.approx(change)
    assert change == pytest.approx(2**0.5, rel=0.15)
    assert relative_change(original, original) == 0


def test_the_change_of_a_constant_array_is_zero_or_undefined():
    assert relative_change(np.ones(4), np.ones(4)) == 0
    assert relative_change(np.ones(4), np.zeros(4)) is None


def test_pooled_noise_changes_less_than_subsampled_noise():
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 1), np.uint8)
    change = explain(noise, window=4, stride=4).numbers["shift"]["change"]
    for kind in ("max", "average"):
        assert change[kind][1] < 0.8 * change["subsampling"][1]


def test_uniform_and_narrow_images_can_be_explained():
    uniform = explain(np.full((12, 12, 1), 7, np.uint8))
    assert uniform.numbers["shift"]["change"]["max"] == [0] * 9
    narrow = explain(NOISE[:, :5])
    assert narrow.numbers["shift"]["shifts"] == [0, 1, 2, 3]
    assert "3 pixels" in narrow.notes[0]
    column = explain(NOISE[:, :1], window=1, stride=1)
    assert column.numbers["shift"] is None
    assert len(column.notes) == 1
    for result in (uniform, narrow, column):
        assert len({frame.draw().size for frame in (result.frames[0], result.frames[-1])}) == 1


def test_plot_and_caption_show_the_same_mean():
    for frame in explain().frames[:-2]:
        mean = frame.caption.rsplit(" ", 1)[1][:-1]
        texts = frame.plot.__wrapped__(*frame.args).axes[0].texts
        assert any(text.get_text().endswith(f" / 4 = {mean}") for text in texts)


def test_a_single_output_value_has_no_relative_change():
    result = explain(NOISE[:3, :3])
    assert result.numbers["shift"]["change"]["max"][1] is None
    assert result.key_numbers["selected by max"].startswith("1 pixel,")
    assert "%" not in result.key_numbers["max, shifted"]


# --- settings and inputs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "option", "allowed"),
    [
        ({"padding": 2}, "padding", [0, 1]),
        ({"window": 3, "padding": 2}, "padding", [0, 1]),
        ({"window": 8}, "window", [1, 4]),
        ({"crop": [95, 95]}, "crop", [[0, 0], [0, 0]]),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_rejected_with_the_allowed_values(settings, option, allowed):
    with pytest.raises(OptionError) as error:
        explain(NOISE[:4, :4], **settings)
    assert (error.value.option, error.value.allowed) == (option, allowed)


@pytest.mark.parametrize("settings", [{"stride": 0}, {"window": 9}, {"kind": "min"}], ids=str)
def test_settings_out_of_range_are_rejected(settings):
    with pytest.raises(OptionError):
        parse_options(settings, PoolingSettings)


@pytest.mark.parametrize("setting", ["stride=0", "padding=2", "window=9", "kind=min", "crop=95,95"])
def test_the_command_line_names_the_invalid_setting(setting, capsys):
    assert cli.invoke(["explain", "pooling", "--set", setting]) == 2
    assert setting.partition("=")[0] in capsys.readouterr().err


def test_padding_makes_a_window_fit():
    image = NOISE[:4, :3]
    with pytest.raises(OptionError) as error:
        explain(image, window=5)
    assert (error.value.option, error.value.value, error.value.allowed) == ("window", 5, [1, 3])
    assert explain(image, window=5, padding=2).numbers["sizes"]["output"] == [1, 1]


def test_every_kind_of_image_gives_the_same_output(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(NOISE[..., 0]).save(path)
    expected = explain(kind="max").numbers["outputs"]["max"]
    for source in (path, str(path), Image.open(path), NOISE, NOISE[..., 0], NOISE / 255):
        result = thalweg.explain("pooling", source, kind="max").result
        assert result.numbers["outputs"] == {"max": expected}
