"""The task translate: its loss, its figures against sacrebleu, its search, and what it refuses."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from thalweg import registry
from thalweg.config.json_record import FieldError, from_json, to_json
from thalweg.config.options import TrainOptions
from thalweg.data.pairs.batches import EncodedPairs, make_batch
from thalweg.data.pairs.pair_dataset import PairSplit
from thalweg.engine.config import TrainConfig
from thalweg.engine.trainer import Trainer
from thalweg.errors import DataError, OptionError
from thalweg.metrics.translation import score_translations, transpose_references
from thalweg.plots.attention import plot_attention, plot_sentences
from thalweg.predictions.translation import Sentence, TranslationPrediction
from thalweg.tasks.base import Context
from thalweg.tasks.translate import Translate, TranslatePredictOptions, TranslateSpec, TranslateTrainOptions
from thalweg.tasks.translate_support import (
    SearchOptions,
    build_criterion,
    default_batch_size,
    default_epochs,
    encode_split,
    group_references,
    measure_nats,
    mix_guesses,
    translate_texts,
)

TASK = Translate()
CPU = Context(torch.device("cpu"), seed=3)
OPTIONS = TranslateTrainOptions()
DATA = TASK.toy_dataset()
SPEC = TASK.data_spec(DATA, OPTIONS)
VOCABULARY = SPEC.build_vocabulary()
GREEDY = SearchOptions(1, 1.0)
DRAWN = SearchOptions(2, 1.0, with_attention=True)


def build(**kwargs):
    torch.manual_seed(0)
    kwargs = {"width": 32, "embedding": 16, "layers": 1, "dropout": 0.0, **kwargs}
    return registry.get_models("translate")["gru_attention"](**TASK.model_kwargs(SPEC), **kwargs).eval()


@pytest.fixture(scope="module")
def trained():
    model = build(width=64, embedding=32)
    setup = TASK.setup(model, DATA, SPEC, OPTIONS, 16, CPU)
    config = TrainConfig(steps=150, lr=1e-2, optimizer="adamw", schedule="one-cycle", warmup_fraction=0.25, grad_clip=1)
    for _ in Trainer(setup.objective, setup.batches, config, setup.transform):
        pass
    return model.eval()


# --- loss -------------------------------------------------------------------------------------------------------------


def test_the_loss_is_the_smoothed_cross_entropy_of_real_tokens():
    model = build()
    batch = make_batch(encode_split(DATA.train, VOCABULARY), [0, 1, 2, 3], torch.device("cpu"))
    for smoothing in (0.0, 0.1):
        loss = build_criterion(smoothing, 1.0)(model, batch)
        logits_BTK = model(batch["source"], batch["inputs"])
        expected = F.cross_entropy(
            logits_BTK.flatten(0, 1), batch["targets"].flatten(), ignore_index=0, label_smoothing=smoothing
        )
        torch.testing.assert_close(loss.mean, expected)
        assert int(loss.count) == int((batch["targets"] != 0).sum())


def test_nats_per_token_do_not_depend_on_the_batches():
    model = build()
    pairs = encode_split(DATA.val, VOCABULARY)
    nats, count = measure_nats(model, pairs, torch.device("cpu"))
    total = 0.0
    for row in range(len(pairs)):
        alone = EncodedPairs([pairs.sources[row]], [pairs.targets[row]])
        one, tokens = measure_nats(model, alone, torch.device("cpu"))
        total += one * tokens
    assert nats == pytest.approx(total / count, rel=1e-5)
    assert measure_nats(model, EncodedPairs([], []), torch.device("cpu")) == (None, 0)


def test_scheduled_teacher_forcing_replaces_words_but_not_the_begin_and_the_padding():
    batch = make_batch(encode_split(DATA.train, VOCABULARY), list(range(8)), torch.device("cpu"))
    model = build()
    for fraction in (1.0, 0.0):
        mixed = mix_guesses(model, {**batch, "forcing": torch.full((8,), fraction)})
        assert torch.equal(mixed == batch["inputs"], torch.ones_like(mixed, dtype=torch.bool)) == (fraction == 1)
        assert torch.equal(mixed[:, 0], batch["inputs"][:, 0])
        assert torch.equal(mixed == 0, batch["inputs"] == 0)
    guesses = model(batch["source"], batch["inputs"]).argmax(2)
    is_word = batch["inputs"][:, 1:] != 0
    assert torch.equal(mixed[:, 1:][is_word], guesses[:, :-1][is_word])


# --- figures ----------------------------------------------------------------------------------------------------------


def test_bleu_and_chrf_are_those_of_sacrebleu():
    sacrebleu = pytest.importorskip("sacrebleu")
    texts = ["Ein Hund läuft.", "Zwei Kinder spielen im Park ."]
    references = [["Ein Hund rennt.", "Der Hund läuft."], ["Zwei Kinder spielen in einem Park."]]
    result = score_translations(texts, references)
    streams = [["Ein Hund rennt.", "Zwei Kinder spielen in einem Park."], ["Der Hund läuft.", None]]
    assert transpose_references(references) == streams
    assert result.scores["bleu"] == pytest.approx(sacrebleu.corpus_bleu(texts, streams).score)
    assert result.scores["chrf"] == pytest.approx(sacrebleu.corpus_chrf(texts, streams).score)
    assert result.scores["bleu_lowercase"] == pytest.approx(sacrebleu.corpus_bleu(texts, streams, lowercase=True).score)
    assert "tok:13a" in result.signatures["bleu"] and "case:lc" in result.signatures["bleu_lowercase"]


def test_evaluation_scores_each_source_once_with_all_references():
    split = PairSplit("pairs", ("a b", "c", "a b"), ("x", "y", "z"), (1, 2, 3))
    assert group_references(split) == (["a b", "c"], [["x", "z"], ["y"]])


def test_evaluation_without_sacrebleu_says_so(monkeypatch):
    for name in ("sacrebleu", "sacrebleu.metrics", "sacrebleu.metrics.bleu"):
        monkeypatch.setitem(sys.modules, name, None)
    notices: list[str] = []
    context = Context(torch.device("cpu"), log=notices.append)
    result = TASK.evaluate(build(), DATA.test, SPEC, OPTIONS, context)
    assert result.metrics["bleu"] is result.metrics["chrf"] is None and result.metrics["nats_per_token"] > 0
    assert 'pip install "thalweg[text]"' in notices[0]


def test_a_trained_model_translates_and_looks_at_the_words_that_it_translates(trained):
    pytest.importorskip("sacrebleu")
    result = TASK.evaluate(trained, DATA.test, SPEC, OPTIONS, CPU)
    assert result.metrics["bleu"] > 50 and result.metrics["chrf"] > 50
    assert result.details["signatures"].keys() == {"bleu", "chrf", "bleu_lowercase"}
    (sentence,) = translate_texts(trained, ["The old sailor finds the dog."], VOCABULARY, DRAWN)
    source = sentence.source_tokens.index("▁sailor")
    assert "sailor" in sentence.source and int(sentence.attention.sum(0).argmax()) != len(sentence.source_tokens)
    np.testing.assert_allclose(sentence.attention.sum(1), 1, atol=1e-5)
    assert sentence.attention.shape == (len(sentence.target_tokens), len(sentence.source_tokens)) and source == 2


# --- translating ------------------------------------------------------------------------------------------------------


def test_a_text_is_translated_line_by_line_and_empty_lines_stay(trained, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("The king sees the horse.\r\n\r\nThe girl saw two dogs.\r\n", encoding="utf-8")
    options = TranslatePredictOptions()
    examples = [TASK.preprocess(path, SPEC, options), TASK.preprocess("The king sees the horse.", SPEC, options)]
    file, sentence = TASK.predict(trained, ["text.txt", "The king sees"], examples, SPEC, options)
    assert (file.source, sentence.source) == ("text.txt", "The king sees the horse.")
    lines = file.text.split("\n")
    assert lines[0] == sentence.text and lines[1] == "" and len(lines) == 3
    assert [row["source"] for row in file.rows()] == ["The king sees the horse.", "", "The girl saw two dogs."]


def test_options_of_the_search_change_the_translation(trained):
    texts = ["The young baker carries five old horses.", "Two kings hear the girl."]
    longest = translate_texts(trained, texts, VOCABULARY, SearchOptions(3, 1.0, max_length=3))
    assert all(len(sentence.target_tokens) <= 2 for sentence in longest)
    model = build()
    model.target.bias_K.data[3] = 3.0  # a model that has learned nothing but that sentences end
    short = translate_texts(model, texts, VOCABULARY, SearchOptions(4, 0.0))
    long = translate_texts(model, texts, VOCABULARY, SearchOptions(4, 3.0))
    assert sum(len(s.target_tokens) for s in short) < sum(len(s.target_tokens) for s in long)
    assert translate_texts(trained, texts, VOCABULARY, GREEDY)[0].score < 0


def test_a_line_of_ten_thousand_words_and_an_empty_text_are_refused():
    with pytest.raises(DataError, match="Line 2 has 10,000 words; expected at most 1,000") as error:
        TASK.preprocess("A dog.\n" + "word " * 10_000, SPEC, None)
    assert error.value.line == 2 and error.value.cure
    for source in ("", b""):
        with pytest.raises(DataError):
            TASK.preprocess(source, SPEC, None)


def test_explain_draws_where_the_model_looked(trained):
    result = TASK.explain(trained, "The king sees the horse.", SPEC, None)
    assert result.images()["attention"].width > 100
    ((text, probability),) = result.predictions
    assert text == result.prediction.text and 0 < probability <= 1
    assert np.sum(result.json()["attention"][0]["attention"]) == pytest.approx(len(text.split()) + 1, abs=1e-3)
    assert "first of 2 lines" in TASK.explain(trained, "A.\nB.", SPEC, None).notes["attention"]


def test_a_prediction_without_attention_is_drawn_as_text():
    prediction = TranslationPrediction("text", (Sentence("A dog.", "Ein Hund."),))
    assert prediction.draw().width > 100 and prediction.files()[".txt"] == b"Ein Hund.\n"
    assert prediction.json()["sentences"] == [{"source": "A dog.", "text": "Ein Hund.", "score": 0.0}]


def test_plots_take_long_and_empty_texts():
    tokens = [f"▁token{index}" * 3 for index in range(100)]
    image = plot_attention(np.full((100, 100), 0.01), tokens, tokens, "title")
    assert image.width > 1000 and plot_attention(np.zeros((0, 0)), [], []).width > 100
    assert plot_sentences([]).width > 100


# --- data and options -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("tokens", {"tokens": ["<unk>", *SPEC.tokens[1:]]}),
        ("tokens", {"tokens": [*SPEC.tokens, SPEC.tokens[-1]]}),
        ("target", {"target": SPEC.target[::-1]}),
        ("target", {"target": [*SPEC.target, len(SPEC.tokens)]}),
        ("vocabulary", {"vocabulary": "letters"}),
    ],
)
def test_a_damaged_spec_is_refused_by_field(field, change):
    with pytest.raises(FieldError) as error:
        from_json({**to_json(SPEC), **change}, TranslateSpec)
    assert error.value.field == field


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"cuda_graph": True}, "cuda_graph"),
        ({"freeze": True}, "freeze"),
        ({"layer_decay": 0.5}, "freeze"),
        ({"unfreeze_groups": 1}, "freeze"),
    ],
)
def test_common_options_that_translators_cannot_follow_are_refused(options, name):
    context = Context(torch.device("cpu"), options=TrainOptions(**options))
    with pytest.raises(OptionError) as error:
        TASK.setup(build(), DATA, SPEC, OPTIONS, 16, context)
    assert error.value.option == name


def test_small_data_is_read_more_often_in_smaller_batches():
    assert default_batch_size(100) == 4 and default_batch_size(29_000) == 64
    assert default_epochs(300) == 60 and default_epochs(6_500) > default_epochs(29_000) > default_epochs(10**6) == 1


def test_weights_keep_their_vocabulary():
    other = TASK.data_spec(DATA, TranslateTrainOptions(vocabulary_size=12))
    assert TASK.spec_for_transfer(SPEC, other) == SPEC and len(other.tokens) < len(SPEC.tokens)


def test_random_guessing_is_the_logarithm_of_the_vocabulary():
    nats = TASK.evaluate(build(), DATA.val, SPEC, OPTIONS, CPU).metrics["nats_per_token"]
    assert nats == pytest.approx(math.log(len(SPEC.target)), rel=0.2)
