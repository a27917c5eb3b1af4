"""Vocabularies: what the tokens of a text are. Characters of an alphabet, bytes of UTF-8, or pieces of words.

Pieces are those of sentencepiece (Kudo and Richardson 2018, arXiv:1808.06226), trained on the training text alone,
without normalization and with bytes for what they do not cover, so that every text comes back as it was.
"""

from __future__ import annotations

import base64
import codecs
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from ...errors import OptionError, ResourceError
from .text_dataset import TextSplit, encode_prompt

#: pieces of every model: the unknown one, the line feed, and 256 bytes
NUM_FIXED_PIECES = 258
#: lines that sentencepiece is trained on are cut to so many characters
_MAX_LINE = 1000


VocabularyName = Literal["characters", "bytes", "sentencepiece"]


@runtime_checkable
class Vocabulary(Protocol):
    """Tokens of texts. `start_token` is read before a text; `forbidden` are never drawn."""

    size: int
    start_token: int
    forbidden: Sequence[int]

    def encode(self, split: TextSplit) -> np.ndarray:
        """Return the tokens (N,) int32 of a text."""
        ...

    def encode_prompt(self, prompt: str) -> list[int]:
        """Return the tokens of a prompt. Raises OptionError for what cannot be read."""
        ...

    def count_characters(self, split: TextSplit) -> np.ndarray:
        """Return the position (N,) int64 of the character at which each token begins."""
        ...

    def make_decoder(self) -> Callable[[int], str]:
        """Return a function from the tokens of one text, in order, to the characters that each completes."""
        ...


class CharacterVocabulary:
    """One token per character of an alphabet, whose first symbol stands for all others."""

    forbidden: Sequence[int] = (0,)

    def __init__(self, alphabet: Sequence[str]):
        self.alphabet = alphabet
        self.size = len(alphabet)
        self.start_token = 1
        for symbol in "\n ":
            if symbol in alphabet:
                self.start_token = list(alphabet).index(symbol)
                break

    def encode(self, split: TextSplit) -> np.ndarray:
        """Return the tokens (N,) int32 of a text."""
        return split.tokens_in(self.alphabet)

    def encode_prompt(self, prompt: str) -> list[int]:
        """Return the tokens of a prompt. Raises OptionError that names unknown characters."""
        return encode_prompt(prompt, self.alphabet)

    def count_characters(self, split: TextSplit) -> np.ndarray:
        """Return 0, 1, 2 …: each token is a character."""
        return np.arange(len(split.text))

    def make_decoder(self) -> Callable[[int], str]:
        """Return the characters of the alphabet."""
        return lambda token: self.alphabet[token]


class ByteVocabulary:
    """One token per byte of UTF-8: no character is unknown, and rare ones take up to four tokens."""

    size = 256
    start_token = ord("\n")
    forbidden: Sequence[int] = ()

    def encode(self, split: TextSplit) -> np.ndarray:
        """Return the bytes (N,) int32 of a text."""
        return np.frombuffer(split.text.encode("utf-8", "replace"), np.uint8).astype(np.int32)

    def encode_prompt(self, prompt: str) -> list[int]:
        """Return the bytes of a prompt."""
        return list(prompt.encode("utf-8", "replace"))

    def count_characters(self, split: TextSplit) -> np.ndarray:
        """Return the character that each byte belongs to: bytes 10xxxxxx continue one."""
        is_first = (self.encode(split) & 0xC0) != 0x80
        return np.cumsum(is_first) - 1

    def make_decoder(self) -> Callable[[int], str]:
        """Return a decoder that waits for all bytes of a character."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        return lambda token: decoder.decode(bytes([token]))


class PieceVocabulary:
    """Pieces of words from a sentencepiece model. Raises ResourceError where sentencepiece is not installed."""

    def __init__(self, model: bytes):
        self.processor = _import_sentencepiece().SentencePieceProcessor(model_proto=model)
        self.size = self.processor.get_piece_size()
        self.start_token = self.processor.piece_to_id("\n")
        self.forbidden: Sequence[int] = [token for token in range(self.size) if self._is_control(token)]

    def _is_control(self, token: int) -> bool:
        return self.processor.is_control(token) or self.processor.is_unknown(token)

    def encode(self, split: TextSplit) -> np.ndarray:
        """Return the pieces (N,) int32 of a text."""
        return np.array(self.processor.encode(split.text), np.int32)

    def encode_prompt(self, prompt: str) -> list[int]:
        """Return the pieces of a prompt."""
        return self.processor.encode(prompt)

    def count_characters(self, split: TextSplit) -> np.ndarray:
        """Return the character at which each piece begins."""
        tokens = self.encode(split)
        lengths = np.array([self._count_new_characters(token) for token in range(self.size)], np.int64)[tokens]
        is_continued = np.array([self._continues_character(token) for token in range(self.size)])[tokens]
        return np.cumsum(lengths) - lengths - is_continued

    def _count_new_characters(self, token: int) -> int:
        """Return how many characters begin in a token: of the bytes of one character, only in the first."""
        if self.processor.is_byte(token):
            return 0 if self._continues_character(token) else 1
        return len(self.processor.id_to_piece(token))

    def _continues_character(self, token: int) -> bool:
        if not self.processor.is_byte(token):
            return False
        return int(self.processor.id_to_piece(token)[3:5], 16) & 0xC0 == 0x80

    def make_decoder(self) -> Callable[[int], str]:
        """Return a decoder that waits for all bytes of a character that is spelled in bytes."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")

        def decode(token: int) -> str:
            piece = self.processor.id_to_piece(token)
            if self.processor.is_byte(token):
                return decoder.decode(bytes([int(piece[3:5], 16)]))
            rest = decoder.decode(b"", final=True)
            decoder.reset()
            return rest + piece.replace("\u2581", " ")

        return decode


