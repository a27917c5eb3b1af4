"""Task interface. To add a task, add one file that implements this class; the house calls nothing else.

A task is a bundle of pure functions between two open values: a Dataset (what was read) and Predictions (what comes
back). The inside of both is known to the task alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from PIL import Image
from torch import Tensor, nn

from ..config.options import TrainOptions
from ..data.base import DataRequest, Dataset, NamedData
from ..data.batches import BatchStream
from ..errors import OptionError
from ..objectives.base import Batch, Objective
from ..predictions.base import Prediction

Unit = Literal["fraction", "number", "nats", "bits", "pixels"]


class InputType(Enum):
    """What `predict` reads."""

    IMAGE = "image"
    TEXT = "text"
    TABLE = "table"
    VIDEO = "video"


@dataclass(frozen=True)
class Metric:
    """A figure by which models are judged. The first metric of a task decides which epoch is best.

    `in_curves`: whether the learning curves have a panel for it.
    """

    name: str
    label: str
    higher_is_better: bool = True
    unit: Unit = "number"
    in_curves: bool = True

    def is_better(self, value: float, other: float | None) -> bool:
        """Whether `value` is better than `other`, in this metric's own direction; anything is better than None."""
        if other is None:
            return True
        return value > other if self.higher_is_better else value < other

    def format(self, value: float | int | None) -> str:
        """Format a value with its unit: 95.93 %, 1.668 nats, 12.3."""
        if value is None:
            return "undefined"
        if self.unit == "fraction":
            return f"{100 * value:.2f} %"
        text = f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
        return text if self.unit == "number" else f"{text} {self.unit}"


@dataclass(frozen=True)
class Context:
    """Where a task's function runs: device, seed, position among the ranks, and how to speak to the user.

    `load` loads another run by name, for tasks that build on one. `setup_record` holds what an earlier `setup` of the
    same run left in run.json, so that a resumed run is set up alike. `options` are the common training options.
    """

    device: torch.device
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    offline: bool = False
    log: Callable[[str], None] = lambda message: None
    load: Callable[[str], Any] | None = None
    setup_record: Mapping[str, Any] | None = None
    options: TrainOptions | None = None


@dataclass(frozen=True)
class EvalResult:
    """Metrics of a model on a split.

    `details` go into run.json beside the metrics (per class, by horizon); `evidence` is what `plots` draws from and is
    never saved; `samples` are predictions that are saved at each validation (a grid of generated images, a text);
    `warnings` are told at once where this was a validation.
    """

    metrics: dict[str, float | int | None]
    details: dict[str, Any] = field(default_factory=dict)
    evidence: Any = None
    samples: Sequence[Prediction] = ()
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Setup:
    """What a training needs of a task: objective, batches and the transform of a batch belong together.

    `validate` replaces the evaluation on the validation split; `record` is kept in run.json for resuming; `examples` of
    the data are saved by name beside the samples before the first step, so that one sees what these should become.
    `notes` are lines for the plan that is printed at the beginning.
    """

    objective: Objective
    batches: BatchStream
    transform: Callable[[Batch], Batch]
    validate: Callable[[nn.Module], EvalResult] | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    examples: Mapping[str, Prediction] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Plot:
    """A figure of the report."""

    name: str
    title: str
    caption: str
    image: Image.Image | None = None
    table: Sequence[Sequence[object]] | None = None


@dataclass(frozen=True)
class CardText:
    """What a model card and a report say of a model beside its metrics."""

    summary: str = ""
    limitations: Sequence[str] = ()
    preprocessing: Sequence[str] = ()
    usage_command: str = ""
    usage_python: str = ""


@dataclass(frozen=True)
class ExportProof:
    """How well an exported file agrees with the model: in words, what is wrong if anything, and in numbers."""

    text: str
    problem: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ExportSpec:
    """How a model is exported. `prove` gets a function that runs the exported file on an input array."""

    module: nn.Module
    example_inputs: tuple[Tensor, ...]
    dynamic_shapes: tuple[Any, ...]
    input_names: list[str]
    output_names: list[str]
    metadata: dict[str, str]
    prove: Callable[[Callable[[Any], Any]], ExportProof]


@dataclass(frozen=True)
class NoOptions:
    """A verb that takes no options of its own."""


