"""Thalweg's own loop on the talk's LeNet or MLP: trainer, stream and objective without a session around."""

from __future__ import annotations

import time

import numpy as np
from contract import arguments, report_throughput
from mnist import load


def main() -> None:
    """Times every epoch but the first, as the other programs do."""
    parser = arguments(epochs=4, batch=256, samples=20_000)
    parser.add_argument("--network", choices=("lenet", "mlp"), default="lenet")
    parser.add_argument("--precision", default="auto")
    options = parser.parse_args()

    import torch

    from thalweg import registry
    from thalweg.config.options import Options
    from thalweg.data.images.dataset import ImageDataset, Split
    from thalweg.engine.config import TrainConfig
    from thalweg.engine.trainer import Trainer
    from thalweg.tasks.classify import Classify
    from thalweg.training import plan

    torch.manual_seed(options.seed)
    images, labels, _, _ = load(options.samples)
    split = Split(np.array(images)[..., None], labels, [])
    data = ImageDataset("mnist", "IDX", "", tuple("0123456789"), split, split, split, ink=True)
    task, settings = Classify(), Options(precision=options.precision)
    facts = task.facts(data)
    network = registry.get_models()[options.model](**task.arguments(facts)).to(memory_format=torch.channels_last)
    precision = plan.resolve_precision(settings, torch.device("cpu"), network)
    stream = task.stream(split, options.batch, options.seed, 0, 1, "cpu")
    recipe = TrainConfig(
        steps=options.epochs * stream.steps_per_epoch,
        lr=1e-3,
        optimizer="adam",
        schedule="constant",
        precision=precision,
    )
    trainer = Trainer(task.objective(network, facts, settings), stream, recipe, task.augment(facts, settings))
    seconds, began = [], time.perf_counter()
    for report in trainer:
        if report.step % stream.steps_per_epoch == 0:
            seconds.append(time.perf_counter() - began)
            began = time.perf_counter()
    report_throughput(stream.steps_per_epoch * stream.batch_size, seconds)


if __name__ == "__main__":
    main()
