"""Write text, one character at a time (Karpathy 2015, karpathy.github.io/2015/05/21/rnn-effectiveness)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from ..attribution.explain_text import explain_text
from ..config.json_record import FieldError
from ..config.parsing import Range
from ..data.base import DataRequest, take_dataset
from ..data.batches import SequenceBatches
from ..data.text import text_dataset as texts
from ..data.text import training_size
from ..data.text.text_dataset import UNKNOWN, TextDataset, TextSplit
from ..data.text.text_file import normalize_newlines, read_text
from ..data.text.text_report import TextReport, check_text_dataset
from ..data.text.vocabulary import (
    Vocabulary,
    VocabularyName,
    encode_base64,
    is_base64,
    make_vocabulary,
    spread_over_characters,
    train_pieces,
)
from ..metrics.overfitting import describe_overfitting
from ..metrics.text import measure_dynamic_surprise, measure_surprise, measure_surprise_without_context
from ..models.write.sampling import Sampler, cut_at_end, generate_tokens
from ..objectives.recurrent import Recurrent
from ..predictions.base import Prediction
from ..predictions.text import TextPrediction
from ..registry import register_task
from .base import CardText, Context, EvalResult, InputType, Metric, Plot, Setup, Task

#: characters of the sample that is kept at each validation
SAMPLE_LENGTH = 200
#: characters of the test text that the report shows
NUM_DRAWN = 2000
#: rows that are read at the same time in a validation
VALIDATION_ROWS = 16
#: rise of the validation metric over its best, in nats, from which on a run is called overfit
MIN_RISE = 0.02


@dataclass(frozen=True)
class WriteSpec:
    """The vocabulary.

    `alphabet` has the characters of the training text; the first symbol stands for all others. With the vocabulary
    `characters` their indices are the tokens. `pieces` is a sentencepiece model in base64, for that vocabulary.
    """

    alphabet: list[str]
    vocabulary: VocabularyName = "characters"
    pieces: str = ""

    def __post_init__(self) -> None:
        is_alphabet = self.alphabet[:1] == [UNKNOWN] and len(set(self.alphabet)) == len(self.alphabet) > 1
        if not is_alphabet or any(len(symbol) != 1 for symbol in self.alphabet):
            raise FieldError("alphabet", f"single characters without repetition, {UNKNOWN} first")
        if bool(self.pieces) != (self.vocabulary == "sentencepiece") or not is_base64(self.pieces):
            raise FieldError("pieces", "a sentencepiece model in base64, for the vocabulary sentencepiece alone")

    @cached_property
    def tokens(self) -> Vocabulary:
        """The vocabulary itself. Raises ResourceError where sentencepiece is needed and not installed."""
        return make_vocabulary(self.vocabulary, self.alphabet, self.pieces)


@dataclass(frozen=True)
class WriteTrainOptions:
    """Options of `thalweg train write`."""

    sequence_length: Annotated[
        int | None, "tokens that gradients flow back  [default: 128, fewer for short texts]", Range(1, 100_000)
    ] = None
    vocabulary: Annotated[VocabularyName, "what a token is: a character, a byte of UTF-8, or a piece of a word"] = (
        "characters"
    )
    vocabulary_size: Annotated[int, "number of pieces, for sentencepiece", Range(260, 1_000_000)] = 1000
    dynamic_lr: Annotated[
        float, "also evaluate a model that learns from what it has read, at this learning rate", Range(0, 10)
    ] = 0.0


@dataclass(frozen=True)
class WriteSampleOptions:
    """Options of `thalweg sample`."""

    prompt: Annotated[str, "text that the sample continues"] = ""
    length: Annotated[int, "characters to write", Range(1, 10_000_000)] = 500
    temperature: Annotated[float, "below 1 safer, above 1 bolder", Range(0, 100, above=True)] = 0.8
    top_k: Annotated[int | None, "draw from this many most probable tokens only", Range(1, 1_000_000)] = None
    top_p: Annotated[float | None, "draw from the fewest that have this probability", Range(0, 1, above=True)] = None
    stop: Annotated[Literal["length", "sentence", "paragraph"], "end at the first end of one, if it comes sooner"] = (
        "length"
    )
    count: Annotated[int, "samples", Range(1, 100_000)] = 1
    seed: Annotated[int, "seed of the first sample; the next one's is one higher", Range(0, 2**32 - 1)] = 0


@dataclass(frozen=True)
class WriteExplainOptions:
    """Options of `thalweg explain RUN TEXT`."""

    cells: Annotated[int, "cells to show for each property of the text", Range(1, 10)] = 1


def to_tokens(split: TextSplit, spec: WriteSpec, device: torch.device) -> Tensor:
    """Return a text as tokens (N,) int64 of a model's vocabulary."""
    return torch.from_numpy(spec.tokens.encode(split)).long().to(device)


