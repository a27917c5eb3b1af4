"""run.json: everything that it takes to repeat a run, and its results. Format 2."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch

from ..config.json_record import FieldError, from_json, to_json
from ..data.base import Dataset, UnreadableFile
from ..errors import ModelFileError
from ..version import __version__

FORMAT_VERSION = 2
RESTORE_HINT = "Restore it from a copy, or train again."

Status = Literal["new", "running", "stopped", "non-finite", "finished"]


@dataclass(frozen=True)
class DataRecord:
    """What run.json holds of the data. `fingerprint` is compared when the run is resumed."""

    name: str
    format: str
    fingerprint: str
    summary: str
    unit: str
    counts: dict[str, int]
    in_memory: bool = False
    official_splits: list[str] = field(default_factory=list)
    unreadable: list[UnreadableFile] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def from_dataset(cls, dataset: Dataset[Any], in_memory: bool) -> DataRecord:
        """Describe a data set that was read."""
        return cls(
            name=dataset.name,
            format=dataset.format,
            fingerprint=dataset.fingerprint,
            summary=dataset.summary,
            unit=dataset.unit,
            counts={name: len(split) for name, split in dataset.splits.items()},
            in_memory=in_memory,
            official_splits=list(dataset.official_splits),
            unreadable=list(dataset.unreadable),
            warnings=list(dataset.warnings),
        )


@dataclass(frozen=True)
class InitialWeightsRecord:
    """Where the weights came from that a training began with; they were made from other data, under other terms."""

    weights: str
    file: str
    sha256: str = ""
    reset: list[str] = field(default_factory=list)
    license: str = ""
    data_spec: dict[str, Any] | None = None


@dataclass(frozen=True)
class Results:
    """Metrics of the final model, and how long the run took."""

    val: dict[str, Any]
    test: dict[str, Any]
    details: dict[str, Any]
    steps: int
    epochs: float
    best_epoch: float
    seconds: float


@dataclass(frozen=True)
class RunRecord:
    """The content of run.json."""

    format: int
    task: str
    model: str
    model_kwargs: dict[str, Any]
    options: dict[str, Any]
    task_options: dict[str, Any]
    data_spec: dict[str, Any]
    data: DataRecord
    status: Status = "new"
    recipe: str | None = None
    command: str = ""
    started: str = ""
    seed: int = 0
    num_params: int = 0
    main_metric: str = ""
    plan: dict[str, Any] | None = None
    initial_weights: InitialWeightsRecord | None = None
    setup: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    results: Results | None = None
    weights_sha256: str | None = None
    license: str = ""

    @property
    def is_finished(self) -> bool:
        """Whether the run was trained to its end and tested."""
        return self.status == "finished"

    @classmethod
    def begin(cls, dataset: Dataset[Any], in_memory: bool, **fields: Any) -> RunRecord:
        """Make the record of a run that begins now, on a data set that was read. `fields` are the others."""
        return cls(
            format=FORMAT_VERSION,
            data=DataRecord.from_dataset(dataset, in_memory),
            started=now(),
            versions=current_versions(),
            **fields,
        )

    @classmethod
    def parse(cls, values: Any, path: Path) -> RunRecord:
        """Read run.json's values. Raises ModelFileError that names the damaged field."""
        version = values.get("format") if isinstance(values, dict) else None
        if isinstance(version, int) and version != FORMAT_VERSION:
            raise ModelFileError(
                f"{path}: format {version}; expected {FORMAT_VERSION}.",
                "Upgrade thalweg." if version > FORMAT_VERSION else "Train again.",
                path=path,
                option="format",
                value=version,
            )
        try:
            record = from_json(values, cls)
            if "status" not in values:  # without it a damaged file would pass for one that is not finished yet
                raise FieldError("status", "a status")
        except FieldError as error:
            raise ModelFileError(f"{path}: {error}.", RESTORE_HINT, path=path, option=error.field) from error
        return record

    def json(self) -> dict[str, Any]:
        """Return JSON values, without what is not known yet."""
        return {key: value for key, value in to_json(self).items() if value is not None}


def current_versions() -> dict[str, str]:
    """Return the versions that results depend on."""
    return {"thalweg": __version__, "torch": torch.__version__, "python": platform.python_version()}


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def parse_data_spec(record: RunRecord, spec_class: type, path: Path) -> Any:
    """Read the task's DataSpec from a record. Raises ModelFileError that names the damaged field."""
    return parse_record_part(record.data_spec, spec_class, "data_spec", path)


def parse_record_part(values: Any, cls: type, name: str, path: Path) -> Any:
    """Read a dataclass from a part of run.json. Raises ModelFileError that names the damaged field."""
    try:
        return from_json(values, cls, name)
    except FieldError as error:
        raise ModelFileError(f"{path}: {error}.", RESTORE_HINT, path=path, option=error.field) from error
    except (ValueError, TypeError) as error:
        raise ModelFileError(f"{path}: {name}: {error}.", RESTORE_HINT, path=path, option=name) from error
