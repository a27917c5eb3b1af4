"""Transformer (Vaswani et al. 2017, arXiv:1706.03762), in the size of Transformer-Tiny.

Transformer-Tiny: Wu et al. 2021, arXiv:2105.14462.

Differs from the papers: layer norm before each part instead of behind it (Xiong et al. 2020, arXiv:2002.04745); output
weights are those of the target's embedding, but not of the source's.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import OptionError
from ...layers.check_arguments import check_fractions, check_positive
from ...registry import register_model
from .base import PAD, Tensors, TiedEmbedding, TranslationModel

# B sentences, S source tokens, T target tokens, Q queries, X keys, D width, H heads, C width of a head


class MultiHeadAttention(nn.Module):
    """Queries (B, Q, D) look at keys and values (B, X, D), each of H heads on its own."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)

    def project(self, x_BXD: Tensor) -> Tensor:
        """Return keys and values (B, X, 2D)."""
        return self.key_value(x_BXD)

    def forward(self, x_BQD: Tensor, keys_BX2D: Tensor, mask: Tensor | None) -> Tensor:
        """Return what the queries take from the values; `mask` (B, 1, Q or 1, X) is True where a query may look."""
        query_BHQC, key_BHXC, value_BHXC = self._split(x_BQD, keys_BX2D)
        result_BHQC = F.scaled_dot_product_attention(query_BHQC, key_BHXC, value_BHXC, attn_mask=mask)
        return self.output(result_BHQC.transpose(1, 2).flatten(2))

    def weights(self, x_BQD: Tensor, keys_BX2D: Tensor, mask: Tensor | None) -> Tensor:
        """Return the attention (B, Q, X), the mean over the heads."""
        query_BHQC, key_BHXC, _ = self._split(x_BQD, keys_BX2D)
        scores_BHQX = query_BHQC @ key_BHXC.transpose(2, 3) / math.sqrt(query_BHQC.shape[3])
        if mask is not None:
            scores_BHQX = scores_BHQX.masked_fill(~mask, float("-inf"))
        return scores_BHQX.softmax(3).mean(1)

    def _split(self, x_BQD: Tensor, keys_BX2D: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        key_BXD, value_BXD = keys_BX2D.chunk(2, 2)
        parts = []
        for part in (self.query(x_BQD), key_BXD, value_BXD):
            parts.append(part.unflatten(2, (self.heads, -1)).transpose(1, 2))
        return parts[0], parts[1], parts[2]


class FeedForward(nn.Sequential):
    """Two layers for each token by itself."""

    def __init__(self, width: int, hidden: int, dropout: float):
        super().__init__(nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, width))


class EncoderLayer(nn.Module):
    """Attention among source tokens, and two layers for each."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float):
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = MultiHeadAttention(width, heads)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, hidden, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BSD: Tensor, mask_B11S: Tensor) -> Tensor:
        """Return the tokens (B, S, D) after this layer."""
        normed_BSD = self.attention_norm(x_BSD)
        keys_BS2D = self.attention.project(normed_BSD)
        x_BSD = x_BSD + self.dropout(self.attention(normed_BSD, keys_BS2D, mask_B11S))
        return x_BSD + self.dropout(self.feed_forward(self.feed_forward_norm(x_BSD)))


class DecoderLayer(nn.Module):
    """Attention among target tokens up to each, attention to the source, and two layers for each."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float):
        super().__init__()
        self.self_norm = nn.LayerNorm(width)
        self.self_attention = MultiHeadAttention(width, heads)
        self.source_norm = nn.LayerNorm(width)
        self.source_attention = MultiHeadAttention(width, heads)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, hidden, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BTD: Tensor, past_BP2D: Tensor, memory_BS2D: Tensor, mask_B11S: Tensor) -> tuple[Tensor, ...]:
        """Read tokens.

        Args:
            x_BTD: The tokens.
            past_BP2D: Keys and values of the tokens before them; P may be 0.
            memory_BS2D: Keys and values of the source.
            mask_B11S: True where the source has a token.

        Returns:
            The tokens (B, T, D) after this layer, keys and values of all tokens so far, and the queries (B, T, D) with
            which the source was looked at.
        """
        normed_BTD = self.self_norm(x_BTD)
        keys_BX2D = torch.cat([past_BP2D, self.self_attention.project(normed_BTD)], 1)
        x_BTD = x_BTD + self.dropout(self.self_attention(normed_BTD, keys_BX2D, _causal_mask(x_BTD, keys_BX2D)))
        query_BTD = self.source_norm(x_BTD)
        x_BTD = x_BTD + self.dropout(self.source_attention(query_BTD, memory_BS2D, mask_B11S))
        x_BTD = x_BTD + self.dropout(self.feed_forward(self.feed_forward_norm(x_BTD)))
        return x_BTD, keys_BX2D, query_BTD


def _causal_mask(x_BTD: Tensor, keys_BX2D: Tensor) -> Tensor | None:
    """Return (T, X), True where a token may look: at those before it and at itself. None for a single token."""
    length = x_BTD.shape[1]
    if length == 1:
        return None
    total = keys_BX2D.shape[1]
    return torch.ones(length, total, dtype=torch.bool, device=x_BTD.device).tril(total - length)


