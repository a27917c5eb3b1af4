"""The task write: its options, its evaluation in one pass, and samples that depend on their seed alone."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from thalweg import registry
from thalweg.config.json_record import FieldError, from_json, to_json
from thalweg.config.options import TrainOptions
from thalweg.config.parsing import option_fields, parse_options
from thalweg.data.base import DataRequest
from thalweg.data.text.text_dataset import UNKNOWN, TextSplit, make_text_split
from thalweg.engine.config import TrainConfig
from thalweg.engine.trainer import Trainer
from thalweg.errors import DataError, OptionError
from thalweg.metrics.overfitting import describe_overfitting
from thalweg.metrics.text import (
    WARMUP,
    measure_dynamic_surprise,
    measure_surprise,
    measure_surprise_without_context,
)
from thalweg.models.write.sampling import cut_at_end
from thalweg.tasks.base import Context, NoOptions
from thalweg.tasks.write import Write, WriteSampleOptions, WriteSpec, WriteTrainOptions

TASK = Write()
CPU = Context(torch.device("cpu"), seed=3)
OPTIONS = WriteTrainOptions()
DATA = TASK.toy_dataset()
SPEC = TASK.data_spec(DATA, OPTIONS)


def build(name: str = "lstm", spec: WriteSpec = SPEC, **kwargs) -> torch.nn.Module:
    torch.manual_seed(0)
    kwargs = {"width": 24, "embedding": 8, **kwargs}
    return registry.get_models("write")[name](**TASK.model_kwargs(spec), **kwargs).eval()


def sharpen(model: torch.nn.Module) -> torch.nn.Module:
    """Give the model clear preferences, as a trained one has."""
    with torch.no_grad():
        model.head.weight *= 8
    return model


MODEL = sharpen(build())


def long_pass(model: torch.nn.Module, tokens: list[int], start: int) -> torch.Tensor:
    """Surprise by one forward pass over the whole text."""
    with torch.inference_mode():
        logits, _ = model(torch.tensor([[start, *tokens[:-1]]]))
    return F.cross_entropy(logits[0], torch.tensor(tokens), reduction="none")


def train(steps: int, name: str = "lstm", batch_size: int = 4, options: WriteTrainOptions = OPTIONS):
    model = build(name)
    setup = TASK.setup(model, DATA, SPEC, options, batch_size, CPU)
    config = TrainConfig(steps=steps, lr=4e-3, optimizer="adamw", schedule="one-cycle", grad_clip=1.0)
    for _ in Trainer(setup.objective, setup.batches, config, setup.transform):
        pass
    return model.eval(), setup


# --- evaluation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_chunks_with_carried_state_equal_one_long_pass(name):
    model = sharpen(build(name))
    tokens = DATA.test.tokens.tolist()
    expected = long_pass(model, tokens, SPEC.tokens.start_token).numpy()
    for chunk in (100, 1024, 5000):
        nats = measure_surprise(model, torch.tensor(tokens), SPEC.tokens.start_token, chunk=chunk)
        assert nats.shape == (len(tokens),) and nats.dtype == np.float32
        np.testing.assert_allclose(nats, expected, atol=1e-5)


def test_reading_in_rows_changes_little():
    tokens = torch.from_numpy(DATA.train.tokens).long()
    exact = measure_surprise(MODEL, tokens, SPEC.tokens.start_token)
    for rows in (2, 7, 16):
        nats = measure_surprise(MODEL, tokens, SPEC.tokens.start_token, rows=rows)
        assert nats.shape == exact.shape and nats.mean() == pytest.approx(exact.mean(), abs=1e-2)
        np.testing.assert_allclose(nats[WARMUP:], exact[WARMUP:], atol=1e-2)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_the_shortest_texts_have_a_figure_per_character(count):
    tokens = torch.from_numpy(DATA.test.tokens[:count]).long()
    for rows in (1, 16):
        assert np.isfinite(measure_surprise(MODEL, tokens, 1, rows)).all()
        assert len(measure_surprise(MODEL, tokens, 1, rows)) == count


def test_reading_leaves_the_number_of_threads():
    before = torch.get_num_threads()
    measure_surprise(MODEL, torch.tensor([1, 2, 3]), 1)
    assert torch.get_num_threads() == before


def test_windows_without_context_are_scored_one_by_one():
    tokens = torch.from_numpy(DATA.test.tokens).long()
    windows = []
    for start in range(0, (len(tokens) - 1) // 50 * 50, 50):
        with torch.inference_mode():
            logits, _ = MODEL(tokens[None, start : start + 50])
        windows.append(F.cross_entropy(logits[0], tokens[start + 1 : start + 51]).item())
    assert measure_surprise_without_context(MODEL, tokens, window=50, batch_size=7) == pytest.approx(
        np.mean(windows), abs=1e-5
    )
    assert math.isnan(measure_surprise_without_context(MODEL, tokens[:50], window=50))


def test_the_metrics_are_means_in_nats_and_bits():
    result = TASK.evaluate(MODEL, DATA.test, SPEC, OPTIONS, CPU)
    expected = long_pass(MODEL, DATA.test.tokens.tolist(), SPEC.tokens.start_token).mean().item()
    assert result.metrics["nats_per_character"] == pytest.approx(expected, abs=1e-5)
    assert result.metrics["bits_per_character"] == pytest.approx(expected / math.log(2), abs=1e-5)
    assert list(result.metrics) == [metric.name for metric in TASK.metrics]
    assert not any(metric.higher_is_better for metric in TASK.metrics)
    assert result.details == {"characters": len(DATA.test)}
    assert len(result.samples) == 1 and len(result.samples[0].text) == 200
    again = TASK.evaluate(MODEL, DATA.test, SPEC, OPTIONS, CPU)
    assert again.metrics == result.metrics and again.samples == result.samples


def test_an_empty_split_has_no_metric():
    result = TASK.evaluate(MODEL, make_text_split("", SPEC.alphabet), SPEC, OPTIONS, CPU)
    assert result.metrics == dict.fromkeys(metric.name for metric in TASK.metrics)


def test_prediction_agrees_with_evaluation(tmp_path):
    path = tmp_path / "test.txt"
    path.write_text(DATA.test.text, encoding="utf-8")
    sources = [path, DATA.test.text, DATA.test.text.encode(), "short"]
    examples = [TASK.preprocess(source, SPEC, NoOptions()) for source in sources]
    many = TASK.predict(MODEL, list("abcd"), examples, SPEC, NoOptions())
    ones = [TASK.predict(MODEL, [n], [e], SPEC, NoOptions())[0] for n, e in zip("abcd", examples, strict=True)]
    metrics = TASK.evaluate(MODEL, DATA.test, SPEC, OPTIONS, CPU).metrics
    for one, other in zip(ones, many, strict=True):
        assert one.source == other.source and np.array_equal(one.nats, other.nats)
    for prediction in many[:3]:
        assert prediction.nats_per_character == pytest.approx(metrics["nats_per_character"], abs=1e-6)


def test_characters_that_the_model_does_not_know_are_read():
    example = TASK.preprocess("a☃\x07b", SPEC, NoOptions())
    prediction = TASK.predict(MODEL, ["x"], [example], SPEC, NoOptions())[0]
    assert prediction.text == "a☃\x07b" and np.isfinite(prediction.nats).all()


@pytest.mark.parametrize("source", ["", b"", b"\xff\xff", 3.5])
def test_what_is_no_text_is_refused(source):
    with pytest.raises(DataError):
        TASK.preprocess(source, SPEC, NoOptions())


def test_a_split_in_another_alphabet_is_read_in_the_models():
    spec = WriteSpec([UNKNOWN, *reversed(SPEC.alphabet[1:])])
    model = build(spec=spec)
    tokens = [spec.alphabet.index(character) for character in "the old"]
    nats = TASK.evaluate(model, make_text_split("the old", SPEC.alphabet), spec, OPTIONS, CPU).evidence.nats
    np.testing.assert_allclose(nats, long_pass(model, tokens, spec.tokens.start_token), atol=1e-5)


# --- sampling ---------------------------------------------------------------------------------------------------------


def test_a_sample_depends_on_its_seed_alone():
    options = WriteSampleOptions(length=40, count=4, seed=10, temperature=1.0)
    samples = [prediction.text for prediction in TASK.sample(MODEL, SPEC, options)]
    assert len(set(samples)) == 4 and all(len(text) == 40 for text in samples)
    for k, text in enumerate(samples):
        alone = next(TASK.sample(MODEL, SPEC, replace(options, count=1, seed=10 + k)))
        assert alone.text == text
    assert "".join(TASK.stream(MODEL, SPEC, replace(options, seed=12))) == samples[2]
    torch.manual_seed(99)  # the global generator has no say
    assert [prediction.text for prediction in TASK.sample(MODEL, SPEC, options)] == samples


def test_a_stream_comes_character_by_character():
    stream = TASK.stream(MODEL, SPEC, WriteSampleOptions(length=1_000_000))
    assert len(list(islice(stream, 5))) == 5


def test_a_sample_continues_its_prompt():
    options = WriteSampleOptions(prompt="Ada sees", length=30, temperature=1e-6)
    text = next(TASK.sample(MODEL, SPEC, options)).text
    assert text.startswith("Ada sees") and len(text) == 38
    tokens = [SPEC.tokens.start_token, *(SPEC.alphabet.index(character) for character in text)]
    with torch.inference_mode():
        logits, _ = MODEL(torch.tensor([tokens]))
    best = logits[0, 8:-1, 1:].argmax(1) + 1  # at no temperature always the most probable, never the unknown
    assert "".join(SPEC.alphabet[token] for token in best) == text[8:]


def test_an_unknown_prompt_is_refused_before_anything_is_written():
    with pytest.raises(OptionError) as error:
        TASK.stream(MODEL, SPEC, WriteSampleOptions(prompt="€5"))
    assert error.value.option == "prompt" and error.value.value == "€5"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("temperature", 0),
        ("temperature", "nan"),
        ("top_k", 0),
        ("top_p", 0),
        ("top_p", 1.1),
        ("length", 0),
        ("seed", -1),
    ],
)
def test_values_out_of_range_are_refused_by_name(option, value):
    with pytest.raises(OptionError) as error:
        parse_options({option: value}, WriteSampleOptions, prefix="--")
    assert error.value.option in (option, option.replace("_", "-"))


@pytest.mark.parametrize(
    "change",
    [{"prompt": "the"}, {"length": 9}, {"temperature": 5.0}, {"top_k": 1}, {"top_p": 0.01}, {"seed": 1}, {"count": 2}],
)
def test_each_sample_option_changes_something(change):
    options = WriteSampleOptions(length=30)
    texts = [prediction.text for prediction in TASK.sample(MODEL, SPEC, options)]
    assert [prediction.text for prediction in TASK.sample(MODEL, SPEC, replace(options, **change))] != texts
    assert set(change) <= set(option_fields(WriteSampleOptions))


# --- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_it_learns(name):
    before = TASK.evaluate(build(name), DATA.val, SPEC, OPTIONS, CPU).metrics["nats_per_character"]
    model, setup = train(60, name)
    assert setup.validate is not None
    assert setup.validate(model).metrics["nats_per_character"] < before - 0.8


def test_validation_in_rows_is_close_to_the_evaluation():
    model, setup = train(30)
    exact = TASK.evaluate(model, DATA.val, SPEC, OPTIONS, CPU).metrics["nats_per_character"]
    assert setup.validate(model).metrics["nats_per_character"] == pytest.approx(exact, abs=5e-3)


def test_the_sequence_length_is_the_batch_length():
    _, setup = train(1, options=WriteTrainOptions(sequence_length=17))
    assert next(iter(setup.batches))["tokens"].shape == (4, 17)
    _, setup = train(1, batch_size=len(DATA.train) // 10)
    assert next(iter(setup.batches))["tokens"].shape[1] == 9


def test_a_batch_that_the_text_cannot_fill_is_refused():
    with pytest.raises(DataError):
        TASK.setup(build(), DATA, SPEC, WriteTrainOptions(sequence_length=5000), 4, CPU)


def test_defaults_follow_the_length_of_the_text_and_leave_the_optimizer_to_the_user():
    common = TrainOptions()
    values = TASK.default_options(DATA, SPEC, OPTIONS, common)
    assert values["batch_size"] < 32 and values["lr"] == 4e-3 and values["grad_clip"] == 1.0
    assert set(values) <= set(option_fields(TrainOptions))
    assert "lr" not in TASK.default_options(DATA, SPEC, OPTIONS, TrainOptions(optimizer="sgd"))
    for length in ({"steps": 10}, {"time_budget": "5m"}):
        assert "epochs" not in TASK.default_options(DATA, SPEC, OPTIONS, TrainOptions(**length))
    long = SimpleNamespace(train=range(1_000_000))
    longer = TASK.default_options(long, SPEC, OPTIONS, common)
    assert longer["batch_size"] == 32 and longer["epochs"] < values["epochs"]


# --- spec, data, words ------------------------------------------------------------------------------------------------


def test_the_spec_survives_json_and_damage_is_named():
    assert from_json(to_json(SPEC), WriteSpec) == SPEC
    for damaged in ({}, {"alphabet": None}, {"alphabet": []}, {"alphabet": ["a", "b"]}, {"alphabet": [UNKNOWN]}):
        with pytest.raises(FieldError) as error:
            from_json(damaged, WriteSpec)
        assert error.value.field == "alphabet"
    for symbols in (["ab"], ["a", "a"], [""]):
        with pytest.raises(FieldError):
            WriteSpec([UNKNOWN, *symbols])


def test_reading_begins_after_a_line_feed_if_there_is_one():
    assert WriteSpec([UNKNOWN, "\n", " ", "a"]).tokens.start_token == 1
    assert WriteSpec([UNKNOWN, "!", " ", "a"]).tokens.start_token == 2
    assert WriteSpec([UNKNOWN, "a"]).tokens.start_token == 1


def test_weights_go_on_with_their_own_alphabet():
    larger = WriteSpec([*SPEC.alphabet, "é"])
    assert TASK.spec_for_transfer(SPEC, larger) == SPEC
    with pytest.raises(OptionError) as error:
        TASK.spec_for_transfer(SPEC, WriteSpec([UNKNOWN, *"αβγδε"]))
    assert error.value.option == "weights"


def test_data_is_read_in_the_terms_of_the_spec(tmp_path):
    (tmp_path / "a.txt").write_text("the ☃\n" * 100, encoding="utf-8")
    request = DataRequest(str(tmp_path / "a.txt"))
    assert TASK.load_data(request, OPTIONS, CPU, SPEC).alphabet == tuple(SPEC.alphabet)
    assert "☃" in TASK.load_data(request, OPTIONS, CPU).alphabet
    assert TASK.dataset_report(request, OPTIONS, CPU).json()["symbols"] == 6
    assert TASK.recognizes(tmp_path) and not TASK.recognizes(tmp_path / "b.txt")


def test_overfitting_is_described_with_its_best_epoch():
    rows = [{"split": "val", "epoch": e, "nats_per_character": n} for e, n in [(1, 2.0), (2, 1.5), (3, 1.7)]]
    assert len(TASK.advice(rows, None, OPTIONS, None)) == 1 and "epoch 2" in TASK.advice(rows, None, OPTIONS, None)[0]
    assert TASK.advice(rows[:2], None, OPTIONS, None) == TASK.advice([], None, OPTIONS, None) == []
    assert describe_overfitting([{"split": "train", "loss": 1.0}], "nats_per_character", 0.1) == ""


def test_the_card_names_usage_and_limits():
    card = TASK.card_text(SPEC, OPTIONS, {})
    assert card.summary and card.limitations and card.usage_command.startswith("thalweg sample")


def test_examples_fit_the_model():
    logits, _ = MODEL(TASK.example_input(SPEC, 3))
    assert logits.shape == (3, 16, len(SPEC.alphabet))


def test_what_it_does_not_do_is_refused():
    with pytest.raises(OptionError) as error:
        TASK.export_spec(MODEL, SPEC, [])
    assert error.value.value == "write"


def test_evaluation_follows_both_protocols():
    metrics = TASK.evaluate(MODEL, DATA.test, SPEC, OPTIONS, CPU).metrics
    tokens = torch.from_numpy(DATA.test.tokens).long()
    assert metrics["nats_per_character_window_256"] == measure_surprise_without_context(MODEL, tokens)
    assert metrics["perplexity"] == pytest.approx(math.exp(metrics["nats_per_character"]))
    assert metrics["nats_per_character_dynamic"] is None


def test_dynamic_evaluation_learns_from_what_was_read_and_leaves_the_model_alone():
    tokens = torch.from_numpy(DATA.test.tokens).long()
    before = {name: tensor.clone() for name, tensor in MODEL.state_dict().items()}
    start = SPEC.tokens.start_token
    exact = measure_surprise(MODEL, tokens, start).mean()
    assert measure_dynamic_surprise(MODEL, tokens, start, lr=0.0) == pytest.approx(exact, abs=1e-5)
    assert measure_dynamic_surprise(MODEL, tokens, start, lr=0.3) < exact - 0.05
    assert all(torch.equal(tensor, before[name]) for name, tensor in MODEL.state_dict().items())
    metrics = TASK.evaluate(MODEL, DATA.test, SPEC, WriteTrainOptions(dynamic_lr=0.3), CPU).metrics
    assert metrics["nats_per_character_dynamic"] < metrics["nats_per_character"]


@pytest.mark.parametrize("vocabulary", ["bytes", "sentencepiece"])
def test_other_vocabularies_write_read_and_are_scored_per_character(vocabulary):
    if vocabulary == "sentencepiece":
        pytest.importorskip("sentencepiece")
    spec = TASK.data_spec(DATA, WriteTrainOptions(vocabulary=vocabulary, vocabulary_size=320))
    assert from_json(to_json(spec), WriteSpec) == spec
    model = build(spec=spec)
    result = TASK.evaluate(model, DATA.test, spec, OPTIONS, CPU)
    tokens = spec.tokens.encode(DATA.test)
    nats = long_pass(model, tokens.tolist(), spec.tokens.start_token)
    assert result.metrics["nats_per_character"] == pytest.approx(float(nats.sum()) / len(DATA.test), abs=1e-4)
    assert result.metrics["perplexity"] == pytest.approx(math.exp(float(nats.mean())), rel=1e-4)
    text = "The wörld"
    (prediction,) = TASK.predict(model, ["a"], [TASK.preprocess(text, spec, NoOptions())], spec, NoOptions())
    assert len(prediction.nats) == len(text)
    (sample,) = TASK.sample(model, spec, WriteSampleOptions(prompt="Thé ", length=50, seed=1))
    assert sample.text.startswith("Thé ") and len(sample.text) <= 54


@pytest.mark.parametrize(
    ("stop", "expected"), [("length", "A. B!\n\nC"), ("sentence", "A."), ("paragraph", "A. B!\n\n")]
)
def test_a_sample_stops_where_it_was_asked_to(stop, expected):
    assert "".join(cut_at_end(iter("A. B!\n\nC"), stop)) == expected


def test_the_report_shows_the_beginning_of_the_test_text():
    pytest.importorskip("thalweg.plots.text_surprise")
    result = TASK.evaluate(MODEL, DATA.test, SPEC, OPTIONS, CPU)
    (plot,) = TASK.plots(MODEL, DATA, SPEC, OPTIONS, result, [])
    assert plot.image is not None and plot.caption


def test_a_text_split_is_an_example():
    assert isinstance(TASK.preprocess("abc", SPEC, NoOptions()), TextSplit)
