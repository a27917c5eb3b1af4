"""Compare the speed of `write` with plain PyTorch: training an LSTM of two layers of 512, and sampling from it.

    python benchmarks/text_speed.py [--keras]

Both train the same network on the same random text, 32 rows of 128 tokens per step, and both sample with a softmax and
one draw per character. Ours trains in the number format that `train` chooses: bfloat16 where the processor has it.
Interleaved, every second repeat in reverse order; the figure is the median of the repeats' own ratios. Needs thalweg in
the Python that runs it. With `--keras`, Keras 3 on JAX trains the same network in float32, in the environment of
`run.py`, which is set up on first use; the compilation of its step is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice

import environment
import processes
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from thalweg.data.batches import SequenceBatches
from thalweg.engine.config import TrainConfig
from thalweg.engine.trainer import Trainer
from thalweg.models.write.sampling import Sampler, generate_tokens
from thalweg.objectives.recurrent import Recurrent
from thalweg.registry import find_model
from thalweg.training.plan import resolve_precision

KERAS = "Keras 3 (JAX)"
VOCABULARY, EMBEDDING, WIDTH, LAYERS, ROWS, LENGTH = 66, 64, 512, 2, 32, 128


class PlainLSTM(nn.Module):
    """The network as a tutorial would write it."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, EMBEDDING)
        self.lstm = nn.LSTM(EMBEDDING, WIDTH, LAYERS, batch_first=True)
        self.head = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, tokens_BT: Tensor, state=None):
        output_BTD, state = self.lstm(self.embedding(tokens_BT), state)
        return self.head(output_BTD), state


def train_plain(text_N: Tensor, steps: int) -> float:
    """Return the tokens per second of a plain loop."""
    model = PlainLSTM()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    rows_BL = text_N[: ROWS * (len(text_N) // ROWS)].view(ROWS, -1)
    state = None
    start = time.perf_counter()
    for step in range(steps):
        piece_BT = rows_BL[:, step * LENGTH : (step + 1) * LENGTH + 1]
        logits_BTV, state = model(piece_BT[:, :-1], state)
        state = tuple(part.detach() for part in state)
        loss = cross_entropy(logits_BTV.flatten(0, 1), piece_BT[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()
    return steps * ROWS * LENGTH / (time.perf_counter() - start)


def build_model() -> nn.Module:
    """Build our network of the same sizes."""
    return find_model("lstm")(num_tokens=VOCABULARY, layers=LAYERS, width=WIDTH, embedding=EMBEDDING, dropout=0.0)


def train_ours(text_N: Tensor, steps: int) -> float:
    """Return the tokens per second of the trainer."""
    batches = SequenceBatches(text_N, ROWS, LENGTH)
    config = TrainConfig(steps=steps, lr=1e-3, optimizer="adam", schedule="constant", grad_clip=1.0)
    model = build_model()
    config = replace(config, precision=resolve_precision("auto", torch.device("cpu"), model))
    trainer = Trainer(Recurrent(model, ROWS), batches, config)
    start = time.perf_counter()
    for _ in trainer:
        pass
    return steps * ROWS * LENGTH / (time.perf_counter() - start)


def train_keras(steps: int) -> float:
    """Return the tokens per second of Keras, as a process of its own."""
    sizes = {"vocabulary": VOCABULARY, "embedding": EMBEDDING, "width": WIDTH, "layers": LAYERS, "rows": ROWS}
    words = [word for name, size in {**sizes, "length": LENGTH, "steps": steps}.items() for word in (f"--{name}", size)]
    command = processes.program_command("text_lstm_keras.py", *words)
    return processes.run(processes.Job({"name": KERAS}, command))["tokens_per_second"]


@torch.inference_mode()
def sample_plain(count: int) -> float:
    """Return the characters per second of a plain loop."""
    model = PlainLSTM().eval()
    token_11 = torch.tensor([[1]])
    state = None
    start = time.perf_counter()
    for _ in range(count):
        logits_11V, state = model(token_11, state)
        token_11 = torch.multinomial((logits_11V[0, -1] / 0.8).softmax(0), 1)[None]
    return count / (time.perf_counter() - start)


def sample_ours(count: int) -> float:
    """Return the characters per second of `generate_tokens`."""
    tokens = generate_tokens(build_model().eval(), [1], Sampler(0.8), seed=0, forbidden=[0])
    start = time.perf_counter()
    for _ in islice(tokens, count):
        pass
    return count / (time.perf_counter() - start)


def compare(what: str, unit: str, contenders: dict[str, Callable[[], float]], repeats: int) -> None:
    """Measure all, repeat after repeat, and print medians and the ratios of "ours" to each of the others."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for repeat in range(repeats):
        order = list(contenders) if repeat % 2 == 0 else list(reversed(contenders))
        for name in order:
            rates[name].append(contenders[name]())
    medians = ", ".join(f"{name} {statistics.median(values):,.0f}" for name, values in rates.items())
    print(f"{what}: {medians} {unit}")
    for name in contenders:
        if name != "ours":
            ratios = [ours / other for ours, other in zip(rates["ours"], rates[name], strict=True)]
            value_range = f"{min(ratios):.2f} to {max(ratios):.2f}"
            print(f"  ours to {name}: {statistics.median(ratios):.2f} ({value_range})", flush=True)


def main() -> None:
    """Print both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--characters", type=int, default=2000)
    parser.add_argument("--cpu-threads", type=int, default=processes.THREADS)
    parser.add_argument("--keras", action="store_true", help="also train with Keras 3, with two threads")
    options = parser.parse_args()
    if options.keras:
        environment.set_up()
        environment.pin(processes.THREADS)
    torch.set_num_threads(options.cpu_threads)
    torch.manual_seed(0)
    text_N = torch.randint(1, VOCABULARY, (ROWS * (LENGTH * options.steps + 1),))
    training = {
        "plain": lambda: train_plain(text_N, options.steps),
        "ours": lambda: train_ours(text_N, options.steps),
    }
    if options.keras:
        training[KERAS] = lambda: train_keras(options.steps)
    compare("training", "tokens/s", training, options.repeats)
    sampling = {"plain": lambda: sample_plain(options.characters), "ours": lambda: sample_ours(options.characters)}
    compare("sampling", "characters/s", sampling, options.repeats)


if __name__ == "__main__":
    main()