def encode_positions(start: int, count: int, width: int, like: Tensor) -> Tensor:
    """Return sines and cosines (count, width) of the positions from `start` on, section 3.5 of the paper."""
    position_T1 = torch.arange(start, start + count, device=like.device, dtype=torch.float32)[:, None]
    half = (width + 1) // 2
    frequency_F = torch.exp(torch.arange(half, device=like.device) * (-math.log(10_000) / half))
    angle_TF = position_T1 * frequency_F
    return torch.cat([angle_TF.sin(), angle_TF.cos()], 1)[:, :width].to(like.dtype)


class Transformer(TranslationModel):
    """Encoder and decoder of layers as above."""

    def __init__(
        self, num_tokens: int, target: TiedEmbedding, layers: tuple[int, int], heads: int, hidden: int, dropout: float
    ):
        super().__init__()
        width = target.weight_KE.shape[1]
        self.width = width
        self.embedding = nn.Embedding(num_tokens, width, padding_idx=PAD)
        self.target = target
        self.dropout = nn.Dropout(dropout)
        self.encoder = nn.ModuleList(EncoderLayer(width, heads, hidden, dropout) for _ in range(layers[0]))
        self.encoder_norm = nn.LayerNorm(width)
        self.decoder = nn.ModuleList(DecoderLayer(width, heads, hidden, dropout) for _ in range(layers[1]))
        self.decoder_norm = nn.LayerNorm(width)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def encode(self, source_BS: Tensor) -> Tensors:
        """Return keys and values (B, S, 2D) for each layer of the decoder, and the source."""
        x_BSD = self.embedding(source_BS)
        x_BSD = self.dropout(x_BSD + encode_positions(0, source_BS.shape[1], self.width, x_BSD))
        mask_B11S = (source_BS != PAD)[:, None, None, :]
        for layer in self.encoder:
            x_BSD = layer(x_BSD, mask_B11S)
        x_BSD = self.encoder_norm(x_BSD)
        memory = {"source": source_BS}
        for index, layer in enumerate(self._decoder_layers):
            memory[f"keys_{index}"] = layer.source_attention.project(x_BSD)
        return memory

    @property
    def _decoder_layers(self) -> list[DecoderLayer]:
        return [layer for layer in self.decoder if isinstance(layer, DecoderLayer)]

    def start(self, memory: Tensors) -> Tensors:
        """Return empty keys and values of each layer."""
        keys_BS2D = memory["keys_0"]
        return {f"past_{index}": keys_BS2D[:, :0] for index in range(len(self.decoder))}

    def decode(self, inputs_BT: Tensor, memory: Tensors, state: Tensors) -> tuple[Tensor, Tensors, Tensor]:
        """Return hidden values (B, T, D), the state after the tokens, and the attention (B, T, S).

        The attention is that of the last layer but one, the mean over its heads: it follows the alignment of words best
        (Garg et al. 2019, arXiv:1909.02074).
        """
        return self._decode(inputs_BT, memory, state, needs_attention=True)

    def hidden(self, source_BS: Tensor, inputs_BT: Tensor) -> Tensor:
        """Return hidden values (B, T, D), without computing the attention a second time."""
        memory = self.encode(source_BS)
        return self._decode(inputs_BT, memory, self.start(memory), needs_attention=False)[0]

    def _decode(
        self, inputs_BT: Tensor, memory: Tensors, state: Tensors, needs_attention: bool
    ) -> tuple[Tensor, Tensors, Tensor]:
        x_BTD = self.target(inputs_BT)
        position = state["past_0"].shape[1]
        x_BTD = self.dropout(x_BTD + encode_positions(position, inputs_BT.shape[1], self.width, x_BTD))
        mask_B11S = (memory["source"] != PAD)[:, None, None, :]
        attention_BTS = x_BTD.new_zeros(0)
        drawn_layer = max(0, len(self.decoder) - 2)
        new_state = {}
        for index, layer in enumerate(self._decoder_layers):
            keys_BS2D = memory[f"keys_{index}"]
            x_BTD, new_state[f"past_{index}"], query_BTD = layer(x_BTD, state[f"past_{index}"], keys_BS2D, mask_B11S)
            if needs_attention and index == drawn_layer:
                attention_BTS = layer.source_attention.weights(query_BTD, keys_BS2D, mask_B11S)
        return self.dropout(self.decoder_norm(x_BTD)), new_state, attention_BTS


@register_model(task="translate", paper="Vaswani et al. 2017, arXiv:1706.03762")
def transformer(
    num_tokens: int, num_targets: int, layers: int = 4, width: int = 128, heads: int = 4, dropout: float = 0.3
) -> Transformer:
    """Transformer: attention alone, no recurrence. Raises OptionError for impossible sizes."""
    check_fractions(dropout=dropout)
    check_positive(layers=layers, width=width, heads=heads)
    if width % heads:
        raise OptionError(
            f"heads={heads}: expected a divisor of the width, {width}.", option="heads", value=heads, allowed=[width]
        )
    return Transformer(num_tokens, TiedEmbedding(num_targets, width), (layers, layers), heads, 2 * width, dropout)
