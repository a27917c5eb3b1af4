"""Minibatch deviation against its formula, group by group."""

from __future__ import annotations

import pytest
import torch

from thalweg.layers.minibatch_deviation import MinibatchDeviation


def formula(x: torch.Tensor, groups: list[list[int]]) -> torch.Tensor:
    expected = torch.empty(len(x))
    for group in groups:
        std = x[group].var(0, unbiased=False).add(1e-8).sqrt()
        expected[group] = std.mean()
    return expected


@pytest.mark.parametrize(
    ("count", "group_size", "groups"),
    [
        (4, 4, [[0, 1, 2, 3]]),
        (8, 4, [[0, 2, 4, 6], [1, 3, 5, 7]]),
        (6, 2, [[0, 3], [1, 4], [2, 5]]),
        (3, 4, [[0, 1, 2]]),
        (7, 4, [[0, 1, 2, 3, 4, 5, 6]]),
        (9, 4, [[0, 2, 4, 6, 8], [1, 3, 5, 7]]),
    ],
)
def test_it_is_the_formula(count, group_size, groups):
    x = torch.randn(count, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    y = MinibatchDeviation(group_size)(x)
    assert y.shape == (count, 6, 4, 4)
    assert torch.equal(y[:, :5], x)
    torch.testing.assert_close(y[:, 5], formula(x, groups)[:, None, None].expand(-1, 4, 4))


@pytest.mark.parametrize("value", [0.0, 1e3])
def test_equal_images_deviate_by_nothing_and_have_finite_derivatives(value):
    for count in (1, 4):
        x = torch.full((count, 3, 4, 4), value, requires_grad=True)
        y = MinibatchDeviation()(x)
        torch.testing.assert_close(y[:, 3], torch.full((count, 4, 4), 1e-4))
        (gradient,) = torch.autograd.grad(y[:, 3].sum(), x, create_graph=True)
        gradient.square().sum().backward()
        assert gradient.isfinite().all() and x.grad.isfinite().all()


def test_small_differences_of_large_numbers_are_seen():
    x = torch.full((4, 1, 4, 4), 1000.0)
    x[::2] += 0.25
    assert MinibatchDeviation()(x)[0, 1, 0, 0].item() == pytest.approx(0.125)
