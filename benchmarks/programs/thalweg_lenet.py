"""Thalweg's own loop on the talk's LeNet or MLP: trainer, batches and objective, without checkpoints around."""

from __future__ import annotations

import time

import numpy as np
from contract import build_parser, report_throughput
from mnist import load


def main() -> None:
    """Time every epoch but the first, as the other programs do."""
    parser = build_parser(epochs=4, batch_size=256, samples=20_000)
    parser.add_argument("--model", choices=("lenet", "mlp"), default="lenet")
    parser.add_argument("--precision", default="auto")
    arguments = parser.parse_args()

    import torch

    from thalweg import registry
    from thalweg.config.options import TrainOptions
    from thalweg.data.base import DataRequest
    from thalweg.engine.config import TrainConfig
    from thalweg.engine.trainer import Trainer
    from thalweg.tasks.base import Context
    from thalweg.training.plan import resolve_precision

    torch.manual_seed(arguments.seed)
    images, labels, _, _ = load(arguments.samples)
    device = torch.device("cpu")
    context = Context(device, seed=arguments.seed, options=TrainOptions())
    task = registry.find_task("classify")()
    options = task.TrainOptions(augment="none")
    request = DataRequest(source=(np.array(images), labels), make_splits=False)
    dataset = task.load_data(request, options, context)
    spec = task.data_spec(dataset, options)
    model = registry.find_model(arguments.model)(**task.model_kwargs(spec)).to(memory_format=torch.channels_last)
    setup = task.setup(model, dataset, spec, options, arguments.batch_size, context)
    steps_per_epoch = setup.batches.steps_per_epoch
    config = TrainConfig(
        steps=arguments.epochs * steps_per_epoch,
        lr=1e-3,
        optimizer="adam",
        schedule="constant",
        precision=resolve_precision(arguments.precision, device, model),
    )
    seconds = []
    start = time.perf_counter()
    for step in Trainer(setup.objective, setup.batches, config, setup.transform):
        if step.step % steps_per_epoch == 0:
            seconds.append(time.perf_counter() - start)
            start = time.perf_counter()
    report_throughput(steps_per_epoch * setup.batches.batch_size, seconds)


if __name__ == "__main__":
    main()
