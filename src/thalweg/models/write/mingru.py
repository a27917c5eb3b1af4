"""minGRU (Feng et al. 2024, arXiv:2410.01201), as a model that writes: gates that depend on the input alone.

Because no gate reads the state before, h = (1 - z) h + z g(x) is linear in h and computed for all steps at once by a
parallel scan. Differs from the paper: layers are residual blocks with layer normalization and an output gate, without
the convolution of its experiments; the scan doubles its distance in linear space (Hillis and Steele 1986) where the
paper's stands in log space.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...layers.check_arguments import check_whole_number
from ...registry import register_model
from .recurrent import CharacterSettings, take_settings

# B rows, T steps, D width, L layers


def scan_linear(keep_BTD: Tensor, input_BTD: Tensor) -> Tensor:
    """Compute h_t = keep_t * h_(t-1) + input_t for all t at once, with h_0 = 0, in log2(T) steps.

    Args:
        keep_BTD: Factors on the state before.
        input_BTD: What is added.

    Returns:
        All states (B, T, D).
    """
    distance = 1
    while distance < keep_BTD.shape[1]:
        before = input_BTD[:, :-distance]
        input_BTD = torch.cat(
            [input_BTD[:, :distance], torch.addcmul(input_BTD[:, distance:], keep_BTD[:, distance:], before)], 1
        )
        keep_BTD = torch.cat([keep_BTD[:, :distance], keep_BTD[:, distance:] * keep_BTD[:, :-distance]], 1)
        distance *= 2
    return input_BTD


class MinGRUBlock(nn.Module):
    """(B, T, D) -> (B, T, D): x + project(silu(gate) * minGRU(norm(x)))."""

    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.project_in = nn.Linear(width, 3 * width)
        self.project_out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        nn.init.zeros_(self.project_in.bias)

    def forward(self, x_BTD: Tensor, state_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output and the state after the last step."""
        update_BTD, candidate_BTD, gate_BTD = self.project_in(self.norm(x_BTD)).chunk(3, -1)
        update_BTD = torch.sigmoid(update_BTD)
        input_BTD = update_BTD * candidate_BTD
        keep_BTD = 1 - update_BTD
        first_BD = input_BTD[:, 0] + keep_BTD[:, 0] * state_BD
        hidden_BTD = scan_linear(keep_BTD, torch.cat([first_BD[:, None], input_BTD[:, 1:]], 1))
        output_BTD = self.project_out(nn.functional.silu(gate_BTD) * hidden_BTD)
        return x_BTD + self.dropout(output_BTD), hidden_BTD[:, -1]


class MinGRUFeatures(nn.Module):
    """(B, T) tokens -> (B, T, D) features."""

    def __init__(self, num_tokens: int, settings: CharacterSettings):
        super().__init__()
        self.embedding = nn.Embedding(num_tokens, settings.width)
        self.blocks = nn.ModuleList(
            MinGRUBlock(settings.width, settings.dropout) for _ in range(max(1, settings.layers))
        )
        self.norm = nn.LayerNorm(settings.width)

    def forward(self, tokens_BT: Tensor, state_LBD: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features (B, T, D) and the state after the last token."""
        x_BTD = self.embedding(tokens_BT)
        states = []
        for block, state_BD in zip(self.blocks, state_LBD, strict=True):
            x_BTD, last_BD = block(x_BTD, state_BD)
            states.append(last_BD)
        return self.norm(x_BTD), torch.stack(states)


class MinGRU(nn.Module):
    """(B, T) tokens -> (B, T, V) logits of the next token: `head(features(x))`."""

    def __init__(self, num_tokens: int, settings: CharacterSettings):
        super().__init__()
        self.features = MinGRUFeatures(num_tokens, settings)
        self.head = nn.Linear(settings.width, num_tokens)

    def forward(self, tokens_BT: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return logits (B, T, V) and the state (L, B, D) after the last token; without a state, begin from zeros."""
        if state is None:
            state = self.initial_state(len(tokens_BT))
        features_BTD, last_state = self.features(tokens_BT, state)
        return self.head(features_BTD), last_state

    def initial_state(self, batch_size: int) -> Tensor:
        """Return the state of `batch_size` rows before anything was read: zeros."""
        return self.head.weight.new_zeros(len(self.features.blocks), batch_size, self.head.in_features)


@register_model(task="write", paper="Feng et al. 2024, arXiv:2410.01201")
@take_settings(CharacterSettings, ("layers", "width", "dropout"))
def mingru(num_tokens: int, **settings: Any) -> MinGRU:
    """A recurrent network that is trained in parallel over all steps. Raises OptionError for impossible sizes."""
    check_whole_number("num_tokens", num_tokens, 1)
    return MinGRU(num_tokens, CharacterSettings(**settings))
