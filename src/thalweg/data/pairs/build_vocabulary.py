"""Build a vocabulary from training sentences: their words, or pieces of words learned by sentencepiece."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Sequence

from ...errors import OptionError, ResourceError
from .tokens import SPECIAL_TOKENS, UNKNOWN, Vocabulary, normalize_text, split_words

#: tokens by default: words of each language, or pieces of both together
DEFAULT_WORDS = 10_000
DEFAULT_PIECES = 8_000
MIN_PIECES = 60
#: rarer words are unknown, because their vectors would be learned from one sentence, or from none
MIN_COUNT = 2


def build_word_vocabulary(sources: Sequence[str], targets: Sequence[str], size: int | None = None) -> Vocabulary:
    """Return the most frequent words of both languages.

    Args:
        sources: Training sentences.
        targets: Their translations.
        size: Words of each language at most.

    Returns:
        The vocabulary; words that occur once are not in it, unless all do.
    """
    size = size or DEFAULT_WORDS
    source_words = _choose_words(sources, size)
    target_words = _choose_words(targets, size)
    tokens = list(dict.fromkeys([*SPECIAL_TOKENS, *target_words, *source_words]))
    return Vocabulary(tokens, list(range(len(SPECIAL_TOKENS) + len(target_words))), has_pieces=False)


def _choose_words(texts: Sequence[str], size: int) -> list[str]:
    """Return the most frequent words; those of equal frequency in the order of the alphabet."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(split_words(text))
    words = [word for word in counts if word not in SPECIAL_TOKENS]
    words.sort(key=lambda word: (-counts[word], word))
    frequent = [word for word in words if counts[word] >= MIN_COUNT]
    return (frequent or words)[:size]


def build_piece_vocabulary(sources: Sequence[str], targets: Sequence[str], size: int | None = None) -> Vocabulary:
    """Learn pieces of words of both languages together, by byte-pair encoding.

    Args:
        sources: Training sentences.
        targets: Their translations.
        size: Number of pieces; None for 8,000, or as many as few sentences give.

    Returns:
        The vocabulary.

    Raises:
        ResourceError: If sentencepiece is not installed.
        OptionError: For a size that these sentences do not give.
    """
    texts = list(map(normalize_text, [*sources, *targets]))
    pieces = _learn_default_pieces(texts) if size is None else learn_pieces(texts, size)
    tokens = [*SPECIAL_TOKENS, *pieces]
    joint = Vocabulary(tokens, list(range(len(tokens))), has_pieces=True)
    occurring = set(range(len(SPECIAL_TOKENS)))
    for text in targets:
        occurring.update(joint.encode_target(text))
    return Vocabulary(tokens, sorted(occurring), has_pieces=True)


def _learn_default_pieces(texts: Sequence[str]) -> list[str]:
    """Return 8,000 pieces, or half as many, and so on, until the texts give them."""
    size = DEFAULT_PIECES
    while True:
        try:
            return learn_pieces(texts, size)
        except OptionError:
            if size <= MIN_PIECES:
                raise
            size //= 2


def learn_pieces(texts: Iterable[str], size: int) -> list[str]:
    """Return the pieces that sentencepiece learns, in its order, without special ones. Raises as the caller says."""
    try:
        import sentencepiece
    except ImportError as error:
        raise ResourceError(
            "--vocabulary sentencepiece needs the package sentencepiece, which is not installed.",
            'pip install "thalweg[text]", or leave --vocabulary out for words.',
            option="vocabulary",
            value="sentencepiece",
        ) from error
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            vocab_size=size,
            model_type="bpe",
            normalization_rule_name="identity",
            character_coverage=1.0,
            pad_id=0,
            unk_id=UNKNOWN,
            bos_id=2,
            eos_id=3,
            num_threads=1,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        reason = str(error).strip().rpartition("] ")[2].rstrip(".")
        raise OptionError(
            f"--vocabulary-size: {size:,} pieces cannot be learned from these sentences: {reason}.",
            "Give another --vocabulary-size: fewer for few sentences, but more than they have characters.",
            option="vocabulary_size",
            value=size,
        ) from error
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    return [processor.id_to_piece(index) for index in range(len(SPECIAL_TOKENS), processor.get_piece_size())]