@register_task
class Write(Task):
    """Characters that follow characters."""

    name = "write"
    description = "How does the text go on?"
    default_model = "lstm"
    default_data = texts.DEFAULT_NAME
    named_data = staticmethod(texts.list_named_texts)
    metrics = (
        Metric("nats_per_character", "nats per character", higher_is_better=False, unit="nats"),
        Metric("bits_per_character", "bits per character", higher_is_better=False, unit="bits"),
        Metric("perplexity", "perplexity per token", higher_is_better=False, in_curves=False),
        Metric(
            "nats_per_character_window_256",
            "nats per character in windows of 256 tokens",
            higher_is_better=False,
            unit="nats",
            in_curves=False,
        ),
        Metric(
            "nats_per_character_dynamic",
            "nats per character, learning",
            higher_is_better=False,
            unit="nats",
            in_curves=False,
        ),
    )
    input_type = InputType.TEXT
    DataSpec = WriteSpec
    TrainOptions = WriteTrainOptions
    SampleOptions = WriteSampleOptions
    ExplainOptions = WriteExplainOptions

    def load_data(
        self, request: DataRequest, options: Any, context: Context, spec: WriteSpec | None = None
    ) -> TextDataset:
        """Read a text file, several, or a folder of them. Raises DataError."""
        dataset = take_dataset(request, TextDataset, {})
        return dataset or texts.read_text_dataset(request, spec.alphabet if spec else None)

    def toy_dataset(self) -> TextDataset:
        """Make a few pages of the default text."""
        return texts.make_toy_dataset()

    def data_spec(self, dataset: TextDataset, options: WriteTrainOptions) -> WriteSpec:
        """Return the vocabulary; pieces are trained on the training text."""
        pieces = ""
        if options.vocabulary == "sentencepiece":
            pieces = encode_base64(train_pieces(dataset.train.text, options.vocabulary_size))
        return WriteSpec(list(dataset.alphabet), options.vocabulary, pieces)

    def model_kwargs(self, spec: WriteSpec) -> dict[str, Any]:
        """Return the size of the vocabulary."""
        return {"num_tokens": spec.tokens.size}

    def default_options(self, dataset: TextDataset, spec: WriteSpec, options: Any, common: Any) -> dict[str, Any]:
        """Return batch size and epochs by the length of the text, and what recurrent networks are trained with."""
        count = max(1, len(dataset.train))
        values: dict[str, Any] = {
            "batch_size": training_size.default_batch_size(count),
            "optimizer": "adamw",
            "schedule": "one-cycle",
            "grad_clip": 1.0,
        }
        if common.steps is None and common.time_budget is None:
            values["epochs"] = training_size.default_epochs(count)
        if common.optimizer in (None, "adam", "adamw"):
            values["lr"] = 4e-3
        return values

    def setup(
        self, model: nn.Module, dataset: TextDataset, spec: WriteSpec, options: Any, batch_size: int, context: Context
    ) -> Setup:
        """Build truncated backpropagation through time over rows of the text. Validation reads the text in rows."""
        tokens_N = to_tokens(dataset.train, spec, context.device)
        length = options.sequence_length or training_size.default_sequence_length(len(tokens_N), batch_size)
        batches = SequenceBatches(tokens_N, batch_size, length, context.rank, context.world_size)

        def validate(model: nn.Module) -> EvalResult:
            return self._evaluate_in_rows(model, dataset.val, spec, context, VALIDATION_ROWS)

        return Setup(Recurrent(model, batch_size), batches, lambda batch: batch, validate)

    def evaluate(
        self, model: nn.Module, split: TextSplit, spec: WriteSpec, options: Any, context: Context
    ) -> EvalResult:
        """Return the mean surprise of the text in one pass, with carried state, and in windows; and a sample."""
        result = self._evaluate_in_rows(model, split, spec, context, rows=1)
        tokens_N = to_tokens(split, spec, context.device)
        if not len(tokens_N):
            return result
        tokens_per_character = len(tokens_N) / len(split)
        metrics = dict(result.metrics)
        windows = measure_surprise_without_context(model, tokens_N, window=256)
        metrics["nats_per_character_window_256"] = None if math.isnan(windows) else windows * tokens_per_character
        if options.dynamic_lr:
            nats = measure_dynamic_surprise(model, tokens_N, spec.tokens.start_token, options.dynamic_lr)
            metrics["nats_per_character_dynamic"] = nats * tokens_per_character
        return replace(result, metrics=metrics)

    def _evaluate_in_rows(
        self, model: nn.Module, split: TextSplit, spec: WriteSpec, context: Context, rows: int
    ) -> EvalResult:
        model.eval()
        nats = measure_surprise(model, to_tokens(split, spec, context.device), spec.tokens.start_token, rows)
        metrics: dict[str, float | int | None] = dict.fromkeys(metric.name for metric in self.metrics)
        if len(nats):
            mean = float(nats.sum(dtype=np.float64)) / len(split)
            metrics["nats_per_character"] = mean
            metrics["bits_per_character"] = mean / math.log(2)
            metrics["perplexity"] = math.exp(float(nats.mean(dtype=np.float64)))
        nats = spread_over_characters(nats, spec.tokens.count_characters(split), len(split))
        evidence = TextPrediction("test", split.text[:NUM_DRAWN], nats[:NUM_DRAWN])
        sample = self.sample(model, spec, WriteSampleOptions(length=SAMPLE_LENGTH, seed=context.seed))
        return EvalResult(metrics, {"characters": len(split)}, evidence, tuple(sample))

    def plots(
        self, model: nn.Module, dataset: Any, spec: Any, options: Any, result: EvalResult, history: list[dict[str, Any]]
    ) -> list[Plot]:
        """Draw the beginning of the test text with the surprise of each character."""
        caption = f"The first {len(result.evidence.text):,} characters; the stronger the color, the less expected."
        return [Plot("surprise", "Surprise of the test text", caption, result.evidence.draw())]

    def preprocess(self, source: Any, spec: WriteSpec, options: Any) -> TextSplit:
        """Read a path or bytes, or take a str as the text itself. Raises DataError for what is empty or no text."""
        return texts.make_text_split(read_text(source), spec.alphabet)

    def predict(
        self, model: nn.Module, names: Sequence[str], examples: Sequence[TextSplit], spec: WriteSpec, options: Any
    ) -> list[Prediction]:
        """Return each text with the surprise of its characters."""
        device = next(model.parameters()).device
        predictions: list[Prediction] = []
        for name, example in zip(names, examples, strict=True):
            nats = measure_surprise(model, to_tokens(example, spec, device), spec.tokens.start_token)
            nats = spread_over_characters(nats, spec.tokens.count_characters(example), len(example))
            predictions.append(TextPrediction(name, example.text, nats))
        return predictions

    def sample(self, model: nn.Module, spec: WriteSpec, options: WriteSampleOptions) -> Iterator[TextPrediction]:
        """Yield samples; the k-th is that of seed + k. Raises OptionError for a prompt that cannot be read."""
        for k in range(options.count):
            text = "".join(self.stream(model, spec, replace(options, seed=options.seed + k)))
            yield TextPrediction(f"sample {k + 1}", text)

    def stream(self, model: nn.Module, spec: WriteSpec, options: WriteSampleOptions) -> Iterator[str]:
        """Return the characters of one sample, its prompt first, as they come. Raises OptionError as `sample`."""
        text = normalize_newlines(options.prompt)
        vocabulary = spec.tokens
        prompt = vocabulary.encode_prompt(text)
        sampler = Sampler(options.temperature, options.top_k, options.top_p)
        tokens = generate_tokens(
            model, [vocabulary.start_token, *prompt], sampler, options.seed, forbidden=vocabulary.forbidden
        )
        characters = chain.from_iterable(map(vocabulary.make_decoder(), tokens))
        return chain(text, cut_at_end(islice(characters, options.length), options.stop))

    def spec_for_transfer(self, old: WriteSpec, new: WriteSpec) -> WriteSpec:
        """Return the vocabulary of the weights. Raises OptionError where it lacks many characters of the new text."""
        if old.vocabulary == "characters":
            texts.check_alphabet(old.alphabet, new.alphabet)
        return old

    def explain(self, model: nn.Module, source: Any, spec: WriteSpec, options: WriteExplainOptions) -> Any:
        """Color a text by surprise, and by the cells that follow its quotes, brackets and lines."""
        example = self.preprocess(source, spec, options)
        (prediction,) = self.predict(model, ["text"], [example], spec, options)
        return explain_text(model, cast(TextPrediction, prediction), spec.tokens, options.cells)

    def example_input(self, spec: WriteSpec, count: int) -> Tensor:
        """Return `count` rows of 16 tokens."""
        return torch.zeros(count, 16, dtype=torch.long)

    def recognizes(self, path: Path) -> bool:
        """Whether a path is a .txt or .md file, or a folder of nothing else."""
        return texts.is_text_source(path)

    def dataset_report(self, request: DataRequest, options: Any, context: Context) -> TextReport:
        """Check a text."""
        return check_text_dataset(texts.read_text_dataset(request))

    def advice(self, history: list[dict[str, Any]], spec: Any, options: Any, common: Any) -> list[str]:
        """Say where the validation metric was best long before the end."""
        overfitting = describe_overfitting(history, self.metrics[0].name, MIN_RISE)
        cure = "Try --set dropout=0.3, fewer --epochs, a smaller --set width=128, or more text."
        return [f"{overfitting} {cure}"] if overfitting else []

    def card_text(self, spec: WriteSpec, options: Any, results: Mapping[str, Any]) -> CardText:
        """Say in words what the model does and where its limits are."""
        return CardText(
            summary=f"Predicts the next token out of {spec.tokens.size}; sampled again and again, it writes.",
            limitations=(
                "It imitates its training text: what it writes may be false, offensive, or copied from a short text.",
                "It has seen no characters but those of its training text.",
            ),
            preprocessing=(f"UTF-8; line ends become line feeds; tokens are {spec.vocabulary}.",),
            usage_command="thalweg sample RUN --prompt 'Once' --length 500 --temperature 0.8",
            usage_python="for text in run.sample(count=3):\n    print(text.text)",
        )
