"""Show a discriminator how much the images of a batch differ (Karras et al. 2018, arXiv:1710.10196, section 3).

Differs from the paper: any number of images. Where the groups do not divide the batch, they are larger.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

# B images in G groups, C channels, H rows and W columns of maps, D numbers of an image

#: added to the variance, because the slope of the root is infinite at 0
EPSILON = 1e-8


class MinibatchDeviation(nn.Module):
    """Append one channel: the standard deviation over a group of images, as the mean of all channels and pixels."""

    def __init__(self, group_size: int = 4):
        super().__init__()
        self.group_size = group_size

    def forward(self, x_BCHW: Float[Tensor, "B C H W"]) -> Tensor:
        """Return maps (B, C + 1, H, W); the deviation of a single image is 0."""
        deviation_B = group_deviation(x_BCHW.flatten(1), self.group_size)
        channel_B1HW = deviation_B[:, None, None, None].expand(-1, 1, *x_BCHW.shape[2:])
        return torch.cat([x_BCHW, channel_B1HW.to(x_BCHW.dtype)], 1)


def group_deviation(x_BD: Float[Tensor, "B D"], group_size: int) -> Float[Tensor, " B"]:
    """Return the deviation within the group of each image; groups have at least `group_size` images, if there are."""
    count = len(x_BD)
    num_groups = max(1, count // group_size)
    group_B = torch.arange(count, device=x_BD.device) % num_groups
    is_member_GB = (group_B == torch.arange(num_groups, device=x_BD.device)[:, None]).float()
    weight_GB = is_member_GB / is_member_GB.sum(1, keepdim=True)
    with torch.autocast(x_BD.device.type, enabled=False):  # squares of small differences need all digits
        x_BD = x_BD.float()
        difference_BD = x_BD - (weight_GB @ x_BD)[group_B]
        std_GD = (weight_GB @ difference_BD.square() + EPSILON).sqrt()
        return std_GD.mean(1)[group_B]
