"""How good translations are: BLEU (Papineni et al. 2002, doi:10.3115/1073083.1073135) and chrF, by sacrebleu.

chrF: Popović 2015, doi:10.18653/v1/W15-3049, matches of up to six characters.

sacrebleu (Post 2018, arXiv:1804.08771) states in a signature how texts were divided, so that figures can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class TranslationScores:
    """Scores in percent, by name, and the signature of each."""

    scores: Mapping[str, float] = field(default_factory=dict)
    signatures: Mapping[str, str] = field(default_factory=dict)


def score_translations(translations: Sequence[str], references: Sequence[Sequence[str]]) -> TranslationScores | None:
    """Compare translations with references.

    Args:
        translations: Texts as people write them, with case, not divided into words.
        references: For each text one or more translations by people.

    Returns:
        `bleu` and `chrf`, and `bleu_lowercase`, which compares with papers that score lower-cased words; None where
        sacrebleu is not installed.
    """
    try:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
    except ImportError:
        return None
    # its annotation lacks that a text may have fewer references than others
    streams: Any = transpose_references(references)
    scores = {}
    signatures = {}
    for name, metric in (("bleu", BLEU()), ("chrf", CHRF()), ("bleu_lowercase", BLEU(lowercase=True))):
        scores[name] = float(metric.corpus_score(list(translations), streams).score)
        signatures[name] = str(metric.get_signature())
    return TranslationScores(scores, signatures)


def transpose_references(references: Sequence[Sequence[str]]) -> list[list[str | None]]:
    """Return the first references of all texts, then the second ones, and so on; None where a text has no more."""
    streams: list[list[str | None]] = []
    for index in range(max(map(len, references), default=0)):
        stream: list[str | None] = []
        for texts in references:
            stream.append(texts[index] if index < len(texts) else None)
        streams.append(stream)
    return streams
