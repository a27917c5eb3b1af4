"""The MNIST network of fastai's book (chapter 13), with its last settings: batch 512, Adam, one cycle up to rate 0.1.

The images are arrays in memory, not files; the rest of the data block is the book's. `--epochs` is the cycle's length.
"""

from __future__ import annotations

import fastai.callback.schedule  # noqa: F401  gives Learner its fit_one_cycle
import numpy as np
from contract import Race, arguments
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
    """Ends the cycle when the target is reached on the validation set, which here is the test set."""

    order = 60

    def __init__(self, race: Race):
        self.race = race

    def after_epoch(self) -> None:
        """Asks the race; the recorder, at order 50, has just entered loss and accuracy."""
        if self.race.over(self.recorder.values[-1][-1]):
            raise CancelFitException


def convolution(inputs: int, outputs: int, size: int = 3, last: bool = False) -> nn.Sequential:
    """A convolution of stride 2, a ReLU unless it is the last, batch normalisation."""
    layers = [nn.Conv2d(inputs, outputs, size, stride=2, padding=size // 2)]
    return nn.Sequential(*layers, *([] if last else [nn.ReLU()]), nn.BatchNorm2d(outputs))


def network() -> nn.Module:
    """Five of them: 14, 7, 4, 2, 1 pixels. (B, 1, 28, 28) -> (B, 10)."""
    body = [convolution(1, 8, 5), convolution(8, 16), convolution(16, 32), convolution(32, 64)]
    return nn.Sequential(*body, convolution(64, 10, last=True), nn.Flatten())


def loaders(samples: int, batch: int, workers: int) -> DataLoaders:
    """The book's data block, over arrays."""
    images, labels, test_images, test_labels = load(samples)
    everything, answers = np.concatenate([images, test_images]), np.concatenate([labels, test_labels])
    block = DataBlock(
        blocks=(ImageBlock(PILImageBW), CategoryBlock),
        splitter=IndexSplitter(list(range(len(images), len(everything)))),
        get_x=lambda row: everything[row],
        get_y=lambda row: answers[row],
        batch_tfms=Normalize(),
    )
    return block.dataloaders(range(len(everything)), bs=batch, num_workers=workers)


def main() -> None:
    """One cycle, ended early when the target is reached."""
    parser = arguments(batch=512)
    parser.add_argument("--workers", type=int, default=0, help="processes that prepare batches")
    options = parser.parse_args()
    set_seed(options.seed)
    race = Race(options.target)
    data = loaders(options.samples, min(options.batch, options.samples), options.workers)
    learner = Learner(data, network(), loss_func=cross_entropy, metrics=accuracy, cbs=Stop(race))
    learner.fit_one_cycle(options.epochs, 0.1)
    race.report()


if __name__ == "__main__":
    main()
