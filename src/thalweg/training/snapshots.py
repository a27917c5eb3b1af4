"""Weights kept along the way of a training, so that `thalweg explain landscape` can go the way again.

    trail/00000000.safetensors      the initial weights
    trail/00000310.safetensors      those after 310 updates; denser at the beginning, where most happens

Only weights that are trained are kept, in single precision; the last ones are the run's weights.safetensors.
"""

from __future__ import annotations

from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from ..engine import distributed as ranks
from ..engine.checkpoint import atomic_write
from ..engine.trainer import Trainer
from ..errors import ModelFileError

#: how many are kept where nobody said, and the bytes that all but the initial ones may take together
DEFAULT_COUNT, MAX_BYTES = 12, 100_000_000


class WeightSnapshots:
    """What is kept of one training. `snapshot_steps` are the updates after which, `bytes` what all of it takes on the disk."""

    def __init__(self, folder: Path, trainer: Trainer, count: int | None):
        self.folder = folder
        trained = {id(weight) for weights in trainer.trainable_params.values() for weight in weights}
        self.names = [name for name, weight in trainer.objective.model.named_parameters() if id(weight) in trained]
        self.each = sum(4 * dict(trainer.objective.model.named_parameters())[name].numel() for name in self.names)
        if count is None:
            count = min(DEFAULT_COUNT, 1 + MAX_BYTES // max(1, self.each))
        self.steps = frozenset(snapshot_steps(trainer.config.steps, count))

    @property
    def bytes(self) -> int:
        """What all of it takes on the disk."""
        return self.each * len(self.steps)

    def keep(self, trainer: Trainer) -> None:
        """Writes the weights, if this is one of the steps. Raises ResourceError where the disk is full."""
        if trainer.step in self.steps and ranks.get_rank() == 0:
            weights = dict(trainer.objective.model.named_parameters())
            tensors = {name: weights[name].detach().float().cpu().contiguous() for name in self.names}
            atomic_write(self.folder / f"{trainer.step:08d}.safetensors", safetensors.torch.save(tensors))


def snapshot_steps(total: int, count: int) -> list[int]:
    """`count` steps from 0 on, fewer where there are not as many, ever farther apart; never the last one, `total`."""
    return sorted({total * place**2 // count**2 for place in range(count)})


def load_snapshots(folder: Path, network: nn.Module) -> list[tuple[int, dict[str, Tensor]]]:
    """(step, weights by name) in their order, begun by the initial ones.

    Raises ModelFileError where there are none, and for one that is broken or not of this network.
    """
    files = sorted(folder.glob("[0-9]*.safetensors"))
    if not files or int(files[0].stem) != 0:
        raise ModelFileError(
            f"{folder.parent} does not have its initial weights, so the way from there cannot be gone again.",
            cure="Runs of this version keep them unless --trail 0 was given: train again.",
        )
    known = {name: weight.shape for name, weight in network.named_parameters()}
    found = []
    for file in files:
        try:
            tensors = safetensors.torch.load(file.read_bytes())
        except safetensors.SafetensorError as error:
            raise ModelFileError(f"{file} is damaged ({error}).", cure="Delete it, or train again.") from error
        for name, tensor in tensors.items():
            if known.get(name) != tensor.shape or tensor.dtype != torch.float32:
                raise ModelFileError(f"{file}: '{name}' is not of this run's network.", cure="Train again.")
        found.append((int(file.stem), tensors))
    if any(tensors.keys() != found[0][1].keys() for _, tensors in found):
        raise ModelFileError(f"{folder} has files of different trainings.", cure="Train again.")
    return found
