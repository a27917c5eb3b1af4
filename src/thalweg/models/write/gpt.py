"""A small GPT (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"), to compare with.

Differs from the paper: rotary positions (Su et al. 2021, arXiv:2104.09864) in place of learned ones, and attention to
the last `context` tokens only, so that texts of any length are read in one pass. Its state is those tokens, and their
features are computed anew in the next call. Through its layers a token also sees a little of what lay before them,
which is lost where a text is cut: figures depend slightly on the cut, other than those of recurrent networks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...errors import OptionError
from ...layers.check_arguments import check_fractions, check_positive
from ...registry import register_model

# B rows, T new tokens, C tokens of the state, S = C + T, H heads, D width, K width of a head

_ROTARY_BASE = 10_000.0


def rotate_positions(x_BHSK: Tensor) -> Tensor:
    """Rotate pairs of features by angles that grow with the position."""
    length, width = x_BHSK.shape[-2:]
    frequencies = _ROTARY_BASE ** (-torch.arange(0, width, 2, device=x_BHSK.device) / width)
    angles_SF = torch.arange(length, device=x_BHSK.device)[:, None] * frequencies
    cos_SF = angles_SF.cos().to(x_BHSK.dtype)
    sin_SF = angles_SF.sin().to(x_BHSK.dtype)
    first, second = x_BHSK.chunk(2, -1)
    return torch.cat([first * cos_SF - second * sin_SF, second * cos_SF + first * sin_SF], -1)


class Block(nn.Module):
    """(B, S, D) -> (B, S, D): attention and a perceptron, each behind a layer norm and beside a residual path."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.norm_1 = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.norm_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BSD: Tensor, mask_BSS: Tensor) -> Tensor:
        """Return the output; `mask_BSS` is true where a token may look."""
        batch, length, width = x_BSD.shape
        qkv = self.query_key_value(self.norm_1(x_BSD)).view(batch, length, 3, self.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(
            rotate_positions(query), rotate_positions(key), value, attn_mask=mask_BSS[:, None]
        )
        x_BSD = x_BSD + self.dropout(self.project(attended.transpose(1, 2).reshape(batch, length, width)))
        return x_BSD + self.dropout(self.mlp(self.norm_2(x_BSD)))


class GPTFeatures(nn.Module):
    """(B, S) tokens, 0 where there is none, -> (B, S, D) features."""

    def __init__(self, num_tokens: int, layers: int, width: int, heads: int, dropout: float):
        super().__init__()
        self.embedding = nn.Embedding(num_tokens + 1, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens_BS: Tensor, mask_BSS: Tensor) -> Tensor:
        """Return the features of all tokens."""
        x_BSD = self.dropout(self.embedding(tokens_BS))
        for block in self.blocks:
            x_BSD = block(x_BSD, mask_BSS)
        return self.norm(x_BSD)


class GPT(nn.Module):
    """(B, T) tokens -> (B, T, V) logits of the next token: `head(features(x))`."""

    def __init__(self, features: GPTFeatures, num_tokens: int, width: int, context: int):
        super().__init__()
        self.context = context
        self.features = features
        self.head = nn.Linear(width, num_tokens, bias=False)

    def forward(self, tokens_BT: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return logits (B, T, V) and the state (1, B, C) after the last token; without a state, begin from nothing."""
        before_BC = tokens_BT.new_zeros(len(tokens_BT), 0)
        if state is not None:
            before_BC = state[0].long()
        all_BS = torch.cat([before_BC, tokens_BT + 1], 1)
        features_BSD = self.features(all_BS, self._attention_mask(all_BS))
        logits_BTV = self.head(features_BSD[:, before_BC.shape[1] :])
        padded_BS = nn.functional.pad(all_BS, (self.context, 0))
        return logits_BTV, padded_BS[None, :, -self.context :].to(self.head.weight.dtype)

    def _attention_mask(self, tokens_BS: Tensor) -> Tensor:
        """Return where a token may look: at the last `context` tokens that there are, and always at itself."""
        position_S = torch.arange(tokens_BS.shape[1], device=tokens_BS.device)
        distance_SS = position_S[:, None] - position_S
        is_near_SS = (distance_SS >= 0) & (distance_SS < self.context)
        return is_near_SS & (tokens_BS > 0)[:, None] | (distance_SS == 0)

    def initial_state(self, batch_size: int) -> Tensor:
        """Return the state of `batch_size` rows before anything was read: no tokens."""
        return self.head.weight.new_zeros(1, batch_size, self.context)


@register_model(task="write", paper="Radford et al. 2019, Language Models are Unsupervised Multitask Learners")
def gpt(
    num_tokens: int, layers: int = 4, width: int = 128, heads: int = 4, context: int = 128, dropout: float = 0.1
) -> GPT:
    """A small Transformer that looks at the last tokens, to compare with. Raises OptionError for impossible sizes."""
    check_positive(num_tokens=num_tokens, layers=layers, width=width, heads=heads, context=context)
    if width % (2 * heads):
        raise OptionError(
            f"width={width}: expected a multiple of twice the {heads} heads.", option="width", value=width
        )
    check_fractions(dropout=dropout)
    model = GPT(GPTFeatures(num_tokens, layers, width, heads, dropout), num_tokens, width, context)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    return model
