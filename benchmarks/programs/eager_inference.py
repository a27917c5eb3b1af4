"""PyTorch as it is: the model called in inference mode, channels first or last in memory."""

from __future__ import annotations

import sys

import torch
from answering import Predict, race
from torch import nn

LAST = "--last"


def main() -> None:
    """Race with the memory format of the command line."""
    memory_format = torch.channels_last if LAST in sys.argv else torch.contiguous_format
    sys.argv = [word for word in sys.argv if word != LAST]

    def prepare(model: nn.Module, shape: tuple[int, ...]) -> Predict:
        model.to(memory_format=memory_format)
        return lambda x_BCHW: model(x_BCHW.contiguous(memory_format=memory_format))

    race(prepare)


if __name__ == "__main__":
    main()
