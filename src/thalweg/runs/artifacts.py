"""What a run leaves for people: plots, samples, report.html, MODEL_CARD.md."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..data.base import Split
from ..io.atomic_write import atomic_write
from ..pages.model_card import render_card
from ..pages.report_html import build_report, render_report
from ..plots.animation import encode_gif
from ..plots.curves import MetricStyle, plot_curves
from ..predictions.base import Prediction, encode_png
from ..tasks.base import Plot, Task
from .run_dir import RunDir
from .run_record import RunRecord

#: hashes of the training examples, by which an evaluation notices examples that were trained on
KEYS_FILE = "train_keys.npy"
#: most frames of a time-lapse
MAX_TIME_LAPSE = 100


def write_report(run_dir: RunDir, record: RunRecord, task: Task, spec: Any, plots: Sequence[Plot]) -> None:
    """Write the plots of a run, and the report and the card made of them and of run.json."""
    history = run_dir.read_metrics()
    curves = Plot(
        "curves",
        "Learning curves",
        "Training figures are means over the steps between two reports; validation follows every epoch.",
        plot_curves(select_columns(history, task), metric_styles(task)),
    )
    drawn = [curves, *plots]
    for plot in drawn:
        if plot.image is not None:
            run_dir.write_file(f"plots/{plot.name}.png", encode_png(plot.image))
    text = task.card_text(spec, record.task_options, _flat_results(record))
    values: Any = record  # the pages' protocol of a record has fields that can be written
    run_dir.write_file("report.html", render_report(build_report(values, task.metrics, drawn, text)).encode())
    run_dir.write_file("MODEL_CARD.md", render_card(values, task.metrics, drawn, text).encode())


def metric_styles(task: Task) -> list[MetricStyle]:
    """Return how a task's metrics are drawn."""
    styles = []
    for metric in task.metrics:
        if metric.in_curves:
            styles.append(MetricStyle(metric.name, metric.label, metric.higher_is_better, metric.unit))
    return styles


def select_columns(history: Sequence[Mapping[str, Any]], task: Task) -> list[dict[str, Any]]:
    """Return the rows of metrics.jsonl without those metrics that have no panel in the curves."""
    rows = []
    for row in history:
        shown = dict(row)
        for metric in task.metrics:
            if not metric.in_curves:
                shown.pop(metric.name, None)
        rows.append(shown)
    return rows


def _flat_results(record: RunRecord) -> dict[str, Any]:
    """Return the test and validation metrics and the details in one mapping."""
    if record.results is None:
        return {}
    return {"test": record.results.test, "val": record.results.val, **record.results.details}


def write_samples(run_dir: RunDir, step: int, samples: Sequence[Prediction]) -> None:
    """Write the samples of a validation as samples/STEP.suffix."""
    for index, sample in enumerate(samples):
        number = f"-{index}" if len(samples) > 1 else ""
        for suffix, content in sample.files().items():
            run_dir.write_file(f"samples/{step:08d}{number}{suffix}", content)


def write_examples(run_dir: RunDir, examples: Mapping[str, Prediction]) -> None:
    """Write examples of the data as samples/NAME.suffix."""
    for name, example in examples.items():
        for suffix, content in example.files().items():
            run_dir.write_file(f"samples/{name}{suffix}", content)


def write_time_lapse(run_dir: RunDir) -> None:
    """Write the images of the validations as samples/time_lapse.gif, where there are two or more of one size."""
    paths = sorted((run_dir.path / "samples").glob("[0-9]*.png"))
    rows = np.linspace(0, len(paths) - 1, min(len(paths), MAX_TIME_LAPSE)).round().astype(int)
    frames = [Image.open(paths[row]).convert("RGB") for row in rows]
    if len(frames) > 1 and len({frame.size for frame in frames}) == 1:
        run_dir.write_file("samples/time_lapse.gif", encode_gif(frames))


def write_training_keys(run_dir: RunDir, split: Split) -> None:
    """Write the hashes of the training examples, where they have any."""
    keys = split.keys()
    if keys is None:
        return
    file = io.BytesIO()
    np.save(file, np.unique(keys), allow_pickle=False)
    run_dir.write_file(KEYS_FILE, file.getvalue())


def read_training_keys(run_dir: RunDir) -> np.ndarray | None:
    """Return the hashes of the training examples; None for runs without them."""
    path = run_dir.path / KEYS_FILE
    try:
        keys = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if keys.dtype != np.uint64 or keys.ndim != 1:
        return None
    return keys


def save_images(images: Mapping[str, Image.Image], folder: str | Path) -> list[Path]:
    """Write images as NAME.png where --save says; return their files. Raises ResourceError."""
    files = {}
    for name, image in images.items():
        files[f"{name}.png"] = encode_png(image)
    return save_files(files, folder)


def save_files(files: Mapping[str, bytes], folder: str | Path) -> list[Path]:
    """Write files into a folder that is made if need be; return their paths. Raises ResourceError."""
    written = []
    for name, content in files.items():
        path = Path(folder) / name
        atomic_write(path, content, cure="Make room, or give another --save.")
        written.append(path)
    return written


def all_finite(model: torch.nn.Module) -> bool:
    """Whether every weight and buffer is finite."""
    return all(bool(value.isfinite().all()) for value in model.state_dict().values())
