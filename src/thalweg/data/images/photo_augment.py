"""Random augmentation of photos, a whole batch at a time, on its device: crop, color, erasing, mixing.

Images are floats of 0 to 1 (B, C, H, W). Nothing here waits for the device, so CUDA graphs can capture all of it.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

#: limits of width / height of a crop, and of the erased rectangle
CROP_RATIO = (3 / 4, 4 / 3)
ERASE_RATIO = (0.3, 1 / 0.3)
#: smallest and largest area that is erased, as fractions
ERASE_AREA = (0.02, 0.33)
#: weights of red, green and blue in brightness (ITU-R BT.601, as in Pillow)
GRAY_WEIGHTS = (0.299, 0.587, 0.114)
#: largest turn of the hue at a jitter of 1, in radians: a tenth of the circle
HUE_TURN = 0.2 * math.pi


def uniform(count: int, amount: float, like: Tensor) -> Tensor:
    """Return (count,) numbers uniform in [-amount, amount], on the device of `like`."""
    return (torch.rand(count, device=like.device) * 2 - 1) * amount


def draw_box_sizes(x_BCHW: Tensor, area: tuple[float, float], ratio: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Draw boxes that fit into the images; their area is uniform, the logarithm of width / height too.

    Args:
        x_BCHW: The images.
        area: Smallest and largest area, as fractions.
        ratio: Smallest and largest width / height in pixels; an area that fits no such box gets the nearest one.

    Returns:
        Heights and widths (B,), as fractions of the images' height and width.
    """
    batch_size, _, height, width = x_BCHW.shape
    area_B = area[0] + (area[1] - area[0]) * torch.rand(batch_size, device=x_BCHW.device)
    # in units of the image, a box of this area is at most 1 wide and at most 1 high
    limit_B = -area_B.log()
    aspect = math.log(width / height)
    low_B = torch.full_like(limit_B, math.log(ratio[0]) - aspect).clamp(-limit_B, limit_B)
    high_B = torch.full_like(limit_B, math.log(ratio[1]) - aspect).clamp(-limit_B, limit_B)
    log_ratio_B = low_B + (high_B - low_B) * torch.rand(batch_size, device=x_BCHW.device)
    root_B = (log_ratio_B / 2).exp()
    return area_B.sqrt() / root_B, area_B.sqrt() * root_B


def random_crop(x_BCHW: Tensor, min_area: float) -> Tensor:
    """Enlarge a random box of each image to its full size (Szegedy et al. 2015, arXiv:1409.4842).

    The box has `min_area` to 1 of the area, and a width / height of 3/4 to 4/3. Bilinear: boxes are never shrunk.
    """
    box_height_B, box_width_B = draw_box_sizes(x_BCHW, (min_area, 1.0), CROP_RATIO)
    dx_B = uniform(len(x_BCHW), 1.0, x_BCHW) * (1 - box_width_B)
    dy_B = uniform(len(x_BCHW), 1.0, x_BCHW) * (1 - box_height_B)
    zero_B = torch.zeros_like(dx_B)
    theta_B23 = torch.stack([box_width_B, zero_B, dx_B, zero_B, box_height_B, dy_B], 1).view(-1, 2, 3)
    grid_BHW2 = F.affine_grid(theta_B23, list(x_BCHW.shape), align_corners=False)
    return F.grid_sample(x_BCHW.contiguous(), grid_BHW2, padding_mode="border", align_corners=False)


def to_gray(x_BCHW: Tensor) -> Tensor:
    """Return the brightness (B, 1, H, W) of color or gray images."""
    if x_BCHW.shape[1] != 3:
        return x_BCHW
    red, green, blue = GRAY_WEIGHTS
    return red * x_BCHW[:, :1] + green * x_BCHW[:, 1:2] + blue * x_BCHW[:, 2:]


def color_jitter(x_BCHW: Tensor, amount: float) -> Tensor:
    """Change brightness, contrast and saturation by up to `amount`, and the hue a little, all in one linear map.

    Factors are 1 - amount to 1 + amount. Contrast keeps the mean brightness; levels are clamped once, at the end.
    """
    batch_size, channels = x_BCHW.shape[:2]
    brightness_B, contrast_B, saturation_B = (1 + uniform(batch_size, amount, x_BCHW) for _ in range(3))
    angle_B = uniform(batch_size, amount * HUE_TURN, x_BCHW)
    mean_B = to_gray(x_BCHW).mean((1, 2, 3)) * brightness_B
    offset_B111 = ((1 - contrast_B) * mean_B)[:, None, None, None]
    factor_B111 = (brightness_B * contrast_B)[:, None, None, None]
    if channels == 3:
        matrix_B33 = hue_matrix(angle_B) @ saturation_matrix(saturation_B)
        x_BCHW = torch.einsum("bij,bjhw->bihw", matrix_B33, x_BCHW)
    return (x_BCHW * factor_B111).add_(offset_B111).clamp_(0, 1)


