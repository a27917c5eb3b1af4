"""Augmentation of everything that a discriminator sees, differentiable, so that it also reaches the generator.

Small data sets are learned by heart; a discriminator that sees real and generated images through the same random
transforms cannot, and the generator does not learn the transforms themselves. Images are (B, C, H, W) in [-1, 1]; all
random numbers come from torch's generator of the device.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

#: largest translation and side of the blank square, as fractions of the image
TRANSLATION = 0.125
CUTOUT = 0.5
#: standard deviations of the adaptive pipeline: scale and contrast as powers of 2, translation as a fraction
SCALE_STD = 0.2
TRANSLATION_STD = 0.125
BRIGHTNESS_STD = 0.2
CONTRAST_STD = 0.5
SATURATION_STD = 1.0
#: from here on the transforms show in generated images (arXiv:2006.06676, section 3.1)
MAX_PROBABILITY = 0.8


def diff_augment(image_BCHW: Tensor, probability: Tensor | float = 1.0) -> Tensor:
    """Change color, translation and a blank square (DiffAugment: Zhao et al. 2020, arXiv:2006.10738).

    Brightness moves by up to 0.5, saturation is multiplied by 0 to 2, contrast by 0.5 to 1.5, translations are up to
    an eighth of the image, and a square of half its side is blank.

    Args:
        image_BCHW: Images in [-1, 1].
        probability: Of each of the five changes, for each image; the paper makes all of them.

    Returns:
        Images (B, C, H, W).
    """
    device = image_BCHW.device
    count = len(image_BCHW)

    def draw(neutral: float, low: float, high: float) -> Tensor:
        value_B = low + (high - low) * torch.rand(count, device=device)
        return torch.where(_draw_mask(count, probability, device), value_B, neutral)[:, None, None, None]

    image_BCHW = image_BCHW + draw(0.0, -0.5, 0.5)
    saturation_B111 = draw(1.0, 0.0, 2.0)
    if image_BCHW.shape[1] > 1:
        image_BCHW = _scale_around(image_BCHW, image_BCHW.mean(1, keepdim=True), saturation_B111)
    image_BCHW = _scale_around(image_BCHW, image_BCHW.mean((1, 2, 3), keepdim=True), draw(1.0, 0.5, 1.5))
    image_BCHW = _translate(image_BCHW, probability)
    return _cut_out(image_BCHW, probability)


def _draw_mask(count: int, probability: Tensor | float, device: torch.device) -> Tensor:
    return torch.rand(count, device=device) < probability


def _scale_around(image_BCHW: Tensor, center: Tensor, factor_B111: Tensor) -> Tensor:
    return image_BCHW + (factor_B111 - 1) * (image_BCHW - center)


def _translate(image_BCHW: Tensor, probability: Tensor | float) -> Tensor:
    """Move each image by whole pixels; what comes in is 0, as in the paper."""
    mask_B = _draw_mask(len(image_BCHW), probability, image_BCHW.device)
    for dim in (2, 3):
        size = image_BCHW.shape[dim]
        limit = round(size * TRANSLATION)
        shift_B = torch.randint(-limit, limit + 1, (len(image_BCHW),), device=image_BCHW.device) * mask_B
        source_BS = torch.arange(size, device=image_BCHW.device) - shift_B[:, None]
        is_inside_BS = (source_BS >= 0) & (source_BS < size)
        shape = [len(image_BCHW), 1, 1, 1]
        shape[dim] = size
        index = source_BS.clamp(0, size - 1).view(shape).expand_as(image_BCHW)
        image_BCHW = image_BCHW.gather(dim, index) * is_inside_BS.view(shape)
    return image_BCHW


def _cut_out(image_BCHW: Tensor, probability: Tensor | float) -> Tensor:
    """Blank a square of each image whose center is anywhere in it."""
    count, _, height, width = image_BCHW.shape
    device = image_BCHW.device
    mask_B = _draw_mask(count, probability, device)
    is_blank_BHW = mask_B[:, None, None]
    for size, shape in ((height, (count, height, 1)), (width, (count, 1, width))):
        side = round(size * CUTOUT)
        start_B = torch.randint(0, size + 1 - side % 2, (count,), device=device) - side // 2
        offset_BS = torch.arange(size, device=device) - start_B[:, None]
        is_blank_BHW = is_blank_BHW & ((offset_BS >= 0) & (offset_BS < side)).view(shape)
    return image_BCHW * ~is_blank_BHW[:, None]


# --- the adaptive pipeline --------------------------------------------------------------------------------------------


def ada_augment(image_BCHW: Tensor, probability: Tensor | float) -> Tensor:
    """Change geometry and color, each with a probability (ADA, pipeline bgc: Karras et al. 2020, arXiv:2006.06676).

    Mirror, quarter turns, whole-pixel translation; isotropic scale, rotation, anisotropic scale, rotation, translation;
    brightness, contrast, luma flip, hue, saturation. Differs from the paper: one bilinear resampling without an
    upsampling filter; the color of gray images stays, because its changes leak into what is generated.

    Args:
        image_BCHW: Images in [-1, 1].
        probability: Of each change, for each image.

    Returns:
        Images (B, C, H, W).
    """
    affine_B33, is_moved_B = _draw_affine(image_BCHW, probability)
    grid_BHW2 = F.affine_grid(affine_B33[:, :2].to(image_BCHW.dtype), list(image_BCHW.shape), align_corners=False)
    moved_BCHW = F.grid_sample(image_BCHW, grid_BHW2, padding_mode="reflection", align_corners=False)
    image_BCHW = torch.where(is_moved_B[:, None, None, None], moved_BCHW, image_BCHW)
    if image_BCHW.shape[1] != 3:
        return image_BCHW
    color_B44, is_colored_B = _draw_color(len(image_BCHW), probability, image_BCHW.device)
    color_B44 = color_B44.to(image_BCHW.dtype)
    colored_BCHW = torch.einsum("bij,bjhw->bihw", color_B44[:, :3, :3], image_BCHW) + color_B44[:, :3, 3, None, None]
    return torch.where(is_colored_B[:, None, None, None], colored_BCHW, image_BCHW)


class _Chain:
    """A product of random matrices (B, D, D), each of them applied with a probability; the first is applied first."""

    def __init__(self, count: int, size: int, probability: Tensor | float, device: torch.device):
        self.matrix_BDD = torch.eye(size, device=device).expand(count, size, size)
        self.is_changed_B = torch.zeros(count, dtype=torch.bool, device=device)
        self.probability = probability

    def append(self, change_BDD: Tensor, probability: Tensor | float | None = None) -> None:
        """Multiply by a change, where it is drawn."""
        if probability is None:
            probability = self.probability
        mask_B = _draw_mask(len(change_BDD), probability, change_BDD.device)
        self.matrix_BDD = torch.where(mask_B[:, None, None], change_BDD @ self.matrix_BDD, self.matrix_BDD)
        self.is_changed_B = self.is_changed_B | mask_B


def _draw_affine(image_BCHW: Tensor, probability: Tensor | float) -> tuple[Tensor, Tensor]:
    """Draw the affine maps (B, 3, 3) from output to input coordinates in [-1, 1], and which images (B,) they change."""
    count = len(image_BCHW)
    size = image_BCHW.shape[3]
    device = image_BCHW.device
    one_B = torch.ones(count, device=device)
    # two rotations, so that one in `probability` of the images is rotated at all
    rotation_probability = 1 - (1 - torch.as_tensor(probability, device=device)).clamp(min=0).sqrt()
    # from output to input: what happens to an image last comes first
    chain = _Chain(count, 3, probability, device)
    chain.append(_translation_matrix(2 * TRANSLATION_STD * torch.randn(count, 2, device=device)))
    chain.append(_rotation_matrix(_draw_angle(count, device)), rotation_probability)
    scale_B = torch.exp2(SCALE_STD * torch.randn(count, device=device))
    chain.append(_scale_matrix(scale_B, 1 / scale_B))
    chain.append(_rotation_matrix(_draw_angle(count, device)), rotation_probability)
    scale_B = torch.exp2(SCALE_STD * torch.randn(count, device=device))
    chain.append(_scale_matrix(scale_B, scale_B))
    pixels_B2 = ((2 * torch.rand(count, 2, device=device) - 1) * TRANSLATION * size).round()
    chain.append(_translation_matrix(pixels_B2 * 2 / size))
    chain.append(_rotation_matrix(torch.randint(4, (count,), device=device) * (math.pi / 2)))
    chain.append(_scale_matrix(1 - 2 * torch.randint(2, (count,), device=device).float(), one_B))
    return chain.matrix_BDD, chain.is_changed_B


def _draw_angle(count: int, device: torch.device) -> Tensor:
    return (2 * torch.rand(count, device=device) - 1) * math.pi


def _draw_color(count: int, probability: Tensor | float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Draw affine maps of colors (B, 4, 4), and which images (B,) they change."""
    chain = _Chain(count, 4, probability, device)
    identity_44 = torch.eye(4, device=device)
    brightness_B = BRIGHTNESS_STD * torch.randn(count, device=device)
    brightness_B44 = identity_44.repeat(count, 1, 1)
    brightness_B44[:, :3, 3] = brightness_B[:, None]
    chain.append(brightness_B44)
    contrast_B = torch.exp2(CONTRAST_STD * torch.randn(count, device=device))
    chain.append(_scale_color(contrast_B, identity_44))
    luma_4 = torch.full((4,), 1 / math.sqrt(3), device=device)
    luma_4[3] = 0.0
    luma_44 = torch.outer(luma_4, luma_4)
    is_flipped_B = torch.randint(2, (count,), device=device).float()
    chain.append(identity_44 - 2 * luma_44 * is_flipped_B[:, None, None])
    chain.append(_rotate_hue(_draw_angle(count, device), luma_4))
    saturation_B = torch.exp2(SATURATION_STD * torch.randn(count, device=device))
    saturation_B44 = luma_44 + (identity_44 - luma_44) * saturation_B[:, None, None]
    saturation_B44[:, 3, 3] = 1.0
    chain.append(saturation_B44)
    return chain.matrix_BDD, chain.is_changed_B


