"""DCGAN (Radford, Metz, Chintala 2015, arXiv:1511.06434), section 3 and Figure 1.

The generator turns a latent vector into 4x4 maps and doubles their size with transposed convolutions; the discriminator
mirrors it with strided convolutions. There is no pooling and no hidden linear layer.

Differs from the paper: filters are 4x4 instead of 5x5, as in the authors' Torch version, so that every pixel is written
by equally many filters; latents are normally instead of uniformly distributed; `width` defaults to 32 filters in the
largest maps (the paper: 128), because in the first minutes on a CPU the number of steps decides. The discriminator
has no batch normalization and PyTorch's initialization by default: with the gradient penalty R1 (arXiv:1801.04406) it
makes better and more diverse images in the same time. `norm="batch"` is the paper's discriminator, with weights from
N(0, 0.02). In a conditional model, a learned vector of the class joins the latent, and another the discriminator's last
layer (projection, arXiv:1802.05637). Beyond 128 pixels the channels stop doubling at `max_width`; the paper's largest
images have 64 pixels, and larger ones than 128 are better made by other models.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from torch import Tensor, nn

from ...layers.check_arguments import check_choice, check_positive
from ...registry import register_model
from .base import GanModel, GanTraining
from .conditional import ClassProjection, LatentGenerator
from .levels import LEAKY_SLOPE, MIN_SIZE, Levels, level_widths, plan_levels

#: standard deviation of the initial weights (section 4)
INIT_STD = 0.02


class DcganGenerator(LatentGenerator):
    """Latents (B, latent_dim) -> images (B, C, S, S) in [-1, 1]. The style is the latent, with the class's vector."""

    def __init__(self, levels: Levels, latent_dim: int):
        super().__init__(latent_dim, levels.num_classes)
        maps = levels.widths[0]
        layers: list[nn.Module] = [nn.ConvTranspose2d(self.style_dim, maps, 4, bias=False)]
        for next_maps in levels.widths[1:]:
            layers += [nn.BatchNorm2d(maps), nn.ReLU(inplace=True)]
            layers.append(nn.ConvTranspose2d(maps, next_maps, 4, stride=2, padding=1, bias=False))
            maps = next_maps
        layers += [nn.BatchNorm2d(maps), nn.ReLU(inplace=True)]
        layers += [nn.ConvTranspose2d(maps, levels.channels, 4, stride=2, padding=1), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def synthesize(self, style_BNW: Tensor) -> Tensor:
        """Return images (B, C, S, S) in [-1, 1]."""
        return self.layers(style_BNW[:, 0, :, None, None])


class Discriminator(nn.Module):
    """Images (B, C, S, S) and classes (B,) -> one logit each (B,), high for real images."""

    def __init__(self, levels: Levels, has_batch_norm: bool):
        super().__init__()
        maps = levels.widths[-1]
        layers: list[nn.Module] = [nn.Conv2d(levels.channels, maps, 4, stride=2, padding=1), nn.LeakyReLU(LEAKY_SLOPE)]
        for next_maps in levels.widths[-2::-1]:
            layers.append(nn.Conv2d(maps, next_maps, 4, stride=2, padding=1, bias=not has_batch_norm))
            if has_batch_norm:
                layers.append(nn.BatchNorm2d(next_maps))
            layers.append(nn.LeakyReLU(LEAKY_SLOPE))
            maps = next_maps
        self.layers = nn.Sequential(*layers, nn.Conv2d(maps, 1, 4), nn.Flatten(0))
        self.projection = ClassProjection(levels.num_classes, maps * MIN_SIZE**2) if levels.num_classes else None

    def forward(self, image_BCHW: Tensor, label_B: Tensor | None = None) -> Tensor:
        """Return logits (B,)."""
        x_BCHW = self.layers[:-2](image_BCHW)
        logit_B = self.layers[-2:](x_BCHW)
        if self.projection is not None:
            logit_B = logit_B + self.projection(x_BCHW.flatten(1), label_B)
        return logit_B


def normal_init(module: nn.Module) -> None:
    """Initialize filters from N(0, 0.02), scales of batch normalization from N(1, 0.02), biases with 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, std=INIT_STD)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, mean=1.0, std=INIT_STD)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


@register_model(task="generate", paper="arXiv:1511.06434")
def dcgan(  # noqa: PLR0913 - settings of the command line
    in_channels: int,
    image_size: int = 32,
    latent_dim: int = 100,
    width: int = 32,
    max_width: int = 1024,
    norm: Literal["batch", "none"] = "none",
    num_classes: int = 0,
) -> nn.Module:
    """DCGAN: transposed convolutions from noise to an image, against a mirrored discriminator.

    Args:
        in_channels: channels of the images.
        image_size: height and width of the images in pixels, a power of two from 8 to 1024.
        latent_dim: numbers in a latent vector.
        width: filters of the layers with the largest maps; each halving of the maps doubles them.
        max_width: filters of a layer at most.
        norm: normalization of the discriminator, batch or none.
        num_classes: classes of a conditional model; 0 for none.

    Returns:
        A model with the children `network`, from latents (B, latent_dim) to images, and `discriminator`.

    Raises:
        OptionError: an image size, a width, a latent dimension or a norm that is not possible.
    """
    levels = plan_levels(in_channels, image_size, width, max_width, num_classes)
    levels = replace(levels, widths=level_widths(image_size // 2, width, max_width))  # the image itself has no maps
    check_positive(latent_dim=latent_dim)
    check_choice("norm", norm, ("batch", "none"))
    generator = DcganGenerator(levels, latent_dim)
    normal_init(generator)
    discriminator = Discriminator(levels, norm == "batch")
    if norm == "batch":
        normal_init(discriminator)
    return GanModel(generator, discriminator, GanTraining())