def saturation_matrix(factor_B: Tensor) -> Tensor:
    """Return matrices (B, 3, 3) that blend a color with its gray; 1 changes nothing."""
    eye_33 = torch.eye(3, device=factor_B.device)
    columns = [torch.full((3, 1), weight, device=factor_B.device) for weight in GRAY_WEIGHTS]
    return torch.lerp(torch.cat(columns, 1), eye_33, factor_B[:, None, None])


def hue_matrix(angle_B: Tensor) -> Tensor:
    """Return the rotations (B, 3, 3) of color space around the axis of the grays (formula of Rodrigues)."""
    eye_33 = torch.eye(3, device=angle_B.device)
    cross_33 = (eye_33.roll(1, 0) - eye_33.roll(-1, 0)) / math.sqrt(3)
    cos_B11 = angle_B.cos()[:, None, None]
    sin_B11 = angle_B.sin()[:, None, None]
    return cos_B11 * eye_33 + sin_B11 * cross_33 + (1 - cos_B11) / 3


def random_erase(x_BCHW: Tensor, fraction: float) -> Tensor:
    """Erase a rectangle in about `fraction` of the images (Zhong et al. 2017, arXiv:1708.04896).

    It is filled with the mean of the batch per channel, about the mean of the data set.
    """
    batch_size = len(x_BCHW)
    is_erased_B = torch.rand(batch_size, device=x_BCHW.device) < fraction
    box_height_B, box_width_B = draw_box_sizes(x_BCHW, ERASE_AREA, ERASE_RATIO)
    top_B = torch.rand(batch_size, device=x_BCHW.device) * (1 - box_height_B)
    left_B = torch.rand(batch_size, device=x_BCHW.device) * (1 - box_width_B)
    inside_B1HW = box_mask(x_BCHW, (top_B, left_B, top_B + box_height_B, left_B + box_width_B))
    mean_1C11 = x_BCHW.mean((0, 2, 3), keepdim=True)
    return torch.where(inside_B1HW & is_erased_B[:, None, None, None], mean_1C11, x_BCHW)


def box_mask(x_BCHW: Tensor, box: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """Return where (B, 1, H, W) the centers of pixels lie in a box (top, left, bottom, right), as fractions."""
    height, width = x_BCHW.shape[2:]
    y_H1 = (torch.arange(height, device=x_BCHW.device)[:, None] + 0.5) / height
    x_W = (torch.arange(width, device=x_BCHW.device) + 0.5) / width
    top_B111, left_B111, bottom_B111, right_B111 = (side_B[:, None, None, None] for side_B in box)
    return (y_H1 >= top_B111) & (y_H1 < bottom_B111) & (x_W >= left_B111) & (x_W < right_B111)


def draw_beta(count: int, alpha: float, device: torch.device) -> Tensor:
    """Draw (count,) numbers of the distribution Beta(alpha, alpha)."""
    where = torch.device("cpu") if device.type == "mps" else device  # which has no sampler of it
    alpha_B = torch.full((count,), alpha, device=where)
    return torch.distributions.Beta(alpha_B, alpha_B, validate_args=False).sample().to(device)


def mixup(x_BCHW: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Blend each image with the one before it (Zhang et al. 2018, arXiv:1710.09412).

    Returns:
        The images, and the weight (B,) of the other image, drawn from Beta(alpha, alpha).
    """
    mix_B = draw_beta(len(x_BCHW), alpha, x_BCHW.device)
    return torch.lerp(x_BCHW, x_BCHW.roll(1, 0), mix_B[:, None, None, None]), mix_B


def cutmix(x_BCHW: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Paste a box of the image before into each image (Yun et al. 2019, arXiv:1905.04899).

    Returns:
        The images, and the fraction (B,) of pixels that come from the other image. The area of the box is drawn from
        Beta(alpha, alpha), its center is uniform, and what lies outside is cut off.
    """
    batch_size = len(x_BCHW)
    half_B = draw_beta(batch_size, alpha, x_BCHW.device).sqrt() / 2
    y_B, x_B = torch.rand(2, batch_size, device=x_BCHW.device)
    inside_B1HW = box_mask(x_BCHW, (y_B - half_B, x_B - half_B, y_B + half_B, x_B + half_B))
    mix_B = inside_B1HW.float().mean((1, 2, 3))
    return torch.where(inside_B1HW, x_BCHW.roll(1, 0), x_BCHW), mix_B
