"""DCGAN (Radford, Metz, Chintala 2015, arXiv:1511.06434), section 3 and Figure 1.

The generator turns a latent vector into 4x4 maps and doubles their size with transposed convolutions; the discriminator
mirrors it with strided convolutions. There is no pooling and no hidden linear layer.

Differs from the paper: filters are 4x4 instead of 5x5, as in the authors' Torch version, so that every pixel is written
by equally many filters; latents are normally instead of uniformly distributed; `width` defaults to 32 filters in the
largest maps (the paper: 128), because in the first minutes on a CPU the number of steps decides; sizes from 8 to 128
pixels. The discriminator has no batch normalization and PyTorch's
initialization by default: with the gradient penalty R1 (arXiv:1801.04406) it makes better and more diverse images in
the same time. `norm="batch"` is the paper's discriminator, with weights from N(0, 0.02).
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from ...errors import OptionError
from ...layers.check_arguments import check_choice
from ...registry import register_model
from .base import GanModel, GanTraining, Generator

#: heights and widths of the images that the layers can make
SIZES = (8, 16, 32, 64, 128)
#: slope of the leaky ReLUs of the discriminator, and standard deviation of the initial weights (section 4)
LEAKY_SLOPE = 0.2
INIT_STD = 0.02


class DcganGenerator(Generator):
    """Latents (B, latent_dim) -> images (B, C, S, S) in [-1, 1]; the style is the latent."""

    def __init__(self, channels: int, image_size: int, latent_dim: int, width: int):
        super().__init__(latent_dim, style_dim=latent_dim)
        maps = width * image_size // 8
        layers: list[nn.Module] = [nn.ConvTranspose2d(latent_dim, maps, 4, bias=False)]
        while maps > width:
            layers += [nn.BatchNorm2d(maps), nn.ReLU(inplace=True)]
            layers.append(nn.ConvTranspose2d(maps, maps // 2, 4, stride=2, padding=1, bias=False))
            maps //= 2
        layers += [nn.BatchNorm2d(maps), nn.ReLU(inplace=True)]
        layers += [nn.ConvTranspose2d(maps, channels, 4, stride=2, padding=1), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def map_latent(self, latent_BL: Tensor, label_B: Tensor | None = None) -> Tensor:
        """Return the latent."""
        return latent_BL

    def synthesize(self, style_BNW: Tensor) -> Tensor:
        """Return images (B, C, S, S) in [-1, 1]."""
        return self.layers(style_BNW[:, 0, :, None, None])


class Discriminator(nn.Module):
    """Images (B, C, S, S) -> one logit each (B,), high for real images."""

    def __init__(self, channels: int, image_size: int, width: int, has_batch_norm: bool):
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.LeakyReLU(LEAKY_SLOPE)]
        maps = width
        for _ in range(image_size.bit_length() - 4):
            layers.append(nn.Conv2d(maps, 2 * maps, 4, stride=2, padding=1, bias=not has_batch_norm))
            if has_batch_norm:
                layers.append(nn.BatchNorm2d(2 * maps))
            layers.append(nn.LeakyReLU(LEAKY_SLOPE))
            maps *= 2
        self.layers = nn.Sequential(*layers, nn.Conv2d(maps, 1, 4), nn.Flatten(0))

    def forward(self, image_BCHW: Tensor, label_B: Tensor | None = None) -> Tensor:
        """Return logits (B,)."""
        return self.layers(image_BCHW)


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
def dcgan(
    in_channels: int,
    image_size: int = 32,
    latent_dim: int = 100,
    width: int = 32,
    norm: Literal["batch", "none"] = "none",
) -> nn.Module:
    """DCGAN: transposed convolutions from noise to an image, against a mirrored discriminator.

    Args:
        in_channels: channels of the images.
        image_size: height and width of the images in pixels: 8, 16, 32, 64 or 128.
        latent_dim: numbers in a latent vector.
        width: filters of the layers with the largest maps; each halving of the maps doubles them.
        norm: normalization of the discriminator, batch or none.

    Returns:
        A model with the children `network`, from latents (B, latent_dim) to images, and `discriminator`.

    Raises:
        OptionError: an image size, a width, a latent dimension or a norm that is not possible.
    """
    if image_size not in SIZES:
        raise OptionError(
            f"image_size: {image_size}; dcgan expects {', '.join(map(str, SIZES[:-1]))} or {SIZES[-1]} pixels.",
            "Give --image-size 32.",
            option="image_size",
            value=image_size,
            allowed=SIZES,
        )
    for name, value in (("in_channels", in_channels), ("latent_dim", latent_dim), ("width", width)):
        if value < 1:
            raise OptionError(f"{name}: {value}; expected at least 1.", option=name, value=value)
    check_choice("norm", norm, ("batch", "none"))
    generator = DcganGenerator(in_channels, image_size, latent_dim, width)
    normal_init(generator)
    discriminator = Discriminator(in_channels, image_size, width, norm == "batch")
    if norm == "batch":
        normal_init(discriminator)
    return GanModel(generator, discriminator, GanTraining())
