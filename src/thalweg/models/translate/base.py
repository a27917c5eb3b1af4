"""What every translation network offers: a pass over whole sentences for training, and steps for the search.

State is an argument and a result, never an attribute. The first dimension of every tensor of a memory and of a state is
that of the sentences, so that a search can select, repeat and drop them.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# B sentences, S source tokens, T target tokens, V tokens of the source, K tokens of the target, E embedding, D width

#: id of the padding, see data/pairs/tokens.py
PAD = 0

#: what the encoder leaves for the decoder, and what the decoder leaves for its next step; each (B, ...)
Tensors: TypeAlias = dict[str, Tensor]


class TranslationModel(nn.Module):
    """(B, S) source tokens and (B, T) target tokens before each -> (B, T, K) logits of the next target token."""

    target: TiedEmbedding

    def encode(self, source_BS: Tensor) -> Tensors:
        """Return what the decoder reads of the sources."""
        raise TypeError(f"{type(self).__name__} has no encoder")

    def start(self, memory: Tensors) -> Tensors:
        """Return the state before the first token."""
        raise TypeError(f"{type(self).__name__} has no decoder")

    def decode(self, inputs_BT: Tensor, memory: Tensors, state: Tensors) -> tuple[Tensor, Tensors, Tensor]:
        """Read target tokens.

        Args:
            inputs_BT: The tokens, of one step or of many.
            memory: What `encode` returned.
            state: The state before them.

        Returns:
            Hidden values (B, T, E), the state after them, and the attention (B, T, S), whose rows sum to 1.
        """
        raise TypeError(f"{type(self).__name__} has no decoder")

    def hidden(self, source_BS: Tensor, inputs_BT: Tensor) -> Tensor:
        """Return hidden values (B, T, E), of which `target.logits` makes logits; so padding needs no logits."""
        memory = self.encode(source_BS)
        return self.decode(inputs_BT, memory, self.start(memory))[0]

    def forward(self, source_BS: Tensor, inputs_BT: Tensor) -> Tensor:
        """Return the logits (B, T, K) of the token after each input."""
        return self.target.logits(self.hidden(source_BS, inputs_BT))

    def align(self, source_BS: Tensor, inputs_BT: Tensor) -> Tensor:
        """Return the attention (B, T, S) with which the token after each input is predicted."""
        memory = self.encode(source_BS)
        return self.decode(inputs_BT, memory, self.start(memory))[2]


class TiedEmbedding(nn.Module):
    """Vectors of target tokens, also used as the weights of the output (Press and Wolf 2017, arXiv:1608.05859)."""

    def __init__(self, num_tokens: int, size: int):
        super().__init__()
        self.weight_KE = nn.Parameter(torch.randn(num_tokens, size) / math.sqrt(size))
        self.bias_K = nn.Parameter(torch.zeros(num_tokens))

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Return the vectors (B, T, E) of tokens, of variance 1."""
        return F.embedding(tokens_BT, self.weight_KE) * math.sqrt(self.weight_KE.shape[1])

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits (..., K) of hidden values (..., E)."""
        return F.linear(hidden, self.weight_KE, self.bias_K)


def mask_scores(scores_BTS: Tensor, source_BS: Tensor) -> Tensor:
    """Return attention scores with -inf at the padding of the sources."""
    return scores_BTS.masked_fill((source_BS == PAD)[:, None, :], float("-inf"))
