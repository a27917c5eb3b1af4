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
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from ..config import options
from ..errors import ModelFileError, NotFoundError, OptionError, ResourceError, RunLockedError
from ..io.file_lock import lock_file

FORMAT_VERSION = 1
#: what every run.json holds, what it comes to hold, and of which kind that is
REQUIRED_KEYS = {"format": int, "task": str, "options": dict, "facts": dict}
OPTIONAL_KEYS = {"plan": dict, "data": dict, "versions": dict, "results": dict, "arguments": dict}
RESTORE_HINT = "Restore it from a copy, or train again."


def to_json(value: Any) -> Any:
    """`value` with NaN and infinities as None, tuples as lists, and numbers of other libraries as plain ones."""
    if isinstance(value, dict):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(v) for v in value]
    if hasattr(value, "tolist"):
        return to_json(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


class RunDir:
    """Reads and writes one run's folder. `path` need not exist."""

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self._lock = None

    @property
    def state(self) -> Path:
        """Where checkpoints are."""
        return self.path / "state"

    @property
    def begun(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return self.state.is_dir() and any(self.state.iterdir())

    @property
    def exists(self) -> bool:
        """Whether this is a run's folder."""
        return os.path.isfile(self.path / "run.json")

    def claim(self, resume: bool) -> None:
        """Makes the folder this process's own until `release` or the end of the process, and tidies up after a kill.

        Raises Busy if a living run owns it (named), if it holds a run and `resume` is False, or if it holds other
        files; the folder is then as it was.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunLockedError(f"{self.path} is a file, not a folder.", cure="Give another --out.")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = self._locked()
        except OSError as error:
            raise ResourceError(
                f"Cannot write into {self.path}: {error.strerror}.", cure="Give another --out."
            ) from error
        try:
            self._refuse(resume)
        except BaseException:
            self.release()
            raise
        for draft in self.path.rglob(".*.draft"):
            draft.unlink(missing_ok=True)

    def _locked(self) -> TextIO:
        """The lock file, locked and signed. Raises Busy naming who has it."""
        path = self.path / ".lock"
        while True:
            handle = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - held until release
            if not lock_file(handle):
                owner = _lock_owner(handle)
                handle.close()
                raise RunLockedError(
                    f"{self.path} belongs to a run that is going on: {owner}.",
                    cure="Wait for it, or give another --out.",
                )
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle.fileno()), os.stat(path)):
                    break
            handle.close()  # its owner removed it after we had opened it
        handle.truncate(0)
        handle.write(f"process {os.getpid()} on {socket.gethostname()}")
        handle.flush()
        return handle

    def _refuse(self, resume: bool) -> None:
        """Raises Busy if the folder holds what a run must not be written to."""
        others = sorted(p.name for p in self.path.iterdir() if p.name != ".lock" and not p.name.endswith(".draft"))
        if not others or (resume and self.exists):
            return
        if not self.exists:
            raise RunLockedError(
                f"{self.path} is not empty and not a run ('{others[0]}' is in it).", cure="Give another --out."
            )
        raise RunLockedError(
            f"{self.path} already holds a run, begun at {self.read().get('started', 'an unknown time')}.",
            cure="Add --resume to go on with it, or give another --out.",
        )

    def release(self) -> None:
        """Gives the folder free; a folder that nothing was written to is removed."""
        if self._lock is not None:
            with suppress(OSError):  # gone with its folder, or Windows, which removes no file that is open
                (self.path / ".lock").unlink()
            self._lock.close()
            self._lock = None
            if self.path.is_dir() and not any(self.path.iterdir()):
                self.path.rmdir()

    def read(self) -> dict[str, Any]:
        """run.json, with all that every run has.

        Raises NotFound where there is no run, ModelFileError for a broken or newer one.
        """
        file = self.path / "run.json"
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise NotFoundError(f"{self.path} is not a run: there is no run.json in it.") from error
        except (ValueError, RecursionError) as error:
            raise ModelFileError(f"{file} is not JSON: {error}.", cure=RESTORE_HINT) from error
        if isinstance(content, dict) and isinstance(content.get("format"), int) and content["format"] > FORMAT_VERSION:
            raise ModelFileError(
                f"{file} has format {content['format']}; this version reads up to {FORMAT_VERSION}.",
                cure="Upgrade thalweg.",
            )
        told = {**{key: {} for key in OPTIONAL_KEYS}, **(content if isinstance(content, dict) else {})}
        for key, kind in {**REQUIRED_KEYS, **OPTIONAL_KEYS}.items():
            if not isinstance(told.get(key), kind):
                raise ModelFileError(f"{file} describes no run: '{key}' is missing or wrong.", cure=RESTORE_HINT)
        try:
            options.parse_options(content["options"])
        except OptionError as error:
            raise ModelFileError(f"{file}: {error.message}", cure=f"Upgrade thalweg. {RESTORE_HINT}") from error
        if not isinstance(content.get("model"), (str, type(None))):
            raise ModelFileError(f"{file}: 'model' is no name.", cure=RESTORE_HINT)
        if wrong := _find_invalid_field(content["facts"]):
            raise ModelFileError(f"{file}: of the facts, '{wrong}' is missing or wrong.", cure=RESTORE_HINT)
        return content

    def write(self, content: dict[str, Any]) -> None:
        """Replaces run.json in one step."""
        text = json.dumps(to_json({"format": FORMAT_VERSION, **content}), indent=1, ensure_ascii=False, allow_nan=False)
        # Names of files may hold bytes that are not UTF-8: as "\udcff" they stay JSON, and come back as they were.
        self.write_file("run.json", text.encode(errors="backslashreplace"))

    def write_file(self, name: str, data: bytes) -> None:
        """Replaces one file in one step. Raises ResourceError where the disk is full."""
        from ..engine.checkpoint import atomic_write

        atomic_write(self.path / name, data)

    def weights(self, content: dict[str, Any]) -> dict[str, Any]:
        """The tensors of weights.safetensors by name.

        Raises ModelFileError where the file is missing, malformed, or not the one that run.json was written for.
        """
        import safetensors.torch

        file, finished = self.path / "weights.safetensors", content.get("status") == "finished"
        try:
            data = file.read_bytes()
        except OSError as error:
            cure = RESTORE_HINT if finished else "Finish the run with --resume."
            raise ModelFileError(f"{file} is missing.", cure) from error
        if hashlib.sha256(data).hexdigest() != content.get("weights_sha256"):
            raise ModelFileError(
                f"{file} is not the file that run.json names: its SHA-256 differs.",
                cure=RESTORE_HINT if finished else "Finish the run with --resume, or copy the whole run again.",
            )
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
        """The rows of metrics.jsonl; one that is being written is not among them. Raises ModelFileError."""
        file = self.path / "metrics.jsonl"
        if not file.is_file():
            return []
        *lines, _ = file.read_bytes().split(b"\n")
        rows = []
        for number, line in enumerate(lines, 1):
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise ModelFileError(f"{file}, line {number}, is not JSON: {error}.", cure=RESTORE_HINT) from error
        return rows


def _find_invalid_field(facts: dict[str, Any]) -> str | None:
    """The first of the facts with which no picture could be looked at, nor an answer be named; None if all are fine."""
    channels = facts.get("channels")

    def listed(key: str, kinds: tuple[type, ...], fits: Callable[[Any], bool]) -> bool:
        values = facts.get(key)
        return isinstance(values, list) and len(values) > 0 and all(type(v) in kinds and fits(v) for v in values)

    def per_channel(key: str, least: float) -> bool:
        return listed(key, (int, float), lambda value: least < value < 1e6) and len(facts[key]) == channels

    fine = {
        "classes": listed("classes", (str,), lambda name: True),
        "channels": type(channels) is int and channels in (1, 3),
        "size": listed("size", (int,), lambda side: 0 < side <= 10_000) and len(facts["size"]) == 2,
        "mean": per_channel("mean", -1e6),
        "std": per_channel("std", 0),
        "ink": isinstance(facts.get("ink"), bool),
        "resize": facts.get("resize") is None or (type(facts["resize"]) is int and 0 < facts["resize"] <= 10_000),
        "views": isinstance(facts.get("views", "one"), str),
    }
    return next((key for key, well in fine.items() if not well), None)


class MetricsFile:
    """metrics.jsonl, open for appending. `offset` bytes of it are kept: what came after belongs to work that was lost.

    `complete` is False where there were fewer. Raises ResourceError where it cannot be written.
    """

    def __init__(self, path: Path, offset: int = 0):
        from ..engine.checkpoint import fsync_dir

        self.path = path
        try:
            self._file = open(path, "ab")  # noqa: SIM115 - open for the whole run
            self.complete = os.fstat(self._file.fileno()).st_size >= offset
            if self.complete:
                self._file.truncate(offset)
            fsync_dir(path.parent)
        except OSError as error:
            raise self._refused(error) from error

    def append(self, row: dict[str, Any]) -> None:
        """Adds one row and hands it to the system."""
        data = (json.dumps(to_json(row), allow_nan=False) + "\n").encode()
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise self._refused(error, len(data)) from error

    def sync(self) -> int:
        """Waits until the disk has all rows; returns how many bytes there are."""
        try:
            os.fsync(self._file.fileno())
            return os.fstat(self._file.fileno()).st_size
        except OSError as error:
            raise self._refused(error) from error

    def close(self) -> None:
        """Closes the file."""
        with suppress(OSError):  # a row that could not be written was reported by `append`
            self._file.close()

    def _refused(self, error: OSError, needed: int = 0) -> ResourceError:
        from ..engine.checkpoint import disk_full_error

        return disk_full_error(error, self.path, needed)


def create_run_dir(name: str) -> RunDir:
    """A folder runs/NAME-1, -2, … that no other process has, made by this call."""
    root = Path("runs")
    for number in numbers():
        path = root / f"{name}-{number}"
        try:
            path.mkdir(parents=True)
            return RunDir(path)
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


def _lock_owner(handle: TextIO) -> str:
    """Who signed the lock file; its owner may be about to."""
    for _ in range(20):
        handle.seek(0)
        if owner := handle.read().strip():
            return owner
        time.sleep(0.05)
    return "another process"
