"""Trainings of every task on its toy data, for the laws. A new task needs an entry here only where it says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
from PIL import Image
from torch import Tensor, nn

from thalweg import api, registry
from thalweg.data.series.cleaning import SeriesTable
from thalweg.data.series.time_step import format_times
from thalweg.errors import InterruptedTrainingError
from thalweg.predictions.base import Prediction
from thalweg.tasks.base import EvalResult, InputType
from thalweg.training.run import TrainingRun

TASKS = registry.get_tasks()
COMMON_OPTIONS = {"batch_size": 16, "cpu_threads": 1, "seed": 5}
#: options that make a training of a task small; most tasks need none
TASK_OPTIONS: dict[str, dict[str, Any]] = {"generate": {"num_eval_samples": 100}}
#: options that make a prediction of a task quick; most tasks need none
PREDICT_OPTIONS: dict[str, dict[str, Any]] = {"generate": {"steps": 2}}


def plan_toy(task: str, out: Path, **options: Any) -> TrainingRun:
    """Plan a training of a task on its toy data."""
    options = {**COMMON_OPTIONS, **TASK_OPTIONS.get(task, {}), "steps": 20, **options}
    return api.plan_training(task, TASKS[task]().toy_dataset(), out=out, **options)


def plan_on(task: str, data: Path, out: Path, **options: Any) -> TrainingRun:
    """Plan a short training of a task on data on disk."""
    options = {**COMMON_OPTIONS, **TASK_OPTIONS.get(task, {}), "steps": 2, "offline": True, **options}
    return api.plan_training(task, str(data), out=out, **options)


def train_toy(task: str, out: Path, **options: Any) -> TrainingRun:
    """Train a task on its toy data to the end."""
    run = plan_toy(task, out, **options)
    for _ in run:
        pass
    return run


def interrupt_after(run: TrainingRun, step: int) -> None:
    """Ask a training to stop during its step number `step`, as a signal does, and train until it stops."""
    trainer = run.parts.trainer
    train_step = trainer.train_step

    def train_and_interrupt(due: Any, batch: Any) -> None:
        train_step(due, batch)
        trainer.pause_requested = trainer.step + 1 >= step

    trainer.train_step = train_and_interrupt
    try:
        for _ in run:
            pass
    except InterruptedTrainingError as error:
        assert error.value == step
        return
    raise AssertionError("the training did not stop")


def read_checkpoint(out: Path) -> tuple[str, dict[str, Tensor], bytes]:
    """Return name, tensors and other state of the newest checkpoint."""
    folder = max((out / "state").iterdir())
    tensors = safetensors.torch.load_file(folder / "tensors.safetensors")
    return folder.name, tensors, (folder / "state.json").read_bytes()


def read_weights(out: Path) -> dict[str, Tensor]:
    """Return the final weights of a run."""
    return safetensors.torch.load_file(out / "weights.safetensors")


def read_initial_weights(out: Path) -> dict[str, Tensor]:
    """Return the parameters of a run before its first step."""
    return safetensors.torch.load_file(out / "snapshots" / "00000000.safetensors")


def disable_batch_statistics(module: nn.Module) -> None:
    """Turn off dropout and batch statistics, which depend on how a batch is divided."""
    for layer in module.modules():
        if isinstance(layer, nn.Dropout | nn.Dropout2d):
            layer.p = 0.0
        if isinstance(layer, nn.RNNBase):
            layer.dropout = 0.0
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.eval()
            layer.train = lambda mode=True, layer=layer: layer


def dump_json(value: Any) -> str:
    """Encode as strict JSON: NaN is an error."""
    return json.dumps(value, allow_nan=False)


def evaluate_parts(run: TrainingRun, split: str) -> EvalResult:
    """Evaluate the model of a training as it is now."""
    parts = run.parts
    data = parts.dataset.splits[split]
    return parts.task.evaluate(parts.model.eval(), data, parts.spec, parts.task_options, parts.context)


def make_sources(task: str) -> list[Any]:
    """Return sources that the task reads, from its toy data; by the kind of input, so most tasks need nothing here."""
    split = TASKS[task]().toy_dataset().test
    if TASKS[task].input_type is InputType.IMAGE:
        return list(split.images)
    if TASKS[task].input_type is InputType.TEXT and hasattr(split, "sources"):
        return list(split.sources[:7])
    if TASKS[task].input_type is InputType.TEXT:
        length = len(split.text) // 8
        return [split.text[start : start + length] for start in range(0, 7 * length, length)]
    if TASKS[task].input_type is InputType.TABLE:
        return [format_csv(split.data.table, leave_out) for leave_out in range(7)]
    raise AssertionError(f"no sources for {TASKS[task].input_type}")


def format_csv(table: SeriesTable, leave_out: int = 0) -> bytes:
    """Write series as a long CSV file, without the last rows of each."""
    lines = [",".join(["unique_id", "ds", *table.columns])]
    for series in table.series:
        times = format_times(table.times(series), table.are_dates)
        for time, values in list(zip(times, series.values_TK.tolist(), strict=True))[: len(series) - leave_out]:
            lines.append(",".join([series.id, time, *map(str, values)]))
    return "\n".join(lines).encode()


def write_toy(task: str, folder: Path) -> Path:
    """Write the toy data of a task to disk as its users have it: folders of images, a text, pairs, or just a name."""
    dataset = TASKS[task]().toy_dataset()
    if hasattr(dataset, "problem"):
        return Path(dataset.problem.name)
    if hasattr(dataset.train, "style_NW"):
        return Path(dataset.path)
    if hasattr(dataset.train, "text"):
        path = folder / "toy.txt"
        path.write_text(dataset.train.text, encoding="utf-8")
        return path
    if hasattr(dataset.train, "targets"):
        path = folder / "toy.tsv"
        lines = map("\t".join, zip(dataset.train.sources, dataset.train.targets, strict=True))
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path
    if TASKS[task].input_type is InputType.TABLE:
        path = folder / "toy.csv"
        path.write_bytes(format_csv(dataset.train.data.table))
        return path
    for index, image in enumerate(dataset.train.images):
        label = dataset.train.labels[index] if hasattr(dataset.train, "labels") else "all"
        path = folder / "toy" / str(label) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.squeeze(image)).save(path)
    return folder / "toy"


def write_attribute_table(path: Path) -> None:
    """Write a table of attributes, with its images beside it."""
    lines = ["file,light"]
    for index in range(30):
        Image.new("L", (8, 8), 8 * index).save(path.parent / f"{index}.png")
        lines.append(f"{index}.png,{index}")
    path.write_text("\n".join(lines), encoding="utf-8")


def list_files(predictions: Iterator[Prediction]) -> list[dict[str, bytes]]:
    """Return what would be saved of each prediction."""
    return [prediction.files() for prediction in predictions]
