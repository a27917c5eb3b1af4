"""Tokens per second of Keras' `fit` on the LSTM of text_speed.py, on JAX: stateful layers, the step compiled, Adam."""

from __future__ import annotations

import argparse
import os
import time

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras  # noqa: E402
import numpy as np  # noqa: E402
from contract import report  # noqa: E402
from keras import layers  # noqa: E402


class EpochTimer(keras.callbacks.Callback):
    """Time each epoch."""

    def __init__(self):
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Start the clock."""
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Stop it; Keras has read the epoch's loss by now, so the work is done."""
        self.seconds.append(time.perf_counter() - self.start)


def parse_arguments() -> argparse.Namespace:
    """Parse the sizes, which text_speed.py gives."""
    parser = argparse.ArgumentParser()
    for name in ("vocabulary", "embedding", "width", "layers", "rows", "length", "steps"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--precision", choices=["float32", "mixed_bfloat16"], default="float32")
    return parser.parse_args()


def build_model(options: argparse.Namespace) -> keras.Model:
    """Build an embedding, LSTM layers that carry their state from batch to batch, and a head: (B, T) -> (B, T, V)."""
    recurrent = [layers.LSTM(options.width, return_sequences=True, stateful=True) for _ in range(options.layers)]
    return keras.Sequential(
        [
            keras.Input(batch_shape=(options.rows, options.length), dtype="int32"),
            layers.Embedding(options.vocabulary, options.embedding),
            *recurrent,
            layers.Dense(options.vocabulary, dtype="float32"),
        ]
    )


def main() -> None:
    """Train two epochs of the same random text; the first compiles the step, the second counts."""
    options = parse_arguments()
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(options.precision)
    model = build_model(options)
    optimizer = keras.optimizers.Adam(1e-3, global_clipnorm=1.0)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    shape = (options.steps * options.rows, options.length + 1)
    pieces_NL = np.random.default_rng(0).integers(1, options.vocabulary, shape, dtype=np.int32)
    timer = EpochTimer()
    model.fit(
        pieces_NL[:, :-1],
        pieces_NL[:, 1:],
        batch_size=options.rows,
        epochs=2,
        shuffle=False,
        callbacks=[timer],
        verbose=2,
    )
    tokens = options.steps * options.rows * options.length
    report(tokens_per_second=tokens / timer.seconds[-1], seconds=timer.seconds)


if __name__ == "__main__":
    main()
