"""Weights & Biases: files in RUN/wandb, which `wandb sync` uploads. Online only where the user's WANDB_MODE says so."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from typing import Any

from PIL import Image

from ..run_dir import RunDir
from ..run_record import RunRecord
from .base import PROJECT, TrackerStatus, allows_network, read_run_id, write_run_id

NAME = "wandb"
#: nothing but what is logged here: no console, git, code, packages, machine or prompt; and no other run is touched
SETTINGS = {
    "console": "off",
    "disable_git": True,
    "save_code": False,
    "disable_job_creation": True,
    "silent": True,
    "host": "-",
    "reinit": "create_new",
    "login_timeout": 1.0,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
}
EXIT_CODES = {"finished": 0, "stopped": 255, "failed": 1}


def load_package() -> Any:
    """Import Weights & Biases, with its reports of errors off. Raises ImportError."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb  # pyright: ignore[reportMissingImports]

    return wandb


class WandbTracker:
    """Logs to one run. Every part of a resumed run has a folder of its own with the same id."""

    def __init__(self, run_dir: RunDir, record: RunRecord, step: int):
        self._wandb = load_package()
        run_id = read_run_id(run_dir, NAME)
        if run_id is None:
            run_id = uuid.uuid4().hex[:12]
            write_run_id(run_dir, NAME, run_id)
        known = self._wandb.Settings.model_fields  # private ones, with an x in front, come and go
        settings = {name: value for name, value in SETTINGS.items() if name in known}
        mode = os.environ.get("WANDB_MODE", "offline") if allows_network(record) else "offline"
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=run_id,
            name=run_dir.path.resolve().name,
            dir=str(run_dir.path),
            mode=mode,
            resume="allow" if mode == "online" else None,  # files of one id are joined when they are uploaded
            settings=self._wandb.Settings(**settings),
        )

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log settings as the run's configuration; a resumed run may have changed some."""
        self._run.config.update(dict(params), allow_val_change=True)

    def log_metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Log metrics; those of one step become one row."""
        self._run.log(dict(values), step=step)

    def log_image(self, step: int, name: str, image: Image.Image) -> None:
        """Log an image."""
        self._run.log({name: self._wandb.Image(image)}, step=step)

    def close(self, status: TrackerStatus) -> None:
        """End the run, and wait until its files are written."""
        self._run.finish(exit_code=EXIT_CODES[status])
