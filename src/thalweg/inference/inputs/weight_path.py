"""A run with the weights that it kept along its way, and examples to compute its loss on."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch

from ...data.images.dataset import Split
from ...data.images.preprocess import eval_batch_size
from ...errors import OptionError
from ...training.snapshots import load_snapshots as read_trail
from ..model import Run, load
from . import check_max_words


def load_input(words: list[Any], settings: Any, weights: str | None, offline: bool) -> dict[str, Any]:
    """The objective of a run, its trail with the trained weights last, and batches of its training and test sets.

    Raises OptionError without a run, ModelFileError for one without its initial weights, DataError without its data.
    """
    check_max_words(words, 1, "a run")
    if not words or weights is not None:
        raise OptionError("This concept is about a run, and its own weights.", cure="Give the folder of one: runs/a")
    run = words[0] if isinstance(words[0], Run) else load(os.fspath(words[0]), None, offline)
    if not isinstance(run, Run):
        raise OptionError(f"{run.name} is a network without a run.", cure="Give the folder of a run: runs/a")
    network = run.model
    trail = read_trail(run.path / "trail", network)
    data = run.read()
    end = {name: network.get_parameter(name).detach().clone() for name in trail[0][1]}
    last = run.results.get("steps", trail[-1][0] + 1)
    objective = run.task.objective(network, run.facts, run.options)
    return {
        "objective": objective,
        "trail": [*((step, kept) for step, kept in trail if step < last), (last, end)],
        "train": _sample_batches(run, data.train, settings),
        "test": _sample_batches(run, data.test, settings),
        "told": f"{run.content.get('model', 'network')} on {data.name}",
    }


def _sample_batches(run: Run, split: Split, settings: Any) -> list[dict[str, torch.Tensor]]:
    """Examples drawn by the seed, as the network reads them, in batches that a processor is quick with."""
    rows = np.sort(np.random.default_rng(settings.seed).permutation(len(split))[: settings.examples])
    size, device = eval_batch_size(run.facts), torch.device("cpu")
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    return [
        {
            "image": run.task.prepared(split.images[part], run.facts, device),
            "label": torch.from_numpy(split.labels[part].astype(np.int64)),
        }
        for part in parts
    ]
