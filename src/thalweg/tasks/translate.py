"""Translate sentences (Bahdanau, Cho, Bengio 2015, arXiv:1409.0473; Vaswani et al. 2017, arXiv:1706.03762)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from torch import Tensor, nn

from ..config.json_record import FieldError
from ..config.parsing import Range
from ..data.base import DataRequest, take_dataset
from ..data.pairs import pair_sources
from ..data.pairs.batches import PairBatches
from ..data.pairs.build_vocabulary import build_piece_vocabulary, build_word_vocabulary
from ..data.pairs.named_pairs import list_named_pairs
from ..data.pairs.pair_dataset import PairDataset, PairSplit
from ..data.pairs.pair_report import PairReport, check_pair_dataset
from ..data.pairs.tokens import SPECIAL_TOKENS, Vocabulary
from ..data.text.text_file import read_text
from ..errors import DataError, OptionError
from ..metrics.overfitting import describe_overfitting
from ..metrics.translation import score_translations
from ..models.translate.base import TranslationModel
from ..objectives.supervised import Supervised
from ..predictions.base import Prediction
from ..predictions.translation import AttentionExplanation, TranslationPrediction
from ..registry import register_task
from .base import CardText, Context, EvalResult, InputType, Metric, Plot, Setup, Task
from .translate_support import (
    Evidence,
    SearchOptions,
    build_criterion,
    check_line,
    default_batch_size,
    default_epochs,
    describe_probability,
    draw_plots,
    encode_split,
    group_references,
    measure_nats,
    refuse_common_options,
    translate_texts,
)

#: longest side of a training pair by default, in words
MAX_LENGTH = 100
#: validation sentences whose translations are kept at each validation
NUM_SAMPLES = 5
#: rise of the validation metric over its best, in nats, from which on a run is called overfit
MIN_RISE = 0.05


@dataclass(frozen=True)
class TranslateSpec:
    """The languages, and the tokens of both; `target` has the indices of those that translations consist of."""

    source_language: str
    target_language: str
    vocabulary: Literal["words", "sentencepiece"]
    tokens: list[str]
    target: Annotated[list[int], "increasing indices of tokens", Range(0, 10_000_000)]

    def __post_init__(self) -> None:
        if tuple(self.tokens[:4]) != SPECIAL_TOKENS or len(set(self.tokens)) != len(self.tokens):
            raise FieldError("tokens", f"different texts, {', '.join(SPECIAL_TOKENS)} first")
        is_increasing = self.target == sorted(set(self.target)) and self.target[:4] == [0, 1, 2, 3]
        if not is_increasing or self.target[-1] >= len(self.tokens):
            raise FieldError("target", f"increasing indices below {len(self.tokens)}, 0 to 3 first")

    def build_vocabulary(self) -> Vocabulary:
        """Return the tokens as what divides and joins sentences."""
        return Vocabulary(self.tokens, self.target, self.vocabulary == "sentencepiece")


@dataclass(frozen=True)
class TranslateTrainOptions:
    """Options of `thalweg train translate`."""

    languages: Annotated[
        str | None, "source and target language, as en,de: the endings of the files, or names for the columns"
    ] = None
    reverse: Annotated[bool, "translate the second language or column into the first"] = False
    max_length: Annotated[
        int | None, "skip pairs of which one side has more words  [default: 100]", Range(1, 10_000)
    ] = None
    vocabulary: Annotated[Literal["words", "sentencepiece"], "whole words, or pieces learned from train"] = "words"
    vocabulary_size: Annotated[
        int | None, "words of each language, or pieces of both  [default: 10000 words, 8000 pieces]", Range(1, 1e6)
    ] = None
    label_smoothing: Annotated[float, "target probability spread over all tokens", Range(0, 1, below=True)] = 0.1
    teacher_forcing: Annotated[
        float, "fraction of reference words that the decoder reads, after ten epochs; else its own", Range(0, 1)
    ] = 1.0


@dataclass(frozen=True)
class TranslatePredictOptions:
    """Options of `thalweg predict`."""

    beam: Annotated[int, "translations that are followed at the same time; 1 for greedy", Range(1, 1000)] = 5
    length_penalty: Annotated[float, "exponent of the length; higher for longer translations", Range(0, 10)] = 1.0
    max_length: Annotated[
        int | None, "tokens of a translation at most  [default: twice the source's and 10]", Range(1, 10_000)
    ] = None


@dataclass(frozen=True)
class Example:
    """A source: its lines, and its text where that was given itself and not as a file."""

    lines: Sequence[str]
    text: str | None


def to_search(options: TranslatePredictOptions, with_attention: bool = False) -> SearchOptions:
    """Return how to search."""
    return SearchOptions(options.beam, options.length_penalty, options.max_length, with_attention)


@register_task
class Translate(Task):
    """Sentences in another language."""

    name = "translate"
    description = "What does it mean in another language?"
    default_model = "gru_attention"
    default_data = pair_sources.DEFAULT_NAME
    named_data = staticmethod(list_named_pairs)
    metrics = (
        Metric("nats_per_token", "nats per token", higher_is_better=False, unit="nats"),
        Metric("bleu", "BLEU", in_curves=False),
        Metric("chrf", "chrF", in_curves=False),
    )
    input_type = InputType.TEXT
    DataSpec = TranslateSpec
    TrainOptions = TranslateTrainOptions
    PredictOptions = TranslatePredictOptions

    def load_data(
        self, request: DataRequest, options: TranslateTrainOptions, context: Context, spec: TranslateSpec | None = None
    ) -> PairDataset:
        """Read a table of pairs, two aligned files, or a folder of them. Raises DataError."""
        while_reading = {
            "languages": options.languages,
            "max_length": options.max_length,
            "reverse": options.reverse or None,
        }
        dataset = take_dataset(request, PairDataset, while_reading)
        if dataset is not None:
            return dataset
        choice = pair_sources.LanguageChoice(pair_sources.parse_languages(options.languages))
        if choice.names is None and spec is not None:
            names = (spec.source_language, spec.target_language)
            if options.reverse:
                names = (spec.target_language, spec.source_language)
            choice = pair_sources.LanguageChoice(names, is_fallback=True)
        return pair_sources.read_pair_dataset(request, choice, options.max_length or MAX_LENGTH, options.reverse)

    def toy_dataset(self) -> PairDataset:
        """Make short sentences of the default pairs."""
        return pair_sources.make_toy_dataset()

    def data_spec(self, dataset: PairDataset, options: TranslateTrainOptions) -> TranslateSpec:
        """Return languages and vocabulary; it comes from train alone. Raises ResourceError, OptionError."""
        build = build_piece_vocabulary if options.vocabulary == "sentencepiece" else build_word_vocabulary
        vocabulary = build(dataset.train.sources, dataset.train.targets, options.vocabulary_size)
        return TranslateSpec(*dataset.languages, options.vocabulary, list(vocabulary.tokens), list(vocabulary.target))

    def model_kwargs(self, spec: TranslateSpec) -> dict[str, Any]:
        """Return the numbers of tokens."""
        return {"num_tokens": len(spec.tokens), "num_targets": len(spec.target)}

    def default_options(self, dataset: PairDataset, spec: TranslateSpec, options: Any, common: Any) -> dict[str, Any]:
        """Return batch size and epochs by the number of pairs, and what translators are trained with.

        The average of the weights takes the place of the average of checkpoints.
        """
        count = max(1, len(dataset.train))
        values: dict[str, Any] = {
            "batch_size": default_batch_size(count),
            "optimizer": "adamw",
            "schedule": "one-cycle",
            "grad_clip": 1.0,
            "ema_decay": 0.998,
        }
        if common.steps is None and common.time_budget is None:
            values["epochs"] = default_epochs(count)
        if common.optimizer in (None, "adam", "adamw"):
            values["lr"] = 3e-3
        return values

    def setup(
        self,
        model: nn.Module,
        dataset: PairDataset,
        spec: TranslateSpec,
        options: TranslateTrainOptions,
        batch_size: int,
        context: Context,
    ) -> Setup:
        """Train on batches of similar lengths; validation measures the surprise, and translates some sentences.

        Raises OptionError for what translators cannot do, and DataError for ranks that cannot share a batch.
        """
        refuse_common_options(context)
        vocabulary = spec.build_vocabulary()
        ranks = (context.rank, context.world_size)
        pairs = encode_split(dataset.train, vocabulary)
        batches = PairBatches(pairs, batch_size, context.device, context.seed, ranks, options.teacher_forcing)
        val = encode_split(dataset.val, vocabulary)

        def validate(model: nn.Module) -> EvalResult:
            translator = cast(TranslationModel, model.eval())
            nats, _ = measure_nats(translator, val, context.device)
            texts = dataset.val.sources[:NUM_SAMPLES]
            sentences = translate_texts(translator, texts, vocabulary, SearchOptions(1, 1.0))
            samples = (TranslationPrediction("val", tuple(sentences)),)
            return EvalResult({"nats_per_token": nats}, samples=samples)

        criterion = build_criterion(options.label_smoothing, options.teacher_forcing)
        return Setup(Supervised(model, criterion), batches, lambda batch: batch, validate)

    def evaluate(
        self, model: nn.Module, split: PairSplit, spec: TranslateSpec, options: Any, context: Context
    ) -> EvalResult:
        """Measure the surprise, and compare translations, searched as `predict` does, with all references."""
        translator = cast(TranslationModel, model.eval())
        vocabulary = spec.build_vocabulary()
        nats, num_tokens = measure_nats(translator, encode_split(split, vocabulary), context.device)
        metrics: dict[str, float | int | None] = {"nats_per_token": nats, "bleu": None, "chrf": None}
        search = to_search(TranslatePredictOptions())
        sources, references = group_references(split)
        sentences = translate_texts(translator, sources, vocabulary, search)
        details: dict[str, Any] = {
            "sentences": len(sources),
            "tokens": num_tokens,
            "beam": search.beam,
            "length_penalty": search.length_penalty,
        }
        scores = score_translations([sentence.text for sentence in sentences], references) if sentences else None
        if scores is not None:
            metrics |= {"bleu": scores.scores["bleu"], "chrf": scores.scores["chrf"]}
            details |= {"bleu_lowercase": scores.scores["bleu_lowercase"], "signatures": dict(scores.signatures)}
        elif sentences:
            context.log('BLEU and chrF need the package sacrebleu: pip install "thalweg[text]"')
        return EvalResult(metrics, details, Evidence(sentences, references))

    def plots(
        self, model: nn.Module, dataset: Any, spec: TranslateSpec, options: Any, result: EvalResult, history: Any
    ) -> list[Plot]:
        """List translations of test sentences, and draw the attention of some."""
        search = to_search(TranslatePredictOptions(), with_attention=True)
        return draw_plots(result.evidence, cast(TranslationModel, model), spec.build_vocabulary(), search)

    def preprocess(self, source: Any, spec: TranslateSpec, options: Any) -> Example:
        """Read a path or bytes, or take a str as the text itself: a sentence a line. Raises DataError."""
        text = read_text(source).removesuffix("\n")
        lines = text.split("\n")
        for number, line in enumerate(lines, 1):
            check_line(line, number)
        is_sentence = isinstance(source, str) and len(lines) == 1
        return Example(lines, text if is_sentence else None)

    def predict(
        self,
        model: nn.Module,
        names: Sequence[str],
        examples: Sequence[Example],
        spec: TranslateSpec,
        options: TranslatePredictOptions,
    ) -> list[Prediction]:
        """Translate all lines of all examples together."""
        lines = [line for example in examples for line in example.lines]
        search = to_search(options, with_attention=True)
        sentences = translate_texts(cast(TranslationModel, model), lines, spec.build_vocabulary(), search)
        predictions: list[Prediction] = []
        start = 0
        for name, example in zip(names, examples, strict=True):
            own = tuple(sentences[start : start + len(example.lines)])
            start += len(own)
            predictions.append(TranslationPrediction(example.text or name, own))
        return predictions

    def explain(self, model: nn.Module, source: Any, spec: TranslateSpec, options: Any) -> AttentionExplanation:
        """Draw where the model looked as it translated a sentence. Raises DataError."""
        example = self.preprocess(source, spec, options)
        chosen = TranslatePredictOptions()
        (prediction,) = self.predict(model, [example.text or "text"], [example], spec, chosen)
        assert isinstance(prediction, TranslationPrediction)
        probabilities: list[tuple[str, float]] = []
        for sentence in prediction.sentences:
            probabilities.append((sentence.text, describe_probability(sentence, chosen.length_penalty)))
        notes = {}
        if len(prediction.sentences) > 1:
            notes["attention"] = f"the first of {len(prediction.sentences)} lines is drawn"
        return AttentionExplanation(prediction, probabilities, notes)

    def spec_for_transfer(self, old: TranslateSpec, new: TranslateSpec) -> TranslateSpec:
        """Return the vocabulary of the weights: data is read in it."""
        return old

    def spec_from_weights(self, weights: Any) -> TranslateSpec:
        """Return the vocabulary that comes with the weights of a run."""
        return TranslateSpec(**weights.spec_values)

    def example_input(self, spec: TranslateSpec, count: int) -> Tensor:
        """Refuse: a translator reads two sentences."""
        raise OptionError("translate models have no layer table: they read a source and a target.", value=self.name)

    def recognizes(self, path: Path) -> bool:
        """Whether a path is a table of two texts a line, or a folder of aligned files."""
        return pair_sources.is_pair_source(path)

    def dataset_report(self, request: DataRequest, options: TranslateTrainOptions, context: Context) -> PairReport:
        """Check sentence pairs; of more than two languages the first two, where none are named."""
        try:
            dataset = self.load_data(request, options, context)
        except DataError as error:
            available = error.value or ()
            if error.option != "languages" or options.languages is not None or len(available) < 2:
                raise
            names = ",".join(available[:2])
            context.log(f"{len(available)} languages: {', '.join(available)}; {names} are checked")
            dataset = self.load_data(request, replace(options, languages=names), context)
        return check_pair_dataset(dataset)

    def advice(self, history: list[dict[str, Any]], spec: Any, options: Any, common: Any) -> list[str]:
        """Say where the validation metric was best long before the end."""
        overfitting = describe_overfitting(history, self.metrics[0].name, MIN_RISE)
        cure = "Try --set dropout=0.4, fewer --epochs, --keep-best, or more pairs."
        return [f"{overfitting} {cure}"] if overfitting else []

    def card_text(self, spec: TranslateSpec, options: Any, results: Mapping[str, Any]) -> CardText:
        """Say in words what the model does and where its limits are."""
        kind = "pieces of words" if spec.vocabulary == "sentencepiece" else "words"
        return CardText(
            summary=f"Translates sentences from {spec.source_language} to {spec.target_language}.",
            limitations=(
                "It knows the words and the kind of sentences of its training pairs; others it translates wrongly, in "
                "fluent language.",
                "It never writes a word that no training translation had, such as most names.",
            ),
            preprocessing=(f"Unicode NFC; single spaces; {len(spec.tokens):,} {kind}; one sentence a line.",),
            usage_command='thalweg predict RUN "A dog runs." --beam 5',
            usage_python="for prediction in run.predict('A dog runs.'):\n    print(prediction.text)",
        )
