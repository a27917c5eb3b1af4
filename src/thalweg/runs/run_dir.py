"""The folder that a training leaves.

    run.json               what it takes to repeat the run, and its results: options, plan, data, versions, seed
    weights.safetensors    the model
    metrics.jsonl          every report and every validation, without clock times, so that equal runs have equal files
    state/                 checkpoints, for --resume
    snapshots/             weights along the way, for `thalweg explain landscape`
    plots/, samples/, report.html, MODEL_CARD.md
    tensorboard/, mlflow/, wandb/, trackers.json   where --tracker asks for them
    checksums.sha256       SHA-256 of run.json, metrics.jsonl and weights.safetensors of a finished run

Read and written here only. JSON never contains NaN: what is not finite is null.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import Any, TextIO

from torch import Tensor

from ..config.json_record import to_json
from ..errors import ModelFileError, NotFoundError, ResourceError, RunLockedError
from ..io.atomic_write import atomic_write, disk_full_error, fsync_dir
from ..io.file_lock import lock_file
from .run_record import RESTORE_HINT, RunRecord

#: files of a run whose checksums are kept
CHECKED_FILES = ("run.json", "metrics.jsonl", "weights.safetensors")
#: what a run writes to; a symbolic link in its place would lead the writing out of the folder
WRITTEN_NAMES = (
    ".lock",
    "state",
    "snapshots",
    "plots",
    "samples",
    "tensorboard",
    "mlflow",
    "wandb",
    "trackers.json",
    "report.html",
    "MODEL_CARD.md",
    "train_keys.npy",
    "checksums.sha256",
)


class RunDir:
    """One run's folder. `path` need not exist."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self.state = self.path / "state"  # checkpoints
        self._lock_file: TextIO | None = None

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        return self.state.is_dir() and any(self.state.iterdir())

    @property
    def exists(self) -> bool:
        """Whether this is a run's folder."""
        return os.path.isfile(self.path / "run.json")

    # --- lock ---------------------------------------------------------------------------------------------------------

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Release the lock at the end; it was taken by `lock`."""
        try:
            yield
        finally:
            self.unlock()

    def lock(self, resume: bool) -> None:
        """Make the folder this process's own until `unlock` or the end of the process; remove drafts of a killed one.

        Raises RunLockedError if a living run owns it, if it holds a run and `resume` is False, or if it holds other
        files; the folder is then as it was.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunLockedError(f"{self.path} is a file; expected a folder.", "Give another --out.", path=self.path)
        self._reject_links()
        try:
            self._lock_file = self._acquire_lock()
        except OSError as error:
            raise ResourceError(
                f"Cannot write into {self.path}: {error.strerror}.", "Give another --out.", path=self.path
            ) from error
        try:
            self._check_empty(resume)
        except BaseException:
            self.unlock()
            raise
        for draft in self.path.rglob(".*.draft"):
            draft.unlink(missing_ok=True)

    def _reject_links(self) -> None:
        """Raise ModelFileError for symbolic links in place of what a run writes."""
        for name in (*CHECKED_FILES, *WRITTEN_NAMES):
            path = self.path / name
            if path.is_symlink():
                raise ModelFileError(
                    f"{path} is a symbolic link; expected a file or folder of the run.",
                    "Remove the link, or give another --out.",
                    path=path,
                )

    def _acquire_lock(self) -> TextIO:
        """Open, lock and sign the lock file. Raises RunLockedError naming its owner."""
        path = self.path / ".lock"
        while True:
            self.path.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
            try:
                handle = os.fdopen(os.open(path, flags, 0o666), "a+", encoding="utf-8")
            except FileNotFoundError:  # another process has just left the folder and removed it
                continue
            if not lock_file(handle):
                owner = _lock_owner(handle)
                handle.close()
                raise RunLockedError(
                    f"{self.path} belongs to a run that is going on: {owner}.",
                    "Wait for it, or give another --out.",
                    path=self.path,
                    value=owner,
                )
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle.fileno()), os.stat(path)):
                    break
            handle.close()  # its owner removed it after we had opened it
        handle.truncate(0)
        handle.write(f"process {os.getpid()} on {socket.gethostname()}")
        handle.flush()
        return handle

    def _check_empty(self, resume: bool) -> None:
        """Raise RunLockedError if the folder holds what a run must not be written to."""
        others = []
        for path in self.path.iterdir():
            if path.name != ".lock" and not path.name.endswith(".draft"):
                others.append(path.name)
        others.sort()
        if not others or (resume and self.exists):
            return
        if not self.exists:
            raise RunLockedError(
                f"{self.path} is not empty and not a run: '{others[0]}' is in it.",
                "Give another --out.",
                path=self.path,
                value=others[0],
            )
        raise RunLockedError(
            f"{self.path} already holds a run, started at {self.read_record().started or 'an unknown time'}.",
            "Add --resume to continue it, or give another --out.",
            path=self.path,
        )

    def unlock(self) -> None:
        """Release the folder; one that nothing was written to is removed."""
        if self._lock_file is None:
            return
        with suppress(OSError):  # gone with its folder, or Windows, which removes no file that is open
            (self.path / ".lock").unlink()
        self._lock_file.close()
        self._lock_file = None
        if self.path.is_dir() and not any(self.path.iterdir()):
            self.path.rmdir()

    # --- files --------------------------------------------------------------------------------------------------------

    def read_record(self) -> RunRecord:
        """Read run.json. Raises NotFoundError where there is no run, ModelFileError for a broken or newer one."""
        path = self.path / "run.json"
        try:
            content = path.read_bytes()
        except OSError as error:
            raise NotFoundError(f"{self.path} is not a run: there is no run.json in it.", path=self.path) from error
        try:
            values = json.loads(content.decode(errors="surrogateescape"))
        except (ValueError, RecursionError) as error:
            raise ModelFileError(f"{path} is not JSON: {error}.", RESTORE_HINT, path=path) from error
        record = RunRecord.parse(values, path)
        expected = self.read_checksums().get("run.json")
        if record.is_finished and expected and hashlib.sha256(content).hexdigest() != expected:
            raise _changed_file_error(path)
        return record

    def write_record(self, record: RunRecord) -> None:
        """Replace run.json in one step; only a finished run has checksums.

        They are written first: a kill in between leaves a run that is not finished, and that --resume finishes.
        """
        text = json.dumps(record.json(), indent=1, ensure_ascii=False, allow_nan=False)
        # File names may hold bytes that are not UTF-8: as "\udcff" they stay JSON, and come back as they were.
        data = text.encode(errors="backslashreplace")
        if record.is_finished:
            self._write_checksums(data)
        else:
            (self.path / "checksums.sha256").unlink(missing_ok=True)
        self.write_file("run.json", data)

    def write_file(self, name: str, data: bytes) -> None:
        """Replace one file in one step. Raises ResourceError where the disk is full."""
        atomic_write(self.path / name, data)

    def _write_checksums(self, record_data: bytes) -> None:
        """Write the checksums of a finished run, whose run.json will hold `record_data`."""
        lines = []
        for name in CHECKED_FILES:
            path = self.path / name
            if name == "run.json":
                lines.append(f"{hashlib.sha256(record_data).hexdigest()}  {name}\n")
            elif path.is_file():
                lines.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {name}\n")
        self.write_file("checksums.sha256", "".join(lines).encode())

    def read_checksums(self) -> dict[str, str]:
        """Return SHA-256 by file name; empty for runs without checksums."""
        path = self.path / "checksums.sha256"
        if not path.is_file():
            return {}
        sums = {}
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            words = line.split()
            if len(words) == 2:
                sums[words[1]] = words[0]
        return sums

    def verify(self) -> list[str]:
        """Return the names of files that differ from their checksums, or are missing."""
        changed = []
        for name, expected in self.read_checksums().items():
            path = self.path / name
            if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != expected:
                changed.append(name)
        return changed

    def load_weights(self, record: RunRecord) -> dict[str, Tensor]:
        """Return the tensors of weights.safetensors by name.

        Raises ModelFileError where the file is missing, malformed, or not the one that run.json was written for.
        """
        import safetensors.torch

        path = self.path / "weights.safetensors"
        cure = RESTORE_HINT if record.is_finished else "Finish the run with --resume."
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ModelFileError(f"{path} is missing.", cure, path=path) from error
        if hashlib.sha256(data).hexdigest() != record.weights_sha256:
            raise ModelFileError(f"{path} is not the file that run.json names: its SHA-256 differs.", cure, path=path)
        try:
            return safetensors.torch.load(data)
        except Exception as error:  # safetensors raises several kinds of its own
            raise ModelFileError(f"{path} is not a safetensors file: {error}.", path=path) from error

    def write_weights(self, tensors: dict[str, Tensor]) -> str:
        """Replace weights.safetensors in one step; return its SHA-256."""
        import safetensors.torch

        stored = {}
        for name, value in tensors.items():
            stored[name] = value.detach().cpu().contiguous()
        data = safetensors.torch.save(stored)
        self.write_file("weights.safetensors", data)
        return hashlib.sha256(data).hexdigest()

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return the rows of metrics.jsonl; an unfinished last line is left out. Raises ModelFileError."""
        path = self.path / "metrics.jsonl"
        if not path.is_file():
            return []
        *lines, _ = path.read_bytes().split(b"\n")
        rows = []
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if not isinstance(row, dict):
                raise ModelFileError(
                    f"{path}, line {number}: not a row of metrics in JSON.", RESTORE_HINT, path=path, line=number
                )
            rows.append(row)
        return rows


class MetricsFile:
    """metrics.jsonl, open for appending.

    `offset` bytes of it are kept: what came after belongs to work that was lost. `is_complete` is False where there
    were fewer. Raises ResourceError where it cannot be written.
    """

    def __init__(self, path: Path, offset: int = 0):
        self.path = path
        try:
            self._file = open(path, "ab")  # noqa: SIM115 - open for the whole run
            self.is_complete = os.fstat(self._file.fileno()).st_size >= offset
            if self.is_complete:
                self._file.truncate(offset)
            fsync_dir(path.parent)
        except OSError as error:
            raise disk_full_error(error, path, 0) from error

    def append(self, row: dict[str, Any]) -> None:
        """Add one row and hand it to the operating system."""
        data = (json.dumps(to_json(row), allow_nan=False) + "\n").encode()
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise disk_full_error(error, self.path, len(data)) from error

    def sync(self) -> int:
        """Wait until the disk has all rows; return how many bytes there are."""
        try:
            os.fsync(self._file.fileno())
            return os.fstat(self._file.fileno()).st_size
        except OSError as error:
            raise disk_full_error(error, self.path, 0) from error

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):  # a row that could not be written was reported by `append`
            self._file.close()


def create_run_dir(name: str) -> RunDir:
    """Create a folder runs/NAME-1, -2, … that no other process has."""
    for number in itertools.count(1):
        path = Path("runs") / f"{name}-{number}"
        try:
            path.mkdir(parents=True)
            return RunDir(path)
        except FileExistsError:
            continue
        except OSError as error:
            raise ResourceError(f"Cannot make {path}: {error.strerror}.", "Give --out DIR.", path=path) from error
    raise AssertionError("there is always a next number")


def bundled_models() -> dict[str, Path]:
    """Return the folders of the trained models that come with the package, by name."""
    root = Path(str(resources.files("thalweg") / "bundled"))
    models = {}
    for path in sorted(root.iterdir()):
        if (path / "run.json").is_file():
            models[path.name] = path
    return models


def _changed_file_error(path: Path) -> ModelFileError:
    return ModelFileError(
        f"{path} was changed after the run finished: its SHA-256 differs from checksums.sha256.",
        RESTORE_HINT,
        path=path,
    )


def _lock_owner(handle: TextIO) -> str:
    """Return who signed the lock file; its owner may be about to."""
    for _ in range(20):
        handle.seek(0)
        if owner := handle.read().strip():
            return owner
        time.sleep(0.05)
    return "another process"
