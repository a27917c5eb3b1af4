"""Checkpoints: the full state of a training, in a folder that is complete or does not exist.

    state/00000469/tensors.safetensors      every tensor, named by its path in the state
    state/00000469/state.json               everything else, with references to the tensors
    state/00000469/manifest.json            SHA-256 and size of both

A checkpoint is written to a temporary folder, each file is flushed to disk, then the folder is renamed: after a kill,
a power cut or a full disk the previous checkpoint is intact. Nothing is pickled.
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
from ..io.atomic_write import disk_full_error, fsync_dir, write_folder_fsync

#: checkpoints that are not removed
NUM_KEPT = 2
#: what to do if a run finds no space on the disk

_TENSORS = "tensors.safetensors"
_SKELETON = "state.json"
_MANIFEST = "manifest.json"


def save_checkpoint(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write the checkpoint of `step`, and remove all others except the one before it.

    Args:
        folder: Holds one folder per checkpoint.
        step: Names the checkpoint. Checkpoints of later steps are removed: they were damaged.
        state: Nested dicts and lists of tensors and JSON values.

    Returns:
        The folder of the checkpoint.

    Raises:
        NonFiniteError: If a tensor holds NaN or inf.
        ResourceError: If the disk is full.
    """
    tensors: dict[str, Tensor] = {}
    skeleton = flatten_state(state, "", tensors)
    _check_finite(tensors, step)
    files = {
        _TENSORS: safetensors.torch.save(tensors),
        _SKELETON: json.dumps(skeleton, allow_nan=False).encode(),
    }
    files[_MANIFEST] = _build_manifest(step, files)
    checkpoint = folder / f"{step:08d}"
    draft = folder / f".draft-{os.getpid()}"
    try:
        shutil.rmtree(draft, ignore_errors=True)
        write_folder_fsync(draft, files)
        if checkpoint.exists():
            shutil.rmtree(checkpoint)
        os.replace(draft, checkpoint)
        fsync_dir(folder)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise disk_full_error(error, checkpoint, sum(map(len, files.values()))) from error
    _remove_others(folder, step)
    return checkpoint


def _check_finite(tensors: dict[str, Tensor], step: int) -> None:
    for value in tensors.values():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise NonFiniteError(
                f"The training diverged at step {step}: the state holds NaN or inf; expected finite numbers. "
                "The checkpoint was not written.",
                cure="--lr auto finds a learning rate.",
                step=step,
            )


def _build_manifest(step: int, files: dict[str, bytes]) -> bytes:
    entries = {}
    for name, data in files.items():
        entries[name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    return json.dumps({"step": step, "files": entries}, indent=1).encode()


def _remove_others(folder: Path, step: int) -> None:
    steps = _list_steps(folder)
    earlier = steps[: steps.index(step) + 1]
    for other in set(steps) - set(earlier[-NUM_KEPT:]):
        shutil.rmtree(folder / f"{other:08d}", ignore_errors=True)


def load_latest(folder: Path, log: Callable[[str], None]) -> tuple[int, dict[str, Any]] | None:
    """Load the newest intact checkpoint and remove what an interrupted `save_checkpoint` left.

    Args:
        folder: Holds one folder per checkpoint.
        log: Receives a message for each damaged checkpoint.

    Returns:
        The step and the state, or None if there are no checkpoints.

    Raises:
        ModelFileError: If all checkpoints are damaged.
    """
    for draft in folder.glob(".draft-*"):
        shutil.rmtree(draft, ignore_errors=True)
    steps = _list_steps(folder)
    for step in reversed(steps):
        try:
            return step, load_checkpoint(folder / f"{step:08d}")
        except ModelFileError as error:
            log(f"{error.message} Going back to the checkpoint before it.")
    if steps:
        raise ModelFileError(
            f"{folder}: all {len(steps)} checkpoints are damaged; expected an intact one.",
            cure="Train again in another folder.",
            path=folder,
        )
    return None


def load_checkpoint(checkpoint: Path) -> dict[str, Any]:
    """Load the state of one checkpoint. Raises ModelFileError if any byte differs from the manifest."""
    try:
        manifest = json.loads((checkpoint / _MANIFEST).read_text(encoding="utf-8"))
        name = f"{manifest['step']:08d}"
        data = {}
        for file_name in (_TENSORS, _SKELETON):
            data[file_name] = (checkpoint / file_name).read_bytes()
            entry = manifest["files"][file_name]
            checksum = (entry["sha256"], entry["bytes"])
            if (hashlib.sha256(data[file_name]).hexdigest(), len(data[file_name])) != checksum:
                path = checkpoint / file_name
                raise ModelFileError(f"{path} is damaged: its SHA-256 differs from the manifest.", path=path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{checkpoint} is not a complete checkpoint ({error}).", path=checkpoint) from error
    if name != checkpoint.name:
        path = checkpoint / _MANIFEST
        raise ModelFileError(f"{path} is damaged: it is that of {name}.", path=path, value=name)
    return unflatten_state(json.loads(data[_SKELETON]), safetensors.torch.load(data[_TENSORS]))


def flatten_state(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """Convert nested state to JSON values, and move its tensors to `tensors`.

    Args:
        value: Nested dicts, lists and tuples of tensors and JSON values.
        path: The name of `value` within the state; tensors are named by their paths.
        tensors: Receives the tensors, on the CPU.

    Returns:
        JSON values with references to the tensors.
    """
    if isinstance(value, Tensor):
        tensors[path] = value.detach().cpu().contiguous().clone()
        return {"tensor": path}
    if isinstance(value, dict):
        pairs = []  # pairs, because the keys of an optimizer's state are integers
        for key, item in value.items():
            pairs.append([key, flatten_state(item, f"{path}/{key}", tensors)])
        return {"pairs": pairs}
    if isinstance(value, (list, tuple)):
        items = []
        for index, item in enumerate(value):
            items.append(flatten_state(item, f"{path}/{index}", tensors))
        return items
    return value


def unflatten_state(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Reverse `flatten_state`; tuples come back as lists."""
    if isinstance(value, list):
        return [unflatten_state(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    state = {}
    for key, item in value["pairs"]:
        state[key] = unflatten_state(item, tensors)
    return state


def _list_steps(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    steps = []
    for path in folder.glob("[0-9]*"):
        if path.name.isdigit():
            steps.append(int(path.name))
    return sorted(steps)
