"""The default text, `sentences`: little English sentences from a small grammar. Nothing is downloaded.

It holds what a recurrent network can learn, from easy to hard: spelling; words in order; agreement of subject and verb
across relative clauses; tense that follows the first word of a sentence; quotes and nested parentheses that are closed
in the right order; a name that returns in its own paragraph.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

NUM_CHARACTERS = 300_000

_NAMES = ("Ada", "Ben", "Clara", "Emil", "Greta", "Hugo", "Ida", "Jonas", "Karl", "Lena", "Mira", "Otto")
_NOUNS = (
    "sailor",
    "river",
    "garden",
    "teacher",
    "horse",
    "baker",
    "engine",
    "lamp",
    "bird",
    "letter",
    "stone",
    "valley",
)
_ADJECTIVES = ("old", "young", "quiet", "bright", "heavy", "small", "patient", "green", "curious", "slow")
_PLACES = ("by the river", "in the valley", "at the mill", "near the harbor", "under the bridge", "behind the house")
#: singular present, plural present, past
_TRANSITIVE = (
    ("sees", "see", "saw"),
    ("follows", "follow", "followed"),
    ("finds", "find", "found"),
    ("paints", "paint", "painted"),
    ("carries", "carry", "carried"),
    ("knows", "know", "knew"),
    ("hears", "hear", "heard"),
)
_INTRANSITIVE = (
    ("sleeps", "sleep", "slept"),
    ("waits", "wait", "waited"),
    ("sings", "sing", "sang"),
    ("falls", "fall", "fell"),
    ("returns", "return", "returned"),
)
_SAY = (("says", "say", "said"), ("thinks", "think", "thought"), ("writes", "write", "wrote"))
_PRESENT = ("Today", "Every morning", "In spring", "Now")
_PAST = ("Yesterday", "Last year", "Long ago", "One evening")
_NUMBERS = ("two", "three", "four", "five", "seven", "twelve")

#: relative clauses and parentheses are nested at most so deep
_MAX_DEPTH = 3


@dataclass(frozen=True)
class _Phrase:
    """A noun phrase, and whether it is singular: the verb agrees with it."""

    words: str
    is_singular: bool


class _Writer:
    """Draws phrases. Uses `random.random` alone, which gives the same numbers in every version of Python."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)

    def choose(self, options: Sequence[str]) -> str:
        return options[int(self.random.random() * len(options))]

    def choose_verb(self, verbs: Sequence[tuple[str, str, str]], is_singular: bool, is_past: bool) -> str:
        """Choose a verb in the form that agrees with subject and tense."""
        singular, plural, past = verbs[int(self.random.random() * len(verbs))]
        if is_past:
            return past
        if is_singular:
            return singular
        return plural

    def happens(self, probability: float) -> bool:
        return self.random.random() < probability

    def build_noun_phrase(self, is_past: bool, depth: int = 0) -> _Phrase:
        """Build 'the quiet rivers (that the baker knows)'; deeper phrases are simpler."""
        noun = self.choose(_NOUNS)
        is_singular = self.happens(0.55)
        if is_singular:
            determiner = self.choose(("the", "a", "this"))
        else:
            determiner = self.choose(("the", "some", "these", *_NUMBERS))
            noun += "s"
        words = [noun]
        if self.happens(0.4):
            words.insert(0, self.choose(_ADJECTIVES))
        if determiner == "a" and words[0][0] in "aeiou":
            determiner = "an"
        words.insert(0, determiner)
        if self.happens(0.3 / (depth + 1)) and depth < _MAX_DEPTH:
            words.append(self.build_clause(is_singular, is_past, depth + 1))
        return _Phrase(" ".join(words), is_singular)

    def build_clause(self, is_singular: bool, is_past: bool, depth: int) -> str:
        """Build a relative clause, in half of the cases in parentheses."""
        if self.happens(0.5):
            verb = self.choose_verb(_TRANSITIVE, is_singular, is_past)
            clause = f"that {verb} {self.build_noun_phrase(is_past, depth).words}"
        else:
            subject = self.build_noun_phrase(is_past, depth)
            clause = f"that {subject.words} {self.choose_verb(_TRANSITIVE, subject.is_singular, is_past)}"
        if self.happens(0.5):
            return f"({clause})"
        return clause

    def build_statement(self, is_past: bool, hero: str) -> str:
        """Build a statement without its full stop."""
        subject = self.build_noun_phrase(is_past)
        if self.happens(0.35):
            subject = _Phrase(hero, is_singular=True)
        if self.happens(0.35):
            verb = self.choose_verb(_INTRANSITIVE, subject.is_singular, is_past)
            return f"{subject.words} {verb} {self.choose(_PLACES)}"
        verb = self.choose_verb(_TRANSITIVE, subject.is_singular, is_past)
        return f"{subject.words} {verb} {self.build_noun_phrase(is_past).words}"

    def build_sentence(self, hero: str) -> str:
        """Build a statement with its time, or with what someone says."""
        is_past = self.happens(0.5)
        if self.happens(0.25):
            quote = _capitalize(self.build_statement(is_past, hero))
            verb = self.choose_verb(_SAY, is_singular=True, is_past=is_past)
            end = self.choose((".", "!", "?"))
            return f'{hero} {verb}: "{quote}{end}"'
        time = self.choose(_PAST if is_past else _PRESENT)
        return f"{time} {self.build_statement(is_past, hero)}."

    def build_paragraph(self) -> str:
        """Build three to seven sentences about one person."""
        hero = self.choose(_NAMES)
        sentences = []
        for _ in range(3 + int(self.random.random() * 5)):
            sentences.append(self.build_sentence(hero))
        return " ".join(sentences)


def _capitalize(text: str) -> str:
    return text[0].upper() + text[1:]


def generate_sentences(num_characters: int = NUM_CHARACTERS, seed: int = 0) -> str:
    """Generate paragraphs of at least `num_characters` characters in total; the same seed gives the same text."""
    writer = _Writer(seed)
    paragraphs = []
    length = 0
    while length < num_characters:
        paragraph = writer.build_paragraph()
        paragraphs.append(paragraph)
        length += len(paragraph) + 2
    return "\n\n".join(paragraphs) + "\n"
