"""Augmentation of photos beside Pillow, beside distributions of boxes, and beside the labels of mixtures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from thalweg.data.images import augment_policy as policy
from thalweg.data.images.augment import build_augmentation, build_mixing
from thalweg.data.images.augment_policy import GEOMETRIC_OPS, OPS, RAND_STRENGTHS, Strengths, apply_ops
from thalweg.data.images.photo_augment import (
    ERASE_AREA,
    box_mask,
    color_jitter,
    cutmix,
    draw_box_sizes,
    hue_matrix,
    mixup,
    random_crop,
    random_erase,
    saturation_matrix,
    to_gray,
)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def make_photos(count: int = 4, height: int = 24, width: int = 20, channels: int = 3) -> Tensor:
    """Return smooth random images with levels that are bytes."""
    coarse = torch.rand(count, channels, 4, 4)
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")
    return ((smooth * 0.8 + 0.1).clamp(0, 1) * 255).round() / 255


def to_pillow(x_CHW: Tensor) -> Image.Image:
    array = (x_CHW * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def levels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, np.float64).reshape(image.height, image.width, -1)


# --- operations beside Pillow ----------------------------------------------------------------------------------------


def enhance(kind: type) -> object:
    return lambda image, amount: kind(image).enhance(amount)


PILLOW = {
    "brightness": (policy.adjust_brightness, enhance(ImageEnhance.Brightness), [0.1, 0.7, 1.0, 1.9], 1),
    "color": (policy.adjust_color, enhance(ImageEnhance.Color), [0.0, 0.4, 1.0, 1.9], 2),
    "contrast": (policy.adjust_contrast, enhance(ImageEnhance.Contrast), [0.1, 0.7, 1.0, 1.9], 2),
    "sharpness": (policy.adjust_sharpness, enhance(ImageEnhance.Sharpness), [0.0, 0.5, 1.0, 1.9], 2),
    "posterize": (policy.posterize, lambda image, bits: ImageOps.posterize(image, int(8 - bits)), [0, 2, 4, 6], 0),
    "solarize": (
        policy.solarize,
        lambda image, threshold: ImageOps.solarize(image, math.ceil(255 * threshold)),
        [0.0, 0.3, 0.8, 1.0],
        0,
    ),
    "autocontrast": (policy.autocontrast, lambda image, _: ImageOps.autocontrast(image), [0.0] * 4, 1),
    "equalize": (policy.equalize, lambda image, _: ImageOps.equalize(image), [0.0] * 4, 0),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", PILLOW)
def test_an_operation_is_that_of_pillow(name, channels):
    change, of_pillow, amounts, tolerance = PILLOW[name]
    x = make_photos(channels=channels)
    y = change(x, torch.tensor(amounts))
    for image, result, amount in zip(x, y, amounts, strict=True):
        expected = levels(of_pillow(to_pillow(image), amount))
        found = (result * 255).permute(1, 2, 0).numpy()
        assert np.abs(found - expected).max() <= tolerance + 0.51, amount


@pytest.mark.parametrize("name", ["autocontrast", "equalize"])
def test_images_of_one_level_stay(name):
    gray = torch.full((1, 3, 16, 16), 100 / 255)
    assert torch.equal(PILLOW[name][0](gray, torch.zeros(1)), gray)


def transform(name: str, level: float, sign: int = 1) -> tuple[Tensor, Tensor]:
    x = make_photos(count=1, height=20, width=20)
    row = torch.tensor([OPS.index(name)])
    strengths = Strengths(rotate=90, shear=1.0, translate=0.5, enhance=0.9, posterize=4)
    return x, apply_ops(x, row, torch.tensor([level]), torch.tensor([sign]), strengths, "zeros")


def test_geometric_operations_are_exact():
    x, y = transform("rotate", 1.0)
    torch.testing.assert_close(y, torch.rot90(x, 1, (2, 3)), atol=1e-5, rtol=0)
    x, y = transform("translate_x", 0.2)  # two pixels of 20
    torch.testing.assert_close(y[..., :-2], x[..., 2:], atol=1e-5, rtol=0)
    assert not y[..., -2:].any()
    x, y = transform("translate_y", 0.2, -1)
    torch.testing.assert_close(y[:, :, 2:], x[:, :, :-2], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["shear_x", "shear_y"])
def test_a_shear_moves_rows_or_columns_by_their_distance_from_the_center(name):
    ramp = torch.arange(20.0)
    x = ramp.expand(1, 1, 20, 20) if name == "shear_x" else ramp[:, None].expand(1, 1, 20, 20)
    strengths = Strengths(rotate=0, shear=0.2, translate=0, enhance=0, posterize=0)
    y = apply_ops(x, torch.tensor([OPS.index(name)]), torch.ones(1), torch.ones(1), strengths, "zeros")
    moved = (y - x)[0, 0, 4:-4, 4:-4]
    expected = 0.2 * (ramp[4:-4] - 9.5)
    expected = expected[:, None] if name == "shear_x" else expected[None]
    torch.testing.assert_close(moved, expected.expand(12, 12), atol=1e-4, rtol=0)


# --- policies --------------------------------------------------------------------------------------------------------


def test_every_operation_changes_only_the_images_that_drew_it():
    x = make_photos(count=len(OPS), height=20)
    for level in (1.0, 0.0):
        rows = torch.arange(len(OPS))
        ones = torch.ones_like(rows)
        y = apply_ops(x, rows, torch.full((len(OPS),), level), ones, RAND_STRENGTHS, "reflection")
        changed = ((y - x).abs().amax((1, 2, 3)) > 0.5 / 255).tolist()
        always = [name in ("autocontrast", "equalize") for name in OPS]
        assert changed == ([name != "identity" for name in OPS] if level else always)


def test_another_device_gives_the_same_images(monkeypatch):
    """A device other than the CPU computes every operation for all images, and selects."""
    x = make_photos(count=64)

    def apply_to_all(is_drawn_B: Tensor, x_BCHW: Tensor, change, amount_B: Tensor) -> Tensor:
        return torch.where(is_drawn_B[:, None, None, None], change(x_BCHW, amount_B), x_BCHW)

    torch.manual_seed(1)
    y = policy.rand_augment(x, 15)
    monkeypatch.setattr(policy, "apply_where", apply_to_all)
    torch.manual_seed(1)
    torch.testing.assert_close(policy.rand_augment(x, 15), y, atol=1e-6, rtol=0)


def test_policies_draw_all_operations_and_magnitudes(monkeypatch):
    drawn = []

    def watch(x, op_B, level_B, sign_B, strengths, border):
        drawn.append((op_B, level_B, sign_B))
        return x

    monkeypatch.setattr(policy, "apply_ops", watch)
    x = torch.zeros(5000, 1, 1, 1)
    policy.rand_augment(x, 9)
    policy.trivial_augment(x)
    assert len(drawn) == 3  # two operations of RandAugment, one of TrivialAugment
    for op_B, _, sign_B in drawn:
        counts = torch.bincount(op_B, minlength=len(OPS))
        assert len(counts) == len(OPS) and 0.7 < float(counts.min()) * len(OPS) / 5000
        assert abs(float(sign_B.float().mean())) < 0.1 and set(sign_B.tolist()) == {-1, 1}
    assert not torch.equal(drawn[0][0], drawn[1][0])
    assert torch.allclose(drawn[0][1], torch.tensor(0.3))
    assert float(drawn[2][1].min()) < 0.01 and float(drawn[2][1].max()) > 0.99
    assert set(GEOMETRIC_OPS) < set(OPS)


# --- crop and erase --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(30, 30), (20, 60), (60, 20)])
def test_boxes_fit_and_their_area_is_uniform(size):
    height_B, width_B = draw_box_sizes(torch.zeros(20_000, 1, *size), (0.35, 1.0), (3 / 4, 4 / 3))
    assert float(height_B.max()) <= 1 + 1e-6 and float(width_B.max()) <= 1 + 1e-6
    area_B = (height_B * width_B).sort().values
    torch.testing.assert_close(area_B, torch.linspace(0.35, 1, 20_000), atol=0.02, rtol=0)
    ratio_B = width_B * size[1] / (height_B * size[0])
    full = size[1] / size[0]
    assert min(3 / 4, full) - 1e-4 <= float(ratio_B.min()) and float(ratio_B.max()) <= max(4 / 3, full) + 1e-4
    if size == (30, 30):
        assert float(ratio_B.min()) < 0.77 and float(ratio_B.max()) > 1.3


def test_a_crop_is_a_box_of_its_image_enlarged():
    """Two ramps say for every pixel where it comes from."""
    size = 40
    ramp = (torch.arange(size) + 0.5) / size
    x = torch.stack([ramp[:, None].expand(size, size), ramp.expand(size, size)])
    y = random_crop(x.expand(200, -1, -1, -1), 0.25)
    inner = y[..., 4:-4, 4:-4]
    steps_B2 = torch.stack([inner[:, 0].diff(dim=1).mean((1, 2)), inner[:, 1].diff(dim=2).mean((1, 2))], 1) * size
    torch.testing.assert_close(
        inner[:, 0].diff(dim=1), (steps_B2[:, :1, None] / size).expand(200, 31, 32), atol=1e-4, rtol=0
    )
    area_B = steps_B2.prod(1)
    assert 0.25 <= float(area_B.min()) < 0.3 and 0.95 < float(area_B.max()) <= 1 + 1e-4
    centers_B2 = y.mean((2, 3))
    assert float(centers_B2.min()) < 0.35 and float(centers_B2.max()) > 0.65
    torch.testing.assert_close(random_crop(x[None], 1.0), x[None], atol=1e-5, rtol=0)


def test_a_fraction_of_the_images_loses_a_rectangle():
    x = make_photos(count=2000, height=32, width=32)
    y = random_erase(x, 0.25)
    changed_BHW = (y != x).any(1)
    erased = changed_BHW.any(2).any(1)
    assert 0.2 < float(erased.float().mean()) < 0.3
    area = changed_BHW[erased].float().mean((1, 2))
    assert ERASE_AREA[0] - 0.02 < float(area.min()) and float(area.max()) < ERASE_AREA[1] + 0.04
    assert float(area.max() - area.min()) > 0.25
    fill = y.permute(0, 2, 3, 1)[changed_BHW]
    torch.testing.assert_close(fill, x.mean((0, 2, 3)).expand_as(fill))
    for mask in changed_BHW[erased][:50]:
        assert int(mask.sum()) >= 0.97 * int(mask.any(1).sum()) * int(mask.any(0).sum())
    assert torch.equal(random_erase(x, 0.0), x)


# --- color -----------------------------------------------------------------------------------------------------------


def test_matrices_of_color_keep_grays():
    factor_B = torch.tensor([0.0, 0.5, 1.0, 1.7])
    matrix_B33 = hue_matrix(torch.tensor([0.0, 0.5, 1.0, 2 * math.pi / 3])) @ saturation_matrix(factor_B)
    torch.testing.assert_close(matrix_B33.sum(2), torch.ones(4, 3))
    x = make_photos()
    grayed = torch.einsum("ij,bjhw->bihw", saturation_matrix(factor_B)[0], x)
    torch.testing.assert_close(grayed, to_gray(x).expand(-1, 3, -1, -1))
    torch.testing.assert_close(saturation_matrix(factor_B)[2], torch.eye(3))
    third = hue_matrix(torch.tensor([2 * math.pi / 3]))[0]  # a third of the circle turns red into another primary
    assert sorted(third[:, 0].round().tolist()) == [0, 0, 1] and float(third[0, 0]) < 1e-6


def test_jitter_changes_each_image_by_at_most_its_amount():
    x = torch.full((4000, 1, 2, 2), 0.5)
    brightness = color_jitter(x, 0.4)[:, 0, 0, 0] / 0.5  # contrast leaves the mean where it is
    torch.testing.assert_close(brightness.sort().values, torch.linspace(0.6, 1.4, 4000), atol=0.03, rtol=0)
    photos = make_photos(count=200)
    torch.testing.assert_close(color_jitter(photos, 0.0), photos, atol=1e-6, rtol=0)
    changed = (color_jitter(photos, 0.4) - photos).abs().amax((1, 2, 3))
    assert float(changed.min()) > 0 and len(set(changed.tolist())) > 190


# --- mixing ----------------------------------------------------------------------------------------------------------


def test_mixup_of_one_hot_images_shows_the_weights():
    """Where every image is one-hot, the mixed image is the mixed label."""
    labels_B = torch.randint(0, 10, (500,))
    one_hot_BK = torch.nn.functional.one_hot(labels_B, 10).float()
    mixed_BK, mix_B = mixup(one_hot_BK[..., None, None], 0.2)
    expected_BK = one_hot_BK * (1 - mix_B[:, None]) + one_hot_BK.roll(1, 0) * mix_B[:, None]
    torch.testing.assert_close(mixed_BK[..., 0, 0], expected_BK)
    extremes = ((mix_B < 0.1) | (mix_B > 0.9)).float().mean()
    assert 0.6 < float(extremes) < 0.75  # 0.67 of Beta(0.2, 0.2)


def test_the_label_of_cutmix_is_the_fraction_of_pixels():
    number_B = torch.arange(300.0)[:, None, None, None].expand(-1, 2, 12, 17)
    y, mix_B = cutmix(number_B, 1.0)
    is_other_BHW = y[:, 0] != number_B[:, 0]
    assert torch.equal(y[is_other_BHW[:, None].expand_as(y)], number_B.roll(1, 0)[is_other_BHW[:, None].expand_as(y)])
    torch.testing.assert_close(mix_B, is_other_BHW.float().mean((1, 2)))
    assert float(mix_B.min()) < 0.05 and float(mix_B.max()) > 0.6
    for mask in is_other_BHW:
        assert int(mask.sum()) == int(mask.any(1).sum()) * int(mask.any(0).sum())


def test_a_batch_is_blended_or_pasted():
    mix = build_mixing("flip,mixup=1,cutmix=1")
    x = torch.arange(8.0)[:, None, None, None].expand(-1, 1, 8, 8)
    blended = [bool((mix(x)[0] % 1 != 0).any()) for _ in range(40)]
    assert 8 < sum(blended) < 32
    assert build_mixing("flip,crop") is None
    one, mix_B = build_mixing("cutmix")(x[:1])  # a batch of one image is mixed with itself
    assert torch.equal(one, x[:1]) and len(mix_B) == 1


def test_a_box_is_whole_pixels():
    inside = box_mask(torch.zeros(1, 1, 4, 8), tuple(torch.tensor([side]) for side in (0.25, 0.5, 0.75, 1.0)))
    assert inside[0, 0].int().tolist() == [[0] * 8, [0] * 4 + [1] * 4, [0] * 4 + [1] * 4, [0] * 8]


@pytest.mark.parametrize("text", ["crop,flip,color,erase", "crop,trivial", "randaugment=30"])
def test_gray_and_oblong_images_are_augmented_too(text):
    x = (make_photos(count=16, height=12, width=30, channels=1) * 255).to(torch.uint8)
    y = build_augmentation(text, is_handwriting=False)(x)
    assert y.shape == x.shape and 0 <= float(y.min()) and float(y.max()) <= 1 + 1e-6
    assert not torch.allclose(y, x / 255, atol=0.01)
