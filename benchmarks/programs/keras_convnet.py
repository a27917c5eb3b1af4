"""Keras' "Simple MNIST convnet" example on JAX, with its usual settings: batch 128, Adam, dropout, data in memory."""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras  # noqa: E402
import numpy as np  # noqa: E402
from contract import Race, build_parser  # noqa: E402
from keras import layers  # noqa: E402
from mnist import load  # noqa: E402


class Stop(keras.callbacks.Callback):
    """End the training when the target is reached on the validation set, which here is the test set."""

    def __init__(self, race: Race):
        super().__init__()
        self.race = race

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Tell the race."""
        self.model.stop_training = self.race.add(logs["val_accuracy"])


def build_model() -> keras.Model:
    """Build two 3x3 convolutions of 32 and 64 filters, pooling, dropout, ten outputs: (B, 28, 28, 1) -> (B, 10)."""
    return keras.Sequential(
        [
            keras.Input(shape=(28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )


def to_arrays(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, 28, 28, 1) float32 in [0, 1] and one-hot labels (N, 10)."""
    return images.astype("float32")[..., None] / 255, keras.utils.to_categorical(labels, 10)


def main() -> None:
    """Train until the target or the last epoch."""
    options = build_parser(epochs=12, batch_size=128).parse_args()
    keras.utils.set_random_seed(options.seed)
    images, labels, test_images, test_labels = load(options.samples)
    model = build_model()
    model.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
    race = Race(options.target)
    model.fit(
        *to_arrays(images, labels),
        batch_size=options.batch_size,
        epochs=options.epochs,
        validation_data=to_arrays(test_images, test_labels),
        callbacks=[Stop(race)],
        verbose=2,
    )
    race.report()


if __name__ == "__main__":
    main()
