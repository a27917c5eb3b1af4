"""Throughput of Keras' `fit` on the talk's LeNet, on JAX: arrays in memory, the step compiled, Adam."""

from __future__ import annotations

import os
import time

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras  # noqa: E402
from contract import build_parser, report_throughput  # noqa: E402
from keras import layers  # noqa: E402
from mnist import load  # noqa: E402


class EpochTimer(keras.callbacks.Callback):
    """Time each epoch."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Start the clock."""
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Stop it; Keras has read the epoch's loss by now, so the work is done."""
        self.seconds.append(time.perf_counter() - self.start)


def build_model() -> keras.Model:
    """Build 20 and 50 filters 5x5 with max-pooling, 500 hidden units. (B, 28, 28, 1) -> logits (B, 10)."""
    return keras.Sequential(
        [
            keras.Input(shape=(28, 28, 1)),
            layers.Conv2D(20, 5, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(50, 5, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(500, activation="relu"),
            layers.Dense(10),
        ]
    )


def main() -> None:
    """Time every epoch but the first, in which the step is compiled; evaluate nothing."""
    options = build_parser(epochs=2, samples=20_000).parse_args()
    keras.utils.set_random_seed(options.seed)
    images, labels, _, _ = load(options.samples)
    model = build_model()
    timer = EpochTimer()
    model.compile(keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    images_NHWC = images.astype("float32")[..., None] / 255
    model.fit(images_NHWC, labels, batch_size=options.batch_size, epochs=options.epochs, callbacks=[timer], verbose=2)
    report_throughput(options.samples, timer.seconds)


if __name__ == "__main__":
    main()
