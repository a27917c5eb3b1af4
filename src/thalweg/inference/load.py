"""Trained models: a finished run, a bundled model, or a model with published weights.

load("runs/a")                          a run
load("digits-lenet")                    bundled with the package
load("resnet152")                       with ImageNet weights, downloaded by that name
load("resnet18", weights="mine.pth")    with the weights of a file, or of another run
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path

from torch import nn

from ..config.options import TrainOptions
from ..errors import ModelFileError, NotFoundError, OptionError
from ..io.log import log_warning
from ..registry import find_model, find_task, get_models
from ..runs.initial_weights import resolve
from ..runs.run_dir import RunDir, bundled_models
from ..weights import external_models, files, store
from ..weights.catalog import CATALOG
from ..weights.initial import InitialWeights, assume_spec
from .model import TrainedModel
from .run import Run


class PretrainedModel(TrainedModel):
    """A registered model with published weights, or those of a file, as they are."""

    def __init__(self, weights: InitialWeights, offline: bool = False):
        super().__init__(offline)
        self.weights = assume_spec(weights, log_warning)
        self.name = weights.model
        self.entry = find_model(weights.model)
        self.task = find_task(self.entry.task)()
        self.spec = self.task.spec_from_weights(self.weights)
        self.options = TrainOptions(model=weights.model)
        self.task_options = self.task.TrainOptions()

    def _build(self) -> nn.Module:
        weights = self.weights
        kwargs = {**self.task.model_kwargs(self.spec), **weights.model_kwargs, **weights.build_kwargs}
        with files.skip_init() if weights.tensors else nullcontext():
            model = self.entry(**kwargs)
        if getattr(model, "replaced", False):
            raise OptionError(
                f"{self.name} has no head of 1,000 outputs, as ImageNet's weights have.",
                "Fine-tune it: thalweg train.",
                value=self.name,
            )
        if weights.tensors:
            files.load_strict(model, weights.tensors, weights.path)
        return model


def load(name: str | os.PathLike[str], weights: str | None = None, offline: bool = False) -> TrainedModel:
    """Load a run, a bundled model, or a model by name.

    Args:
        name: A run's folder, the name of a bundled model, or of a registered model.
        weights: For a registered model: imagenet (default), another published set, a file, a run's folder.
        offline: Never use the network.

    Returns:
        The trained model.

    Raises:
        NotFoundError: For an unknown name.
        ModelFileError: For a broken run or weights file.
        ResourceError: Where weights are needed that are not here.
    """
    folder = resolve_name(name, weights)
    if folder is not None:
        return Run(RunDir(folder), offline)
    return PretrainedModel(resolve(str(name), weights or "imagenet", offline, log_warning), offline)


def resolve_name(name: str | os.PathLike[str], weights: str | None = None) -> Path | None:
    """Return the folder of the run that a name means; None where it means a model. Downloads nothing.

    Raises OptionError for an empty name, NotFoundError and ModelFileError for an unusable one.
    """
    name = os.fspath(name)
    bundled = bundled_models()
    if not name:
        raise OptionError("The model's name is empty; expected a run's folder or a model.", option="run", value="")
    if weights is None and os.path.isfile(os.path.join(name, "run.json")):
        return Path(name)
    if weights is None and name in bundled:
        return bundled[name]
    pretrained = {model for model, _ in CATALOG}
    is_external = external_models.split_name(name) is not None
    if weights is None and name not in {*pretrained, *get_models()} and not is_external:
        if os.path.exists(name):
            raise _not_a_run_error(name)
        raise NotFoundError.for_unknown("run or model", name, {*bundled, *pretrained})
    find_model(name)
    if not is_external or weights not in (None, "imagenet"):
        store.validate_name(name, weights or "imagenet")
    return None


def _not_a_run_error(path: str) -> ModelFileError:
    if os.path.isfile(path):
        return ModelFileError(
            f"{path} is a file; expected a run's folder.",
            f"Weights need the name of a model: MODEL --weights {path}",
            path=path,
        )
    return ModelFileError(
        f"{path} is not a run: there is no run.json in it.", "Give the folder that `thalweg train` printed.", path=path
    )


TrainedModel.load_other = staticmethod(load)
