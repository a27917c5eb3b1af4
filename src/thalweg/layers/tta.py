"""Test-time augmentation: logits averaged over flipped and shifted copies (Jordan 2024, arXiv:2404.00498).

`zoom` looks at the center alone: objects that were cropped at random in training looked larger there than they do in
whole images (Touvron et al. 2019, arXiv:1906.06423).
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

TTA = Literal["none", "flip", "flip-shift", "zoom"]

#: part of each side that `zoom` leaves; from 8/10 to 1, it was the best for models trained on `crop,flip,trivial`
ZOOM = 15 / 16


def predict_proba(model: nn.Module, x_BCHW: Tensor, tta: TTA = "none") -> Tensor:
    """Return probabilities (B, K): the softmax of the logits, averaged over augmented copies."""
    return tta_logits(model, x_BCHW, tta).softmax(1)


def tta_logits(model: nn.Module, x_BCHW: Tensor, tta: TTA = "none") -> Tensor:
    """Return logits (B, K) of the zoomed images, or averaged over mirror images and copies shifted by one pixel.

    Shifted copies are continued by reflection, and together they weigh as much as those in place (section 3.6).
    """
    if tta == "zoom":
        return model(zoom_center(x_BCHW)).float()
    logits_BK = model(x_BCHW).float()
    if tta != "none":
        logits_BK = (logits_BK + model(x_BCHW.flip(3)).float()) / 2
    if tta == "flip-shift":
        height, width = x_BCHW.shape[2:]
        padded = nn.functional.pad(x_BCHW, (1, 1, 1, 1), mode="reflect")
        crops = [padded[:, :, y : y + height, x : x + width] for y, x in ((0, 0), (2, 2))]
        shifted_BK = sum(model(x).float() + model(x.flip(3)).float() for x in crops) / 4
        logits_BK = (logits_BK + shifted_BK) / 2
    return logits_BK


def zoom_center(x_BCHW: Tensor) -> Tensor:
    """Enlarge the central 15/16 of each side to the full size, bilinear."""
    height, width = x_BCHW.shape[2:]
    top = round(height * (1 - ZOOM) / 2)
    left = round(width * (1 - ZOOM) / 2)
    center_BCHW = x_BCHW[:, :, top : height - top, left : width - left]
    return nn.functional.interpolate(center_BCHW, size=(height, width), mode="bilinear", align_corners=False)


class TTAModel(nn.Module):
    """A model whose logits are averaged over augmented copies of each image."""

    def __init__(self, model: nn.Module, tta: TTA):
        super().__init__()
        self.model = model
        self.tta: TTA = tta

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits (B, K) of images (B, C, H, W)."""
        return tta_logits(self.model, x_BCHW, self.tta)
