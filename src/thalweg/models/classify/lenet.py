"""LeNet-5 (LeCun, Bottou, Bengio, Haffner 1998, doi:10.1109/5.726791), Figure 2, and the variant of the talk.

`variant="talk"` (default) is the LeNet of MXNet's tutorials: 20 and 50 filters of 5x5, 2x2 max pooling, 500 hidden
neurons; they use tanh, the default here is ReLU. Pooling comes before the activation: all activations on offer are
monotonic, so the result is the same and the activation processes a quarter of the values.

`variant="1998"` is the network of the paper: images padded to 32x32, subsampling layers with one weight and one bias
per map, the connection table of layer C3 (Table I), 1.7159 tanh(2/3 x) throughout (Appendix A). Differs from the paper:
the last layer is linear instead of distances to hand-drawn 7x12 characters, so that it can learn any classes; C3 stores
all 2,416 weights, of which the table masks 900; the initialization is PyTorch's.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...config.size import PixelSize, format_size, to_height_width
from ...errors import OptionError
from ...layers.activations import build_activation
from ...registry import register_model

#: Table I: the maps of S2, out of six, that each of the sixteen maps of C3 reads
C3_CONNECTIONS = [
    *[[i % 6, (i + 1) % 6, (i + 2) % 6] for i in range(6)],
    *[[i % 6, (i + 1) % 6, (i + 2) % 6, (i + 3) % 6] for i in range(6)],
    *[[0, 1, 3, 4], [1, 2, 4, 5], [0, 2, 3, 5]],
    [0, 1, 2, 3, 4, 5],
]


class ScaledTanh(nn.Module):
    """1.7159 tanh(2/3 x) (Appendix A of the paper): f(1) = 1 and f(-1) = -1."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation elementwise."""
        return 1.7159 * torch.tanh(2 / 3 * x)


class Subsampling(nn.Module):
    """The sum over 2x2 windows, times one weight and plus one bias per map (layers S2 and S4)."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), 0.25))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H/2, W/2)."""
        total = 4 * F.avg_pool2d(x_BCHW, 2)
        return total * self.weight[:, None, None] + self.bias[:, None, None]


class SparseConv2d(nn.Conv2d):
    """A 5x5 convolution in which each output map reads only the input maps of Table I (layer C3)."""

    mask: Tensor

    def __init__(self):
        super().__init__(6, 16, 5)
        mask = torch.zeros(16, 6, 1, 1)
        for out_channel, in_channels in enumerate(C3_CONNECTIONS):
            mask[out_channel, in_channels] = 1
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        """(B, 6, H, W) -> (B, 16, H-4, W-4)."""
        return F.conv2d(input, self.weight * self.mask, self.bias)


class LeNet(nn.Module):
    """(B, C, H, W) pixels -> (B, K) logits: `head(features(x))`."""

    def __init__(self, features: nn.Sequential, head: nn.Linear):
        super().__init__()
        self.features = features
        self.head = head

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits (B, K)."""
        return self.head(self.features(x_BCHW))


def lenet_modern(
    in_channels: int, num_classes: int, image_size: PixelSize, activation: str, filters: tuple[int, int], hidden: int
) -> LeNet:
    """Build the talk's variant. Images below 16 pixels are padded to 16 or 17, which both filters and poolings need."""
    size = to_height_width(image_size)
    padding_y, padding_x = (0 if side >= 16 else (16 - side + 1) // 2 for side in size)
    map_height = ((size[0] + 2 * padding_y - 4) // 2 - 4) // 2
    map_width = ((size[1] + 2 * padding_x - 4) // 2 - 4) // 2
    features = nn.Sequential(
        nn.Conv2d(in_channels, filters[0], 5, padding=(padding_y, padding_x)),
        nn.MaxPool2d(2),
        build_activation(activation),
        nn.Conv2d(filters[0], filters[1], 5),
        nn.MaxPool2d(2),
        build_activation(activation),
        nn.Flatten(),
        nn.Linear(filters[1] * map_height * map_width, hidden),
        build_activation(activation),
    )
    return LeNet(features, nn.Linear(hidden, num_classes))


def lenet5(in_channels: int, num_classes: int, image_size: PixelSize) -> LeNet:
    """Build the network of the paper. Raises OptionError for images of other sizes than 28 or 32 pixels."""
    height, width = to_height_width(image_size)
    if not {height, width} <= {28, 32}:
        raise OptionError(
            f"image_size: {format_size(image_size)}; LeNet-5 of 1998 expects 28 or 32 pixels.",
            cure="Give --image-size 28, or use variant=talk.",
            option="image_size",
            value=image_size,
            allowed=(28, 32),
        )
    features = nn.Sequential(
        nn.Conv2d(in_channels, 6, 5, padding=((32 - height) // 2, (32 - width) // 2)),
        ScaledTanh(),
        Subsampling(6),
        ScaledTanh(),
        SparseConv2d(),
        ScaledTanh(),
        Subsampling(16),
        ScaledTanh(),
        nn.Conv2d(16, 120, 5),
        ScaledTanh(),
        nn.Flatten(),
        nn.Linear(120, 84),
        ScaledTanh(),
    )
    return LeNet(features, nn.Linear(84, num_classes))


# seven arguments: each is a setting of its own on the command line
@register_model(task="classify", paper="LeCun et al. 1998, doi:10.1109/5.726791")
def lenet(  # noqa: PLR0913
    in_channels: int,
    num_classes: int,
    image_size: PixelSize = 28,
    variant: str = "talk",
    activation: str = "relu",
    filters: tuple[int, int] = (20, 50),
    hidden: int = 500,
) -> nn.Module:
    """LeNet: the talk's variant, or the paper's with variant=1998 (which ignores the other choices).

    Args:
        in_channels: channels of the images.
        num_classes: number of logits.
        image_size: height and width of the images in pixels, one number for squares.
        variant: "talk" or "1998".
        activation: a name in `layers.activations`.
        filters: filters of the two convolutions.
        hidden: neurons of the hidden layer.

    Returns:
        A model from pixels (B, C, H, W) to logits (B, K).

    Raises:
        OptionError: an unknown variant, an image size that the variant cannot read, or a layer without neurons.
    """
    if str(variant) == "1998":
        return lenet5(in_channels, num_classes, image_size)
    if variant != "talk":
        raise OptionError(
            f"variant: unknown value '{variant}'; expected talk or 1998.",
            "Use talk or 1998.",
            option="variant",
            value=variant,
            allowed=("talk", "1998"),
        )
    if len(filters) != 2 or min(filters) < 1:
        raise OptionError(
            f"filters: {list(filters)}; expected two numbers of at least 1.",
            "Use e.g. 20,50.",
            option="filters",
            value=filters,
        )
    if hidden < 1:
        raise OptionError(f"hidden: {hidden}; expected at least 1.", "Use e.g. 500.", option="hidden", value=hidden)
    first, second = filters
    return lenet_modern(in_channels, num_classes, image_size, activation, (first, second), hidden)
