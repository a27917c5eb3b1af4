"""Files of a run's folder, for comparing runs bit for bit."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

#: what a finished run without a report holds
FINISHED_FILES = [
    "checksums.sha256",
    "metrics.jsonl",
    "run.json",
    "snapshots",
    "state",
    "train_keys.npy",
    "weights.safetensors",
]


def read_run_json(out: Path) -> dict[str, Any]:
    """Return the values of run.json, which must be strict JSON."""
    return json.loads((out / "run.json").read_bytes(), parse_constant=pytest.fail)


def write_run_json(out: Path, values: dict[str, Any]) -> None:
    """Replace run.json, as a hand or a fault would: checksums stay as they are."""
    (out / "run.json").write_text(json.dumps(values), encoding="utf-8")


def comparable_state(out: Path) -> dict[str, Any]:
    """Return what equal runs have in common, bit for bit: results, weights, snapshots, metrics, the last checkpoint."""
    values = read_run_json(out)
    results = dict(values["results"])
    del results["seconds"]
    checkpoint = max((out / "state").iterdir())
    files = [out / "weights.safetensors", out / "metrics.jsonl"]
    files += [checkpoint / "tensors.safetensors", checkpoint / "state.json"]
    files += sorted((out / "snapshots").glob("*"))
    state = {"status": values["status"], "results": results, "checkpoint": checkpoint.name}
    for file in files:
        state[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return state


def read_all_files(folder: Path) -> dict[str, bytes | None]:
    """Return the content of every file of a folder by its path in it; None for folders."""
    contents = {}
    for path in sorted(folder.rglob("*")):
        contents[str(path.relative_to(folder))] = path.read_bytes() if path.is_file() else None
    return contents
