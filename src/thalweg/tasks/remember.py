"""Remember over many steps (Hochreiter and Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config.json_record import FieldError
from ..config.parsing import Range
from ..data.base import DataRequest, take_dataset
from ..data.long_memory.batches import FreshBatches, encode_inputs
from ..data.long_memory.dataset import (
    MAX_LENGTH,
    MAX_SYMBOLS,
    NUM_TOY_SEQUENCES,
    SequenceDataset,
    SequenceSplit,
    build_dataset,
    check_problem,
    check_same_problem,
    list_named_sequences,
    load_sequences,
)
from ..data.long_memory.sequences import MAX_ERROR, Problem, ProblemName, generate_sequences
from ..errors import OptionError
from ..objectives.base import Batch, Loss
from ..objectives.supervised import Supervised
from ..plots.memory_sequence import order_name
from ..predictions.sequence_answer import SequenceAnswer
from ..registry import register_task
from .base import CardText, Context, EvalResult, Metric, Plot, Setup, Task

#: inputs of a batch in an evaluation have at most about so many steps in all
EVAL_STEPS = 60_000
#: epochs of 8,000 sequences that a run of unstated length takes
DEFAULT_EPOCHS = 4
#: five times that of Adam's usual: with 2e-3 adding-75 takes 1,300 steps instead of 400
DEFAULT_LR = 0.01
#: first seed of the sequences that `sample` makes; the splits have 0, 1 and 2
SAMPLE_STREAM = 3
#: what the last answers of `copy` are called: 1 to 8, then what is no symbol
COPY_SYMBOLS = "12345678__"

# B sequences, T steps, K outputs


@dataclass(frozen=True)
class RememberSpec:
    """The problem; kept in run.json."""

    problem: Annotated[ProblemName, "adding, copy or temporal-order"]
    length: Annotated[int, "steps of a sequence; of copy the blanks", Range(1, MAX_LENGTH)]
    symbols: Annotated[int, "what is to be remembered of it", Range(1, MAX_SYMBOLS)]

    def __post_init__(self) -> None:
        try:
            check_problem(self.to_problem())
        except OptionError as error:
            raise FieldError(str(error.option), error.message) from error

    def to_problem(self) -> Problem:
        """Return the problem."""
        return Problem(self.problem, self.length, self.symbols)


@dataclass(frozen=True)
class RememberTrainOptions:
    """Options of `thalweg train remember`."""

    length: Annotated[int | None, "steps of a sequence; of copy the blanks  [default: 100]", Range(1, MAX_LENGTH)] = (
        None
    )
    symbols: Annotated[
        int | None,
        "what is to be remembered: symbols of copy, 2 or 3 of temporal-order  [default: 10, 2]",
        Range(1, MAX_SYMBOLS),
    ] = None
    grow_every: Annotated[
        int,
        "steps until training sequences double, from a 64th of the length on; 0: full from the start",
        Range(0, 1e6),
    ] = 0


@dataclass(frozen=True)
class RememberSampleOptions:
    """Options of `thalweg sample`."""

    count: Annotated[int, "sequences", Range(1, 100_000)] = 1
    seed: Annotated[int, "seed of the first sequence; the next one's is one higher", Range(0, 2**32 - 1)] = 0


def compute_loss(outputs_BTK: Tensor, targets: Tensor, problem: Problem) -> tuple[Tensor, int]:
    """Return the mean loss, and over how many answers it is one: the last step's, or all of `copy`."""
    if problem.name == "copy":
        return F.cross_entropy(outputs_BTK.movedim(-1, 1), targets), targets.numel()
    if problem.name == "adding":
        return F.mse_loss(outputs_BTK[:, -1, 0], targets), len(targets)
    return F.cross_entropy(outputs_BTK[:, -1], targets), len(targets)


def find_correct(outputs_BTK: Tensor, targets: Tensor, problem: Problem) -> Tensor:
    """Return for each sequence (B,) whether the answer is right: the sum to 0.04, every symbol, the order."""
    if problem.name == "adding":
        return (outputs_BTK[:, -1, 0] - targets).abs() < MAX_ERROR
    if problem.name == "copy":
        return (outputs_BTK.argmax(-1) == targets).all(1)
    return outputs_BTK[:, -1].argmax(-1) == targets


