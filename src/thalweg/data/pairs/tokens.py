"""Sentences as tokens and back: words with punctuation apart, or the pieces of a byte-pair encoding.

Both kinds mark the beginning of a word with "▁" (Kudo and Richardson 2018, arXiv:1808.06226), so that a sentence is its
tokens joined: "▁A", "▁dog", "▁runs", "." is "A dog runs." The pieces come from sentencepiece; splitting into them is
done here, so that a trained model needs no further package.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

#: begins a word
SPACE = "▁"
#: ids 0 to 3 of every vocabulary
SPECIAL_TOKENS = ("<pad>", "<unk>", "<s>", "</s>")
PAD, UNKNOWN, BEGIN, END = range(4)

_WORDS = re.compile(r"(\s*)(\w+|[^\w\s])")


def normalize_text(text: str) -> str:
    """Return a text with composed accents and single spaces."""
    return " ".join(unicodedata.normalize("NFC", text).replace(SPACE, "_").split())


def split_words(text: str) -> list[str]:
    """Split a text into words and single punctuation marks; those behind a space, and the first, begin with ▁."""
    tokens = []
    for match in _WORDS.finditer(normalize_text(text)):
        token = match[2]
        if match[1] or not tokens:
            token = SPACE + token
        tokens.append(token)
    return tokens


def join_tokens(tokens: Iterable[str]) -> str:
    """Return the text of tokens: the inverse of `split_words` and of `split_pieces`."""
    return "".join(tokens).replace(SPACE, " ").strip()


def split_pieces(word: str, ranks: Mapping[str, int]) -> list[str]:
    """Split a word into pieces by joining neighbors, the pair first that was learned first.

    Byte-pair encoding (Sennrich, Haddow, Birch 2016, arXiv:1508.07909).

    Args:
        word: A word that begins with ▁.
        ranks: The pieces, with the order in which they were learned.

    Returns:
        The pieces; characters that are none of `ranks` stay single.
    """
    pieces = list(word)
    while len(pieces) > 1:
        best = -1
        best_rank = len(ranks) + 1
        for index in range(len(pieces) - 1):
            rank = ranks.get(pieces[index] + pieces[index + 1], best_rank)
            if rank < best_rank:
                best = index
                best_rank = rank
        if best < 0:
            break
        pieces[best : best + 2] = [pieces[best] + pieces[best + 1]]
    return pieces


class Vocabulary:
    """Tokens of both languages, of which the target language uses some.

    Args:
        tokens: All tokens, the special ones first; pieces in the order in which they were learned.
        target: Indices of the tokens that translations consist of, increasing; the special ones first. A token of a
            translation is an index into this list, so that a model predicts no more than these.
        has_pieces: Whether the tokens are pieces of words.
    """

    def __init__(self, tokens: Sequence[str], target: Sequence[int], has_pieces: bool):
        self.tokens = tokens
        self.target = target
        self.has_pieces = has_pieces
        self._cache: dict[str, list[str]] = {}

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {token: index for index, token in enumerate(self.tokens)}

    @cached_property
    def _target_ids(self) -> dict[str, int]:
        return {self.tokens[index]: position for position, index in enumerate(self.target)}

    def split(self, text: str) -> list[str]:
        """Split a text into tokens, known or not."""
        if not self.has_pieces:
            return split_words(text)
        tokens: list[str] = []
        for word in normalize_text(text).split(" "):
            if not word:
                continue
            if word not in self._cache:
                self._cache[word] = split_pieces(SPACE + word, self._ids)
            tokens += self._cache[word]
        return tokens

    def encode_source(self, text: str) -> list[int]:
        """Return the ids of a source sentence, the end last."""
        return [*_look_up(self.split(text), self._ids, self.has_pieces), END]

    def encode_target(self, text: str) -> list[int]:
        """Return the ids of a translation, the end last."""
        return [*_look_up(self.split(text), self._target_ids, self.has_pieces), END]

    def source_tokens(self, ids: Iterable[int]) -> list[str]:
        """Return the tokens of a source sentence."""
        return [self.tokens[index] for index in ids]

    def target_tokens(self, ids: Iterable[int]) -> list[str]:
        """Return the tokens of a translation."""
        return [self.tokens[self.target[index]] for index in ids]

    def decode_target(self, ids: Iterable[int]) -> str:
        """Return the text of a translation; special tokens have none."""
        return join_tokens(self.target_tokens(index for index in ids if index >= len(SPECIAL_TOKENS)))


def _look_up(tokens: Sequence[str], ids: Mapping[str, int], has_pieces: bool) -> list[int]:
    """Return the ids of tokens; unknown pieces in a row are one unknown token, as sentencepiece has it."""
    result: list[int] = []
    for token in tokens:
        index = ids.get(token, UNKNOWN)
        if index < len(SPECIAL_TOKENS):
            index = UNKNOWN
        if index == UNKNOWN and has_pieces and result and result[-1] == UNKNOWN:
            continue
        result.append(index)
    return result