class Task(ABC):
    """A problem: how its data is read, what is minimized, how models are judged and what they answer."""

    name: ClassVar[str]
    description: ClassVar[str]
    default_model: ClassVar[str]
    default_data: ClassVar[str]
    metrics: ClassVar[tuple[Metric, ...]]
    #: what `predict` reads; None for tasks that only sample
    input_type: ClassVar[InputType | None] = None
    #: what a model and its user must know of the data: a dataclass of JSON values with ranges, kept in run.json
    DataSpec: ClassVar[type]
    TrainOptions: ClassVar[type] = NoOptions
    PredictOptions: ClassVar[type] = NoOptions
    SampleOptions: ClassVar[type | None] = None
    ExplainOptions: ClassVar[type] = NoOptions
    #: options of `evaluate`, None where not given: each takes the place of the TrainOptions' of the same name
    EvaluateOptions: ClassVar[type] = NoOptions
    #: names of own TrainOptions that a resumed run may change, because they change nothing that is learned
    resumable_options: ClassVar[frozenset[str]] = frozenset()

    # --- every task ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def load_data(self, request: DataRequest, options: Any, context: Context, spec: Any = None) -> Dataset[Any]:
        """Read a data set.

        Args:
            request: Source and splits.
            options: The task's TrainOptions.
            context: Where this runs.
            spec: A model's DataSpec: read the data in that model's terms.

        Returns:
            The data set.

        Raises:
            DataError: For data that cannot be used.
        """

    @abstractmethod
    def toy_dataset(self) -> Dataset[Any]:
        """Make a small data set without any file, on which the laws are tested."""

    @abstractmethod
    def data_spec(self, dataset: Any, options: Any) -> Any:
        """Describe what a model and its user must know of the data."""

    @abstractmethod
    def model_kwargs(self, spec: Any) -> dict[str, Any]:
        """Return the arguments of a model's builder that follow from the data."""

    @abstractmethod
    def setup(
        self, model: nn.Module, dataset: Any, spec: Any, options: Any, batch_size: int, context: Context
    ) -> Setup:
        """Build objective, batches and transform for a training."""

    @abstractmethod
    def evaluate(self, model: nn.Module, split: Any, spec: Any, options: Any, context: Context) -> EvalResult:
        """Evaluate a model in evaluation mode; nothing random but by the context's seed."""

    def plots(
        self, model: nn.Module, dataset: Any, spec: Any, options: Any, result: EvalResult, history: list[dict[str, Any]]
    ) -> list[Plot]:
        """Draw the figures of a finished run's report."""
        return []

    # --- one of these two, or both ------------------------------------------------------------------------------------

    def preprocess(self, source: Any, spec: Any, options: Any) -> Any:
        """Turn a source into an example; runs in a thread. Raises DataError."""
        raise OptionError(f"{self.name} models read nothing; they only sample.", "thalweg sample RUN", value=self.name)

    def predict(
        self, model: nn.Module, names: Sequence[str], examples: Sequence[Any], spec: Any, options: Any
    ) -> list[Prediction]:
        """Predict for a batch of preprocessed examples."""
        raise OptionError(f"{self.name} models read nothing; they only sample.", "thalweg sample RUN", value=self.name)

    def sample(self, model: nn.Module, spec: Any, options: Any) -> Iterator[Prediction]:
        """Generate samples; the k-th depends on seed + k alone."""
        raise OptionError(f"{self.name} models do not sample.", "thalweg predict RUN SOURCE", value=self.name)

    def stream(self, model: nn.Module, spec: Any, options: Any) -> Iterator[str] | None:
        """Generate one sample as text that is printed as it comes; None where samples are not text."""
        return None

    # --- with a default that does nothing, or refuses in one sentence -------------------------------------------------

    def default_options(self, dataset: Any, spec: Any, options: Any, common: TrainOptions) -> dict[str, Any]:
        """Return defaults for common training options that the user left to us."""
        return {}

    def init_from_data(self, model: nn.Module, dataset: Any, spec: Any, context: Context) -> None:
        """Initialize what a new model takes from data before training; most take nothing."""
        return None

    def reset_on_transfer(self, old: Any, new: Any) -> bool:
        """Whether the head has to be trained anew when a model moves from data `old` to data `new`."""
        return False

    def spec_for_transfer(self, old: Any, new: Any) -> Any:
        """Return the spec of a run on data `new` that begins with weights trained with spec `old`."""
        return new

    def spec_for_training(self, spec: Any, dataset: Any, options: Any, common: TrainOptions) -> Any:
        """Return the spec of a new run, where it depends on how the model is trained."""
        return spec

    def spec_from_weights(self, weights: Any) -> Any:
        """Derive a DataSpec for weights that are not a run's."""
        raise OptionError(f"{self.name} has no pretrained weights.", "Give the folder of a run.", value=self.name)

    def example_input(self, spec: Any, count: int) -> Tensor:
        """Return a batch of zeros as the model reads it."""
        raise OptionError(f"{self.name} models have no layer table.", value=self.name)

    def eval_batch_size(self, spec: Any, device: torch.device) -> int:
        """Return how many examples are predicted at a time."""
        return 64

    def for_inference(self, model: nn.Module, spec: Any, batch_size: int) -> nn.Module:
        """Return a model that predicts the same faster, for many sources."""
        return model

    @staticmethod
    def named_data() -> list[NamedData]:
        """List the data that this task reads by name."""
        return []

    def recognizes(self, path: Path) -> bool:
        """Whether a file or folder looks like data of this task."""
        return False

    def dataset_report(self, request: DataRequest, options: Any, context: Context) -> Any:
        """Check a data set: an object with `ok`, `lines()`, `json()` and `picture()`."""
        raise OptionError(f"{self.name} data cannot be checked.", value=self.name)

    def final_details(
        self, model: nn.Module, dataset: Any, spec: Any, options: Any, result: EvalResult
    ) -> dict[str, Any]:
        """Return further figures of the final test that need the whole data set."""
        return {}

    def advice(self, history: list[dict[str, Any]], spec: Any, options: Any, common: TrainOptions) -> list[str]:
        """Return what to try next, judged by the learning curves."""
        return []

    def card_text(self, spec: Any, options: Any, results: Mapping[str, Any]) -> CardText:
        """Say in words what the model does and where its limits are."""
        return CardText()

    def explain(self, model: nn.Module, source: Any, spec: Any, options: Any) -> Any:
        """Show what a model looked at."""
        raise OptionError(f"{self.name} models cannot be explained yet.", value=self.name)

    def export_spec(self, model: nn.Module, spec: Any, samples: Any) -> ExportSpec:
        """Describe how the model is exported, and how to prove on `samples` (a split, or None) that it agrees."""
        raise OptionError(f"{self.name} models cannot be exported yet.", value=self.name)
