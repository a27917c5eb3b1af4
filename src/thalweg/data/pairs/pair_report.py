"""Check sentence pairs before training: lengths, pairs that do not belong together, sources that splits share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image

from ...errors import pluralize
from ..base import SPLITS
from .pair_dataset import PairDataset
from .tokens import split_words

#: a side that is so many times longer than the other is hardly its translation
MAX_RATIO = 3
#: shorter sides differ as much by chance
MIN_WORDS = 6
MAX_LISTED = 5
#: pairs that the picture shows
NUM_DRAWN = 20
#: with a larger fraction of pairs that do not look like translations, something is wrong
MAX_ODD_FRACTION = 0.01


@dataclass(frozen=True)
class PairReport:
    """Findings about sentence pairs.

    Attributes:
        dataset: The pairs.
        words: Mean words of a sentence, and different words, by language.
        equal: Names of pairs whose translation is the source itself.
        uneven: Names of pairs of which one side is three times as long as the other.
    """

    dataset: PairDataset
    words: Mapping[str, tuple[float, int]]
    equal: Sequence[str]
    uneven: Sequence[str]

    @property
    def ok(self) -> bool:
        """True if nothing was found that will spoil the result."""
        odd = len(self.equal) + len(self.uneven)
        return odd <= MAX_ODD_FRACTION * len(self.dataset.train) and not self.dataset.warnings

    def lines(self) -> list[str]:
        """Return the findings for a terminal."""
        dataset = self.dataset
        lines = [f"{dataset.name}: {dataset.format}, {dataset.summary}", f"pairs: {dataset.format_sizes()}"]
        for language, (mean, distinct) in self.words.items():
            lines.append(f"{language}: {mean:.1f} words a sentence, {distinct:,} different ones in train")
        lines += dataset.messages()
        lines += _describe_odd(self.equal, "whose translation is the source itself")
        lines += _describe_odd(self.uneven, f"of which one side is {MAX_RATIO} times as long as the other")
        return lines

    def json(self) -> dict[str, Any]:
        """Return the findings as JSON values."""
        dataset = self.dataset
        words = {}
        for language, (mean, distinct) in self.words.items():
            words[language] = {"mean": mean, "distinct": distinct}
        return {
            "name": dataset.name,
            "format": dataset.format,
            "pairs": {name: len(dataset.splits[name]) for name in SPLITS},
            "official_splits": list(dataset.official_splits),
            "words": words,
            "equal": list(self.equal),
            "uneven": list(self.uneven),
            "warnings": list(dataset.warnings),
            "unreadable": list(map(asdict, dataset.unreadable)),
            "ok": self.ok,
        }

    def picture(self) -> Image.Image:
        """Draw the first pairs of train."""
        from ...plots.attention import plot_sentences

        train = self.dataset.train
        pairs = list(zip(train.sources[:NUM_DRAWN], train.targets[:NUM_DRAWN], strict=True))
        return plot_sentences(pairs, self.dataset.name)


def _describe_odd(names: Sequence[str], what: str) -> list[str]:
    if not names:
        return []
    listed = "; ".join(names[:MAX_LISTED])
    more = ""
    if len(names) > MAX_LISTED:
        more = "; …"
    return [f"note: {pluralize(len(names), 'pair')} {what}: {listed}{more}"]


def check_pair_dataset(dataset: PairDataset) -> PairReport:
    """Measure the sentences of train, and find pairs that do not look like translations."""
    train = dataset.train
    words = {}
    counts = []
    for language, texts in zip(dataset.languages, (train.sources, train.targets), strict=True):
        split = list(map(split_words, texts))
        lengths = np.array(list(map(len, split)), np.float64)
        counts.append(lengths)
        words[language] = (float(lengths.mean()) if len(lengths) else 0.0, len({word for row in split for word in row}))
    shorter = np.minimum(*counts)
    longer = np.maximum(*counts)
    uneven = np.flatnonzero((longer >= MAX_RATIO * shorter) & (longer >= MIN_WORDS)).tolist()
    equal = [row for row in range(len(train)) if train.sources[row] == train.targets[row]]
    return PairReport(dataset, words, train.names(equal), train.names(uneven))
