"""Recurrent networks that read numbers and answer at every step, for problems that need a long memory.

Elman 1990, doi:10.1207/s15516709cog1402_1; LSTM: Hochreiter and Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735; GRU:
Cho et al. 2014, arXiv:1406.1078. Gates begin open for times up to `memory` steps (chrono initialization: Tallec and
Ollivier 2018, arXiv:1804.11188). With memory=0 an LSTM has a forget bias of 1 and a GRU biases of zero.

Differs from the papers: recurrent matrices are orthogonal; the layers are those of layers/recurrent.py.
"""

from __future__ import annotations

from torch import Tensor, nn

from ...layers.recurrent import RecurrentLayers, RecurrentSettings, check_whole_number
from ...registry import register_model

# B sequences, T steps, C numbers in a step, D width of a layer, K outputs


class SequenceFeatures(nn.Module):
    """(B, T, C) -> (B, T, D): recurrent layers from a state of zeros."""

    def __init__(self, cell: type[nn.RNNBase], num_inputs: int, settings: RecurrentSettings):
        super().__init__()
        self.rnn = RecurrentLayers(cell, num_inputs, settings)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """Return the features (B, T, D)."""
        return self.rnn(x_BTC)[0]


class SequenceModel(nn.Module):
    """(B, T, C) -> (B, T, K), an answer at every step: `head(features(x))`."""

    def __init__(self, features: SequenceFeatures, head: nn.Linear):
        super().__init__()
        self.features = features
        self.head = head

    def forward(self, x_BTC: Tensor) -> Tensor:
        """Return the answers (B, T, K)."""
        return self.head(self.features(x_BTC))


def build_sequence_model(
    cell: type[nn.RNNBase], num_inputs: int, num_outputs: int, settings: RecurrentSettings
) -> SequenceModel:
    """Build a network with recurrent layers of one type.

    Args:
        cell: nn.RNN, nn.LSTM or nn.GRU.
        num_inputs: Numbers in a step.
        num_outputs: Numbers of an answer.
        settings: Sizes and initialization.

    Returns:
        The model.

    Raises:
        OptionError: For impossible sizes.
    """
    check_whole_number("num_inputs", num_inputs, 1)
    check_whole_number("num_outputs", num_outputs, 1)
    features = SequenceFeatures(cell, num_inputs, settings)
    return SequenceModel(features, nn.Linear(settings.width, num_outputs))


@register_model(task="remember", paper="Elman 1990, doi:10.1207/s15516709cog1402_1")
def memory_rnn(
    num_inputs: int, num_outputs: int, width: int = 64, layers: int = 1, memory: int = 0, dropout: float = 0.0
) -> SequenceModel:
    """Elman network: no gates, so `memory` changes nothing; gradients vanish within a few hundred steps."""
    settings = RecurrentSettings(layers=layers, width=width, dropout=dropout, memory=memory)
    return build_sequence_model(nn.RNN, num_inputs, num_outputs, settings)


@register_model(task="remember", paper="Hochreiter and Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735")
def memory_lstm(
    num_inputs: int, num_outputs: int, width: int = 64, layers: int = 1, memory: int = 0, dropout: float = 0.0
) -> SequenceModel:
    """LSTM whose gates begin open for up to `memory` steps; 0 for a forget bias of 1."""
    settings = RecurrentSettings(layers=layers, width=width, dropout=dropout, memory=memory)
    return build_sequence_model(nn.LSTM, num_inputs, num_outputs, settings)


@register_model(task="remember", paper="Cho et al. 2014, arXiv:1406.1078")
def memory_gru(
    num_inputs: int, num_outputs: int, width: int = 64, layers: int = 1, memory: int = 0, dropout: float = 0.0
) -> SequenceModel:
    """GRU whose update gates begin open for up to `memory` steps; 0 for biases of zero."""
    settings = RecurrentSettings(layers=layers, width=width, dropout=dropout, memory=memory)
    return build_sequence_model(nn.GRU, num_inputs, num_outputs, settings)
