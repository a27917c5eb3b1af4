"""Check a data set with the task that recognizes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..config.options import split_options
from ..config.parsing import parse_options
from ..data.base import DataRequest
from ..io.log import Notify
from ..registry import find_task, get_tasks
from ..tasks.base import Context


def check_source(source: str, task_name: str | None, options: dict[str, Any], notify: Notify) -> Any:
    """Check a data set with the given task, else with the one that recognizes the path, else with the first."""
    task = find_task(task_name or guess_task(Path(source)))()
    common, own = split_options(options, task.TrainOptions)
    request = DataRequest(
        source=source,
        strict=bool(common.get("strict", False)),
        offline=bool(common.get("offline", False)),
        val_fraction=float(common.get("val_fraction", 0.1)),
        log=notify.log,
        progress=notify.progress,
    )
    context = Context(torch.device("cpu"), log=notify.log)
    return task.dataset_report(request, parse_options(own, task.TrainOptions, "--"), context)


def guess_task(path: Path) -> str:
    """Return the task that recognizes the data at a path, else the first of all."""
    names = list(get_tasks())
    for name, cls in get_tasks().items():
        if path.exists() and cls().recognizes(path):
            return name
    return names[0]
