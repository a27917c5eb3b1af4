"""Published weights by name: URLs, checksums, preprocessing and published accuracy.

Source: torchvision 0.28, the `*_Weights` classes of its models. "imagenet" is its IMAGENET1K_V1, "imagenet-v2" its
IMAGENET1K_V2, of the longer training that pytorch/vision's issue 3995 describes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

BASE_URL = "https://download.pytorch.org/models/"
LICENSE = (
    "torchvision, whose code is under BSD-3-Clause; trained on ImageNet, whose terms (research, not commercial) may "
    "extend to the weights: whether your use is allowed is yours to decide"
)


@dataclass(frozen=True)
class AlternateFile:
    """The same weights in another file, which is used if it is on this machine: its name and SHA-256 in hex."""

    file: str
    sha256: str


@dataclass(frozen=True)
class PretrainedWeights:
    """One set of published weights.

    Images are resized so that the shorter side has `resize` pixels (bilinear with antialiasing), center-cropped to
    `size` x `size`, scaled to 0..1, and normalized with `mean` and `std`, one number per channel R, G, B.

    Attributes:
        model: Name of the model.
        weights: Name of the weights.
        address: URL of the official file.
        megabytes: Size in units of 2**20 bytes, to the three decimals that torchvision gives.
        sha256: Checksum in hex: all of it if it is published, else its first 8 digits, from the official file name.
        parameters: Number of parameters.
        top1: Published top-1 accuracy in percent on ImageNet's 50,000 validation images.
        top5: Published top-5 accuracy in percent.
        resize: Length of the shorter side in pixels.
        size: Side of the crop in pixels.
        mean: Mean per channel.
        std: Standard deviation per channel.
        classes: Name of the list of classes.
        license: License of the weights.
        model_kwargs: Arguments of the model builder.
        alternates: Other files with the same weights.
    """

    model: str
    weights: str
    address: str
    megabytes: float
    sha256: str
    parameters: int
    top1: float
    top5: float
    resize: int = 256
    size: int = 224
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    classes: str = "imagenet"
    license: str = LICENSE
    model_kwargs: dict[str, Any] = field(default_factory=dict)
    alternates: tuple[AlternateFile, ...] = ()

    @property
    def file(self) -> str:
        """The official name of the file."""
        return self.address.rpartition("/")[2]

    @property
    def bytes(self) -> int:
        """The size of the official file, accurate to about 500 bytes."""
        return round(self.megabytes * 2**20)


def _entry(
    model: str, file: str, megabytes: float, parameters: int, accuracy: tuple[float, float], **more: Any
) -> PretrainedWeights:
    """Build an entry; the checksum is the end of the file name. `accuracy` is top-1 and top-5."""
    top1, top5 = accuracy
    return PretrainedWeights(
        model=model,
        weights=more.pop("weights", "imagenet"),
        address=BASE_URL + file,
        megabytes=megabytes,
        sha256=file.removesuffix(".pth").rpartition("-")[2],
        parameters=parameters,
        top1=top1,
        top5=top5,
        **more,
    )


V2_DEFAULTS = {"weights": "imagenet-v2", "resize": 232}
#: all published weights, by model and name of the weights
CATALOG: dict[tuple[str, str], PretrainedWeights] = {
    (row.model, row.weights): row
    for row in (
        _entry("vgg11", "vgg11-8a719046.pth", 506.840, 132_863_336, (69.020, 88.628)),
        _entry("vgg13", "vgg13-19584684.pth", 507.545, 133_047_848, (69.928, 89.246)),
        _entry("vgg16", "vgg16-397923af.pth", 527.796, 138_357_544, (71.592, 90.382)),
        _entry("vgg19", "vgg19-dcbb9e9d.pth", 548.051, 143_667_240, (72.376, 90.876)),
        _entry("vgg11_bn", "vgg11_bn-6002323d.pth", 506.881, 132_868_840, (70.370, 89.810)),
        _entry("vgg13_bn", "vgg13_bn-abd245e5.pth", 507.590, 133_053_736, (71.586, 90.374)),
        _entry("vgg16_bn", "vgg16_bn-6c64b313.pth", 527.866, 138_365_992, (73.360, 91.516)),
        _entry("vgg19_bn", "vgg19_bn-c79401a0.pth", 548.143, 143_678_248, (74.218, 91.842)),
        _entry("resnet18", "resnet18-f37072fd.pth", 44.661, 11_689_512, (69.758, 89.078)),
        _entry("resnet34", "resnet34-b627a593.pth", 83.275, 21_797_672, (73.314, 91.420)),
        _entry("resnet50", "resnet50-0676ba61.pth", 97.781, 25_557_032, (76.130, 92.862)),
        _entry("resnet50", "resnet50-11ad3fa6.pth", 97.790, 25_557_032, (80.858, 95.434), **V2_DEFAULTS),
        _entry("resnet101", "resnet101-63fe2227.pth", 170.511, 44_549_160, (77.374, 93.546)),
        _entry("resnet101", "resnet101-cd907fc2.pth", 170.530, 44_549_160, (81.886, 95.780), **V2_DEFAULTS),
        _entry("resnet152", "resnet152-394f9c45.pth", 230.434, 60_192_808, (78.312, 94.046)),
        _entry("resnet152", "resnet152-f82ba261.pth", 230.474, 60_192_808, (82.284, 96.002), **V2_DEFAULTS),
        # Google's weights, ported: they expect images scaled to -1..1, which transform_input computes from ours.
        _entry(
            "inception_v3",
            "inception_v3_google-0cc3c7bd.pth",
            103.903,
            27_161_264,
            (77.294, 93.450),
            resize=342,
            size=299,
            model_kwargs={"transform_input": True},
        ),
        _entry("squeezenet1_0", "squeezenet1_0-b66bff10.pth", 4.778, 1_248_424, (58.092, 80.420)),
        # The alternate file: float16, converted with ncnn (github.com/zchrissirhcz/squeezenet-ncnn-pnnx-opencv-cpp).
        _entry(
            "squeezenet1_1",
            "squeezenet1_1-b8a52dc0.pth",
            4.729,
            1_235_496,
            (58.178, 80.624),
            alternates=(
                AlternateFile(
                    "squeezenet1_1-fp16.safetensors",
                    "bc4a2f397d7c9561ba7482694af22d5f2c6809436bf8c501cf90bb7186ae4213",
                ),
            ),
        ),
        _entry("mobilenet_v3_small", "mobilenet_v3_small-047dcff4.pth", 9.829, 2_542_856, (67.668, 87.402)),
        _entry("mobilenet_v3_large", "mobilenet_v3_large-8738ca79.pth", 21.114, 5_483_032, (74.042, 91.340)),
        _entry(
            "mobilenet_v3_large", "mobilenet_v3_large-5c1a4163.pth", 21.107, 5_483_032, (75.274, 92.566), **V2_DEFAULTS
        ),
    )
}
