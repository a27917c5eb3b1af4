"""What a recurrent network remembers of a text: the cells that follow its quotes, brackets, capitals and lines.

After Karpathy, Johnson and Fei-Fei 2015, arXiv:1506.02078, section 4.2, who found such cells by eye. Here they are
searched: every cell is scored by the area under the ROC curve (AUC) with which its value tells where the property
holds, on the first half of the text; what is reported is the AUC on the second half, which the search has not seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..data.text.text_dataset import make_text_split
from ..data.text.vocabulary import Vocabulary
from ..layers.recurrent_cells import trace_layer
from ..models.write.recurrent import CharacterModel
from ..predictions.text import TextPrediction

# N characters, T tokens, D cells of all layers together

#: characters that are searched
MAX_CHARACTERS = 20_000
#: a property must hold for so many characters of each half, and not hold for as many
MIN_CHARACTERS = 20
#: characters that a picture shows
MAX_DRAWN = 3000

_OPENING = "([{<"
_CLOSING = ")]}>"


@dataclass(frozen=True)
class FoundCell:
    """A cell that follows a property of a text.

    Attributes:
        text_property: What the cell follows, such as "inside quotes".
        layer: Index of its layer, from 1.
        cell: Index of the cell in its layer, from 0.
        auc: Area under the ROC curve on the half of the text that was not searched; 0.5 is chance.
        values_N: Value of the cell at each character, from -1 to 1; positive where the property holds more often.
    """

    text_property: str
    layer: int
    cell: int
    auc: float
    values_N: np.ndarray

    @property
    def label(self) -> str:
        """The cell and what it follows, in words."""
        return f"AUC of layer {self.layer}, cell {self.cell}: {self.text_property}"


@dataclass(frozen=True)
class TextExplanation:
    """A text, its surprise, and the cells that follow it. `notes` say what could not be searched, and why."""

    prediction: TextPrediction
    cells: list[FoundCell]
    notes: dict[str, str]

    @property
    def predictions(self) -> list[tuple[str, float]]:
        """Each cell in words, with its AUC."""
        return [(cell.label, cell.auc) for cell in self.cells]

    def images(self) -> dict[str, Image.Image]:
        """Draw the text by its surprise, and by each cell."""
        from ..plots.text_surprise import plot_text_activation

        images = {"surprise": self.prediction.draw()}
        text = self.prediction.text[:MAX_DRAWN]
        for cell in self.cells:
            name = f"{cell.text_property.replace(' ', '-')}-layer-{cell.layer}-cell-{cell.cell}"
            title = f"Layer {cell.layer}, cell {cell.cell}: {cell.text_property}, AUC {cell.auc:.3f}"
            images[name] = plot_text_activation(text, stretch(cell.values_N)[:MAX_DRAWN].tolist(), title)
        return images

    def draw(self) -> Image.Image:
        """Draw the text by its best cell, or by surprise where there is none."""
        images = list(self.images().values())
        return images[min(1, len(images) - 1)]

    def json(self) -> dict[str, Any]:
        """Return {"nats_per_character", "characters", "cells": [{"property", "layer", "cell", "auc"}, …], "notes"}."""
        cells = []
        for cell in self.cells:
            cells.append({"property": cell.text_property, "layer": cell.layer, "cell": cell.cell, "auc": cell.auc})
        return {
            "nats_per_character": self.prediction.nats_per_character,
            "characters": len(self.prediction.text),
            "cells": cells,
            "notes": self.notes,
        }


def explain_text(
    model: nn.Module, prediction: TextPrediction, vocabulary: Vocabulary, num_cells: int
) -> TextExplanation:
    """Find the cells that follow properties of a text.

    Args:
        model: A model that writes, in evaluation mode.
        prediction: The text with its surprise.
        vocabulary: The model's.
        num_cells: Cells for each property.

    Returns:
        The cells with the largest AUC on the first half of the text, and their AUC on the second.
    """
    if not isinstance(model, CharacterModel):
        return TextExplanation(prediction, [], {"cells": "only recurrent networks have cells that follow a text"})
    text = prediction.text[:MAX_CHARACTERS]
    values_ND, sizes = trace_cells(model, text, vocabulary)
    cells: list[FoundCell] = []
    notes: dict[str, str] = {}
    for name, holds_N in find_properties(text).items():
        if not _is_frequent(holds_N):
            notes[name] = f"holds too rarely, or too often, in {len(text):,} characters to search for a cell"
            continue
        half = len(text) // 2
        first_D = compute_auc(values_ND[:half], holds_N[:half])
        second_D = compute_auc(values_ND[half:], holds_N[half:])
        for index in np.argsort(-np.abs(first_D - 0.5))[:num_cells].tolist():
            sign = 1.0 if first_D[index] >= 0.5 else -1.0
            layer = int(np.searchsorted(np.cumsum(sizes), index, side="right"))
            cell = index - sum(sizes[:layer])
            auc = float(second_D[index] if sign > 0 else 1 - second_D[index])
            cells.append(FoundCell(name, layer + 1, cell, auc, sign * values_ND[:, index]))
    return TextExplanation(prediction, cells, notes)


def _is_frequent(holds_N: np.ndarray) -> bool:
    half = len(holds_N) // 2
    for part_N in (holds_N[:half], holds_N[half:]):
        if not MIN_CHARACTERS <= part_N.sum() <= len(part_N) - MIN_CHARACTERS:
            return False
    return True


@torch.inference_mode()
def trace_cells(model: CharacterModel, text: str, vocabulary: Vocabulary) -> tuple[np.ndarray, list[int]]:
    """Return the value (N, D) of every cell after every character, and the number of cells of each layer.

    The value is tanh(c) of an LSTM's cell state, and the hidden state of others.
    """
    split = make_text_split(text, getattr(vocabulary, "alphabet", ("\N{REPLACEMENT CHARACTER}",)))
    tokens_T = torch.from_numpy(vocabulary.encode(split)).long()
    x_1TE = model.features.embedding(tokens_T[None])
    values: list[Tensor] = []
    for layer, norm in zip(model.features.rnn.layers, model.features.rnn.norms, strict=True):
        trace = trace_layer(cast(nn.RNNBase, layer), x_1TE)
        values.append(trace.hidden_BTD[0] if trace.cell_BTD is None else torch.tanh(trace.cell_BTD[0]))
        x_1TE = norm(trace.hidden_BTD)
    token_N = np.searchsorted(vocabulary.count_characters(split), np.arange(len(text)), side="right") - 1
    return torch.cat(values, 1).numpy()[token_N], [value.shape[1] for value in values]


def stretch(values_N: np.ndarray) -> np.ndarray:
    """Return values from -1 to 1 with the median at 0: those of a cell often lie close together."""
    distance_N = values_N - np.median(values_N)
    largest = np.quantile(np.abs(distance_N), 0.95)
    return np.clip(distance_N / max(float(largest), 1e-9), -1, 1)


def find_properties(text: str) -> dict[str, np.ndarray]:
    """Return where properties of a text hold, each (N,) bool."""
    is_quoted = []
    is_bracketed = []
    columns = []
    quoted = False
    depth = 0
    column = 0
    for character in text:
        if character in '"“”':
            quoted = character == "“" or (character == '"' and not quoted)
        elif character in _OPENING:
            depth += 1
        elif character in _CLOSING:
            depth = max(0, depth - 1)
        is_quoted.append(quoted)
        is_bracketed.append(depth > 0)
        columns.append(column)
        column = 0 if character == "\n" else column + 1
    column_N = np.array(columns)
    return {
        "inside quotes": np.array(is_quoted, bool),
        "inside brackets": np.array(is_bracketed, bool),
        "in the second half of long lines": column_N > np.median(column_N),
        "capitals": np.array(list(map(str.isupper, text)), bool),
    }


def compute_auc(values_ND: np.ndarray, holds_N: np.ndarray) -> np.ndarray:
    """Compute the area under the ROC curve (D,) with which each column tells where `holds_N` is true."""
    from scipy.stats import rankdata

    positives = int(holds_N.sum())
    negatives = len(holds_N) - positives
    ranks_ND = rankdata(values_ND, axis=0)
    return (ranks_ND[holds_N].sum(0) - positives * (positives + 1) / 2) / (positives * negatives)
