"""Occlusion, on models whose dependence on the pixels is known."""

import numpy as np
import pytest
import torch
from torch import nn

from thalweg.attribution.occlusion import occlusion
from thalweg.errors import OptionError


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


class Corner(nn.Module):
    """(B, 1, H, W) -> (B, 2): class 1 depends on the upper right corner of 3 by 3 pixels only."""

    def forward(self, x_BCHW):
        """Return two logits: 0, and the mean of the corner."""
        corner = x_BCHW[:, 0, :3, -3:].mean((1, 2))
        return torch.stack([torch.zeros_like(corner), corner], 1)


def test_only_pixels_that_the_model_reads_cost_probability():
    result = occlusion(Corner(), torch.ones(1, 1, 12, 15), 1, patch=3, stride=3)
    full, empty = torch.tensor([[0.0, 1.0], [0.0, 0.0]]).softmax(1)[:, 1]
    expected = np.zeros((12, 15))
    expected[:3, -3:] = full - empty
    np.testing.assert_allclose(result.drop_HW, expected, atol=1e-7)
    assert result.drop_RS.shape == (4, 5) and np.argmax(result.drop_RS) == 4
    assert result.drop_HW.dtype == np.float32


def test_drops_of_two_classes_are_opposite():
    x = torch.randn(1, 1, 12, 12)
    first_HW = occlusion(Corner(), x, 0).drop_HW
    second_HW = occlusion(Corner(), x, 1).drop_HW
    np.testing.assert_allclose(first_HW, -second_HW, atol=1e-6)


def test_a_pixel_gets_the_mean_of_the_squares_that_cover_it():
    """By brute force, pixel by pixel."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    x = torch.randn(1, 1, 6, 8)
    result = occlusion(model, x, 2, patch=3, stride=2, fill=0.5)
    with torch.no_grad():
        full = model(x).softmax(1)[0, 2]
        drops = [[[] for _ in range(8)] for _ in range(6)]
        for row, top in enumerate((0, 2, 3)):
            for column, left in enumerate((0, 2, 4, 5)):
                covered = x.clone()
                covered[:, :, top : top + 3, left : left + 3] = 0.5
                drop = float(full - model(covered).softmax(1)[0, 2])
                assert result.drop_RS[row, column] == pytest.approx(drop, abs=1e-6)
                for y in range(top, top + 3):
                    for x_ in range(left, left + 3):
                        drops[y][x_].append(drop)
    np.testing.assert_allclose(result.drop_HW, [[np.mean(cell) for cell in row] for row in drops], atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(28, 28), (32, 40), (5, 7), (1, 1), (97, 61)])
def test_the_default_squares_cover_every_pixel(height, width):
    result = occlusion(Corner(), torch.randn(1, 1, height, width), 1)
    assert result.drop_HW.shape == (height, width) and np.isfinite(result.drop_HW).all()
    assert 1 <= result.stride <= result.patch <= max(1, min(height, width) // 6)


def test_the_fill_may_be_a_color():
    x = torch.ones(1, 3, 4, 4)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    color = torch.tensor([1.0, 1.0, 0.0])[:, None, None]
    unchanged = occlusion(model, x, 0, 2, 2, fill=torch.ones(3, 1, 1))
    assert not unchanged.drop_HW.any()
    assert occlusion(model, x, 0, 2, 2, fill=color).drop_HW.any()


@pytest.mark.parametrize(("patch", "stride"), [(13, 1), (3, 4), (-1, 1), (3, -1)])
def test_squares_that_leave_out_pixels_are_rejected(patch, stride):
    with pytest.raises(OptionError) as error:
        occlusion(Corner(), torch.ones(1, 1, 12, 15), 1, patch, stride)
    assert error.value.value == (patch, stride) and error.value.allowed == range(1, 13)
