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

    def __init__(self, inputs: int, squeezed: int, expanded: int):
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x):
        """(B, inputs, H, W) -> (B, 2 expanded, H, W)."""
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], 1)


def main(photo: str, weights: str) -> None:
    """Prints {"label": the number of the class, "probability": …}."""
    pool = lambda: nn.MaxPool2d(3, 2, ceil_mode=True)  # noqa: E731
    network = nn.ModuleDict()
    network["features"] = nn.Sequential(
        *(nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool(), Fire(64, 16, 64), Fire(128, 16, 64), pool()),
        *(Fire(128, 32, 128), Fire(256, 32, 128), pool(), Fire(256, 48, 192), Fire(384, 48, 192)),
        *(Fire(384, 64, 256), Fire(512, 64, 256)),
    )
    network["classifier"] = nn.Sequential(nn.Dropout(), nn.Conv2d(512, 1000, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    network.load_state_dict({name: value.float() for name, value in load_file(weights).items()})
    network.eval()
    picture = Image.open(photo).convert("RGB")
    share = 256 / min(picture.size)
    picture = picture.resize([round(extent * share) for extent in picture.size], Image.Resampling.BILINEAR)
    left, top = (picture.width - 224) // 2, (picture.height - 224) // 2
    pixels = np.asarray(picture.crop((left, top, left + 224, top + 224)), np.float32) / 255
    x = (torch.from_numpy(pixels) - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        answer = network["classifier"](network["features"](x.permute(2, 0, 1)[None])).flatten(1).softmax(1)[0]
    print(json.dumps({"label": str(int(answer.argmax())), "probability": float(answer.max())}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[3])
