"""A run that nothing happened to, for comparison."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.toy_runs import finish, plan_toy


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Path:
    """Return the folder of a run that nothing happened to."""
    return finish(plan_toy(tmp_path_factory.mktemp("runs") / "reference"))
