"""Throughput of Keras' `fit` on the talk's LeNet, on JAX: arrays in memory, the step compiled, Adam."""

from __future__ import annotations

import os
import time

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras  # noqa: E402
from contract import arguments, report_throughput  # noqa: E402
from keras import layers  # noqa: E402
from mnist import load  # noqa: E402


class Watch(keras.callbacks.Callback):
    """Times each epoch."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Starts the watch."""
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Stops it; Keras has read the epoch's loss by now, so the work is done."""
        self.seconds.append(time.perf_counter() - self.began)


def network() -> keras.Model:
    """20 and 50 filters 5x5 with max-pooling, 500 hidden units. (B, 28, 28, 1) -> logits (B, 10)."""
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
    """Times every epoch but the first, in which the step is compiled; evaluates nothing."""
    options = arguments(epochs=2, samples=20_000).parse_args()
    keras.utils.set_random_seed(options.seed)
    images, labels, _, _ = load(options.samples)
    model, watch = network(), Watch()
    model.compile(keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    pictures = images.astype("float32")[..., None] / 255
    model.fit(pictures, labels, batch_size=options.batch, epochs=options.epochs, callbacks=[watch], verbose=2)
    report_throughput(options.samples, watch.seconds)


if __name__ == "__main__":
    main()
