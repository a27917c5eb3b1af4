"""Fine-tuning: which parts of a network keep what they learned elsewhere, which learn on, from when, and how fast.

Freezing all but the last layer, discriminative rates and gradual unfreezing (Howard and Ruder 2018, arXiv:1801.06146,
sections 3.2 and 3.3).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from .config import TrainConfig

_BATCH_NORM_TYPES = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
#: children that are only brackets around a network's layers
_CONTAINER_NAMES = ("features", "classifier", "head")


def freeze(module: nn.Module) -> None:
    """The weights of `module` get no gradient, and its batch statistics stay what they are, whatever the mode."""
    module.requires_grad_(False)
    for part in module.modules():
        if isinstance(part, _BATCH_NORM_TYPES):
            part.eval()
            part.train = lambda mode=True, part=part: part


@dataclass(frozen=True)
class LayerGroup:
    """Neighbouring layers that are trained or not trained together: their names, and the layers."""

    name: str
    layers: tuple[nn.Module, ...]

    @property
    def params(self) -> Iterable[Tensor]:
        """The weights of all layers."""
        return (weight for layer in self.layers for weight in layer.parameters())


def layer_groups(network: nn.Module) -> list[LayerGroup]:
    """The network in parts with weights, from the picture on; the last layer, and what belongs to it, is the last part.

    A part is a child of the network (of its `features` and `classifier`, where it has such), with the normalisation
    that follows it: a convolution, a stage, a block.
    """
    found: list[LayerGroup] = []
    for name, layer in _leaf_blocks(network):
        if not any(True for _ in layer.parameters()):
            continue
        if isinstance(layer, _BATCH_NORM_TYPES) and found:
            found[-1] = LayerGroup(found[-1].name, (*found[-1].layers, layer))
        else:
            found.append(LayerGroup(name, (layer,)))
    auxiliary = [part for part in found if part.name == "AuxLogits"]  # a second last layer, in the middle of the file
    found = [part for part in found if part.name != "AuxLogits"]
    last = found[-1]
    return [*found[:-1], LayerGroup(last.name, (*last.layers, *(x for part in auxiliary for x in part.layers)))]


def _leaf_blocks(network: nn.Module) -> Iterable[tuple[str, nn.Module]]:
    for name, child in network.named_children():
        if name in _CONTAINER_NAMES and isinstance(child, nn.Sequential):
            yield from ((f"{name}.{inner}", layer) for inner, layer in child.named_children())
        else:
            yield name, child


class FreezeSchedule:
    """What a recipe says of the parts of a network, as a function of the step, so that a resumed run goes on exactly.

    Parts that are never trained are frozen when this is made. `start_steps` is the step from which each of the others is.
    """

    def __init__(self, network: nn.Module, config: TrainConfig):
        self.start_steps: dict[Tensor, int] = {}
        self.lr_factors: dict[Tensor, float] = {}
        self.late_groups: list[tuple[int, LayerGroup]] = []
        for behind, part in enumerate(reversed(layer_groups(network))):
            begins = unfreeze_step(behind, config)
            if begins is None:
                for layer in part.layers:
                    freeze(layer)
                continue
            if begins:
                self.late_groups.append((begins, part))
            for weight in part.params:
                self.start_steps[weight], self.lr_factors[weight] = begins, config.layer_decay**behind
        trained = [(weight, weight.requires_grad) for _, part in self.late_groups for weight in part.params]
        self._wanted = [weight for weight, wanted in trained if wanted]

    def set_trainable(self, step: int) -> None:
        """Switches the parts on whose time has come, and the others off, their batch statistics included."""
        for begins, part in self.late_groups:
            for layer in part.layers:
                for inner in layer.modules():
                    if isinstance(inner, _BATCH_NORM_TYPES):
                        inner.train(step >= begins)
        for weight in self._wanted:
            weight.requires_grad_(step >= self.start_steps[weight])

    def lr_factor(self, weight: Tensor, step: int) -> float:
        """What the learning rate of `weight` is multiplied with at `step`."""
        return self.lr_factors.get(weight, 1.0) if step >= self.start_steps.get(weight, 0) else 0.0


def unfreeze_step(behind: int, config: TrainConfig) -> int | None:
    """The step from which the part that stands `behind` places before the last layer is trained; None: never."""
    if config.trainable_groups is None or behind <= config.trainable_groups:
        return 0
    return (behind - config.trainable_groups) * config.unfreeze_interval if config.unfreeze_interval else None


def is_finetuning(config: TrainConfig) -> bool:
    """Whether the recipe treats the parts of a network differently."""
    return config.trainable_groups is not None or config.layer_decay != 1.0


def split_param_groups(optimizer, finetuning: FreezeSchedule) -> None:
    """Divides the groups of a new optimiser so that every group's weights have one rate."""
    groups = []
    for group in optimizer.param_groups:
        alike: dict[tuple[int, float], list[Tensor]] = {}
        for weight in group["params"]:
            key = finetuning.start_steps.get(weight, 0), finetuning.lr_factors.get(weight, 1.0)
            alike.setdefault(key, []).append(weight)
        groups += [{**group, "params": weights} for weights in alike.values()]
    optimizer.param_groups = groups
