"""What survives a kill: the whole state of a training, in a folder that is complete or not there.

    state/00000469/tensors.safetensors      every tensor, by its path in the state
    state/00000469/state.json               everything else, with references to the tensors
    state/00000469/manifest.json            SHA-256 and size of both

Written to a temporary folder, each file flushed to the disk, then renamed: a kill, a power cut or a full disk leaves
the checkpoint before it as it was. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from ..errors import ModelFileError, NonFiniteError
from ..io.atomic_write import disk_full_error, fsync_dir, write_fsync

NUM_KEPT = 2
#: what to do where a run finds no room on the disk


def save_checkpoint(folder: Path, step: int, state: dict) -> Path:
    """Writes `state` (nested dicts and lists of tensors and JSON values) as the checkpoint of `step`.

    Returns its folder. Keeps the one before it too, and removes all others: older ones, and those of later steps, which
    were damaged or we would be there. Raises NonFinite for a tensor that is infinite or not a number, ResourceError
    where the disk is full.
    """
    tensors: dict[str, Tensor] = {}
    skeleton = flatten_state(state, "", tensors)
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise NonFiniteError(
                f"'{name}' became infinite or not a number at step {step}; that checkpoint was not written.",
                cure="Give a smaller --lr, or --clip 1.",
                step=step,
            )
    files = {
        "tensors.safetensors": safetensors.torch.save(tensors),
        "state.json": json.dumps(skeleton, allow_nan=False).encode(),
    }
    sums = {name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in files.items()}
    files["manifest.json"] = json.dumps({"step": step, "files": sums}, indent=1).encode()
    final, draft = folder / f"{step:08d}", folder / f".draft-{os.getpid()}"
    try:
        shutil.rmtree(draft, ignore_errors=True)
        if not folder.exists():
            folder.mkdir(parents=True)
            fsync_dir(folder.parent)
        draft.mkdir()
        for name, data in files.items():
            write_fsync(draft / name, data)
        fsync_dir(draft)
        if final.exists():
            shutil.rmtree(final)
        os.replace(draft, final)
        fsync_dir(folder)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise disk_full_error(error, final, sum(map(len, files.values()))) from error
    steps = _list_steps(folder)
    for other in set(steps) - set(steps[: steps.index(step) + 1][-NUM_KEPT:]):
        shutil.rmtree(folder / f"{other:08d}", ignore_errors=True)
    return final


def load_latest(folder: Path, notice: Callable[[str], None]) -> tuple[int, dict] | None:
    """The newest whole checkpoint as (step, state), or None where there is none.

    Damaged ones are named and passed over; what a kill inside `save_checkpoint` left is removed.
    Raises ModelFileError where there are checkpoints and all of them are damaged.
    """
    for draft in folder.glob(".draft-*"):
        shutil.rmtree(draft, ignore_errors=True)
    steps = _list_steps(folder)
    for step in reversed(steps):
        try:
            return step, load_checkpoint(folder / f"{step:08d}")
        except ModelFileError as error:
            notice(f"{error.message} Going back to the checkpoint before it.")
    if steps:
        raise ModelFileError(
            f"{folder}: all {len(steps)} checkpoints are damaged.", cure="Train again into another folder."
        )
    return None


def load_checkpoint(checkpoint: Path) -> dict:
    """The state in one checkpoint folder. Raises ModelFileError if any byte differs from its manifest."""
    try:
        manifest = json.loads((checkpoint / "manifest.json").read_text(encoding="utf-8"))
        data = {name: (checkpoint / name).read_bytes() for name in ("tensors.safetensors", "state.json")}
        told = {name: (manifest["files"][name]["sha256"], manifest["files"][name]["bytes"]) for name in data}
        name_of_step = f"{manifest['step']:08d}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{checkpoint} is not a whole checkpoint ({error}).") from error
    for name, content in data.items():
        if (hashlib.sha256(content).hexdigest(), len(content)) != told[name]:
            raise ModelFileError(f"{checkpoint / name} is damaged: its SHA-256 is not that of the manifest.")
    if name_of_step != checkpoint.name:
        raise ModelFileError(f"{checkpoint / 'manifest.json'} is damaged: it is that of {name_of_step}.")
    return unflatten_state(json.loads(data["state.json"]), safetensors.torch.load(data["tensors.safetensors"]))


def flatten_state(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """JSON for `value`; its tensors go into `tensors` under their paths."""
    if isinstance(value, Tensor):
        tensors[path] = value.detach().cpu().contiguous().clone()
        return {"tensor": path}
    if isinstance(value, dict):
        pairs = [[key, flatten_state(item, f"{path}/{key}", tensors)] for key, item in value.items()]
        return {"pairs": pairs}  # pairs, because the keys of an optimiser's state are numbers
    if isinstance(value, (list, tuple)):
        return [flatten_state(item, f"{path}/{index}", tensors) for index, item in enumerate(value)]
    return value


def unflatten_state(value: Any, tensors: dict[str, Tensor]) -> Any:
    """What `flatten_state` was given (tuples come back as lists)."""
    if isinstance(value, dict):
        if "tensor" in value:
            return tensors[value["tensor"]]
        return {key: unflatten_state(item, tensors) for key, item in value["pairs"]}
    return [unflatten_state(item, tensors) for item in value] if isinstance(value, list) else value


def _list_steps(folder: Path) -> list[int]:
    return sorted(int(p.name) for p in folder.glob("[0-9]*") if p.name.isdigit()) if folder.is_dir() else []
