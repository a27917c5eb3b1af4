"""Random augmentations, each compared with a plain loop or with an image whose result is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from thalweg.data.images import augment
from thalweg.data.images.augment import (
    OPERATIONS,
    build_augmentation,
    cutout,
    parse_augmentation,
    random_affine,
    random_flip,
    random_shift,
    random_stroke_width,
)
from thalweg.errors import OptionError


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def random_images(batch: int = 6, channels: int = 3, height: int = 9, width: int = 7) -> torch.Tensor:
    return torch.randint(0, 256, (batch, channels, height, width), dtype=torch.uint8)


# --- options ---------------------------------------------------------------------------------------------------------


def test_names_and_amounts_are_parsed():
    assert parse_augmentation("shift=3, rotate") == {"shift": 3.0, "rotate": OPERATIONS["rotate"].default}
    assert parse_augmentation("none") == parse_augmentation("") == parse_augmentation(" , ") == {}
    assert parse_augmentation(",".join(OPERATIONS)) == {name: amount.default for name, amount in OPERATIONS.items()}
    assert all(amount.default in amount.range for amount in OPERATIONS.values())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("shft", "shft"),
        ("shift=abc", "shift=abc"),
        ("shift=-1", "shift=-1"),
        ("shift=nan", "shift=nan"),
        ("shift=1e9", "shift=1e9"),
        ("flip,shift 3", "shift 3"),
        ("erase=1.1", "erase=1.1"),
        ("flip=1.5", "flip=1.5"),
        ("crop=0", "crop=0"),
        ("color=2", "color=2"),
        ("mixup=0", "mixup=0"),
        ("randaugment=31", "randaugment=31"),
    ],
)
def test_a_mistake_is_reported(text, value):
    for parse in (parse_augmentation, lambda text: build_augmentation(text, is_handwriting=True)):
        with pytest.raises(OptionError) as error:
            parse(text)
        assert (error.value.option, error.value.value) == ("augment", value) and error.value.cure


# --- shift -----------------------------------------------------------------------------------------------------------


def shifted(image: np.ndarray, dy: int, dx: int, border: str) -> np.ndarray:
    """One image (C, H, W) shifted by (dy, dx), pixel by pixel."""
    _, height, width = image.shape

    def mirrored(index: int, size: int) -> int:
        return -index if index < 0 else 2 * (size - 1) - index if index >= size else index

    result = np.zeros_like(image)
    for y in range(height):
        for x in range(width):
            u, v = y + dy, x + dx
            if border == "reflection":
                result[:, y, x] = image[:, mirrored(u, height), mirrored(v, width)]
            elif 0 <= u < height and 0 <= v < width:
                result[:, y, x] = image[:, u, v]
    return result


@pytest.mark.parametrize("layout", ["planes", "channels last"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("border", ["zeros", "reflection"])
def test_shift_equals_a_loop_over_pixels(border, dtype, layout, monkeypatch):
    x = random_images().to(dtype)
    x = x.contiguous(memory_format=torch.channels_last) if layout == "channels last" else x
    offsets = torch.randint(0, 7, (2, len(x)))
    monkeypatch.setattr(augment.torch, "randint", lambda low, high, size, device: offsets)
    result = random_shift(x, 3, border).numpy()
    for n, (dy, dx) in enumerate(offsets.T.tolist()):
        np.testing.assert_array_equal(result[n], shifted(x[n].numpy(), dy - 3, dx - 3, border))
    assert result.dtype == x.numpy().dtype


def test_shift_goes_in_all_directions_and_no_farther():
    x = torch.zeros(400, 1, 9, 9)
    x[:, :, 4, 4] = 1
    places = {tuple((one[0] == 1).nonzero()[0].tolist()) for one in random_shift(x, 2)}
    assert places == {(y, z) for y in range(2, 7) for z in range(2, 7)}


@pytest.mark.parametrize("border", ["zeros", "reflection"])
def test_shift_by_zero_is_the_identity_and_by_too_much_is_possible(border):
    x = random_images()
    assert torch.equal(random_shift(x, 0, border), x)
    assert random_shift(x, 500, border).shape == x.shape


# --- affine ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("border", ["zeros", "reflection"])
@pytest.mark.parametrize("amounts", [{}, dict.fromkeys(("rotate", "scale", "shear", "shift", "elastic"), 0.0)])
def test_affine_without_amounts_is_the_identity(amounts, border):
    x = torch.rand(3, 2, 8, 10)
    torch.testing.assert_close(random_affine(x, amounts, border), x, atol=1e-5, rtol=0)


def test_every_affine_operation_changes_images_within_their_range():
    x = torch.rand(4, 1, 12, 12)
    for name in (*augment.AFFINE_OPS, "shift"):
        y = random_affine(x, {name: OPERATIONS[name].default})
        assert y.shape == x.shape and not torch.allclose(x, y, atol=1e-3), name
        assert 0 <= float(y.min()) and float(y.max()) <= 1 + 1e-6


def fixed(monkeypatch, **values: float) -> None:
    """Replace every random number by this fraction of its range, by the order in which `random_affine` draws."""
    names = iter(("rotate", "scale", "shear", "dx", "dy"))
    monkeypatch.setattr(
        augment, "uniform", lambda count, amount, like: torch.full((count,), amount * values.get(next(names), 0.0))
    )


def test_a_rotation_by_90_degrees_is_exact(monkeypatch):
    fixed(monkeypatch, rotate=1.0)
    x = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(random_affine(x, {"rotate": 90.0}), torch.rot90(x, 1, (2, 3)), atol=1e-5, rtol=0)


def test_an_affine_shift_is_in_pixels(monkeypatch):
    fixed(monkeypatch, dx=1.0, dy=-1.0)
    x = torch.rand(1, 1, 8, 10)
    expected = torch.zeros_like(x)
    expected[:, :, 3:, :-3] = x[:, :, :-3, 3:]
    torch.testing.assert_close(random_affine(x, {"shift": 3.0}), expected, atol=1e-5, rtol=0)


def test_scaling_keeps_the_center(monkeypatch):
    fixed(monkeypatch, scale=1.0)
    x = torch.zeros(1, 1, 9, 9)
    x[..., 3:6, 3:6] = 1
    y = random_affine(x, {"scale": 0.5})  # half as large again is looked at: the square becomes 2/3 as large
    assert 0.9 < float(y.sum()) / (9 / 1.5**2) < 1.1
    torch.testing.assert_close(y, y.flip(2).flip(3), atol=1e-5, rtol=0)


def test_shear_moves_rows_against_each_other(monkeypatch):
    fixed(monkeypatch, shear=1.0)
    x = torch.zeros(1, 1, 11, 11)
    x[..., 5] = 1
    found = (random_affine(x, {"shear": 0.4})[0, 0] * torch.arange(11.0)).sum(1)
    expected = 5 - 0.4 * (torch.arange(11.0) - 5)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def test_the_elastic_field_has_the_requested_standard_deviation():
    """A ramp that rises by one per pixel shows how far each pixel was shifted sideways."""
    ramp = torch.arange(64.0).expand(64, 1, 64, 64)
    shifts = (random_affine(ramp, {"elastic": 1.5}, "reflection") - ramp)[..., 8:-8]
    assert 0.7 < float(shifts.square().mean().sqrt()) < 2.0
    assert float(shifts.diff(dim=-1).abs().mean()) < 0.2  # neighbors go the same way


# --- the rest --------------------------------------------------------------------------------------------------------


def test_a_fraction_of_the_images_is_mirrored():
    x = torch.rand(2000, 1, 2, 3)
    y = random_flip(x, 0.25)
    mirrored = (y == x.flip(-1)).flatten(1).all(1)
    assert bool((mirrored | (y == x).flatten(1).all(1)).all())
    assert 0.2 < float(mirrored.float().mean()) < 0.3
    assert torch.equal(random_flip(x, 0.0), x) and torch.equal(random_flip(x, 1.0), x.flip(-1))


def test_cutout_blanks_one_square():
    x = torch.ones(300, 2, 16, 16)
    y = cutout(x, 0.25)
    for one in y:
        assert torch.equal(one[0], one[1])
        rows, columns = (one[0] == 0).any(1).nonzero().flatten(), (one[0] == 0).any(0).nonzero().flatten()
        assert len(rows) <= 5 and len(columns) <= 5
        assert float((one[0] == 0).sum()) == len(rows) * len(columns)
    whole = (y[:, 0] == 0).sum((1, 2)).float()
    assert float(whole.max()) == 16 and 0.75 * 16 < float(whole.mean()) < 16
    assert torch.equal(cutout(x, 0.0), x)


def test_strokes_become_thinner_or_thicker():
    x = torch.zeros(3000, 1, 9, 9)
    x[..., 3:6, 3:6] = 1
    ink = random_stroke_width(x, 0.5).sum((1, 2, 3))
    assert 0.45 < float((ink != 9).float().mean()) < 0.55
    assert 0.2 < float((ink > 9).float().mean()) < 0.3 and float(ink.max()) <= 25 and float(ink.min()) >= 1
    assert torch.equal(random_stroke_width(x, 0.0), x)


# --- all together ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_handwriting", [True, False])
@pytest.mark.parametrize("text", ["none", "shift", *OPERATIONS, ",".join(OPERATIONS), "shift=1,flip,thickness=1"])
def test_bytes_become_floats_of_zero_to_one(text, is_handwriting):
    x = random_images(batch=5, height=8, width=8)
    before = x.clone()
    y = build_augmentation(text, is_handwriting)(x)
    assert y.dtype == torch.float32 and y.shape == x.shape
    assert 0 <= float(y.min()) and float(y.max()) <= 1 + 1e-6
    assert torch.equal(x, before)


def test_none_changes_nothing():
    x = random_images()
    torch.testing.assert_close(build_augmentation("none", is_handwriting=True)(x), x / 255)


def test_edges_of_handwriting_are_black_and_of_photos_reflected():
    white = torch.full((64, 1, 8, 8), 255, dtype=torch.uint8)
    for text in ("shift=2", "shift=2,rotate=20"):
        assert float(build_augmentation(text, is_handwriting=True)(white).min()) == 0
        assert math.isclose(float(build_augmentation(text, is_handwriting=False)(white).min()), 1, abs_tol=1e-5)


def test_equal_seeds_give_equal_augmentations():
    x, change = random_images(), build_augmentation(",".join(OPERATIONS), is_handwriting=True)
    torch.manual_seed(3)
    one = change(x)
    torch.manual_seed(3)
    assert torch.equal(one, change(x))
    assert not torch.equal(one, change(x))
