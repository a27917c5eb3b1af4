"""Train a small DCGAN on images, and record what it makes and what its discriminator wants changed.

B images, C channels, S height and width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor

from ...models.generate.dcgan import dcgan
from .losses import measure_gradient
from .plane import pick_rows
from .players import GanRun, Players, draw_latents, iter_steps
from .rounding import round_values

#: height and width that images are brought to
IMAGE_SIZE = 16
LATENT_DIM = 32
#: generated images that are shown, and real ones beside them
NUM_SHOWN = 8
#: images whose logits are recorded, of each kind
NUM_SCORED = 64


class ImagesSnapshot(TypedDict):
    """Both networks after `step` steps.

    `generated` are pixels (B, S, S, C) from 0 to 255; `wanted` is the gradient of the logit with respect to each pixel
    (B, S, S), the mean over channels: above 0 where a brighter pixel would look more real.
    """

    step: int
    generated: list[Any]
    wanted: list[Any]
    real_logits: list[float]
    fake_logits: list[float]


@dataclass(frozen=True)
class ImagesResult:
    """A run and what became of it; `diverged_at` is the step whose losses were infinite or NaN, or None."""

    run: GanRun
    discriminator_loss: list[float]
    generator_loss: list[float]
    snapshots: list[ImagesSnapshot]
    diverged_at: int | None


def train_images(images_NHWC: np.ndarray, run: GanRun, width: int, snapshot_steps: list[int]) -> ImagesResult:
    """Train on images. The global random state is left unchanged.

    Args:
        images_NHWC: uint8, 16 x 16 pixels.
        run: How to train.
        width: Filters of the layers with the largest maps.
        snapshot_steps: Steps after which both networks are recorded; the first is 0.

    Returns:
        Losses and snapshots, up to where a loss is infinite or NaN.
    """
    real_NCHW = torch.from_numpy(images_NHWC.copy()).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        model = dcgan(real_NCHW.shape[1], IMAGE_SIZE, LATENT_DIM, width)
    players = Players(model.get_submodule("network"), model.get_submodule("discriminator"), LATENT_DIM)
    latent_BL = draw_latents(NUM_SCORED, LATENT_DIM, torch.Generator().manual_seed(run.seed + 1))
    scored_BCHW = real_NCHW[pick_rows(len(real_NCHW), NUM_SCORED)]
    snapshots = [_snapshot(players, 0, latent_BL, scored_BCHW)]
    losses = []
    for step, step_losses in enumerate(iter_steps(players, real_NCHW, run), 1):
        losses.append(step_losses)
        if step in snapshot_steps:
            snapshots.append(_snapshot(players, step, latent_BL, scored_BCHW))
    array_S2 = np.array(losses, np.float64).reshape(-1, 2)
    return ImagesResult(
        run=run,
        discriminator_loss=round_values(array_S2[:, 0]),
        generator_loss=round_values(array_S2[:, 1]),
        snapshots=[snapshot for snapshot in snapshots if snapshot is not None],
        diverged_at=None if len(losses) == run.steps else len(losses),
    )


def _snapshot(players: Players, step: int, latent_BL: Tensor, real_BCHW: Tensor) -> ImagesSnapshot | None:
    """Return what both networks do, or None where they have become NaN or inf."""
    players.generator.eval()
    with torch.no_grad():
        fake_BCHW = players.generator(latent_BL)
        fake_logit_B = players.discriminator(fake_BCHW)
        real_logit_B = players.discriminator(real_BCHW)
    players.generator.train()
    wanted_BHW = measure_gradient(players.discriminator, fake_BCHW[:NUM_SHOWN]).mean(1)
    for values in (fake_BCHW, fake_logit_B, real_logit_B, wanted_BHW):
        if not values.isfinite().all():
            return None
    pixels_BHWC = (127.5 * (fake_BCHW[:NUM_SHOWN] + 1)).round().clamp(0, 255).byte().permute(0, 2, 3, 1)
    return ImagesSnapshot(
        step=step,
        generated=pixels_BHWC.tolist(),
        wanted=round_values(wanted_BHW.double().numpy()),
        real_logits=round_values(real_logit_B.double().numpy()),
        fake_logits=round_values(fake_logit_B.double().numpy()),
    )
