"""What does not fit is refused before it is read, with the figure."""

import pytest

from thalweg.data import memory
from thalweg.errors import ResourceError


def test_free_memory_is_a_sensible_number():
    free = memory.free_memory()
    assert free is None or 1e6 < free < 1e15


def test_half_of_the_free_memory_may_be_used(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 1000)
    memory.require(500, "it", "cure")
    with pytest.raises(ResourceError, match="it needs 501 bytes of memory; 1.0 kB are free") as error:
        memory.require(501, "it", "cure")
    assert error.value.cure == "cure"


def test_an_unknown_amount_refuses_nothing(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: None)
    memory.require(10**18, "it", "cure")


@pytest.mark.parametrize(
    "size, words", [(0, "0 bytes"), (999, "999 bytes"), (9_912_422, "9.9 MB"), (3 * 10**15, "3000.0 TB")]
)
def test_bytes_are_told_in_words(size, words):
    assert memory.in_words(size) == words
