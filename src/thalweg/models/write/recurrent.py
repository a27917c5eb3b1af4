"""The common part of the recurrent networks that write: embedding, recurrent layers, and a linear layer to the logits.

State is an argument and a result, never an attribute: `logits, state = model(tokens, state)`. Tied embeddings: Press
and Wolf 2017, arXiv:1608.05859.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ...layers.check_arguments import check_whole_number
from ...layers.recurrent import RecurrentLayers, RecurrentSettings, State

# B rows of text, T tokens, V tokens of the vocabulary, E width of the embedding, D width of a layer, L layers


@dataclass(frozen=True)
class CharacterSettings(RecurrentSettings):
    """Settings of a recurrent network that writes; the others are in RecurrentSettings.

    Attributes:
        embedding: Numbers that stand for a token.
        tied: Use the embedding again as weights of the last layer.
    """

    embedding: int = 64
    tied: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole_number("embedding", self.embedding, 1)


class RecurrentFeatures(nn.Module):
    """(B, T) tokens -> (B, T, D) features: embedding and recurrent layers."""

    def __init__(self, num_tokens: int, cell: Callable[..., nn.RNNBase], settings: CharacterSettings):
        super().__init__()
        self.embedding = nn.Embedding(num_tokens, settings.embedding)
        self.rnn = RecurrentLayers(cell, settings.embedding, settings)

    def forward(self, tokens_BT: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Return the features (B, T, D) and the state after the last token."""
        return self.rnn(self.embedding(tokens_BT), state)


class TiedHead(nn.Module):
    """(B, T, D) features -> (B, T, V) logits with the embedding's weights, behind a projection to its width."""

    def __init__(self, width: int, embedding: nn.Embedding):
        super().__init__()
        self.project = nn.Linear(width, embedding.embedding_dim)
        self.bias = nn.Parameter(embedding.weight.new_zeros(embedding.num_embeddings))
        self._embedding = (embedding,)  # in a tuple: it belongs to the features, and is saved there

    def forward(self, features_BTD: Tensor) -> Tensor:
        """Return logits (B, T, V)."""
        return nn.functional.linear(self.project(features_BTD), self._embedding[0].weight, self.bias)


class CharacterModel(nn.Module):
    """(B, T) tokens -> (B, T, V) logits of the next token: `head(features(x))`."""

    def __init__(self, features: RecurrentFeatures, head: nn.Linear | TiedHead):
        super().__init__()
        self.features = features
        self.head = head

    def forward(self, tokens_BT: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Return logits (B, T, V) and the state after the last token; without a state, begin from zeros."""
        features_BTD, last_state = self.features(tokens_BT, state)
        return self.head(features_BTD), last_state

    def initial_state(self, batch_size: int) -> State:
        """Return the state of `batch_size` rows before anything was read: zeros."""
        return self.features.rnn.initial_state(batch_size)


def build_character_model(
    cell: Callable[..., nn.RNNBase], num_tokens: int, settings: CharacterSettings
) -> CharacterModel:
    """Build a network with recurrent layers of one type.

    Args:
        cell: nn.RNN, nn.LSTM or nn.GRU.
        num_tokens: Size of the vocabulary, the unknown symbol included.
        settings: Sizes and regularization.

    Returns:
        The model, with orthogonal recurrent matrices and, in an LSTM, forget gates that begin open.

    Raises:
        OptionError: For a vocabulary without tokens.
    """
    check_whole_number("num_tokens", num_tokens, 1)
    features = RecurrentFeatures(num_tokens, cell, settings)
    if settings.tied:
        return CharacterModel(features, TiedHead(settings.width, features.embedding))
    return CharacterModel(features, nn.Linear(settings.width, num_tokens))


def take_settings(
    settings_class: type, names: Sequence[str] | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a builder `builder(num_tokens, **settings)` fields of a dataclass as arguments: those of `names`, or all."""

    def decorate(builder: Callable[..., Any]) -> Callable[..., Any]:
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        first = next(iter(inspect.signature(builder).parameters.values()))
        parameters = [first]
        for field in dataclasses.fields(settings_class):
            if names is not None and field.name not in names:
                continue
            parameters.append(inspect.Parameter(field.name, kind, default=field.default, annotation=field.type))
        builder.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return builder

    return decorate
