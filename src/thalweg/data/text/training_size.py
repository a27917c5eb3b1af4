"""How much of a text a recurrent network reads at a time, and how often, by the length of the text."""

from __future__ import annotations

MAX_BATCH_SIZE = 32
MAX_SEQUENCE_LENGTH = 128
#: in texts of fewer characters gradients flow half as far, for more rows and quicker updates
FEW_CHARACTERS = 50_000
#: updates per epoch below which rows become fewer
MIN_STEPS_PER_EPOCH = 20
#: characters that a training reads: some minutes on two CPU cores
NUM_CHARACTERS = 12e6
MAX_EPOCHS = 12
#: the same for short texts, such as the default one: about a minute
NUM_CHARACTERS_SHORT = 2.5e6
MAX_EPOCHS_SHORT = 40


def default_batch_size(count: int) -> int:
    """Return the rows for a text of `count` characters: a power of two, at most 32, with 20 updates per epoch."""
    rows = MAX_BATCH_SIZE
    while rows > 1 and count < rows * _max_length(count) * MIN_STEPS_PER_EPOCH:
        rows //= 2
    return rows


def default_sequence_length(count: int, batch_size: int) -> int:
    """Return how many characters gradients flow back: 128, or 64 in short texts, but no more than each row has."""
    row_length = count // max(1, batch_size)
    return max(1, min(_max_length(count), row_length - 1))


def _max_length(count: int) -> int:
    if count < FEW_CHARACTERS:
        return MAX_SEQUENCE_LENGTH // 2
    return MAX_SEQUENCE_LENGTH


def default_epochs(count: int) -> int:
    """Return the passes over a text of `count` characters: fewer the longer it is, at least one."""
    by_length = min(MAX_EPOCHS, NUM_CHARACTERS / count)
    for_short_texts = min(MAX_EPOCHS_SHORT, NUM_CHARACTERS_SHORT / count)
    return max(1, round(max(by_length, for_short_texts)))
