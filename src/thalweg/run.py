"""The folder that a training leaves behind.

    run.json               what it takes to repeat it, and what came out: options, plan, facts, versions, seed, results
    weights.safetensors    the network
    metrics.jsonl          every report and every validation, without clock times, so that equal runs have equal files
    state/                 checkpoints, for --resume
    pictures/, report.html, MODEL_CARD.md

Read and written here only. JSON never contains NaN: what is not a number is null.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import Busy, ModelFileError, NotFound, ResourceError

FORMAT = 1


def jsonable(value: Any) -> Any:
    """`value` with NaN and infinities as None, tuples as lists, and numbers of other libraries as plain ones."""
    if isinstance(value, dict):
        return {str(k): jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(v) for v in value]
    if hasattr(value, "tolist"):
        return jsonable(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


class RunFolder:
    """Reads and writes one run's folder. `path` need not exist."""

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self._lock = None

    @property
    def state(self) -> Path:
        """Where checkpoints are."""
        return self.path / "state"

    @property
    def exists(self) -> bool:
        """Whether this is a run's folder."""
        return (self.path / "run.json").is_file()

    def claim(self, resume: bool) -> None:
        """Makes the folder this process's own until `release` or the end of the process.

        Raises Busy if a living run owns it (named), if it holds a run and `resume` is False, or if it holds other files.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = open(self.path / ".lock", "a+", encoding="utf-8")  # noqa: SIM115 - held until release
        except OSError as error:
            raise ResourceError(f"Cannot write into {self.path}: {error.strerror}.", cure="Give another --out.") from error
        if not lock_file(handle):
            handle.seek(0)
            owner = handle.read().strip() or "another process"
            handle.close()
            raise Busy(f"{self.path} belongs to a run that is going on: {owner}.", cure="Wait for it, or give another --out.")
        others = [p.name for p in self.path.iterdir() if p.name != ".lock" and not p.name.endswith(".draft")]
        if others and not (resume and self.exists):
            handle.close()
            if self.exists:
                started = self.read().get("started", "an unknown time")
                raise Busy(
                    f"{self.path} already holds a run, begun at {started}.", cure="Add --resume to go on with it, or give another --out."
                )
            raise Busy(f"{self.path} is not empty and not a run ('{others[0]}' is in it).", cure="Give another --out.")
        handle.seek(0)
        handle.truncate()
        handle.write(f"process {os.getpid()} on {socket.gethostname()}")
        handle.flush()
        self._lock = handle

    def release(self) -> None:
        """Gives the folder free; a folder that nothing was written to is removed."""
        if self._lock is not None:
            (self.path / ".lock").unlink(missing_ok=True)
            self._lock.close()
            self._lock = None
            if self.path.is_dir() and not any(self.path.iterdir()):
                self.path.rmdir()

    def read(self) -> dict[str, Any]:
        """run.json. Raises NotFound where there is no run, ModelFileError for a broken or newer one."""
        file = self.path / "run.json"
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise NotFound(f"{self.path} is not a run: there is no run.json in it.") from error
        except ValueError as error:
            raise ModelFileError(f"{file} is not JSON: {error}.", cure="Restore it from a copy, or train again.") from error
        if not isinstance(content, dict) or not isinstance(content.get("format"), int):
            raise ModelFileError(f"{file} is not the description of a run: 'format' is missing.")
        if content["format"] > FORMAT:
            raise ModelFileError(
                f"{file} has format {content['format']}; this version reads up to {FORMAT}.", cure="Upgrade thalweg."
            )
        return content

    def write(self, content: dict[str, Any]) -> None:
        """Replaces run.json in one step."""
        text = json.dumps(jsonable({"format": FORMAT, **content}), indent=1, ensure_ascii=False, allow_nan=False)
        self.write_file("run.json", text.encode())

    def write_file(self, name: str, data: bytes) -> None:
        """Replaces one file in one step. Raises ResourceError where the disk is full."""
        from .train.checkpoint import replace_durably

        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        replace_durably(target, data)

    def weights(self, content: dict[str, Any]) -> dict[str, Any]:
        """The tensors of weights.safetensors by name.

        Raises ModelFileError where the file is missing, malformed, or not the one that run.json was written for.
        """
        import safetensors.torch

        file = self.path / "weights.safetensors"
        try:
            data = file.read_bytes()
        except OSError as error:
            raise ModelFileError(f"{file} is missing.", cure="Finish the run with --resume.") from error
        if hashlib.sha256(data).hexdigest() != content.get("weights_sha256"):
            raise ModelFileError(f"{file} is not the file that run.json names: its SHA-256 differs.", cure="Copy the whole run again.")
        try:
            return safetensors.torch.load(data)
        except Exception as error:
            raise ModelFileError(f"{file} is not a safetensors file: {error}.") from error

    def write_weights(self, tensors: dict[str, Any]) -> str:
        """Replaces weights.safetensors in one step; returns its SHA-256."""
        import safetensors.torch

        data = safetensors.torch.save({k: v.detach().cpu().contiguous() for k, v in tensors.items()})
        self.write_file("weights.safetensors", data)
        return hashlib.sha256(data).hexdigest()

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl."""
        file = self.path / "metrics.jsonl"
        if not file.is_file():
            return []
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line]


class MetricsFile:
    """metrics.jsonl, open for appending. `offset` bytes of it are kept: what came after belongs to work that was lost."""

    def __init__(self, path: Path, offset: int = 0):
        self._file = open(path, "ab")  # noqa: SIM115 - open for the whole run
        self._file.truncate(offset)

    def append(self, row: dict[str, Any]) -> None:
        """Adds one row and hands it to the system."""
        self._file.write((json.dumps(jsonable(row), allow_nan=False) + "\n").encode())
        self._file.flush()

    def sync(self) -> int:
        """Waits until the disk has all rows; returns how many bytes there are."""
        os.fsync(self._file.fileno())
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def new_folder(name: str) -> RunFolder:
    """A folder runs/NAME-1, -2, … that no other process has, made by this call."""
    root = Path("runs")
    for number in numbers():
        path = root / f"{name}-{number}"
        try:
            path.mkdir(parents=True)
            return RunFolder(path)
        except FileExistsError:
            continue
        except OSError as error:
            raise ResourceError(f"Cannot make {path}: {error.strerror}.", cure="Give --out DIR.") from error
    raise AssertionError("there is always a next number")


def numbers() -> Iterator[int]:
    """1, 2, 3, …"""
    number = 1
    while True:
        yield number
        number += 1


def lock_file(handle: Any) -> bool:
    """Takes the system's lock on an open file; it ends with the process, however that ends. False if another has it."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
