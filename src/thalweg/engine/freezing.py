"""Fine-tuning: which layer groups of a model are trained, from which step, and at which learning rate.

Freezing all but the last layer, discriminative learning rates and gradual unfreezing (Howard and Ruder 2018,
arXiv:1801.06146, sections 3.2 and 3.3).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import MethodType

import torch
from torch import Tensor, nn

from ..config.options import TrainOptions
from ..errors import OptionError
from .config import TrainConfig

_BATCH_NORM_TYPES = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
#: children that only contain the layers of a model
_CONTAINER_NAMES = ("features", "classifier", "head")
#: the auxiliary classifier of an Inception, which is trained together with the last layer
_AUXILIARY_NAME = "AuxLogits"


def freeze(module: nn.Module) -> None:
    """Stop training `module`: no gradients, and constant batch statistics in every mode."""
    module.requires_grad_(False)
    for layer in module.modules():
        if isinstance(layer, _BATCH_NORM_TYPES):
            layer.eval()
            layer.train = MethodType(_ignore_mode, layer)


def _ignore_mode(layer: nn.Module, mode: bool = True) -> nn.Module:
    return layer


@dataclass(frozen=True)
class LayerGroup:
    """Adjacent layers that are trained or frozen together."""

    name: str
    layers: tuple[nn.Module, ...]

    @property
    def params(self) -> Iterator[Tensor]:
        """The parameters of all layers."""
        for layer in self.layers:
            yield from layer.parameters()


def check_single_network(model: nn.Module) -> None:
    """Raise OptionError for a model of several networks: the last layer of one of them is not the head of all."""
    if "network" in model._modules:
        names = ", ".join(dict(model.named_children()))
        raise OptionError(
            f"--freeze: {type(model).__name__} consists of {names}; expected one network that ends in a head.",
            "Leave out --freeze, --unfreeze-groups, --unfreeze-every and --layer-decay.",
            option="freeze",
            value=type(model).__name__,
        )


def refuse_freezing(options: TrainOptions | None, reason: str) -> None:
    """Raise OptionError with a reason for an option that trains some layer groups only."""
    if options is None:
        return
    for name in ("freeze", "unfreeze_groups", "unfreeze_every", "layer_decay"):
        value = getattr(options, name)
        if value != getattr(TrainOptions(), name):
            flag = name.replace("_", "-")
            raise OptionError(f"--{flag}: {reason}.", f"Leave --{flag} out.", option=name, value=value)


def layer_groups(model: nn.Module) -> list[LayerGroup]:
    """Return the layer groups of a model from the input on; the last layer forms the last group.

    A group is a child of the model (or of its `features` and `classifier`) that has parameters, with the normalization
    that follows it: a convolution, a stage, a block. An auxiliary classifier belongs to the last group.
    """
    groups: list[LayerGroup] = []
    auxiliary: tuple[nn.Module, ...] = ()
    for name, layer in _named_blocks(model):
        if next(layer.parameters(), None) is None:
            continue
        if name == _AUXILIARY_NAME:
            auxiliary = (layer,)
        elif isinstance(layer, _BATCH_NORM_TYPES) and groups:
            groups[-1] = LayerGroup(groups[-1].name, (*groups[-1].layers, layer))
        else:
            groups.append(LayerGroup(name, (layer,)))
    last = groups[-1]
    return [*groups[:-1], LayerGroup(last.name, (*last.layers, *auxiliary))]


def _named_blocks(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, child in model.named_children():
        if name in _CONTAINER_NAMES and isinstance(child, nn.Sequential):
            for child_name, layer in child.named_children():
                yield f"{name}.{child_name}", layer
        else:
            yield name, child


class FreezeSchedule:
    """Which layer groups are trained, and how fast, as a function of the step, so that resuming is exact.

    Creating the schedule freezes the groups that are never trained. `start_steps` maps each other parameter to the
    first step that trains it.

    Raises:
        OptionError: If the model consists of several networks, which have no common order of layers.
    """

    def __init__(self, model: nn.Module, config: TrainConfig):
        check_single_network(model)
        self.start_steps: dict[Tensor, int] = {}
        self.lr_factors: dict[Tensor, float] = {}
        self.late_groups: list[tuple[int, LayerGroup]] = []
        self._late_params: list[Tensor] = []
        for distance, group in enumerate(reversed(layer_groups(model))):
            start_step = unfreeze_step(distance, config)
            if start_step is None:
                for layer in group.layers:
                    freeze(layer)
                continue
            for param in group.params:
                self.start_steps[param] = start_step
                self.lr_factors[param] = config.layer_decay**distance
            if start_step:
                self.late_groups.append((start_step, group))
                # Parameters that the model itself never trains stay frozen.
                self._late_params += [param for param in group.params if param.requires_grad]

    def set_trainable(self, step: int) -> None:
        """Unfreeze the groups that are trained at `step` and freeze the others, batch statistics included."""
        for start_step, group in self.late_groups:
            for layer in group.layers:
                for module in layer.modules():
                    if isinstance(module, _BATCH_NORM_TYPES):
                        module.train(step >= start_step)
        for param in self._late_params:
            param.requires_grad_(step >= self.start_steps[param])

    def lr_factor(self, param: Tensor, step: int) -> float:
        """Return the factor on the learning rate of `param` at `step`."""
        if step < self.start_steps.get(param, 0):
            return 0.0
        return self.lr_factors.get(param, 1.0)


def unfreeze_step(distance: int, config: TrainConfig) -> int | None:
    """Return the first step that trains a layer group, given its distance from the last one; None: never."""
    if config.trainable_groups is None or distance <= config.trainable_groups:
        return 0
    if not config.unfreeze_interval:
        return None
    return (distance - config.trainable_groups) * config.unfreeze_interval


def split_param_groups(optimizer: torch.optim.Optimizer, schedule: FreezeSchedule) -> None:
    """Split the parameter groups of a new optimizer so that all parameters of a group have one learning rate."""
    groups = []
    for group in optimizer.param_groups:
        by_schedule: dict[tuple[int, float], list[Tensor]] = {}
        for param in group["params"]:
            key = (schedule.start_steps.get(param, 0), schedule.lr_factors.get(param, 1.0))
            by_schedule.setdefault(key, []).append(param)
        for params in by_schedule.values():
            groups.append({**group, "params": params})
    optimizer.param_groups = groups
