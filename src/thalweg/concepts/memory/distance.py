"""Train small recurrent networks to recall the first symbol of a sequence: at which distance does it work?

The first symbol is one of two, random distractors follow, and the answer is asked for in the last step (the latch
problem of Bengio, Simard and Frasconi 1994, doi:10.1109/72.279181). Half of the answers are right by chance.

B sequences, T steps, C symbols.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .gradients import CellVariant, build_layer

#: two symbols to remember, then the distractors
NUM_CLASSES = 2
NUM_SYMBOLS = 6
BATCH_SIZE = 32
NUM_TEST = 256
#: training ends where the mean loss of so many steps is below this
SOLVED_STEPS = 10
SOLVED_LOSS = 0.02


@dataclass(frozen=True)
class RecallResult:
    """One network after its training: how many of 256 new sequences it answers correctly, and after how many steps."""

    cell: str
    distance: int
    accuracy: float
    steps: int


def make_sequences(count: int, distance: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return one-hot inputs (B, T, C) with T = distance + 1, and the first symbols (B,)."""
    symbols_BT = torch.randint(NUM_CLASSES, NUM_SYMBOLS, (count, distance + 1), generator=generator)
    labels_B = torch.randint(NUM_CLASSES, (count,), generator=generator)
    symbols_BT[:, 0] = labels_B
    return F.one_hot(symbols_BT, NUM_SYMBOLS).float(), labels_B


def train_recall(variant: CellVariant, distance: int, width: int, max_steps: int, seed: int) -> RecallResult:
    """Train one network. The global random state is left unchanged.

    Args:
        variant: Cell and initialization; chrono opens gates for twice the distance.
        distance: Steps between the symbol and the answer.
        width: Neurons.
        max_steps: Training steps, of 32 new sequences each; fewer where the loss is small before.
        seed: Seed of weights and sequences.

    Returns:
        The fraction of right answers.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = build_layer(variant, NUM_SYMBOLS, width, max(2, 2 * distance))
        head = nn.Linear(width, NUM_CLASSES)
    params = [*layer.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(params, lr=5e-3)
    losses: list[float] = []
    for _ in range(max_steps):
        x_BTC, labels_B = make_sequences(BATCH_SIZE, distance, generator)
        loss = F.cross_entropy(head(layer(x_BTC)[0][:, -1]), labels_B)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        losses.append(loss.item())
        recent = losses[-SOLVED_STEPS:]
        if len(recent) == SOLVED_STEPS and sum(recent) < SOLVED_STEPS * SOLVED_LOSS:
            break
    with torch.no_grad():
        x_BTC, labels_B = make_sequences(NUM_TEST, distance, generator)
        is_right_B = head(layer(x_BTC)[0][:, -1]).argmax(1) == labels_B
    return RecallResult(variant.name, distance, float(is_right_B.float().mean()), len(losses))