def _scale_color(factor_B: Tensor, identity_44: Tensor) -> Tensor:
    matrix_B44 = identity_44 * factor_B[:, None, None]
    matrix_B44[:, 3, 3] = 1.0
    return matrix_B44


def _rotate_hue(angle_B: Tensor, luma_4: Tensor) -> Tensor:
    """Return rotations (B, 4, 4) of colors around the gray axis, by the formula of Rodrigues."""
    identity_44 = torch.eye(4, device=angle_B.device)
    luma_44 = torch.outer(luma_4, luma_4)
    cross_44 = torch.zeros(4, 4, device=angle_B.device)
    for row in range(3):
        cross_44[row, (row + 1) % 3] = -1 / math.sqrt(3)
        cross_44[row, (row + 2) % 3] = 1 / math.sqrt(3)
    cos_B11 = angle_B.cos()[:, None, None]
    sin_B11 = angle_B.sin()[:, None, None]
    matrix_B44 = cos_B11 * identity_44 + sin_B11 * cross_44 + (1 - cos_B11) * luma_44
    matrix_B44[:, 3, 3] = 1.0
    return matrix_B44


def _scale_matrix(x_B: Tensor, y_B: Tensor) -> Tensor:
    return torch.diag_embed(torch.stack([x_B, y_B, torch.ones_like(x_B)], 1))


