"""Losses of a discriminator and of a generator, by name, and penalties of their gradients.

Logits are high for images that the discriminator takes for real. B images of a batch, N styles of an image, D numbers
of a style.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

#: keeps the derivative of a square root finite at 0
SMALLEST_SQUARE = 1e-12

# what torch.compile may see has plain types: the checkers of shapes in tests do not survive it
LogitLoss = Callable[[Tensor, Tensor], Tensor]


def logistic_discriminator(real_logit_B: Tensor, fake_logit_B: Tensor) -> Tensor:
    """Return the mean of softplus(-D(real)) + softplus(D(fake)) (Goodfellow et al. 2014, arXiv:1406.2661, eq. 1)."""
    return F.softplus(-real_logit_B).mean() + F.softplus(fake_logit_B).mean()


def logistic_generator(real_logit_B: Tensor, fake_logit_B: Tensor) -> Tensor:
    """Return the mean of softplus(-D(fake)), the non-saturating loss (arXiv:1406.2661, section 3)."""
    return F.softplus(-fake_logit_B).mean()


def hinge_discriminator(real_logit_B: Tensor, fake_logit_B: Tensor) -> Tensor:
    """Return the mean of max(0, 1 - D(real)) + max(0, 1 + D(fake)) (Lim and Ye 2017, arXiv:1705.02894)."""
    return F.relu(1 - real_logit_B).mean() + F.relu(1 + fake_logit_B).mean()


def least_squares_discriminator(real_logit_B: Tensor, fake_logit_B: Tensor) -> Tensor:
    """Return half the mean of (D(real) - 1)^2 + D(fake)^2 (Mao et al. 2017, arXiv:1611.04076, eq. 9)."""
    return ((real_logit_B - 1).square().mean() + fake_logit_B.square().mean()) / 2


def least_squares_generator(real_logit_B: Tensor, fake_logit_B: Tensor) -> Tensor:
    """Return half the mean of (D(fake) - 1)^2 (arXiv:1611.04076, eq. 9)."""
    return (fake_logit_B - 1).square().mean() / 2


def wasserstein_discriminator(real_logit_B: Tensor, fake_logit_B: Tensor) -> Tensor:
    """Return the mean of D(fake) - D(real) (Arjovsky, Chintala, Bottou 2017, arXiv:1701.07875)."""
    return fake_logit_B.mean() - real_logit_B.mean()


def wasserstein_generator(real_logit_B: Tensor, fake_logit_B: Tensor) -> Tensor:
    """Return the mean of -D(fake), which is also the generator's side of the hinge loss."""
    return -fake_logit_B.mean()


def relativistic_discriminator(real_logit_B: Tensor, fake_logit_B: Tensor) -> Tensor:
    """Return the mean of softplus(D(fake) - D(real)) over pairs (Jolicoeur-Martineau 2018, arXiv:1807.00734, RpGAN)."""
    return F.softplus(fake_logit_B - real_logit_B).mean()


def relativistic_generator(real_logit_B: Tensor, fake_logit_B: Tensor) -> Tensor:
    """Return the mean of softplus(D(real) - D(fake)) over pairs (R3GAN: Huang et al. 2025, arXiv:2501.05441, eq. 2)."""
    return F.softplus(real_logit_B - fake_logit_B).mean()


@dataclass(frozen=True)
class AdversarialLoss:
    """The losses of both players: functions of logits of real and of generated images.

    Attributes:
        discriminator: What the discriminator minimizes.
        generator: What the generator minimizes.
        needs_real: The generator's loss depends on the logits of real images.
        boundary: The logit between real and generated images; None where only differences of logits mean anything.
    """

    discriminator: LogitLoss
    generator: LogitLoss
    needs_real: bool = False
    boundary: float | None = 0.0


LOSSES = {
    "logistic": AdversarialLoss(logistic_discriminator, logistic_generator),
    "hinge": AdversarialLoss(hinge_discriminator, wasserstein_generator),
    "least_squares": AdversarialLoss(least_squares_discriminator, least_squares_generator, boundary=0.5),
    "wasserstein": AdversarialLoss(wasserstein_discriminator, wasserstein_generator, boundary=None),
    "relativistic": AdversarialLoss(relativistic_discriminator, relativistic_generator, needs_real=True, boundary=None),
}


