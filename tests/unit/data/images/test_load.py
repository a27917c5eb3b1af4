"""The door to all data: what it says, and to names that are none."""

import pytest

from tests.unit.data.images import corpus
from thalweg.errors import NotFoundError


def test_a_name_that_is_too_long_is_no_data_set():
    with pytest.raises(NotFoundError, match="not found"):
        corpus.load("x" * 5000)
