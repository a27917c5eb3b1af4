"""What the task translate is made of: its loss, its measurements, its search, and what reports say."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.pairs.batches import EncodedPairs, iterate_by_length, make_batch, pad_rows
from ..data.pairs.pair_dataset import PairSplit
from ..data.pairs.tokens import BEGIN, PAD, Vocabulary, normalize_text
from ..errors import DataError, OptionError
from ..models.translate.base import TranslationModel
from ..models.translate.beam_search import Hypothesis, beam_search
from ..objectives.base import Batch, Loss
from ..plots.attention import plot_attention
from ..predictions.translation import Sentence
from .base import Context, Plot

#: sentences that are translated or measured at a time
BATCH_SIZE = 64
#: a source may have so many words; longer ones are no sentences
MAX_WORDS = 1000
#: tokens of a translation, for each token of the source, and beside
MAX_RATIO = 2
MAX_EXTRA = 10

#: target tokens that a training reads: some minutes on two CPU cores
NUM_TOKENS = 5e6
MAX_EPOCHS = 30
#: the same for small data, such as the default: about a minute
NUM_TOKENS_SMALL = 4e5
MAX_EPOCHS_SMALL = 60
MAX_BATCH_SIZE = 64
#: updates per epoch below which batches become smaller
MIN_STEPS_PER_EPOCH = 20
#: about as many tokens are in a sentence
TOKENS_PER_PAIR = 10

#: test sentences whose attention the report draws, and tokens of each
NUM_DRAWN = 4
DRAWN_TOKENS = (5, 16)
#: test sentences that the report lists
NUM_LISTED = 12


@dataclass(frozen=True)
class SearchOptions:
    """How translations are searched."""

    beam: int
    length_penalty: float
    max_length: int | None = None
    with_attention: bool = False


def default_batch_size(count: int) -> int:
    """Return the pairs of a batch: a power of two, at most 64, with 20 updates per epoch."""
    size = MAX_BATCH_SIZE
    while size > 1 and count < size * MIN_STEPS_PER_EPOCH:
        size //= 2
    return size


def default_epochs(count: int) -> int:
    """Return the passes over `count` pairs: fewer the more there are, at least one."""
    tokens = max(1, count * TOKENS_PER_PAIR)
    by_length = min(MAX_EPOCHS, NUM_TOKENS / tokens)
    for_small_data = min(MAX_EPOCHS_SMALL, NUM_TOKENS_SMALL / tokens)
    return max(1, round(max(by_length, for_small_data)))


def encode_split(split: PairSplit, vocabulary: Vocabulary) -> EncodedPairs:
    """Return the tokens of all pairs."""
    return EncodedPairs(
        list(map(vocabulary.encode_source, split.sources)), list(map(vocabulary.encode_target, split.targets))
    )


def refuse_common_options(context: Context) -> None:
    """Raise OptionError for common options that translators cannot follow."""
    options = context.options
    if options is None:
        return
    if options.cuda_graph:
        raise OptionError(
            "--cuda-graph records batches of one size; those of translate have the lengths of their sentences.",
            "Leave --cuda-graph out.",
            option="cuda_graph",
        )
    is_frozen = options.freeze or options.unfreeze_groups is not None or options.unfreeze_every is not None
    if is_frozen or options.layer_decay != 1.0:
        raise OptionError(
            "--freeze: the last layer of translate models is their embedding too; expected all layers to be trained.",
            "Leave out --freeze, --unfreeze-groups, --unfreeze-every and --layer-decay.",
            option="freeze",
            value=True,
        )


# --- what is minimized and measured -----------------------------------------------------------------------------------


def build_criterion(label_smoothing: float, teacher_forcing: float) -> Callable[[nn.Module, Batch], Loss]:
    """Return the loss: cross-entropy of the next token, where `label_smoothing` is spread over all tokens.

    Label smoothing: Szegedy et al. 2016, arXiv:1512.00567. Teacher forcing below 1: Bengio et al. 2015,
    arXiv:1506.03099, with guesses of a first pass (Mihaylova and Martins 2019, arXiv:1906.07651).
    """

    def criterion(model: nn.Module, batch: Batch) -> Loss:
        assert isinstance(model, TranslationModel)
        inputs_BT = batch["inputs"]
        if teacher_forcing < 1:
            inputs_BT = mix_guesses(model, batch)
        is_real_BT = batch["targets"] != PAD
        hidden_ME = model.hidden(batch["source"], inputs_BT)[is_real_BT]
        scores_MK = model.target.logits(hidden_ME).float().log_softmax(1)
        nats = F.nll_loss(scores_MK, batch["targets"][is_real_BT])
        loss = nats
        if label_smoothing:
            loss = (1 - label_smoothing) * nats - label_smoothing * scores_MK.mean()
        return Loss(loss, is_real_BT.sum(), {"nats_per_token": nats.detach()})

    return criterion


@torch.no_grad()
def mix_guesses(model: TranslationModel, batch: Batch) -> Tensor:
    """Return the inputs (B, T), some of them replaced by what the model guesses for them."""
    inputs_BT = batch["inputs"]
    keeps_BT = torch.rand(inputs_BT.shape, device=inputs_BT.device) < batch["forcing"][:, None]
    guesses_BT = model(batch["source"], inputs_BT).argmax(2)
    mixed_BT = inputs_BT.clone()
    mixed_BT[:, 1:] = torch.where(keeps_BT[:, 1:], inputs_BT[:, 1:], guesses_BT[:, :-1])
    return mixed_BT.masked_fill(inputs_BT == PAD, PAD)


@torch.inference_mode()
def measure_nats(model: TranslationModel, pairs: EncodedPairs, device: torch.device) -> tuple[float | None, int]:
    """Return the mean surprise per target token given all tokens before it, and the number of tokens."""
    total = 0.0
    count = 0
    for rows in iterate_by_length(pairs, BATCH_SIZE):
        batch = make_batch(pairs, rows, device)
        is_real_BT = batch["targets"] != PAD
        logits_MK = model.target.logits(model.hidden(batch["source"], batch["inputs"])[is_real_BT])
        total += float(F.cross_entropy(logits_MK.float(), batch["targets"][is_real_BT], reduction="sum"))
        count += int(is_real_BT.sum())
    return (total / count if count else None), count


# --- translating ------------------------------------------------------------------------------------------------------


def check_line(text: str, line: int) -> None:
    """Raise DataError for a line that is far longer than a sentence."""
    count = len(text.split())
    if count > MAX_WORDS:
        raise DataError(
            f"Line {line:,} has {count:,} words; expected at most {MAX_WORDS:,}.",
            "Divide it into sentences, one a line.",
            line=line,
            value=count,
            allowed=[MAX_WORDS],
        )


@torch.inference_mode()
def translate_texts(
    model: TranslationModel, texts: Sequence[str], vocabulary: Vocabulary, options: SearchOptions
) -> list[Sentence]:
    """Translate sentences, those of similar lengths together; the result does not depend on which.

    Args:
        model: A model in evaluation mode.
        texts: Sentences; the translation of an empty one is empty.
        vocabulary: The model's tokens.
        options: How to search.

    Returns:
        A translation for each sentence, in their order.
    """
    device = next(model.parameters()).device
    result = [Sentence(text, "") for text in texts]
    sources = list(map(vocabulary.encode_source, texts))
    order = [row for row in range(len(texts)) if normalize_text(texts[row])]
    order.sort(key=lambda row: len(sources[row]))
    for start in range(0, len(order), BATCH_SIZE):
        rows = order[start : start + BATCH_SIZE]
        source_BS = pad_rows([sources[row] for row in rows], device)
        limits = [_max_tokens(len(sources[row]), options) for row in rows]
        hypotheses = beam_search(model, source_BS, limits, options.beam, options.length_penalty)
        attentions = [None] * len(rows)
        if options.with_attention:
            attentions = align_tokens(model, source_BS, hypotheses)
        for row, hypothesis, attention in zip(rows, hypotheses, attentions, strict=True):
            result[row] = Sentence(
                texts[row],
                vocabulary.decode_target(hypothesis.tokens),
                hypothesis.score,
                tuple(vocabulary.source_tokens(sources[row])),
                tuple(vocabulary.target_tokens(hypothesis.tokens)),
                None if attention is None else attention[:, : len(sources[row])],
            )
    return result


def _max_tokens(source_length: int, options: SearchOptions) -> int:
    if options.max_length is not None:
        return options.max_length
    return MAX_RATIO * source_length + MAX_EXTRA


def align_tokens(model: TranslationModel, source_BS: Tensor, hypotheses: Sequence[Hypothesis]) -> list[Any]:
    """Return for each translation the attention (T, S) with which its tokens were written."""
    inputs_BT = pad_rows([[BEGIN, *hypothesis.tokens] for hypothesis in hypotheses], source_BS.device)
    attention_BTS = model.align(source_BS, inputs_BT).float().cpu().numpy()
    return [attention_BTS[row, : len(hypothesis.tokens)] for row, hypothesis in enumerate(hypotheses)]


def group_references(split: PairSplit) -> tuple[list[str], list[list[str]]]:
    """Return each source once, with all translations that the split has of it."""
    references: dict[str, list[str]] = {}
    for source, target in zip(split.sources, split.targets, strict=True):
        references.setdefault(source, []).append(target)
    return list(references), list(references.values())


# --- reports ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Evidence:
    """Test sentences with translations, and the references of each."""

    sentences: Sequence[Sentence]
    references: Sequence[Sequence[str]]


def draw_plots(
    evidence: Evidence, model: TranslationModel, vocabulary: Vocabulary, options: SearchOptions
) -> list[Plot]:
    """List translations of test sentences, and draw the attention of some of them."""
    rows: list[Sequence[object]] = [("source", "translation", "reference")]
    for sentence, references in list(zip(evidence.sentences, evidence.references, strict=True))[:NUM_LISTED]:
        rows.append((sentence.source, sentence.text, references[0]))
    plots = [Plot("translations", "Translations", "The first sentences of the test split.", table=rows)]
    low, high = DRAWN_TOKENS
    chosen = [sentence for sentence in evidence.sentences if low <= len(sentence.target_tokens) <= high]
    texts = [sentence.source for sentence in (chosen or list(evidence.sentences))[:NUM_DRAWN]]
    for index, sentence in enumerate(translate_texts(model, texts, vocabulary, options), 1):
        if sentence.attention is None or not sentence.target_tokens:
            continue
        image = plot_attention(np.asarray(sentence.attention), sentence.source_tokens, sentence.target_tokens)
        caption = "Each row shows where the model looked as it wrote that word; a row's values sum to 1."
        plots.append(Plot(f"attention-{index}", f"Attention: {sentence.source}", caption, image))
    return plots


def describe_probability(sentence: Sentence, length_penalty: float) -> float:
    """Return the geometric mean of the probabilities of a translation's tokens, its end included."""
    length = len(sentence.target_tokens) + 1
    return math.exp(sentence.score * length**length_penalty / length)
