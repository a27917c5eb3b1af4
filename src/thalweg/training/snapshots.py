"""Weights saved along the way of a training, so that `thalweg explain landscape` can show the path.

    snapshots/00000000.safetensors      the initial weights
    snapshots/00000310.safetensors      those after 310 steps; denser at the beginning, where most happens

Only trained weights are saved, in single precision; the last ones are the run's weights.safetensors.
"""

from __future__ import annotations

from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from ..engine.trainer import Trainer
from ..errors import ModelFileError
from ..io.atomic_write import atomic_write

#: how many are saved by default, and the bytes that all but the initial ones may take together
DEFAULT_COUNT = 12
MAX_BYTES = 100_000_000


class WeightSnapshots:
    """The snapshots of one training: after which `steps` weights are saved, and the `bytes` of all on the disk."""

    def __init__(self, folder: Path, trainer: Trainer, count: int | None):
        self.folder = folder
        trained = {id(param) for params in trainer.trainable_params.values() for param in params}
        params = dict(trainer.objective.model.named_parameters())
        self.names = [name for name, param in params.items() if id(param) in trained]
        bytes_per_snapshot = sum(4 * params[name].numel() for name in self.names)
        if count is None:
            count = min(DEFAULT_COUNT, 1 + MAX_BYTES // max(1, bytes_per_snapshot))
        self.steps = frozenset(snapshot_steps(trainer.config.steps, count))
        self.bytes = bytes_per_snapshot * len(self.steps)

    def save(self, trainer: Trainer) -> None:
        """Write the weights. Raises ResourceError where the disk is full."""
        params = dict(trainer.objective.model.named_parameters())
        tensors = {name: params[name].detach().float().cpu().contiguous() for name in self.names}
        atomic_write(self.folder / f"{trainer.step:08d}.safetensors", safetensors.torch.save(tensors))


def snapshot_steps(total: int, count: int) -> list[int]:
    """Return up to `count` steps from 0 on, ever farther apart; never the last one, `total`."""
    return sorted({total * index**2 // count**2 for index in range(count)})


def load_snapshots(folder: Path, model: nn.Module) -> list[tuple[int, dict[str, Tensor]]]:
    """Return (step, weights by name) in order, beginning with the initial weights.

    Raises ModelFileError where there are none, and for a file that is damaged or of another model.
    """
    files = sorted(folder.glob("[0-9]*.safetensors"))
    if not files or int(files[0].stem) != 0:
        raise ModelFileError(
            f"{folder.parent} has no snapshot of its initial weights, so its path cannot be shown.",
            "Train again, without --snapshots 0.",
            path=folder,
        )
    shapes = {name: param.shape for name, param in model.named_parameters()}
    snapshots = [(int(file.stem), _load_snapshot(file, shapes)) for file in files]
    names = snapshots[0][1].keys()
    if any(tensors.keys() != names for _, tensors in snapshots):
        raise ModelFileError(f"{folder} has files of different trainings.", "Train again.", path=folder)
    return snapshots


def _load_snapshot(file: Path, shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    try:
        tensors = safetensors.torch.load(file.read_bytes())
    except safetensors.SafetensorError as error:
        raise ModelFileError(f"{file} is damaged ({error}).", "Delete it, or train again.", path=file) from error
    for name, tensor in tensors.items():
        if shapes.get(name) != tensor.shape or tensor.dtype != torch.float32:
            raise ModelFileError(f"{file}: '{name}' is not of this run's model.", "Train again.", path=file, value=name)
    return tensors
