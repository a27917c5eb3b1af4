"""The default pairs, `valley`: English sentences of a small grammar, and a made-up language. Nothing is downloaded.

The made-up language has another order of words, so that attention has something to learn: the verb is last, adjectives
and numbers stand behind their noun, articles are dropped, the place comes first, a question begins with "ka", and what
is past ends with "do".

    The old sailor saw two small boats near the harbor.     Urfi mani topa bati lisu dufa miredo.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from .pair_files import PairLines

DEFAULT_NAME = "valley"
#: sentence pairs of the default data
NUM_PAIRS = 2500

_NOUNS = {
    "sailor": "mani",
    "baker": "pomo",
    "teacher": "sela",
    "girl": "nili",
    "king": "rego",
    "horse": "keru",
    "dog": "vuvu",
    "bird": "pipa",
    "boat": "bati",
    "house": "domi",
    "letter": "lito",
    "river": "fluma",
    "tree": "arbu",
    "lamp": "lumo",
    "bridge": "ponta",
    "song": "kanta",
}
_PEOPLE = ("sailor", "baker", "teacher", "girl", "king", "horse", "dog", "bird")
_NAMES = ("Ada", "Ben", "Clara", "Emil", "Greta", "Hugo")
_ADJECTIVES = {
    "old": "topa",
    "young": "yuna",
    "small": "dufa",
    "green": "gira",
    "quiet": "shila",
    "heavy": "pesa",
    "bright": "klara",
    "slow": "lenta",
}
_NUMBERS = {"two": "lisu", "three": "tiru", "five": "pinu", "seven": "sepu"}
#: present, plural and past, and the word for all
_VERBS = {
    ("sees", "see", "saw"): "mire",
    ("finds", "find", "found"): "tova",
    ("paints", "paint", "painted"): "pinte",
    ("follows", "follow", "followed"): "sekwe",
    ("knows", "know", "knew"): "sabe",
    ("carries", "carry", "carried"): "porte",
    ("hears", "hear", "heard"): "odre",
}
_PLACES = {
    "near the harbor": "urfi",
    "in the valley": "talo",
    "at the mill": "mulo",
    "by the sea": "maro",
    "behind the hill": "kolo",
}
_TIMES = {"today": "odi", "every morning": "matuma", "yesterday": "eri", "last year": "anoma"}
_PAST_TIMES = ("yesterday", "last year")


@dataclass(frozen=True)
class _Phrase:
    """A noun phrase in both languages."""

    english: str
    valley: str
    is_singular: bool


class _Speaker:
    """Draws sentences. Uses `random.random` alone, which gives the same numbers in every version of Python."""

    def __init__(self, seed: int, is_simple: bool):
        self.random = random.Random(seed)
        self.is_simple = is_simple

    def choose(self, options: Sequence[str]) -> str:
        return options[int(self.random.random() * len(options))]

    def happens(self, probability: float) -> bool:
        return self.random.random() < probability

    def build_noun_phrase(self, nouns: Sequence[str]) -> _Phrase:
        """Build 'the old sailor' and 'mani topa', or 'two boats' and 'bati lisu'."""
        if self.happens(0.15) and nouns is _PEOPLE and not self.is_simple:
            name = self.choose(_NAMES)
            return _Phrase(name, name, is_singular=True)
        if self.is_simple:
            nouns = nouns[:4]
        noun = self.choose(nouns)
        words = [_NOUNS[noun]]
        adjective = ""
        if self.happens(0.4):
            adjective = self.choose(tuple(_ADJECTIVES)) + " "
            words.append(_ADJECTIVES[adjective.strip()])
        if self.happens(0.3):
            number = self.choose(tuple(_NUMBERS))
            words.append(_NUMBERS[number])
            return _Phrase(f"{number} {adjective}{noun}s", " ".join(words), is_singular=False)
        return _Phrase(f"the {adjective}{noun}", " ".join(words), is_singular=True)

    def build_pair(self) -> tuple[str, str]:
        """Build a sentence and its translation."""
        subject = self.build_noun_phrase(_PEOPLE)
        thing = self.build_noun_phrase(tuple(_NOUNS))
        verbs = tuple(_VERBS)
        forms = verbs[int(self.random.random() * len(verbs))]
        place = ""
        if self.happens(0.4) and not self.is_simple:
            place = self.choose(tuple(_PLACES))
        if self.happens(0.2) and not self.is_simple:
            return self._build_question(subject, thing, forms, place)
        return self._build_statement(subject, thing, forms, place)

    def _build_question(
        self, subject: _Phrase, thing: _Phrase, forms: tuple[str, str, str], place: str
    ) -> tuple[str, str]:
        auxiliary = "Does" if subject.is_singular else "Do"
        english = [auxiliary, subject.english, forms[1], thing.english, place]
        valley = ["ka", _PLACES.get(place, ""), subject.valley, thing.valley, _VERBS[forms]]
        return _finish(english, "?"), _finish(valley, "?")

    def _build_statement(
        self, subject: _Phrase, thing: _Phrase, forms: tuple[str, str, str], place: str
    ) -> tuple[str, str]:
        is_past = self.happens(0.5)
        time = ""
        if self.happens(0.3) and not self.is_simple:
            time = self.choose(tuple(_TIMES))
            is_past = time in _PAST_TIMES
        verb = forms[2]
        ending = "do"
        if not is_past:
            verb = forms[0] if subject.is_singular else forms[1]
            ending = ""
        english = [time, subject.english, verb, thing.english, place]
        valley = [_PLACES.get(place, ""), subject.valley, thing.valley, _VERBS[forms] + ending, _TIMES.get(time, "")]
        return _finish(english, "."), _finish(valley, ".")


def _finish(words: Sequence[str], end: str) -> str:
    """Join words into a sentence with a capital letter in front."""
    text = " ".join(filter(None, words))
    return text[0].upper() + text[1:] + end


def generate_pairs(count: int, seed: int = 0, is_simple: bool = False) -> PairLines:
    """Generate sentence pairs; `is_simple` for short ones of fewer words. The same seed gives the same pairs."""
    speaker = _Speaker(seed, is_simple)
    sources = []
    targets = []
    for _ in range(count):
        source, target = speaker.build_pair()
        sources.append(source)
        targets.append(target)
    return PairLines(DEFAULT_NAME, tuple(sources), tuple(targets), tuple(range(1, count + 1)))
