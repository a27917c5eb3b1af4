"""The concept pooling: what is kept and what shifts change, against PyTorch and by definition; wrong settings."""

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
from thalweg.errors import OptionError

NOISE = np.random.default_rng(3).integers(0, 256, (20, 26, 1), np.uint8)


def numbers(picture_HWC=NOISE, **asked):
    return pooling(PoolingSettings(**asked), picture_HWC, "noise").numbers


@pytest.mark.parametrize("asked", [{}, {"window": 3, "stride": 2, "padding": 1}, {"window": 5, "padding": 2}], ids=str)
def test_the_outputs_are_those_of_pytorch(asked):
    found = numbers(**asked)
    x, how = (
        torch.from_numpy(NOISE[..., 0].astype(float))[None, None],
        (found["window"], found["stride"], found["padding"]),
    )
    np.testing.assert_array_equal(found["outputs"]["max"], F.max_pool2d(x, *how)[0, 0])
    np.testing.assert_allclose(found["outputs"]["average"], F.avg_pool2d(x, *how)[0, 0], atol=1e-10)
    assert found["largest_difference"] < 1e-10 and list(np.shape(found["outputs"]["max"])) == found["sizes"]["output"]


def test_of_windows_that_do_not_overlap_each_keeps_one_pixel():
    found = numbers()
    assert found["kept"]["share"] == 0.25 and found["kept"]["under_a_window"] == 1
    rows, columns = np.array(found["kept"]["places"]).T
    assert sorted(NOISE[rows, columns, 0]) == sorted(np.ravel(found["outputs"]["max"]))


def test_windows_that_overlap_may_keep_a_pixel_together_and_others_see_not_all():
    peak = np.zeros((5, 5, 1), np.uint8)
    peak[2, 2] = 9
    found = numbers(peak, window=3, stride=1, shifts=1)
    assert found["kept"]["places"] == [[2, 2]] and found["kept"]["share"] == 1 / 25
    skipping = pooling(PoolingSettings(window=1, stride=2), NOISE, "noise")
    assert skipping.numbers["kept"]["under_a_window"] == 0.25
    assert any("75 % of the pixels lie under no window" in note for note in skipping.notes)


@pytest.mark.parametrize("asked", [{}, {"window": 3, "stride": 2, "padding": 1}, {"kind": "max", "window": 4}], ids=str)
def test_every_step_tells_the_window_that_it_shows(asked):
    found = numbers(**asked)
    crop = found["crop"]
    for step in crop["steps"]:
        row, column = step["place"]
        inside = [value for values in step["under"] for value in values if value is not None]
        at, left = step["where"]
        assert step["max"] == max(inside) == crop["values"][at][left]
        assert step["average"] == pytest.approx(sum(inside) / found["window"] ** 2)
        for kind in found["kinds"]:
            assert crop["outputs"][kind][row][column] == pytest.approx(step[kind])
    assert crop["steps"][-1]["place"] == [size - 1 for size in np.shape(crop["outputs"][found["kinds"][0]])]


# --- shifts -----------------------------------------------------------------------------------------------------------


def test_the_changes_are_those_of_the_picture_moved_by_hand():
    found = numbers(window=3, stride=2, padding=1, shifts=5)["moved"]
    x = torch.from_numpy(NOISE[..., 0].astype(float))
    pools = {
        "max": lambda part: F.max_pool2d(part[None, None], 3, 2, 1)[0, 0],
        "average": lambda part: F.avg_pool2d(part[None, None], 3, 2, 1)[0, 0],
        "subsampling": lambda part: part[::2, ::2],
        "picture": lambda part: part,
    }
    for kind, pool in pools.items():
        still = pool(x[:, 5:])
        for shift in range(6):
            # moved to the right by so many pixels: each pixel is what was as many to its left
            after = pool(torch.roll(x, shift, 1)[:, 5:])
            expected = ((after - still) ** 2).mean().sqrt() / still.std(correction=0)
            assert found["change"][kind][shift] == pytest.approx(float(expected), abs=1e-12)
    assert found["shifts"] == [0, 1, 2, 3, 4, 5] and all(values[0] == 0 for values in found["change"].values())


