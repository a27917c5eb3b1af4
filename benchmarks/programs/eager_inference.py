"""PyTorch as it is: the network called in inference mode, pictures with their channels first or last in memory."""

from __future__ import annotations

import sys

import torch
from answering import race

if __name__ == "__main__":
    layout = torch.channels_last if "--last" in sys.argv else torch.contiguous_format
    sys.argv = [word for word in sys.argv if word != "--last"]

    def eager(network, shape):
        """The network, and its batches brought to the layout."""
        network.to(memory_format=layout)
        return lambda x_BCHW: network(x_BCHW.contiguous(memory_format=layout))

    race(eager)
