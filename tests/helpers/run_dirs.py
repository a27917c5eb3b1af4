"""What is in the folder of a run, for comparing runs bit for bit."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest


def read_run_json(out: Path) -> dict[str, Any]:
    """run.json, which must be strict JSON."""
    return json.loads((out / "run.json").read_bytes(), parse_constant=pytest.fail)


def comparable_state(out: Path) -> dict[str, Any]:
    """What equal runs have in common, bit for bit: results, weights, also on the way, metrics, the last checkpoint."""
    results = {k: v for k, v in read_run_json(out)["results"].items() if k != "seconds"}
    (*_, last) = sorted((out / "state").iterdir())
    files = [out / "weights.safetensors", out / "metrics.jsonl", last / "tensors.safetensors", last / "state.json"]
    files += sorted((out / "trail").glob("*"))
    sums = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    return {"status": read_run_json(out)["status"], "results": results, "last": last.name, **sums}


def read_all_files(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its path in it."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
