"""Adversarial losses against their formulas, and penalties against derivatives that are known or measured."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from thalweg.losses.adversarial import (
    LOSSES,
    compute_margins,
    drift_penalty,
    interpolate,
    one_centered_penalty,
    path_lengths,
    zero_centered_penalty,
)

REAL = np.array([0.3, -2.0, 1.7, 4.0])
FAKE = np.array([-0.4, 0.9, -3.0, 1.5])


def log_sigmoid(x: np.ndarray) -> np.ndarray:
    return np.log(1 / (1 + np.exp(-x)))


#: the losses as their papers write them: what the discriminator and what the generator minimizes
FORMULAS = {
    "logistic": (
        -log_sigmoid(REAL).mean() - np.log(1 - np.exp(log_sigmoid(FAKE))).mean(),
        -log_sigmoid(FAKE).mean(),
    ),
    "hinge": (-np.minimum(0, REAL - 1).mean() - np.minimum(0, -FAKE - 1).mean(), -FAKE.mean()),
    "least_squares": (
        0.5 * ((REAL - 1) ** 2).mean() + 0.5 * (FAKE**2).mean(),
        0.5 * ((FAKE - 1) ** 2).mean(),
    ),
    "wasserstein": (FAKE.mean() - REAL.mean(), -FAKE.mean()),
    "relativistic": (-log_sigmoid(REAL - FAKE).mean(), -log_sigmoid(FAKE - REAL).mean()),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_those_of_the_papers(name):
    real = torch.from_numpy(REAL)
    fake = torch.from_numpy(FAKE)
    discriminator, generator = FORMULAS[name]
    assert LOSSES[name].discriminator(real, fake).item() == pytest.approx(discriminator)
    assert LOSSES[name].generator(real, fake).item() == pytest.approx(generator)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_pull_logits_in_opposite_directions(name):
    """The discriminator raises real and lowers generated logits, the generator raises generated ones."""
    real = torch.zeros(3, requires_grad=True)
    fake = torch.zeros(3, requires_grad=True)
    loss = LOSSES[name]
    real_gradient, fake_gradient = torch.autograd.grad(loss.discriminator(real, fake), (real, fake))
    assert (real_gradient < 0).all() and (fake_gradient >= 0).all()
    gradients = torch.autograd.grad(loss.generator(real, fake), (real, fake), allow_unused=True)
    assert (gradients[1] < 0).all() and (gradients[0] is not None) == loss.needs_real


@pytest.mark.parametrize("name", ["logistic", "relativistic"])
def test_losses_of_large_logits_are_finite(name):
    large = torch.tensor([1e4])
    for function in (LOSSES[name].discriminator, LOSSES[name].generator):
        assert function(large, -large).isfinite() and function(-large, large).isfinite()


def test_margins_say_which_images_are_told_apart():
    real = torch.from_numpy(REAL)
    fake = torch.from_numpy(FAKE)
    for name, expected in (("logistic", (3, 2)), ("least_squares", (2, 2)), ("relativistic", (3, 3))):
        margins = compute_margins(LOSSES[name], real, fake)
        assert tuple(int((margin > 0).sum()) for margin in margins) == expected


def linear(scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the weights of a linear discriminator, its logits and its images."""
    torch.manual_seed(0)
    weight = (scale * torch.randn(3, 4, 4)).double().requires_grad_(True)
    image = torch.randn(5, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    return weight, (image * weight).sum((1, 2, 3)), image


def test_penalties_of_a_linear_discriminator_are_known():
    weight, logit, image = linear()
    torch.testing.assert_close(zero_centered_penalty(logit, image), weight.square().sum() / 2)
    torch.testing.assert_close(one_centered_penalty(logit, image), (weight.norm() - 1).square())
    zero_centered_penalty(logit, image).backward()
    torch.testing.assert_close(weight.grad, weight)


def test_penalties_of_a_flat_discriminator_have_finite_gradients():
    weight, logit, image = linear(0.0)
    one_centered_penalty(logit, image).backward()
    assert weight.grad.isfinite().all()


def test_the_penalty_of_any_discriminator_matches_finite_differences():
    torch.manual_seed(0)
    discriminator = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1), nn.Flatten(0)).double()
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    h = 1e-5
    derivatives = [(discriminator(x + h * e) - discriminator(x - h * e)) / (2 * h) for e in torch.eye(3).double()]
    squares = torch.stack(derivatives).square().sum(0)
    penalty = zero_centered_penalty(discriminator(x), x)
    torch.testing.assert_close(penalty, squares.mean() / 2, atol=1e-8, rtol=1e-6)
    penalty = one_centered_penalty(discriminator(x), x)
    torch.testing.assert_close(penalty, (squares.sqrt() - 1).square().mean(), atol=1e-8, rtol=1e-6)


def test_points_between_images_lie_on_their_lines():
    torch.manual_seed(0)
    real = torch.randn(50, 2, 3, 3)
    fake = torch.randn(50, 2, 3, 3)
    between = interpolate(real, fake)
    fraction = (between - real) / (fake - real)
    assert fraction.flatten(1).std(1).max() < 1e-3
    assert 0 <= fraction.min() and fraction.max() <= 1 and fraction.mean().item() == pytest.approx(0.5, abs=0.15)


def test_drift_is_the_mean_square():
    assert drift_penalty(torch.from_numpy(REAL)).item() == pytest.approx((REAL**2).mean())


def test_path_lengths_of_a_linear_generator_match_the_direct_computation():
    """J is the matrix itself: |J^T y| over the pixels y; with several styles, the root of the mean square."""
    torch.manual_seed(0)
    matrix = torch.randn(2, 6, 1 * 4 * 4, dtype=torch.float64, requires_grad=True)
    style = torch.randn(3, 2, 6, dtype=torch.float64, requires_grad=True)
    image = torch.einsum("bnw,nwp->bp", style, matrix).view(3, 1, 4, 4)
    torch.manual_seed(7)
    lengths = path_lengths(image, style)
    torch.manual_seed(7)
    noise = torch.randn(3, 1, 4, 4, dtype=torch.float64).flatten(1) / 4
    projections = torch.einsum("nwp,bp->bnw", matrix, noise)
    torch.testing.assert_close(lengths, projections.square().sum(2).mean(1).sqrt())
    lengths.sum().backward()
    assert matrix.grad.abs().sum() > 0
