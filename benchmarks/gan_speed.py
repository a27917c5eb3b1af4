"""Compare the speed of training a DCGAN with a plain PyTorch loop: the same networks, batches and number of updates.

    python benchmarks/gan_speed.py [--image-size 32] [--batch-size 64]

The plain loop is a tutorial's: real and generated images pass the discriminator one after the other, the generated ones
serve both players, Adam updates both. Ours is what `thalweg train generate` runs, its average of the generator
included; without the gradient penalty, which tutorials do not have, or with it (`--penalty`). Interleaved, every second
repeat in reverse order; the figure is the median of the repeats' own ratios. Needs thalweg in the Python that runs it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from thalweg import api
from thalweg.data.images.square_images import make_shapes
from thalweg.registry import find_model

NUM_IMAGES = 2048


def train_plain(images_NHWC: Tensor, batch_size: int, steps: int) -> float:
    """Return the images per second of a plain loop."""
    model = find_model("dcgan", "generate")(in_channels=images_NHWC.shape[3], image_size=images_NHWC.shape[1])
    generator: nn.Module = model.network
    discriminator: nn.Module = model.discriminator
    generator_adam = torch.optim.Adam(generator.parameters(), 2e-4, betas=(0.5, 0.999))
    discriminator_adam = torch.optim.Adam(discriminator.parameters(), 2e-4, betas=(0.5, 0.999))
    ones_B = torch.ones(batch_size)
    zeros_B = torch.zeros(batch_size)
    start = time.perf_counter()
    for _ in range(steps):
        rows_B = torch.randint(len(images_NHWC), (batch_size,))
        image_BCHW = images_NHWC[rows_B].permute(0, 3, 1, 2).float() / 127.5 - 1
        discriminator.zero_grad()
        binary_cross_entropy_with_logits(discriminator(image_BCHW), ones_B).backward()
        fake_BCHW = generator(torch.randn(batch_size, generator.latent_dim))
        binary_cross_entropy_with_logits(discriminator(fake_BCHW.detach()), zeros_B).backward()
        discriminator_adam.step()
        generator.zero_grad()
        loss = binary_cross_entropy_with_logits(discriminator(fake_BCHW), ones_B)
        loss.backward()
        generator_adam.step()
        loss.item()
    return steps * batch_size / (time.perf_counter() - start)


def train_ours(image_size: int, batch_size: int, steps: int, has_penalty: bool) -> float:
    """Return the images per second of the trainer."""
    values: dict[str, float] = {} if has_penalty else {"r1": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        run = api.plan_training(
            "generate",
            make_shapes(NUM_IMAGES, image_size),
            out=Path(folder) / "run",
            model="dcgan",
            batch_size=batch_size,
            steps=steps,
            report=False,
            **values,
        )
        start = time.perf_counter()
        for _ in run.parts.trainer:
            pass
        return steps * batch_size / (time.perf_counter() - start)


def main() -> None:
    """Print medians and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cpu-threads", type=int, default=2)
    parser.add_argument("--penalty", action="store_true", help="ours trains with its gradient penalty")
    options = parser.parse_args()
    torch.set_num_threads(options.cpu_threads)
    images_NHWC = torch.from_numpy(make_shapes(NUM_IMAGES, options.image_size).all.images.copy())
    rates: dict[str, list[float]] = {"plain": [], "ours": []}
    for repeat in range(options.repeats):
        for name in ("plain", "ours") if repeat % 2 == 0 else ("ours", "plain"):
            if name == "plain":
                rate = train_plain(images_NHWC, options.batch_size, options.steps)
            else:
                rate = train_ours(options.image_size, options.batch_size, options.steps, options.penalty)
            rates[name].append(rate)
    ratios = [ours / plain for ours, plain in zip(rates["ours"], rates["plain"], strict=True)]
    medians = ", ".join(f"{name} {statistics.median(values):,.0f}" for name, values in rates.items())
    value_range = f"{min(ratios):.2f} to {max(ratios):.2f}"
    print(f"training: {medians} images/s; ratio {statistics.median(ratios):.2f} ({value_range})")


if __name__ == "__main__":
    main()
