"""A ResNet-50 as after training, and what times a contender that answers with it."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from contract import report
from torch import Tensor, nn

from thalweg.models.classify.resnet import resnet50


def arguments() -> argparse.Namespace:
    """What the contenders of INFERENCE take."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=8, help="of measuring, at least three answers")
    return parser.parse_args()


def network() -> nn.Module:
    """Equal to torchvision's, bit for bit, with random weights and statistics that are not those of the beginning."""
    made = resnet50(in_channels=3, num_classes=1000).eval()
    for layer in made.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean, std=0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return made


def race(prepare: Callable[[nn.Module, tuple[int, ...]], Callable[[Tensor], Tensor]]) -> None:
    """Prints the line of a program of INFERENCE: images a second, the seconds that preparing took, one logit."""
    options = arguments()
    torch.manual_seed(0)
    plain, x_BCHW = network(), torch.randn(options.batch, 3, 224, 224)
    began = time.perf_counter()
    answer = prepare(plain, tuple(x_BCHW.shape))
    prepared, seconds = time.perf_counter() - began, []
    with torch.inference_mode():
        logit = float(answer(x_BCHW)[0, 0])
        answer(x_BCHW)
        while sum(seconds) < options.seconds or len(seconds) < 3:
            began = time.perf_counter()
            answer(x_BCHW)
            seconds.append(time.perf_counter() - began)
    report(images_per_second=options.batch / statistics.median(seconds), prepared_in=prepared, logit=logit)
