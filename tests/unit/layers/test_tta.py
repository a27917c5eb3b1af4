"""Test-time augmentation averages logits over flipped and shifted copies."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from thalweg.layers.tta import TTAModel, predict_proba, tta_logits, zoom_center


class Linear(nn.Module):
    """Logits that are linear in the pixels, so that averages of logits are logits of averages."""

    def __init__(self):
        super().__init__()
        self.weight_KCHW = torch.randn(3, 1, 5, 4, generator=torch.Generator().manual_seed(0))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return torch.einsum("bchw,kchw->bk", x_BCHW, self.weight_KCHW)


X_BCHW = torch.randn(2, 1, 5, 4, generator=torch.Generator().manual_seed(1))


def shift(x_BCHW: Tensor, offset: int) -> Tensor:
    """Return images shifted by a pixel in both directions, continued by reflection."""
    height, width = x_BCHW.shape[2:]
    rows = [abs(row + offset) if row + offset < height else 2 * (height - 1) - row - offset for row in range(height)]
    columns = [abs(col + offset) if col + offset < width else 2 * (width - 1) - col - offset for col in range(width)]
    return x_BCHW[:, :, rows][:, :, :, columns]


def test_without_augmentation_the_logits_are_those_of_the_model():
    assert torch.equal(tta_logits(Linear(), X_BCHW), Linear()(X_BCHW))


def test_flip_averages_an_image_and_its_mirror_image():
    expected = Linear()((X_BCHW + X_BCHW.flip(3)) / 2)
    torch.testing.assert_close(tta_logits(Linear(), X_BCHW, "flip"), expected)


def test_flip_shift_gives_shifted_copies_half_of_the_weight():
    flipped = (X_BCHW + X_BCHW.flip(3)) / 2
    shifted = sum(shift(X_BCHW, offset) + shift(X_BCHW, offset).flip(3) for offset in (-1, 1)) / 4
    expected = Linear()((flipped + shifted) / 2)
    torch.testing.assert_close(tta_logits(Linear(), X_BCHW, "flip-shift"), expected)


def test_zoom_enlarges_fifteen_sixteenths_of_each_side():
    ramp = torch.arange(32.0)
    x_BCHW = torch.stack([ramp.expand(32, 32), ramp[:, None].expand(32, 32)])[None]
    seen_BCHW = zoom_center(x_BCHW)
    expected = (1 + (ramp + 0.5) * 15 / 16 - 0.5).clamp(1, 30)
    torch.testing.assert_close(seen_BCHW[0, 0], expected.expand(32, 32))
    torch.testing.assert_close(seen_BCHW[0, 1], expected[:, None].expand(32, 32))
    torch.testing.assert_close(tta_logits(Linear(), X_BCHW, "zoom"), Linear()(zoom_center(X_BCHW)))


@pytest.mark.parametrize("tta", ["none", "flip", "flip-shift", "zoom"])
def test_probabilities_are_the_softmax_of_the_averaged_logits(tta):
    logits = tta_logits(Linear(), X_BCHW, tta)
    torch.testing.assert_close(predict_proba(Linear(), X_BCHW, tta), logits.softmax(1))
    assert torch.equal(TTAModel(Linear(), tta)(X_BCHW), logits)


def test_flipped_images_have_the_same_predictions_with_flip():
    torch.testing.assert_close(tta_logits(Linear(), X_BCHW.flip(3), "flip"), tta_logits(Linear(), X_BCHW, "flip"))
