"""What a training begins from instead of chance: published weights, a weights file, or another run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..config.options import Options
from ..errors import DataError, ModelFileError, OptionError
from ..io.download import is_offline
from ..registry import find_model
from ..weights import external_models as elsewhere
from ..weights import files as foreign
from ..weights import store as weights
from ..weights.catalog import CATALOG
from .run_dir import RunDir

#: what a network's weights ask of pictures
INPUT_SPEC_KEYS = ("channels", "size", "resize", "mean", "std", "ink")


@dataclass(frozen=True)
class InitialWeights:
    """Weights by name, and what comes with them: the model, its arguments, the form of pictures, the classes."""

    model: str
    tensors: dict[str, Tensor]
    where: Path
    form: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    licence: str = ""
    building: dict[str, Any] = field(default_factory=dict)  # as arguments, but not for those who load the run later

    @property
    def sha256(self) -> str:
        """The SHA-256 of the file, in hex."""
        with self.where.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @property
    def outputs(self) -> int:
        """The number of classes that the weights tell apart."""
        return len(self._weight(foreign.classifier_layer(self._bare())[0]))

    @property
    def channels(self) -> int | None:
        """The channels of the pictures that the first convolution reads; None for a network without any."""
        first = next((name for name, weight in self._bare().named_parameters() if weight.dim() == 4), None)
        if first is None:
            return None
        channels = self._weight(first.removesuffix(".weight")).shape[1]
        if channels not in (1, 3):
            raise ModelFileError(
                f"{self.where}: '{first}' reads pictures with {channels} channels.", cure="Give weights for 1 or 3."
            )
        return channels

    def _bare(self) -> nn.Module:
        """The network without any numbers in it."""
        with torch.device("meta"), foreign.skip_init():  # drawing numbers there would import torch's compiler
            return find_model(self.model)(in_channels=3, num_classes=2, **self.arguments)

    def _weight(self, layer: str) -> Tensor:
        found = self.tensors.get(f"{layer}.weight")
        if found is None:
            names = (name for name in self._bare().state_dict() if not name.endswith(foreign.BN_COUNTER))
            missing = next(name for name in names if name not in self.tensors)
            raise ModelFileError(f"{self.where}: the tensor '{missing}' is missing.", cure=foreign.WRONG_MODEL_HINT)
        if found.dim() < 2 or 0 in found.shape:
            shape = tuple(found.shape)
            raise ModelFileError(
                f"{self.where}: '{layer}.weight' is {shape}, which no layer has.", cure=foreign.WRONG_MODEL_HINT
            )
        return found

    def facts(self, size: int, channels: int) -> dict[str, Any]:
        """What the weights ask of pictures of `size` pixels, to be among the facts of a run.

        Raises DataError for pictures of other `channels` than those that the weights have learned.
        """
        wanted = self.form.get("channels", channels)
        if channels != wanted:
            raise DataError(
                f"The weights of {self.model} read pictures with {wanted} channels, these have {channels}.",
                cure=f"Give pictures (N, H, W, {wanted}).",
            )
        facts = {key: self.form[key] for key in ("resize", "mean", "std", "ink") if key in self.form}
        if facts.get("resize"):
            facts["resize"] = round(facts["resize"] * size / self.form["size"][0])
        return facts

    def load(self, network: nn.Module, classes: Sequence[str], notice: Callable[[str], None]) -> dict[str, Any]:
        """Loads the weights; a last layer for other `classes` stays as it is. What run.json holds of it.

        Raises ModelFileError naming the first tensor that differs.
        """
        if not self.tensors:
            return {"file": str(self.where)}
        other = bool(self.classes) and list(self.classes) != list(classes)
        new = foreign.load_strict(network, self.tensors, self.where, replace_head=True, new_head=other)
        told = f"begins from {self.where}, {len(self.tensors) - len(new):,} tensors"
        notice(f"{told}; new: {', '.join(new)}" if new else told)
        return {"file": self.where.name, "sha256": self.sha256, "new": new, "licence": self.licence}


def from_options(options: Options, default_model: str, notice: Callable[[str], None]) -> InitialWeights | None:
    """What `--weights` names; None where it is not given. Raises NotFound, OptionError, and the errors of reading."""
    if options.weights is None:
        return None
    from ..inference.model import bundled_models

    named = str(bundled_models().get(options.weights, options.weights))
    folder = RunDir(named)
    model = options.model or (folder.read().get("model") if folder.exists else None) or default_model
    if options.weights == "imagenet" and options.model is None:
        have = sorted({name for name, _ in CATALOG})
        raise OptionError("--weights imagenet: of which model?", cure=f"Add --model: {', '.join(have)}.")
    return resolve(model, named, options.offline, notice)


def resolve(model: str, named: str, offline: bool, notice: Callable[[str], None]) -> InitialWeights:
    """The weights of that name, file or run's folder for a model.

    Raises NotFound where there are none, ModelFileError for a file that cannot be read or a run of another model, and
    ResourceError where they would have to be fetched and must not be.
    """
    if elsewhere.split_name(model) and named == "imagenet":
        notice(f"{model}: the weights are those that {model.partition(':')[0]} fetches by that name.")
        form, building = elsewhere.input_spec(model, notice), {"pretrained": True, "offline": offline or is_offline()}
        return InitialWeights(model, {}, Path(model), form, classes=weights.class_names(), building=building)
    path, row = weights.resolve(model, named, offline, notice)
    if path.is_dir():
        return from_run(RunDir(path), model)
    if row is not None:
        known = weights.input_spec(row)
        form = {key: known[key] for key in INPUT_SPEC_KEYS}
        tensors, classes = foreign.load_tensors(path), tuple(known["classes"])
        return InitialWeights(
            model, tensors, path, form, {**row.arguments, **_infer_stem(model, tensors)}, classes, row.licence
        )
    tensors = foreign.load_tensors(path)
    start = InitialWeights(model, tensors, path, arguments=_infer_stem(model, tensors))
    if (model, "imagenet") in CATALOG and start.channels == 3:
        usual, arguments = weights.input_spec(weights.lookup(model)), weights.lookup(model).arguments
        notice(f"{path.name} says nothing of the form of pictures: taken to be that of ImageNet's weights for {model}.")
        classes = tuple(usual["classes"]) if start.outputs == len(usual["classes"]) else ()
        form, arguments = {key: usual[key] for key in INPUT_SPEC_KEYS}, {**arguments, **start.arguments}
        start = replace(start, form=form, arguments=arguments, classes=classes)
    return start


def _infer_stem(model: str, tensors: dict[str, Tensor]) -> dict[str, str]:
    """The stem of a ResNet's weights, which would else be chosen by the size of the pictures to come."""
    stem, kernel = find_model(model).parameters.get("stem"), tensors.get("conv1.weight")
    if kernel is None or stem is None or stem.default != "auto":
        return {}
    return {"stem": "imagenet" if kernel.shape[-1:] == (7,) else "small"}


def from_run(folder: RunDir, model: str) -> InitialWeights:
    """The weights of a finished run. Raises OptionError for a run of another model, ModelFileError for a broken one."""
    content = folder.read()
    if content.get("model") != model:
        raise OptionError(
            f"--weights {folder.path} is a {content.get('model')}, not a {model}.",
            cure=f"Leave --model out, or give --model {content.get('model')}.",
        )
    facts = content["facts"]
    form = {key: facts[key] for key in INPUT_SPEC_KEYS if key in facts}
    own = ("in_channels", "num_classes", "image_size")
    arguments = {**content["options"].get("arguments", {}), **content.get("arguments", {})}
    tensors = folder.weights(content)
    arguments = {**{k: value for k, value in arguments.items() if k not in own}, **_infer_stem(model, tensors)}
    licence = content.get("licence") or content.get("start", {}).get("licence", "")
    where = folder.path / "weights.safetensors"
    return InitialWeights(model, tensors, where, form, arguments, tuple(facts["classes"]), licence)
