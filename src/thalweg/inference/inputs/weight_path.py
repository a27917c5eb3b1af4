"""A run with the weight snapshots of its training, and examples to compute its loss on."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch

from ...data.images.dataset import ImageSplit
from ...data.images.input_spec import eval_batch_size, to_normalized_float
from ...errors import OptionError
from ...training.snapshots import load_snapshots
from ..load import load
from ..run import Run
from . import check_max_words
from .batch import require_classifier


def load_input(words: list[Any], settings: Any, weights: str | None, offline: bool) -> dict[str, Any]:
    """Load RUN: its objective, its snapshots with the trained weights last, and batches of train and test split.

    Raises OptionError without a run, ModelFileError for one without its initial weights, DataError without its data.
    """
    check_max_words(words, 1, "a run")
    if not words or weights is not None:
        raise OptionError(
            "This concept is about the path of one training; no run is named.",
            "Give the folder of one: thalweg explain landscape runs/a",
        )
    run = words[0] if isinstance(words[0], Run) else load(os.fspath(words[0]), None, offline)
    if not isinstance(run, Run):
        raise OptionError(f"{run.name} is a model without a run.", "Give the folder of a run: runs/a", value=run.name)
    require_classifier(run)
    model = run.model
    snapshots = load_snapshots(run.path / "snapshots", model)
    dataset = run.load_data()
    end = {name: model.get_parameter(name).detach().clone() for name in snapshots[0][1]}
    last = run.results.get("steps", snapshots[-1][0] + 1)
    setup = run.task.setup(model, dataset, run.spec, run.task_options, 64, run.context)
    path = [(step, tensors) for step, tensors in snapshots if step < last]
    return {
        "objective": setup.objective,
        "snapshots": [*path, (last, end)],
        "train": _sample_batches(run, dataset.train, settings),
        "test": _sample_batches(run, dataset.test, settings),
        "title": f"{run.record.model} on {dataset.name}",
    }


def _sample_batches(run: Run, split: ImageSplit, settings: Any) -> list[dict[str, torch.Tensor]]:
    """Draw examples by the seed, as the model reads them, in batches that a CPU is fast with."""
    rows = np.sort(np.random.default_rng(settings.seed).permutation(len(split))[: settings.examples])
    batch_size = eval_batch_size(run.spec)
    batches = []
    for start in range(0, len(rows), batch_size):
        chosen = rows[start : start + batch_size]
        images = torch.from_numpy(split.images[chosen].copy())
        labels = torch.from_numpy(split.labels[chosen].astype(np.int64))
        batches.append({"image": to_normalized_float(images, run.spec), "label": labels})
    return batches
