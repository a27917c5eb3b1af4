"""Everything that a user can ask of a problem. A task is a class of this kind; a new one is one new file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from PIL import Image
from torch import Tensor, nn

from ..config.options import Options
from ..data.batches import BatchStream
from ..data.images.dataset import ImageDataset, Split
from ..objectives.base import Batch, Objective

#: What must be known of the data to use a network: JSON values, kept in run.json.
InputSpec = dict[str, Any]


class Task(ABC):
    """A problem: how its data is read, what is minimised, how answers are judged and shown."""

    name: str
    about: str
    default_model: str
    default_data: str
    #: the figure by which epochs are compared (higher is better), as named by `score`
    judged_by: str

    @abstractmethod
    def read(
        self, options: Options, notice: Callable[[str], None], form: InputSpec | None = None, divided: bool = True
    ) -> ImageDataset:
        """The data named by the options, read, in the form that weights ask for. Raises DataError.

        With `divided` False only what the source itself tells apart is divided: nothing is to be trained on it.
        """

    @abstractmethod
    def toy(self) -> ImageDataset:
        """A small data set, made without any file, on which every law is tested."""

    @abstractmethod
    def facts(self, data: ImageDataset) -> InputSpec:
        """What a network and its user must know of the data."""

    @abstractmethod
    def arguments(self, facts: InputSpec) -> dict[str, Any]:
        """The arguments that follow from the data, for the builder of a model."""

    def initialise(self, network: nn.Module, data: ImageDataset, facts: InputSpec, device: Any) -> None:
        """Sets what a new network takes from data before it is trained; most take nothing."""
        return None

    @abstractmethod
    def objective(self, network: nn.Module, facts: InputSpec, options: Options) -> Objective:
        """What is minimised."""

    @abstractmethod
    def stream(self, split: Split, batch: int, seed: int, rank: int, ranks: int, device: Any) -> BatchStream:
        """Batches of the training set on the device."""

    @abstractmethod
    def augment(self, facts: InputSpec, options: Options) -> Callable[[Batch], Batch]:
        """What a batch of the stream goes through before training; may be random."""

    @abstractmethod
    def infer(self, network: nn.Module, batch: Batch, facts: InputSpec) -> Tensor:
        """The network's answers to a batch as it comes from the stream or a user; nothing random."""

    @abstractmethod
    def score(
        self, network: nn.Module, split: Split, facts: InputSpec, device: Any, features: Tensor | None = None
    ) -> tuple[dict[str, Any], Any]:
        """The metrics on a split, and an outcome from which pictures are drawn; its `details` go into run.json.

        `features` (N, ...), where they are at hand, are what the network's head reads in place of the examples.
        """

    @abstractmethod
    def pictures(
        self,
        network: nn.Module,
        data: ImageDataset,
        facts: InputSpec,
        options: Options,
        outcome: Any,
        history: list[dict],
    ) -> dict[str, Image.Image]:
        """Pictures of a finished run, by file name without ending."""

    @abstractmethod
    def example(self, source: Any, facts: InputSpec, as_is: bool = False) -> Any:
        """What the network sees of a source: an array that `infer` takes in a batch. Raises DataError."""
