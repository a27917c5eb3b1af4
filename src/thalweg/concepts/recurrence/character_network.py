"""A tiny network that reads characters and predicts the next: one recurrent layer over one-hot vectors.

B rows, T characters, V characters of the alphabet, D neurons.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...layers.recurrent import init_recurrent_

CELLS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
BATCH_SIZE = 16
#: characters that gradients flow back
WINDOW = 40
#: characters on which the loss is computed before and after training
NUM_SCORED = 2000


@dataclass(frozen=True)
class CharacterNetwork:
    """A recurrent layer, and the linear layer that predicts."""

    layer: nn.RNNBase
    head: nn.Linear

    @property
    def params(self) -> list[nn.Parameter]:
        """All parameters."""
        return [*self.layer.parameters(), *self.head.parameters()]

    def compute_loss(self, tokens_BT: Tensor) -> Tensor:
        """Return the mean surprise of every character but the first, in nats."""
        output_BTD, _ = self.layer(F.one_hot(tokens_BT[:, :-1], self.head.out_features).float())
        return F.cross_entropy(self.head(output_BTD).flatten(0, 1), tokens_BT[:, 1:].flatten())


def build_network(cell: str, num_tokens: int, width: int, seed: int) -> CharacterNetwork:
    """Build a network with random weights; the global random state is left unchanged.

    Args:
        cell: A key of CELLS.
        num_tokens: Characters of the alphabet.
        width: Neurons.
        seed: Seed of the weights.

    Returns:
        The network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = CELLS[cell](num_tokens, width, batch_first=True)
        init_recurrent_(layer)
        return CharacterNetwork(layer, nn.Linear(width, num_tokens))


def train_network(network: CharacterNetwork, tokens_N: Tensor, steps: int, seed: int) -> tuple[float, float]:
    """Train on random pieces of a text with Adam.

    Args:
        network: The network, changed in place.
        tokens_N: The text.
        steps: Training steps.
        seed: Seed of the pieces.

    Returns:
        Nats per character on the beginning of the text before and after training.
    """
    scored_1T = tokens_N[None, :NUM_SCORED]
    with torch.no_grad():
        before = float(network.compute_loss(scored_1T))
    generator = torch.Generator().manual_seed(seed)
    window = min(WINDOW, len(tokens_N) - 1)
    optimizer = torch.optim.Adam(network.params, lr=0.01)
    for _ in range(steps):
        start_B1 = torch.randint(0, len(tokens_N) - window, (BATCH_SIZE, 1), generator=generator)
        loss = network.compute_loss(tokens_N[start_B1 + torch.arange(window + 1)])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.params, 1.0)
        optimizer.step()
    with torch.no_grad():
        return before, float(network.compute_loss(scored_1T))
