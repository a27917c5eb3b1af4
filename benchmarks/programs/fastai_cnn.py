"""The MNIST model of fastai's book (chapter 13) with its last settings: batch 512, Adam, one cycle up to lr 0.1.

The images are arrays in memory, not files; the rest of the data block is the book's. `--epochs` is the cycle's length.
"""

from __future__ import annotations

import fastai.callback.schedule  # noqa: F401  gives Learner its fit_one_cycle
import numpy as np
from contract import Race, build_parser
from fastai.basics import (
    Callback,
    CancelFitException,
    CategoryBlock,
    DataBlock,
    DataLoaders,
    IndexSplitter,
    Learner,
    Normalize,
    accuracy,
    set_seed,
)
from fastai.vision.core import PILImageBW
from fastai.vision.data import ImageBlock
from mnist import load
from torch import nn
from torch.nn.functional import cross_entropy


class Stop(Callback):
    """End the cycle when the target is reached on the validation set, which here is the test set."""

    order = 60

    def __init__(self, race: Race):
        self.race = race

    def after_epoch(self) -> None:
        """Tell the race; the recorder, at order 50, has just entered loss and accuracy."""
        if self.race.add(self.recorder.values[-1][-1]):
            raise CancelFitException


def conv_block(in_channels: int, out_channels: int, size: int = 3, is_last: bool = False) -> nn.Sequential:
    """Build a convolution of stride 2, a ReLU unless it is the last, and batch normalization."""
    layers = [nn.Conv2d(in_channels, out_channels, size, stride=2, padding=size // 2)]
    return nn.Sequential(*layers, *([] if is_last else [nn.ReLU()]), nn.BatchNorm2d(out_channels))


def build_model() -> nn.Module:
    """Build five convolutions: 14, 7, 4, 2, 1 pixels. (B, 1, 28, 28) -> (B, 10)."""
    body = [conv_block(1, 8, 5), conv_block(8, 16), conv_block(16, 32), conv_block(32, 64)]
    return nn.Sequential(*body, conv_block(64, 10, is_last=True), nn.Flatten())


def build_loaders(samples: int, batch_size: int, workers: int) -> DataLoaders:
    """Build the book's data block over arrays."""
    images, labels, test_images, test_labels = load(samples)
    all_images = np.concatenate([images, test_images])
    all_labels = np.concatenate([labels, test_labels])
    block = DataBlock(
        blocks=(ImageBlock(PILImageBW), CategoryBlock),
        splitter=IndexSplitter(list(range(len(images), len(all_images)))),
        get_x=lambda row: all_images[row],
        get_y=lambda row: all_labels[row],
        batch_tfms=Normalize(),
    )
    return block.dataloaders(range(len(all_images)), bs=batch_size, num_workers=workers)


def main() -> None:
    """Train one cycle, ended early when the target is reached."""
    parser = build_parser(batch_size=512)
    parser.add_argument("--workers", type=int, default=0, help="processes that prepare batches")
    options = parser.parse_args()
    set_seed(options.seed)
    race = Race(options.target)
    data = build_loaders(options.samples, min(options.batch_size, options.samples), options.workers)
    learner = Learner(data, build_model(), loss_func=cross_entropy, metrics=accuracy, cbs=Stop(race))
    learner.fit_one_cycle(options.epochs, 0.1)
    race.report()


if __name__ == "__main__":
    main()
