"""Readers of attributes: modules from images in [-1, 1] to one number per attribute, through which gradients flow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import OptionError, did_you_mean, pluralize
from ...layers.stroke_measures import MEASURES

# B images, C channels, H W pixels, A attributes, D features

#: bounds of the log-odds of a class: beyond, a classifier is sure, and differences mean nothing
MAX_LOG_ODDS = 15.0


class AttributeReader(nn.Module):
    """Images (B, C, H, W) in [-1, 1] -> values (B, A); `names` are those of the attributes."""

    names: tuple[str, ...]


class MeasureReader(AttributeReader):
    """Formulas on gray images. Raises OptionError for unknown ones, and for images with colors."""

    def __init__(self, names: Sequence[str], channels: int):
        super().__init__()
        self.names = tuple(names)
        for name in names:
            if name not in MEASURES:
                raise OptionError(
                    f"--measure: there is no measure '{name}'.",
                    did_you_mean(name, MEASURES),
                    option="measure",
                    value=name,
                    allowed=sorted(MEASURES),
                )
        if channels != 1 and set(names) - {"brightness"}:
            raise OptionError(
                f"--measure: {','.join(names)} are measured on gray images; the generator's have {channels} channels.",
                "Give --measure brightness, --classifier, or --attributes.",
                option="measure",
                value=channels,
                allowed=[1],
            )

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Return the values (B, A)."""
        ink_BHW = (image_BCHW.float().mean(1) + 1) / 2
        return torch.stack([MEASURES[name](ink_BHW) for name in self.names], 1)


class ClassifierReader(AttributeReader):
    """Log-odds of each class of a classifier; of two classes only of the second.

    Args:
        model: The classifier.
        spec: What it must know of its images, an `InputSpec`.
        channels: Channels of the images that will be read.

    Raises:
        OptionError: For a classifier of images with other channels.
    """

    def __init__(self, model: nn.Module, spec: Any, channels: int):
        super().__init__()
        check_channels("classifier", spec, channels)
        self.model = model.requires_grad_(False).eval()
        self.normalize = Normalize(spec)
        self.first = 1 if len(spec.classes) == 2 else 0
        self.names = tuple(spec.classes[self.first :])

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Return the values (B, A)."""
        logits_BA = self.model(self.normalize(image_BCHW)).float()
        is_own_AA = torch.eye(logits_BA.shape[1], dtype=torch.bool, device=logits_BA.device)
        others_BA = logits_BA[:, None].masked_fill(is_own_AA, -torch.inf).logsumexp(2)
        return soft_clamp(logits_BA - others_BA, MAX_LOG_ODDS)[:, self.first :]


class FeatureReader(AttributeReader):
    """Attributes that are predicted linearly from features of a network.

    Args:
        features: Normalized images -> features (B, D).
        normalize: From images in [-1, 1] to what the network reads.
        names: Names of the attributes.
        weight_AD: Weights of the features.
        bias_A: Biases.
    """

    weight_AD: Tensor
    bias_A: Tensor

    def __init__(
        self,
        features: Callable[[Tensor], Tensor],
        normalize: Normalize,
        names: Sequence[str],
        weight_AD: Tensor,
        bias_A: Tensor,
    ):
        super().__init__()
        self.features = features
        self.normalize = normalize
        self.names = tuple(names)
        self.register_buffer("weight_AD", weight_AD)
        self.register_buffer("bias_A", bias_A)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Return the values (B, A)."""
        return F.linear(self.features(self.normalize(image_BCHW)).float(), self.weight_AD, self.bias_A)


class JoinedReader(AttributeReader):
    """The attributes of several readers. Raises OptionError where two have a name in common."""

    def __init__(self, readers: Sequence[AttributeReader]):
        super().__init__()
        self.readers = nn.ModuleList(readers)
        self.names = tuple(name for reader in readers for name in reader.names)
        for name in self.names:
            if self.names.count(name) > 1:
                raise OptionError(
                    f"There are two attributes '{name}'; expected one.",
                    "Leave one of --measure, --classifier and --attributes out.",
                    option="measure",
                    value=name,
                )

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Return the values (B, A)."""
        return torch.cat([reader(image_BCHW) for reader in self.readers], 1)


class Normalize(nn.Module):
    """Images (B, C, H, W) in [-1, 1] -> a classifier's inputs: resized, on its scale."""

    mean_C11: Tensor
    std_C11: Tensor

    def __init__(self, spec: Any):
        super().__init__()
        self.size = tuple(spec.size)
        self.register_buffer("mean_C11", torch.tensor(spec.mean)[:, None, None])
        self.register_buffer("std_C11", torch.tensor(spec.std)[:, None, None])

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Return the inputs."""
        image_BCHW = (image_BCHW.float() + 1) / 2
        if tuple(image_BCHW.shape[2:]) != self.size:
            image_BCHW = F.interpolate(image_BCHW, self.size, mode="bilinear", antialias=True)
        return (image_BCHW - self.mean_C11) / self.std_C11


def check_channels(option: str, spec: Any, channels: int) -> None:
    """Raise OptionError where a classifier reads images of other channels than a generator makes."""
    if spec.channels != channels:
        raise OptionError(
            f"--{option} reads images of {pluralize(spec.channels, 'channel')}; the generator's have {channels}.",
            "Give a classifier of images like those that are generated.",
            option=option,
            value=spec.channels,
            allowed=[channels],
        )


def soft_clamp(values: Tensor, limit: float) -> Tensor:
    """Return values that approach +-limit smoothly, so that gradients do not vanish near it."""
    return limit * torch.tanh(values / limit)
