"""A small valid run.json."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from thalweg.runs.run_record import FORMAT_VERSION, DataRecord, RunRecord

DATA = DataRecord("bars", "arrays", "ab12", "1 class, 8x8 RGB", "image", {"train": 3, "val": 1, "test": 1})
RECORD = RunRecord(
    format=FORMAT_VERSION,
    task="classify",
    model="mlp",
    model_kwargs={"widths": [3]},
    options={"epochs": 2.0},
    task_options={"tta": "flip"},
    data_spec={"classes": ["a"], "channels": 3, "size": [8, 8], "mean": [0, 0.5, 1], "std": [1, 1, 1]},
    data=DATA,
    started="2026-01-01T00:00:00+00:00",
)


def make_record(**changes: Any) -> RunRecord:
    """Return the record with some fields changed."""
    return replace(RECORD, **changes)
