"""The law of exports for the models that take most of a minute each."""

import pytest

from tests.laws.test_exports import SLOW_CASES, check_export


@pytest.mark.parametrize("case", SLOW_CASES, ids=str)
def test_the_export_of_a_large_model_agrees(case, tmp_path):
    check_export(case, tmp_path)