def describe_result(problem: Problem, loss: float) -> str:
    """Say in a sentence whether a problem is solved, and what remembering nothing gives."""
    verdict = "solved" if loss < problem.solved_loss else "not solved"
    return (
        f"{problem.title} is {verdict}: loss {loss:.3g}; below {problem.solved_loss:.3g} counts as solved, and a "
        f"predictor that remembers nothing has {problem.memoryless_loss:.4g}."
    )


@register_task
class Remember(Task):
    """Answers that depend on what was read long before."""

    name = "remember"
    description = "How far back does a network remember?"
    default_model = "memory_lstm"
    default_data = "adding"
    named_data = staticmethod(list_named_sequences)
    metrics = (
        Metric("loss", "loss", higher_is_better=False),
        Metric("solved", "sequences solved", unit="fraction"),
    )
    input_type = None
    DataSpec = RememberSpec
    TrainOptions = RememberTrainOptions
    SampleOptions = RememberSampleOptions

    def load_data(
        self, request: DataRequest, options: RememberTrainOptions, context: Context, spec: RememberSpec | None = None
    ) -> SequenceDataset:
        """Return the sequences that a name means. Raises DataError for anything else, OptionError for a bad length."""
        dataset = take_dataset(request, SequenceDataset, {"length": options.length, "symbols": options.symbols})
        if dataset is None:
            dataset = load_sequences(request, options.length, options.symbols)
        return dataset if spec is None else check_same_problem(dataset, spec.to_problem())

    def toy_dataset(self) -> SequenceDataset:
        """Return short sequences to copy."""
        return build_dataset(Problem("copy", 5, 3), NUM_TOY_SEQUENCES, "toy")

    def data_spec(self, dataset: SequenceDataset, options: Any) -> RememberSpec:
        """Return the problem."""
        problem = dataset.problem
        return RememberSpec(problem.name, problem.length, problem.symbols)

    def model_kwargs(self, spec: RememberSpec) -> dict[str, Any]:
        """Return the sizes, and the number of steps to remember for; --set memory=0 turns that off."""
        problem = spec.to_problem()
        return {"num_inputs": problem.num_inputs, "num_outputs": problem.num_outputs, "memory": problem.steps}

    def default_options(
        self, dataset: SequenceDataset, spec: RememberSpec, options: Any, common: Any
    ) -> dict[str, Any]:
        """Return what recurrent networks are trained with; the learning rate falls once the answer is found."""
        values: dict[str, Any] = {"batch_size": 32, "optimizer": "adam", "schedule": "cosine", "grad_clip": 1.0}
        if common.steps is None and common.time_budget is None:
            values["epochs"] = DEFAULT_EPOCHS
        if common.optimizer in (None, "adam", "adamw"):
            return {**values, "lr": DEFAULT_LR}
        return values

    def setup(
        self,
        model: nn.Module,
        dataset: SequenceDataset,
        spec: RememberSpec,
        options: RememberTrainOptions,
        batch_size: int,
        context: Context,
    ) -> Setup:
        """Minimize the problem's loss on sequences that are new in every step."""
        problem = spec.to_problem()

        def criterion(model: nn.Module, batch: Batch) -> Loss:
            outputs_BTK = model(batch["inputs"])
            mean, count = compute_loss(outputs_BTK, batch["targets"], problem)
            return Loss(mean, count)

        def encode(batch: Batch) -> Batch:
            return {**batch, "inputs": encode_inputs(batch["inputs"], problem.num_inputs)}

        batches = FreshBatches(dataset.train, batch_size, context, options.grow_every)
        return Setup(Supervised(model, criterion), batches, encode)

    def evaluate(
        self, model: nn.Module, split: SequenceSplit, spec: RememberSpec, options: Any, context: Context
    ) -> EvalResult:
        """Return the mean loss, the fraction of right answers, and beside them the loss of remembering nothing."""
        problem = split.problem
        loss, solved = measure(model, split, context.device)
        details = {
            "sequences": len(split),
            "memoryless_loss": problem.memoryless_loss,
            "solved_below": problem.solved_loss,
            "problem_solved": loss < problem.solved_loss,
            "summary": describe_result(problem, loss),
        }
        sample = self.sample(model, spec, RememberSampleOptions(seed=context.seed))
        return EvalResult({"loss": loss, "solved": solved}, details, None, tuple(sample))

    def plots(
        self, model: nn.Module, dataset: Any, spec: Any, options: Any, result: EvalResult, history: list[dict[str, Any]]
    ) -> list[Plot]:
        """Draw one sequence with the answer as it forms."""
        caption = f"One sequence that was not trained on. {result.details['summary']}"
        return [Plot("sequence", "What the model answers", caption, result.samples[0].draw())]

    def sample(self, model: nn.Module, spec: RememberSpec, options: RememberSampleOptions) -> Iterator[SequenceAnswer]:
        """Make sequences and yield them with the model's answers; the k-th is that of seed + k."""
        problem = spec.to_problem()
        for k in range(options.count):
            yield answer_sequence(model, problem, options.seed + k, f"sample {k + 1}")

    def example_input(self, spec: RememberSpec, count: int) -> Tensor:
        """Return `count` sequences of zeros."""
        problem = spec.to_problem()
        return torch.zeros(count, problem.steps, problem.num_inputs)

    def card_text(self, spec: RememberSpec, options: Any, results: Mapping[str, Any]) -> CardText:
        """Say in words what the model does and where its limits are."""
        problem = spec.to_problem()
        return CardText(
            summary=f"Solves {problem.title}, or does not: {problem.steps:,} steps lie between first input and answer.",
            limitations=("It knows sequences of this one problem; at other lengths it may fail.",),
            preprocessing=("Symbols are one-hot vectors; numbers of adding are read as they are.",),
            usage_command="thalweg sample RUN --count 3",
            usage_python="for answer in run.sample(count=3):\n    print(answer.target, answer.answer)",
        )


