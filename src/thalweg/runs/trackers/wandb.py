"""Weights & Biases: files in RUN/wandb, which `wandb sync` uploads. Online only where the user's WANDB_MODE says so."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from typing import Any

from PIL import Image

from ..run_dir import RunDir
from ..run_record import RunRecord
from .base import PROJECT, TrackerStatus, allows_network, read_run_id, select_finite, write_run_id

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
    """Logs to one run. Offline, every part of a resumed run has a folder of its own; the newest holds all rows."""

    def __init__(self, run_dir: RunDir, record: RunRecord, step: int):
        self._wandb = load_package()
        run_id = read_run_id(run_dir, NAME)
        is_resumed = run_id is not None
        if run_id is None:
            run_id = uuid.uuid4().hex[:12]
            write_run_id(run_dir, NAME, run_id)
        fields = self._wandb.Settings.model_fields  # private ones, with an x in front, come and go
        settings = {name: value for name, value in SETTINGS.items() if name in fields}
        mode = os.environ.get("WANDB_MODE", "offline") if allows_network(record) else "offline"
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=run_id,
            name=run_dir.path.resolve().name,
            dir=str(run_dir.path),
            mode=mode,
            resume="allow" if mode == "online" else None,
            settings=self._wandb.Settings(**settings),
        )
        if is_resumed and mode != "online":
            self._log_earlier_rows(run_dir)

    def _log_earlier_rows(self, run_dir: RunDir) -> None:
        """Log what metrics.jsonl holds: a killed process leaves a folder without its last rows, or without any."""
        for row in run_dir.read_metrics():
            values = {name: value for name, value in row.items() if name not in ("step", "epoch", "split")}
            self.log_metrics(row["step"], select_finite(row["split"], values))

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