def test_stripes_change_most_at_half_of_their_period_and_not_at_all_after_it():
    stripes = np.tile(np.repeat(np.array([0, 200], np.uint8), 4), (24, 6))[..., None]
    found = numbers(stripes, shifts=8)["moved"]["change"]
    for values in found.values():
        assert values[8] == pytest.approx(0, abs=1e-12)
        assert values[4] == pytest.approx(max(values)) == pytest.approx(2)


@given(st.integers(0, 1000), st.floats(0.1, 10), st.floats(-100, 100))
def test_the_change_does_not_depend_on_brightness_or_contrast(seed, gain, bias):
    before, after = np.random.default_rng(seed).normal(size=(2, 50, 50))
    found = relative_change(before, after)
    assert relative_change(gain * before + bias, gain * after + bias) == pytest.approx(found)
    assert found == pytest.approx(2**0.5, rel=0.15) and relative_change(before, before) == 0
    assert relative_change(np.ones(4), np.ones(4)) == 0 and relative_change(np.ones(4), np.zeros(4)) is None


def test_on_noise_pooled_outputs_are_steadier_than_subsampled_ones():
    found = numbers(np.random.default_rng(0).integers(0, 256, (96, 96, 1), np.uint8), window=4, stride=4)["moved"]
    for kind in ("max", "average"):
        assert found["change"][kind][1] < 0.8 * found["change"]["subsampling"][1]


def test_an_even_picture_and_a_narrow_one_are_shown_all_the_same():
    even = pooling(PoolingSettings(), np.full((12, 12, 1), 7, np.uint8), "even")
    assert even.numbers["moved"]["change"]["max"] == [0] * 9
    narrow = pooling(PoolingSettings(), NOISE[:, :5], "narrow")
    assert narrow.numbers["moved"]["shifts"] == [0, 1, 2, 3] and "at most 3 pixels" in narrow.notes[0]
    column = pooling(PoolingSettings(window=1, stride=1), NOISE[:, :1], "column")
    assert column.numbers["moved"] == {} and "left out" in column.notes[0]
    for result in (even, narrow, column):
        assert len({frame.draw().size for frame in (result.frames[0], result.frames[-1])}) == 1


def test_picture_and_caption_tell_the_same_mean():
    for frame in pooling(PoolingSettings(), NOISE, "noise").frames[:-2]:
        mean = frame.caption.rsplit(" ", 1)[1][:-1]
        texts = frame.plot.figure(*frame.args).axes[0].texts
        assert any(text.get_text().endswith(f" / 4 = {mean}") for text in texts)


def test_of_one_value_there_is_no_change_to_be_told():
    found = pooling(PoolingSettings(), NOISE[:3, :3], "tiny")
    assert found.key_numbers["kept by max"].startswith("1 pixel,")
    assert found.key_numbers["max, moved"] == "has no contrast that a change could be compared with"


# --- wrong settings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings, told",
    [
        (["stride=0"], "stride: 0 is not from 1 to 8"),
        (["padding=2"], "padding: 2 is more than half of a window of 2"),
        (["window=3", "padding=2"], "Give at most 1"),
        (["window=9"], "window: 9 is not from 1 to 8"),
        (["window=8", "side=4"], "window: 8 x 8 is larger than the picture of 4 x 4"),
        (["kind=min"], "both, max, average"),
        (["at=95,95"], "at: 95,95 is no corner"),
    ],
)
def test_wrong_settings_are_refused_with_what_is_allowed(settings, told, capsys):
    flags = [word for setting in settings for word in ("--set", setting)]
    assert cli.invoke(["explain", "pooling", *flags]) == 2
    assert told in capsys.readouterr().err


def test_a_window_larger_than_the_picture_is_refused_without_padding_only():
    with pytest.raises(OptionError, match="larger than the picture of 3 x 4"):
        numbers(NOISE[:4, :3], window=5)
    assert numbers(NOISE[:4, :3], window=5, padding=2)["sizes"]["output"] == [1, 1]


def test_it_works_on_pictures_of_the_users_own(tmp_path):
    path = tmp_path / "own.png"
    Image.fromarray(NOISE[..., 0]).save(path)
    for source in (path, str(path), Image.open(path), NOISE, NOISE[..., 0], NOISE / 255):
        found = thalweg.explain("pooling", source, kind="max")
        assert found.result.numbers["outputs"] == {"max": numbers(kind="max")["outputs"]["max"]}