def _rotation_matrix(angle_B: Tensor) -> Tensor:
    cos_B = angle_B.cos()
    sin_B = angle_B.sin()
    matrix_B33 = torch.diag_embed(torch.stack([cos_B, cos_B, torch.ones_like(cos_B)], 1))
    matrix_B33[:, 0, 1] = -sin_B
    matrix_B33[:, 1, 0] = sin_B
    return matrix_B33


def _translation_matrix(shift_B2: Tensor) -> Tensor:
    matrix_B33 = torch.eye(3, device=shift_B2.device).repeat(len(shift_B2), 1, 1)
    matrix_B33[:, :2, 2] = shift_B2
    return matrix_B33


def adapt_probability(
    probability: Tensor, real_sign: Tensor, num_images: Tensor | int, target: float, images_to_one: int
) -> Tensor:
    """Return the new probability: it rises while the discriminator is surer of real images than the target, else falls.

    Args:
        probability: The probability now, a scalar.
        real_sign: Mean sign of the logits of real images since the last change, E[sign D(real)].
        num_images: Real images since the last change.
        target: The mean sign that is aimed at.
        images_to_one: Images in which the probability would rise from 0 to 1.

    Returns:
        A scalar of 0 to `MAX_PROBABILITY`.
    """
    change = (real_sign - target).sign() * num_images / images_to_one
    return (probability + change).clamp(0, MAX_PROBABILITY)
