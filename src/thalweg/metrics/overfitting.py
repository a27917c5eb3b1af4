"""Overfitting, as learning curves show it: validation was best long before the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def describe_overfitting(history: Sequence[Mapping[str, Any]], metric: str, min_rise: float) -> str:
    """Describe how far a validation metric, of which lower is better, rose after its best epoch.

    Args:
        history: Rows of metrics.jsonl: {"split": "val", "epoch": 2.0, metric: 1.5}.
        metric: Name of the metric.
        min_rise: A smaller rise is not called overfitting.

    Returns:
        A sentence, or "" where there is no overfitting.
    """
    rows = [row for row in history if row.get("split") == "val" and row.get(metric) is not None]
    if not rows:
        return ""
    best = min(rows, key=lambda row: row[metric])
    last = rows[-1]
    if last[metric] < best[metric] + min_rise:
        return ""
    return (
        f"Overfitting: validation was best after epoch {best['epoch']:g} ({best[metric]:.3f}) and ended at "
        f"{last[metric]:.3f}."
    )
