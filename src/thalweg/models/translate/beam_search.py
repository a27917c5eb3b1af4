"""Beam search over batches of sentences (Graves 2012, arXiv:1211.3711; Sutskever, Vinyals, Le 2014, arXiv:1409.3215).

The score of a translation is its log-probability divided by its length to the power of `length_penalty`; without a
penalty short ones win, because each word costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .base import Tensors, TranslationModel

# A sentences that are searched, W width of the beam, N = A * W rows, C candidates, K target tokens, T steps so far

#: ids, see data/pairs/tokens.py
_FORBIDDEN = (0, 1, 2)
_BEGIN = 2
_END = 3
_LOWEST = float("-inf")


@dataclass(frozen=True)
class Hypothesis:
    """A translation: its tokens without the end, and its score."""

    tokens: tuple[int, ...]
    score: float


@torch.inference_mode()
def beam_search(
    model: TranslationModel, source_BS: Tensor, max_lengths: Sequence[int], width: int, length_penalty: float
) -> list[Hypothesis]:
    """Search the best translation of every sentence.

    Args:
        model: A model in evaluation mode.
        source_BS: Source tokens, padded.
        max_lengths: For each sentence the most tokens of a translation, its end included.
        width: Translations that are followed at the same time; 1 takes the most probable token of each step.
        length_penalty: The exponent of the length.

    Returns:
        The best translation of each sentence; the same, whatever sentences are in the batch beside it.
    """
    search = _Search(model, source_BS, max_lengths, width, length_penalty)
    while search.active:
        search.advance()
    return [search.best[index] for index in range(len(source_BS))]


class _Search:
    """The sentences that are still searched, their live translations, and the best that ended."""

    def __init__(
        self, model: TranslationModel, source_BS: Tensor, max_lengths: Sequence[int], width: int, length_penalty: float
    ):
        count = len(source_BS)
        self.model = model
        self.width = width
        self.length_penalty = length_penalty
        memory = model.encode(source_BS)
        state = model.start(memory)
        self.memory = _repeat(memory, width)
        self.state = _repeat(state, width)
        self.active = list(range(count))
        self.max_lengths = list(max_lengths)
        self.best = {index: Hypothesis((), _LOWEST) for index in range(count)}
        self.num_ended = [0] * count
        self.scores_AW = torch.full((count, width), _LOWEST, device=source_BS.device)
        self.scores_AW[:, 0] = 0
        self.tokens_AWT = torch.full((count, width, 1), _BEGIN, device=source_BS.device)
        self.step = 0

    def advance(self) -> None:
        """Lengthen all live translations by a token."""
        self.step += 1
        scores_AC, beam_AC, token_AC = self._candidates()
        ends_AC = token_AC == _END
        self._collect_ended(scores_AC, beam_AC, ends_AC)
        order_AW = ends_AC.int().argsort(dim=1, stable=True)[:, : self.width]
        self.scores_AW = scores_AC.gather(1, order_AW).masked_fill(ends_AC.gather(1, order_AW), _LOWEST)
        beam_AW = beam_AC.gather(1, order_AW)
        token_AW = token_AC.gather(1, order_AW)
        past_AWT = self.tokens_AWT.gather(1, beam_AW[..., None].expand(-1, -1, self.step))
        self.tokens_AWT = torch.cat([past_AWT, token_AW[..., None]], 2)
        rows_A1 = torch.arange(len(self.active), device=beam_AW.device)[:, None] * self.width
        self.state = _select(self.state, (rows_A1 + beam_AW).flatten())
        self._drop_done()

    def _candidates(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return scores, beams and tokens (A, C) of the best continuations, the best first."""
        tokens_N1 = self.tokens_AWT[..., -1].reshape(-1, 1)
        hidden_N1E, self.state, _ = self.model.decode(tokens_N1, self.memory, self.state)
        scores_NK = self.model.target.logits(hidden_N1E[:, 0]).float().log_softmax(1)
        scores_NK[:, list(_FORBIDDEN)] = _LOWEST
        num_tokens = scores_NK.shape[1]
        scores_AWK = scores_NK.unflatten(0, (len(self.active), self.width))
        for row, index in enumerate(self.active):
            if self.step >= self.max_lengths[index]:
                scores_AWK[row, :, _END + 1 :] = _LOWEST
        total_AX = (self.scores_AW[..., None] + scores_AWK).flatten(1)
        # twice as many as live translations: half of them may end here
        scores_AC, index_AC = total_AX.topk(min(2 * self.width, total_AX.shape[1]), 1)
        return scores_AC, index_AC // num_tokens, index_AC % num_tokens

    def _collect_ended(self, scores_AC: Tensor, beam_AC: Tensor, ends_AC: Tensor) -> None:
        """Keep the best translation that ends with this step, if it is better than the best so far."""
        counts = ends_AC & (scores_AC > _LOWEST)
        counts[:, self.width :] = False
        ended_AC = scores_AC.masked_fill(~counts, _LOWEST) / self.step**self.length_penalty
        best_A, index_A = ended_AC.max(1)
        numbers = counts.sum(1).tolist()
        for row, (score, index) in enumerate(zip(best_A.tolist(), index_A.tolist(), strict=True)):
            sentence = self.active[row]
            self.num_ended[sentence] += numbers[row]
            if score > self.best[sentence].score:
                tokens = self.tokens_AWT[row, beam_AC[row, index], 1:].tolist()
                self.best[sentence] = Hypothesis(tuple(tokens), score)

    def _drop_done(self) -> None:
        """Leave out sentences whose live translations cannot become the best, or of which enough ended."""
        live = self.scores_AW.max(1).values.tolist()
        rows = []
        for row, sentence in enumerate(self.active):
            longest = self.max_lengths[sentence]
            bound = live[row] / longest**self.length_penalty
            is_done = self.step >= longest or self.num_ended[sentence] >= self.width
            if not is_done and bound > self.best[sentence].score:
                rows.append(row)
        if len(rows) == len(self.active):
            return
        self.active = [self.active[row] for row in rows]
        rows_A = torch.tensor(rows, dtype=torch.long, device=self.scores_AW.device)
        self.scores_AW = self.scores_AW[rows_A]
        self.tokens_AWT = self.tokens_AWT[rows_A]
        beams_W = torch.arange(self.width, device=rows_A.device)
        rows_N = (rows_A[:, None] * self.width + beams_W).flatten()
        self.memory = _select(self.memory, rows_N)
        self.state = _select(self.state, rows_N)


def _repeat(tensors: Tensors, width: int) -> Tensors:
    return {name: value.repeat_interleave(width, 0) for name, value in tensors.items()}


def _select(tensors: Tensors, rows: Tensor) -> Tensors:
    return {name: value.index_select(0, rows) for name, value in tensors.items()}
