"""Translators: padding changes nothing, steps equal the whole sentence, and beam search against brute force."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from thalweg import registry
from thalweg.data.pairs.batches import pad_rows
from thalweg.errors import OptionError
from thalweg.models.translate.base import TranslationModel
from thalweg.models.translate.beam_search import beam_search

MODELS = registry.get_models("translate")
SMALL = {
    "gru_attention": {"width": 16, "embedding": 8},
    "lstm_attention": {"width": 16, "embedding": 8},
    "transformer": {"width": 16, "heads": 2, "layers": 2},
}
SOURCES = [[5, 6, 7, 3], [8, 3], [9, 10, 11, 12, 13, 3]]
INPUTS = [[2, 4, 5], [2, 6, 4], [2, 5, 6]]

every_model = pytest.mark.parametrize("name", MODELS)


def build(name: str, num_targets: int = 7, **kwargs) -> TranslationModel:
    torch.manual_seed(0)
    return MODELS[name](num_tokens=20, num_targets=num_targets, **{**SMALL[name], **kwargs}).eval()


def test_every_model_is_tested_here():
    assert MODELS.keys() == SMALL.keys()


@every_model
@torch.no_grad()
def test_padding_and_other_sentences_change_nothing(name):
    model = build(name)
    together = model(pad_rows(SOURCES), pad_rows(INPUTS))
    longer = model(torch.nn.functional.pad(pad_rows(SOURCES), (0, 5)), pad_rows(INPUTS))
    torch.testing.assert_close(longer, together, atol=1e-5, rtol=1e-5)
    for row, (source, inputs) in enumerate(zip(SOURCES, INPUTS, strict=True)):
        alone = model(torch.tensor([source]), torch.tensor([inputs]))
        torch.testing.assert_close(alone[0], together[row], atol=1e-5, rtol=1e-5)


@every_model
@torch.no_grad()
def test_attention_rows_sum_to_one_and_leave_padding_out(name):
    source_BS = pad_rows(SOURCES)
    attention_BTS = build(name).align(source_BS, pad_rows(INPUTS))
    torch.testing.assert_close(attention_BTS.sum(2), torch.ones(3, 3))
    assert bool((attention_BTS[(source_BS == 0)[:, None, :].expand_as(attention_BTS)] == 0).all())


@every_model
@torch.no_grad()
def test_steps_equal_the_whole_sentence_and_see_no_later_token(name):
    model = build(name)
    source_BS = pad_rows(SOURCES)
    inputs_BT = pad_rows(INPUTS)
    whole = model.hidden(source_BS, inputs_BT)
    memory = model.encode(source_BS)
    state = model.start(memory)
    for step in range(3):
        hidden_B1E, state, _ = model.decode(inputs_BT[:, step : step + 1], memory, state)
        torch.testing.assert_close(hidden_B1E[:, 0], whole[:, step], atol=1e-5, rtol=1e-5)


@every_model
def test_every_parameter_has_a_gradient(name):
    model = build(name, layers=2).train()
    logits = model(pad_rows(SOURCES), pad_rows(INPUTS))
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), pad_rows(INPUTS).flatten()).backward()
    for key, param in model.named_parameters():
        assert param.grad is not None and float(param.grad.abs().max()) > 0, key


@every_model
@pytest.mark.parametrize("kwargs", [{"layers": 0}, {"width": 0}, {"dropout": 1.0}])
def test_impossible_sizes_are_refused(name, kwargs):
    with pytest.raises(OptionError):
        build(name, **kwargs)


def test_heads_divide_the_width():
    with pytest.raises(OptionError) as error:
        build("transformer", heads=3)
    assert error.value.option == "heads"


# --- beam search ------------------------------------------------------------------------------------------------------


@torch.no_grad()
def log_probability(model: TranslationModel, source: list[int], tokens: tuple[int, ...]) -> float:
    """Compute the log-probability of a translation with its end; tokens 0 to 2 are never written."""
    logits_TK = model(torch.tensor([source]), torch.tensor([[2, *tokens]]))[0]
    scores_TK = logits_TK.log_softmax(1)
    return sum(float(scores_TK[step, token]) for step, token in enumerate((*tokens, 3)))


def search_all(model: TranslationModel, source: list[int], max_length: int, penalty: float) -> tuple[float, tuple]:
    best = (-math.inf, ())
    for length in range(max_length):
        for tokens in itertools.product((4, 5, 6), repeat=length):
            score = log_probability(model, source, tokens) / (length + 1) ** penalty
            best = max(best, (score, tokens))
    return best


@every_model
@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.5])
def test_a_wide_beam_finds_the_best_of_all_translations(name, penalty):
    model = build(name)
    sources = SOURCES[:2]
    for source, result in zip(
        sources, beam_search(model, pad_rows(sources), [4, 4], width=100, length_penalty=penalty), strict=True
    ):
        score, tokens = search_all(model, source, 4, penalty)
        assert result.tokens == tokens
        assert result.score == pytest.approx(score, abs=1e-5)


@every_model
def test_a_beam_of_one_is_greedy(name):
    model = build(name)
    for source in SOURCES:
        tokens = [2]
        while len(tokens) < 9:
            logits_K = model(torch.tensor([source]), torch.tensor([tokens]))[0, -1]
            logits_K[:3] = -math.inf
            token = 3 if len(tokens) == 8 else int(logits_K.argmax())
            if token == 3:
                break
            tokens.append(token)
        (result,) = beam_search(model, torch.tensor([source]), [8], 1, 1.0)
        assert list(result.tokens) == tokens[1:]


@every_model
@pytest.mark.parametrize("width", [1, 3])
def test_a_batch_is_translated_like_its_sentences_one_by_one(name, width):
    model = build(name, num_targets=12)
    generator = torch.Generator().manual_seed(1)
    rows = [torch.randint(4, 20, (length,), generator=generator).tolist() + [3] for length in (3, 9, 1, 5, 7)]
    limits = [2 * len(row) + 3 for row in rows]
    together = beam_search(model, pad_rows(rows), limits, width, 0.6)
    for row, limit, result in zip(rows, limits, together, strict=True):
        (alone,) = beam_search(model, torch.tensor([row]), [limit], width, 0.6)
        assert alone.tokens == result.tokens and alone.score == pytest.approx(result.score, abs=1e-5)
        assert len(result.tokens) < limit and not set(result.tokens) & {0, 1, 2, 3}