def make_vocabulary(name: VocabularyName, alphabet: Sequence[str], pieces: str) -> Vocabulary:
    """Return the vocabulary of that name.

    Args:
        name: The kind of tokens.
        alphabet: Characters, for tokens that are characters.
        pieces: A sentencepiece model in base64, for tokens that are pieces.

    Returns:
        The vocabulary.

    Raises:
        ResourceError: Where sentencepiece is needed and not installed.
    """
    if name == "bytes":
        return ByteVocabulary()
    if name == "sentencepiece":
        return PieceVocabulary(base64.b64decode(pieces))
    return CharacterVocabulary(alphabet)


def encode_base64(data: bytes) -> str:
    """Return bytes as base64."""
    return base64.b64encode(data).decode("ascii")


def is_base64(text: str) -> bool:
    """Whether a text is valid base64."""
    try:
        base64.b64decode(text, validate=True)
    except ValueError:
        return False
    return True


def train_pieces(text: str, size: int) -> bytes:
    """Train a sentencepiece model on a text.

    Args:
        text: The training text.
        size: Number of pieces, 256 for single bytes among them; fewer where the text does not have so many.

    Returns:
        The serialized model.

    Raises:
        OptionError: For fewer pieces than the text has characters.
        ResourceError: Where sentencepiece is not installed.
    """
    smallest = NUM_FIXED_PIECES + len(set(text) - {"\n"})
    if size < smallest:
        raise OptionError(
            f"--vocabulary-size: {size}; expected at least {smallest} for this text: its characters and 256 bytes.",
            "Give more pieces, or --vocabulary bytes.",
            option="vocabulary_size",
            value=size,
            allowed=[smallest],
        )
    trainer = _import_sentencepiece().SentencePieceTrainer
    model = io.BytesIO()
    trainer.train(
        sentence_iterator=_iterate_lines(text),
        model_writer=model,
        model_type="bpe",
        vocab_size=size,
        hard_vocab_limit=False,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=False,
        byte_fallback=True,
        user_defined_symbols=["\n"],
        bos_id=-1,
        eos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def _iterate_lines(text: str) -> Iterator[str]:
    for line in text.split("\n"):
        for start in range(0, len(line), _MAX_LINE):
            yield line[start : start + _MAX_LINE]


def _import_sentencepiece() -> Any:
    try:
        import sentencepiece
    except ImportError as error:
        raise ResourceError(
            "sentencepiece is not installed; --vocabulary sentencepiece needs it.", 'pip install "thalweg[text]"'
        ) from error
    return sentencepiece


def spread_over_characters(nats: np.ndarray, begins: np.ndarray, num_characters: int) -> np.ndarray:
    """Return the surprise of each character from that of tokens, so that the sum stays.

    Args:
        nats: Surprise (N,) of each token.
        begins: Position (N,) of the character at which each token begins, in order.
        num_characters: Number of characters of the text.

    Returns:
        Nats (num_characters,) float32. A token of several characters is spread evenly over them; the tokens of one
        character are added up.
    """
    result = np.zeros(num_characters, np.float64)
    if not len(nats):
        return result.astype(np.float32)
    starts, first_token = np.unique(begins, return_index=True)
    sums = np.add.reduceat(nats.astype(np.float64), first_token)
    lengths = np.diff(np.append(starts, num_characters))
    result[starts[0] :] = np.repeat(sums / lengths, lengths)
    return result.astype(np.float32)
