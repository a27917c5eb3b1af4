"""Initial weights from options: published ones, a file, or another run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..config.json_record import from_json
from ..config.options import TrainOptions
from ..errors import OptionError
from ..registry import find_model, find_task
from ..weights.catalog import CATALOG
from ..weights.initial import InitialWeights, infer_stem, resolve_published
from .run_dir import RunDir, bundled_models


def from_options(options: TrainOptions, default_model: str, log: Callable[[str], None]) -> InitialWeights:
    """Return what `--weights` names. Raises NotFoundError, OptionError, ModelFileError."""
    weights = str(options.weights)
    name = str(bundled_models().get(weights, weights))
    run = RunDir(name)
    model = options.model or default_model
    if not options.model and run.exists:
        model = run.read_record().model
    if options.weights == "imagenet" and options.model is None:
        models = sorted({entry_model for entry_model, _ in CATALOG})
        raise OptionError(
            "--weights imagenet needs a model.", f"Add --model: {', '.join(models)}.", option="model", allowed=models
        )
    return resolve(model, name, options.offline, log)


def resolve(model: str, name: str, offline: bool, log: Callable[[str], None]) -> InitialWeights:
    """Return the weights of that name, file or run's folder for a model.

    Args:
        model: The name of the model.
        name: "imagenet" or another published set, a file, or a run's folder.
        offline: Never use the network.
        log: Where notices go.

    Returns:
        The weights.

    Raises:
        NotFoundError: Where there are none.
        ModelFileError: For a file that cannot be read.
        ResourceError: Where they would have to be downloaded and must not be.
    """
    weights = resolve_published(model, name, offline, log)
    if weights is None:
        return from_run(RunDir(name), model)
    return weights


def from_run(run: RunDir, model: str) -> InitialWeights:
    """Return the weights of a finished run. Raises OptionError for a run of another model, ModelFileError."""
    record = run.read_record()
    if record.model != model:
        raise OptionError(
            f"--weights {run.path} is a {record.model}; expected a {model}.",
            f"Leave --model out, or give --model {record.model}.",
            option="weights",
            value=record.model,
        )
    kwargs = dict(record.model_kwargs)
    for derived in find_task_kwargs(record.task, record.data_spec):
        kwargs.pop(derived, None)
    license_name = record.license
    if not license_name and record.initial_weights is not None:
        license_name = record.initial_weights.license
    path = Path(run.path) / "weights.safetensors"
    task = find_model(model).task
    tensors = run.load_weights(record)
    kwargs |= infer_stem(model, tensors)
    return InitialWeights(model, tensors, path, task, record.data_spec, kwargs, license_name)


def find_task_kwargs(task: str, spec_values: dict[str, object]) -> list[str]:
    """Return the names of the builder's arguments that follow from the data."""
    chosen = find_task(task)()
    return list(chosen.model_kwargs(from_json(spec_values, chosen.DataSpec)))
