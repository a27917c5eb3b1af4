"""What one writes without a package: a SqueezeNet 1.1, its weights, a photo, the most probable class."""

from __future__ import annotations

import json
import sys

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn


class Fire(nn.Module):
    """Squeeze, then expand by 1x1 and 3x3."""

    def __init__(self, in_channels: int, squeeze_channels: int, expand_channels: int):
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, squeeze_channels, 1)
        self.expand1x1 = nn.Conv2d(squeeze_channels, expand_channels, 1)
        self.expand3x3 = nn.Conv2d(squeeze_channels, expand_channels, 3, padding=1)

    def forward(self, x):
        """Return (B, 2 expand_channels, H, W) for (B, in_channels, H, W)."""
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], 1)


def main(photo: str, weights: str) -> None:
    """Print {"label": index of the class, "probability": …}."""
    pool = lambda: nn.MaxPool2d(3, 2, ceil_mode=True)  # noqa: E731
    model = nn.ModuleDict()
    model["features"] = nn.Sequential(
        *(nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool(), Fire(64, 16, 64), Fire(128, 16, 64), pool()),
        *(Fire(128, 32, 128), Fire(256, 32, 128), pool(), Fire(256, 48, 192), Fire(384, 48, 192)),
        *(Fire(384, 64, 256), Fire(512, 64, 256)),
    )
    model["classifier"] = nn.Sequential(nn.Dropout(), nn.Conv2d(512, 1000, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    model.load_state_dict({name: value.float() for name, value in load_file(weights).items()})
    model.eval()
    image = Image.open(photo).convert("RGB")
    scale = 256 / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
    left = (image.width - 224) // 2
    top = (image.height - 224) // 2
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32) / 255
    x = (torch.from_numpy(pixels) - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        probabilities = model["classifier"](model["features"](x.permute(2, 0, 1)[None])).flatten(1).softmax(1)[0]
    print(json.dumps({"label": str(int(probabilities.argmax())), "probability": float(probabilities.max())}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[3])
