"""What every experiment tracker can do, and what is kept in a run's folder so that a resumed run continues there."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Literal, Protocol

from PIL import Image

from ...io.download import is_offline
from ..run_dir import RunDir
from ..run_record import RunRecord

TrackerStatus = Literal["finished", "stopped", "failed"]

#: tracker's name -> id of this run there
IDS_FILE = "trackers.json"
#: where the figures of many runs lie together
PROJECT = "thalweg"


class Tracker(Protocol):
    """One experiment tracker, open for one run. Steps never decrease; every method may raise what it likes."""

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log what the run was asked to do."""
        ...

    def log_metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Log finite numbers by name: train/loss, val/accuracy."""
        ...

    def log_image(self, step: int, name: str, image: Image.Image) -> None:
        """Log an image."""
        ...

    def close(self, status: TrackerStatus) -> None:
        """Write what is left, and say how the run ended."""
        ...


def read_run_id(run_dir: RunDir, name: str) -> str | None:
    """Return the id that a run has with a tracker; None where it has none yet, or the file is damaged."""
    value = _read_ids(run_dir).get(name)
    return value if isinstance(value, str) else None


def write_run_id(run_dir: RunDir, name: str, run_id: str) -> None:
    """Remember the id that a run has with a tracker."""
    ids = {**_read_ids(run_dir), name: run_id}
    run_dir.write_file(IDS_FILE, json.dumps(ids, indent=1).encode())


def _read_ids(run_dir: RunDir) -> dict[str, Any]:
    try:
        ids = json.loads((run_dir.path / IDS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return ids if isinstance(ids, dict) else {}


def allows_network(record: RunRecord) -> bool:
    """Whether a tracker may use the network where the user's environment asks for it."""
    return not (record.options.get("offline") or is_offline())


def list_params(record: RunRecord) -> dict[str, Any]:
    """Return what a run was asked to do and what the plan chose for it, by name; what is None is left out."""
    plan = dict(record.plan or {})
    config = plan.pop("config", {})
    params = {**record.options, **record.task_options, **record.model_kwargs, **plan, **config, **record.versions}
    params |= {
        "task": record.task,
        "model": record.model,
        "data": record.data.name,
        "recipe": record.recipe,
        "num_params": record.num_params,
        "command": record.command,
    }
    return {name: value for name, value in params.items() if value is not None and value != {}}


def select_finite(split: str, values: Mapping[str, Any]) -> dict[str, float]:
    """Return the finite numbers of a row of metrics as split/name."""
    selected = {}
    for name, value in values.items():
        if isinstance(value, int | float) and math.isfinite(value):
            selected[f"{split}/{name}"] = float(value)
    return selected