@torch.no_grad()
def measure(model: nn.Module, split: SequenceSplit, device: torch.device) -> tuple[float, float]:
    """Return mean loss and fraction of right answers over a split; the model is set to evaluation."""
    model.eval()
    problem = split.problem
    size = max(1, EVAL_STEPS // problem.steps)
    total = 0.0
    correct = 0
    for start in range(0, len(split), size):
        inputs = torch.from_numpy(split.sequences.inputs[start : start + size]).to(device)
        targets = torch.from_numpy(split.sequences.targets[start : start + size]).to(device)
        outputs_BTK = model(encode_inputs(inputs, problem.num_inputs)).float()
        total += float(compute_loss(outputs_BTK, targets, problem)[0]) * len(targets)
        correct += int(find_correct(outputs_BTK, targets, problem).sum())
    return total / len(split), correct / len(split)


@torch.no_grad()
def answer_sequence(model: nn.Module, problem: Problem, seed: int, source: str) -> SequenceAnswer:
    """Make the sequence of a seed and let the model answer."""
    sequences = generate_sequences(problem, 1, (SAMPLE_STREAM, seed))
    device = next(model.parameters()).device
    inputs = torch.from_numpy(sequences.inputs).to(device)
    outputs_1TK = model.eval()(encode_inputs(inputs, problem.num_inputs)).float().cpu()
    correct = bool(find_correct(outputs_1TK, torch.from_numpy(sequences.targets), problem)[0])
    answers_TK = outputs_1TK[0] if problem.name == "adding" else outputs_1TK[0].softmax(-1)
    return SequenceAnswer(
        source,
        problem.name,
        problem.steps,
        target=format_target(problem, sequences.targets[0]),
        answer=format_target(problem, read_answer(problem, answers_TK.numpy())),
        correct=correct,
        seed=seed,
        inputs=sequences.inputs[0],
        answers_TK=answers_TK.numpy(),
    )


def read_answer(problem: Problem, answers_TK: np.ndarray) -> np.ndarray:
    """Return the answer in the form of a target: the sum, the most probable order, or symbols."""
    if problem.name == "adding":
        return answers_TK[-1, 0]
    if problem.name == "copy":
        return answers_TK.argmax(1)
    return answers_TK[-1].argmax()


def format_target(problem: Problem, target: np.ndarray) -> float | str:
    """Return a sum as a number, symbols as 1 to 8, an order as XY."""
    if problem.name == "adding":
        return float(target)
    if problem.name == "copy":
        return "".join(COPY_SYMBOLS[symbol] for symbol in target[-problem.symbols :])
    return order_name(int(target), problem.num_outputs)
