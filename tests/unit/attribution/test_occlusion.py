"""Occlusion: networks of which it is known where they look."""

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
    """(B, 1, H, W) -> (B, 2): class 1 is in the upper right corner of 3 by 3 pixels, and nowhere else."""

    def forward(self, x_BCHW):
        """Two logits: 0, and the mean of the corner."""
        corner = x_BCHW[:, 0, :3, -3:].mean((1, 2))
        return torch.stack([torch.zeros_like(corner), corner], 1)


def test_only_what_the_network_looks_at_costs_anything():
    found = occlusion(Corner(), torch.ones(1, 1, 12, 15), 1, patch=3, stride=3)
    full, empty = torch.tensor([[0.0, 1.0], [0.0, 0.0]]).softmax(1)[:, 1]
    expected = np.zeros((12, 15))
    expected[:3, -3:] = full - empty
    np.testing.assert_allclose(found.drop_HW, expected, atol=1e-7)
    assert found.drop_RS.shape == (4, 5) and np.argmax(found.drop_RS) == 4
    assert found.drop_HW.dtype == np.float32


def test_what_is_for_one_class_is_against_the_other():
    x = torch.randn(1, 1, 12, 12)
    one, other = (occlusion(Corner(), x, target).drop_HW for target in (0, 1))
    np.testing.assert_allclose(one, -other, atol=1e-6)


def test_a_pixel_has_the_mean_of_the_squares_that_cover_it():
    """One pixel after the other, by brute force."""
    network, x = nn.Sequential(nn.Flatten(), nn.Linear(48, 3)), torch.randn(1, 1, 6, 8)
    found = occlusion(network, x, 2, patch=3, stride=2, fill=0.5)
    with torch.no_grad():
        whole = network(x).softmax(1)[0, 2]
        drops = [[[] for _ in range(8)] for _ in range(6)]
        for row, top in enumerate((0, 2, 3)):
            for column, left in enumerate((0, 2, 4, 5)):
                covered = x.clone()
                covered[:, :, top : top + 3, left : left + 3] = 0.5
                drop = float(whole - network(covered).softmax(1)[0, 2])
                assert found.drop_RS[row, column] == pytest.approx(drop, abs=1e-6)
                for y in range(top, top + 3):
                    for x_ in range(left, left + 3):
                        drops[y][x_].append(drop)
    np.testing.assert_allclose(found.drop_HW, [[np.mean(one) for one in row] for row in drops], atol=1e-6)


@pytest.mark.parametrize(("high", "wide"), [(28, 28), (32, 40), (5, 7), (1, 1), (97, 61)])
def test_the_default_squares_cover_every_pixel(high, wide):
    found = occlusion(Corner(), torch.randn(1, 1, high, wide), 1)
    assert found.drop_HW.shape == (high, wide) and np.isfinite(found.drop_HW).all()
    assert 1 <= found.stride <= found.patch <= max(1, min(high, wide) // 6)


def test_the_fill_may_be_a_colour():
    x = torch.ones(1, 3, 4, 4)
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    colour = torch.tensor([1.0, 1.0, 0.0])[:, None, None]
    same = occlusion(network, x, 0, 2, 2, fill=torch.ones(3, 1, 1))
    assert not same.drop_HW.any()
    assert occlusion(network, x, 0, 2, 2, fill=colour).drop_HW.any()


@pytest.mark.parametrize(("patch", "stride"), [(13, 1), (3, 4), (-1, 1), (3, -1)])
def test_squares_that_do_not_pass_over_every_pixel_are_refused(patch, stride):
    with pytest.raises(OptionError, match="does not pass over every pixel of 15 x 12.\n  Give a patch of 1 to 12"):
        occlusion(Corner(), torch.ones(1, 1, 12, 15), 1, patch, stride)
