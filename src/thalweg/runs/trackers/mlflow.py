"""MLflow: a file store in RUN/mlflow, or the server that the user's MLFLOW_TRACKING_URI names.

Only the client is used, never the "fluent" functions: they keep one global run, look for git and measure the machine.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from PIL import Image

from ..run_dir import RunDir
from ..run_record import RunRecord
from .base import PROJECT, TrackerStatus, allows_network, read_run_id, write_run_id

NAME = "mlflow"
#: what MLflow reads from the environment; each is left as it is where the user has set it
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_FILE_STORE": "true",  # MLflow 3.17 refuses its file store otherwise, for lack of new features
    # a server that does not answer would hold the training up for an hour
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}
STATUSES = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
MAX_PARAM_LENGTH = 500
#: how many values one call may log
MAX_PARAMS, MAX_METRICS = 100, 1000


def load_package() -> Any:
    """Import MLflow, with its telemetry off. Raises ImportError."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow  # pyright: ignore[reportMissingImports]

    return mlflow


class MLflowTracker:
    """Logs to one run of a store."""

    def __init__(self, run_dir: RunDir, record: RunRecord, step: int):
        mlflow = load_package()
        self._entities = mlflow.entities
        uri = os.environ.get("MLFLOW_TRACKING_URI", "")
        if not uri or (not allows_network(record) and uri.startswith(("http", "databricks"))):
            uri = (run_dir.path / "mlflow").resolve().as_uri()
        self._client = mlflow.MlflowClient(tracking_uri=uri)
        self._params: set[str] = set()
        self._last_steps: dict[str, int] = {}
        run_id = read_run_id(run_dir, NAME)
        if run_id is None or not self._continue_run(run_id):
            run_id = self._create_run(run_dir.path.resolve().name)
            write_run_id(run_dir, NAME, run_id)
        self._run_id = run_id

    def _create_run(self, name: str) -> str:
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        existing = self._client.get_experiment_by_name(experiment)
        experiment_id = existing.experiment_id if existing else self._client.create_experiment(experiment)
        return self._client.create_run(experiment_id, run_name=name).info.run_id

    def _continue_run(self, run_id: str) -> bool:
        """Continue a run; False where this store does not have it."""
        try:
            run = self._client.get_run(run_id)
        except Exception as error:  # MLflow has one exception for all that can go wrong
            if getattr(error, "error_code", "") == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise
        self._client.update_run(run_id, status="RUNNING")
        self._params = set(run.data.params)
        for name in run.data.metrics:
            self._last_steps[name] = max(metric.step for metric in self._client.get_metric_history(run_id, name))
        return True

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log settings as parameters; MLflow never lets them change, so a resumed run keeps the first values."""
        new = []
        for name, value in params.items():
            if name not in self._params:
                new.append(self._entities.Param(name, str(value)[:MAX_PARAM_LENGTH]))
        for start in range(0, len(new), MAX_PARAMS):
            self._client.log_batch(self._run_id, params=new[start : start + MAX_PARAMS])

    def log_metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Log metrics, but those that the run had logged before it was resumed from an earlier step."""
        now = int(1000 * time.time())
        metrics = []
        for name, value in values.items():
            if step > self._last_steps.get(name, -1):
                metrics.append(self._entities.Metric(name, value, now, step))
        for start in range(0, len(metrics), MAX_METRICS):
            self._client.log_batch(self._run_id, metrics=metrics[start : start + MAX_METRICS])

    def log_image(self, step: int, name: str, image: Image.Image) -> None:
        """Log an image as an artifact, where MLflow's page of the run shows it."""
        self._client.log_image(self._run_id, image.convert("RGB"), key=name, step=step)

    def close(self, status: TrackerStatus) -> None:
        """End the run."""
        self._client.set_terminated(self._run_id, STATUSES[status])
