"""A run's record with every part filled in, for tests of what is made of records."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from thalweg.runs.run_record import RunRecord
from thalweg.tasks.base import CardText, Plot

VALUES = {
    "format": 2,
    "task": "classify",
    "status": "finished",
    "model": "lenet",
    "model_kwargs": {"activation": "tanh"},
    "options": {"data": "/home/me/photos", "model": "lenet", "seed": 12345},
    "task_options": {"augment": "shift,rotate"},
    "data_spec": {},
    "data": {
        "name": "photos",
        "format": "folder",
        "fingerprint": "0123abcd",
        "summary": "1,300 images of 2 classes",
        "unit": "image",
        "counts": {"train": 1200, "val": 0, "test": 100},
        "official_splits": ["train", "test"],
        "unreadable": [{"path": "a.png", "reason": "cut off"}],
        "warnings": ["a warning"],
    },
    "command": "thalweg train classify 'my photos' --seed 3",
    "num_params": 431_080,
    "plan": {"device": "cpu", "batch_size": 64, "config": {"lr": 0.002, "optimizer": "adam"}},
    "initial_weights": {"weights": "imagenet", "file": "resnet18.pth", "sha256": "4567", "license": "BSD-3-Clause"},
    "versions": {"thalweg": "0.1.0"},
    "results": {
        "test": {"accuracy": 0.98, "accuracy_low": 0.93, "accuracy_high": 0.995, "macro_f1": 0.979, "examples": 100},
        "val": {"accuracy": 0.97, "examples": 120},
        "details": {},
        "steps": 100,
        "epochs": 5.0,
        "best_epoch": 4.0,
        "seconds": 12.5,
    },
}
TEXT = CardText(
    summary="It predicts one of 2 classes.",
    limitations=["It knows cats and dogs only."],
    preprocessing=["Resized to 28 x 28."],
    usage_command="thalweg predict path/to/this/run image.png",
    usage_python='run.predict("image.png")',
)
PLOT = Plot("classes", "Class by class", "The worst come first.", table=[["class", "F1"], ["dog", "93.00 %"]])


def make_record(**changes: Any) -> RunRecord:
    """Return the record, with some of its fields replaced."""
    return replace(RunRecord.parse(VALUES, Path("run.json")), **changes)


def make_bare_record() -> RunRecord:
    """Return the record of a run that was just begun: everything that may be missing is."""
    optional = ["command", "plan", "initial_weights", "versions", "results", "model_kwargs", "num_params"]
    empty = {"command": "", "versions": {}, "model_kwargs": {}, "num_params": 0}
    record = make_record(**{name: empty.get(name) for name in optional}, options={}, task_options={})
    return replace(record, data=replace(record.data, unreadable=[], warnings=[], official_splits=[], summary=""))


def replace_texts(value: Any, text: str) -> Any:
    """Return a value with every text in it replaced, but the names of fields."""
    if isinstance(value, str):
        return text
    if isinstance(value, dict):
        return {key: replace_texts(item, text) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [replace_texts(item, text) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: replace_texts(getattr(value, f.name), text) for f in fields(value)})
    return value
