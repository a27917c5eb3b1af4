"""The law of exports for the networks whose export takes most of a minute."""

from __future__ import annotations

import pytest

from tests.laws.test_exports import LONG, agrees


@pytest.mark.parametrize("name", LONG)
def test_the_export_of_a_large_network_agrees(name, tmp_path):
    agrees(name, {}, tmp_path)