def compute_margins(loss: AdversarialLoss, real_logit_B: Tensor, fake_logit_B: Tensor) -> tuple[Tensor, Tensor]:
    """Return how far real (B,) and generated images (B,) are on their side of the boundary; negative: mistaken.

    Without a boundary both are the difference of the logits of a real image and the generated one beside it.
    """
    if loss.boundary is None:
        return real_logit_B - fake_logit_B, real_logit_B - fake_logit_B
    return real_logit_B - loss.boundary, loss.boundary - fake_logit_B


# --- penalties --------------------------------------------------------------------------------------------------------


def _squared_gradient_norms(logit_B: Tensor, image_BCHW: Tensor) -> Tensor:
    """Return |dD(x)/dx|^2 of each image (B,), summed over its pixels; `logit_B` was computed from `image_BCHW`."""
    (gradient_BCHW,) = torch.autograd.grad(logit_B.sum(), image_BCHW, create_graph=True)
    return gradient_BCHW.square().flatten(1).sum(1)


def zero_centered_penalty(logit_B: Float[Tensor, " B"], image_BCHW: Float[Tensor, "B ..."]) -> Tensor:
    """Return the mean of |dD(x)/dx|^2 / 2 (Mescheder, Geiger, Nowozin 2018, arXiv:1801.04406, eq. 9 and 10).

    Args:
        logit_B: Logits of the images; computed from `image_BCHW`.
        image_BCHW: Images that require a gradient.

    Returns:
        A scalar: R1 at real and R2 at generated images, before they are multiplied by their weights.
    """
    return _squared_gradient_norms(logit_B, image_BCHW).mean() / 2


def one_centered_penalty(logit_B: Float[Tensor, " B"], image_BCHW: Float[Tensor, "B ..."]) -> Tensor:
    """Return the mean of (|dD(x)/dx| - 1)^2, the penalty of WGAN-GP (Gulrajani et al. 2017, arXiv:1704.00028, eq. 3).

    Args:
        logit_B: Logits of the images; computed from `image_BCHW`.
        image_BCHW: Images between real and generated ones, see `interpolate`; they require a gradient.

    Returns:
        A scalar.
    """
    return ((_squared_gradient_norms(logit_B, image_BCHW) + SMALLEST_SQUARE).sqrt() - 1).square().mean()


def interpolate(real_BCHW: Tensor, fake_BCHW: Tensor) -> Tensor:
    """Return a random point on the line between each real image and the generated one beside it."""
    fraction_B = torch.rand(len(real_BCHW), device=real_BCHW.device)
    return real_BCHW.lerp(fake_BCHW, fraction_B.view(-1, *[1] * (real_BCHW.ndim - 1)))


def drift_penalty(real_logit_B: Tensor) -> Tensor:
    """Return the mean of D(real)^2, which keeps logits near 0 (Karras et al. 2018, arXiv:1710.10196, appendix A.1)."""
    return real_logit_B.square().mean()


def path_lengths(image_BCHW: Float[Tensor, "B C H W"], style_BND: Float[Tensor, "B N D"]) -> Float[Tensor, " B"]:
    """Return |J^T y| of each image, J its derivative with respect to its style and y random pixels.

    y is drawn from N(0, 1) / sqrt(H W); the square is the mean over the N styles of an image (Karras et al. 2020,
    arXiv:1912.04958, section 3.2 and appendix B).

    Args:
        image_BCHW: Images; computed from `style_BND`.
        style_BND: Styles that require a gradient.

    Returns:
        Lengths (B,).
    """
    num_pixels = image_BCHW.shape[2] * image_BCHW.shape[3]
    noise_BCHW = torch.randn_like(image_BCHW) / num_pixels**0.5
    (gradient_BND,) = torch.autograd.grad((image_BCHW * noise_BCHW).sum(), style_BND, create_graph=True)
    return (gradient_BND.square().sum(2).mean(1) + SMALLEST_SQUARE).sqrt()
