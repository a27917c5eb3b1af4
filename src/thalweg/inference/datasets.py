"""Check a data set with the task that recognizes it; write samples of one as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..config.options import split_options
from ..config.parsing import parse_options
from ..data.base import DataRequest
from ..data.images.load import load_dataset
from ..errors import ResourceError
from ..io.log import log_warning
from ..registry import find_task, get_tasks
from ..tasks.base import Context


def check_source(source: str, task_name: str | None, options: dict[str, Any]) -> Any:
    """Check a data set with a task: the one given, else the one that recognizes the path, else the first that checks."""
    task = find_task(task_name or _guess_task(Path(source)))()
    common, own = split_options(options, task.TrainOptions)
    request = DataRequest(
        source=source,
        strict=bool(common.get("strict", False)),
        offline=bool(common.get("offline", False)),
        val_fraction=float(common.get("val_fraction", 0.1)),
    )
    context = Context(torch.device("cpu"), log=log_warning)
    return task.dataset_report(request, parse_options(own, task.TrainOptions, "--"), context)


def _guess_task(path: Path) -> str:
    names = list(get_tasks())
    for name, cls in get_tasks().items():
        if path.exists() and cls().recognizes(path):
            return name
    return names[0]


def export_samples(name: str, count: int, folder: Path) -> list[Path]:
    """Write images of a data set's test split as PNG files, one of each label in turn. Raises ResourceError."""
    dataset = load_dataset(DataRequest(name))
    test = dataset.test
    seen: dict[int, int] = {}
    order = []
    for row, label in enumerate(test.labels.tolist()):
        seen[label] = seen.get(label, 0) + 1
        order.append((seen[label], label, row))
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for index, (_, label, row) in enumerate(sorted(order)[:count]):
            image = test.images[row]
            path = folder / f"{dataset.name}-{index}-is-{dataset.classes[label]}.png".replace("/", "-")
            Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(path)
            written.append(path)
    except OSError as error:
        raise ResourceError(
            f"Cannot write into {folder}: {error.strerror}.", "Give another --out.", path=folder
        ) from error
    return written
