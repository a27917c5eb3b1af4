"""Check a data set with the task that recognizes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..config.options import split_options
from ..config.parsing import parse_options
from ..data.base import DataRequest, NamedData
from ..errors import NotFoundError
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
    """Return the task that recognizes the data at a path or has data of this name, else the first of all."""
    tasks = get_tasks()
    if path.exists():
        for name, cls in tasks.items():
            if cls().recognizes(path):
                return name
    for name, item in list_named_data():
        if item.is_named(str(path)):
            return name
    return next(iter(tasks))


def list_named_data() -> list[tuple[str, NamedData]]:
    """List the data that has a name, each with the first task that reads it."""
    items: dict[str, tuple[str, NamedData]] = {}
    for task, cls in get_tasks().items():
        for item in cls.named_data():
            items.setdefault(item.name, (task, item))
    return list(items.values())


def find_named_data(name: str) -> NamedData:
    """Return data by its name. Raises NotFoundError."""
    items = [item for _, item in list_named_data()]
    for item in items:
        if item.is_named(name):
            return item
    raise NotFoundError.for_unknown("dataset", name, [item.name for item in items])
