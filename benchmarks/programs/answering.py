"""A ResNet-50 as after training, and what times a contender that predicts with it."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from contract import report
from torch import Tensor, nn

from thalweg.models.classify.resnet import resnet50

Predict = Callable[[Tensor], Tensor]


def parse_arguments() -> argparse.Namespace:
    """Parse what the contenders of INFERENCE take."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=8, help="of measuring, at least three batches")
    return parser.parse_args()


def build_model() -> nn.Module:
    """Build a model equal to torchvision's, bit for bit, with random weights and batch statistics."""
    model = resnet50(in_channels=3, num_classes=1000).eval()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean, std=0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return model


def race(prepare: Callable[[nn.Module, tuple[int, ...]], Predict]) -> None:
    """Print the line of a program of INFERENCE: images per second, seconds of preparation, one logit."""
    options = parse_arguments()
    torch.manual_seed(0)
    model = build_model()
    x_BCHW = torch.randn(options.batch_size, 3, 224, 224)
    start = time.perf_counter()
    predict = prepare(model, tuple(x_BCHW.shape))
    prepared = time.perf_counter() - start
    seconds: list[float] = []
    with torch.inference_mode():
        logit = float(predict(x_BCHW)[0, 0])
        predict(x_BCHW)
        while sum(seconds) < options.seconds or len(seconds) < 3:
            start = time.perf_counter()
            predict(x_BCHW)
            seconds.append(time.perf_counter() - start)
    report(images_per_second=options.batch_size / statistics.median(seconds), prepared_in=prepared, logit=logit)
