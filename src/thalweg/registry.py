"""What there is: models, tasks and concepts, found by scanning three folders of this package.

A model is a function that builds a plain `nn.Module`; a task is a class; a concept is a function from a dataclass of
settings to a result. The decorators only attach facts and enter the
name; importing the file is what registers it, so a new file is all that a new model needs.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from .errors import NotFoundError, OptionError, did_you_mean

_models: dict[str, ModelEntry] = {}
_tasks: dict[str, type] = {}
_concepts: dict[str, ConceptEntry] = {}


@dataclass(frozen=True)
class ModelEntry:
    """A model that can be built by name: `registry.models()["lenet"](channels=1, classes=10)`."""

    name: str
    task: str
    paper: str
    build: Callable[..., Any]

    def __call__(self, **arguments: Any) -> Any:
        """Builds the network. Raises OptionError for an argument that the model does not have or cannot use."""
        anything = any(p.kind is p.VAR_KEYWORD for p in self.arguments.values())
        for key in arguments:
            if key not in self.arguments and not anything:
                raise OptionError(
                    f"The model '{self.name}' has no argument '{key}'.", cure=did_you_mean(key, self.arguments)
                )
        try:
            return self.build(**arguments)
        except (TypeError, ValueError, RuntimeError) as error:
            told = ", ".join(f"{key}={value}" for key, value in arguments.items())
            raise OptionError(
                f"The model '{self.name}' cannot be built with {told}: {error}.",
                cure="`thalweg models` lists what it takes, and the usual values.",
            ) from error

    @property
    def arguments(self) -> dict[str, inspect.Parameter]:
        """The parameters of the builder, by name."""
        return dict(inspect.signature(self.build).parameters)

    @property
    def about(self) -> str:
        """The first sentence of the builder's docstring, as far as its first line goes."""
        line = (inspect.getdoc(self.build) or "").split("\n")[0]
        return line.split(". ")[0].rstrip(".") + "." if line else ""


def register_model(task: str, paper: str) -> Callable[[Callable], Callable]:
    """Enters the decorated builder as a model of `register_task`; `paper` is its source."""

    def enter(build: Callable) -> Callable:
        _models[build.__name__] = ModelEntry(build.__name__, task, paper, build)
        return build

    return enter


def register_task(cls: type) -> type:
    """Enters the decorated class under its `name`."""
    _tasks[cls.name] = cls
    return cls


@dataclass(frozen=True)
class ConceptEntry:
    """A concept that can be explained by name. `page` is its text, `about` it shows, `settings` a dataclass.

    `subject` is the kind of thing of the user's that it is about, a file of `thalweg.subjects`; None: settings alone.
    """

    name: str
    page: Any
    settings: type
    subject: str | None
    explain: Callable[..., Any]


def register_concept(page: Any, settings: type, subject: str | None = None) -> Callable[[Callable], Callable]:
    """Enters the decorated function as a concept: `function(asked, **what the subject gives)` returns a Lesson."""

    def enter(explain: Callable) -> Callable:
        _concepts[explain.__name__] = ConceptEntry(explain.__name__, page, settings, subject, explain)
        return explain

    return enter


def _import_all(folder: str) -> None:
    package = importlib.import_module(f"thalweg.{folder}")
    for module in pkgutil.walk_packages(package.__path__, f"thalweg.{folder}."):
        importlib.import_module(module.name)


def get_models(task: str | None = None) -> dict[str, ModelEntry]:
    """Every model (of one task, if named), by name."""
    _import_all("models")
    return {k: e for k, e in sorted(_models.items()) if task in (None, e.task)}


def get_tasks() -> dict[str, type]:
    """Every task class, by name."""
    _import_all("tasks")
    return dict(sorted(_tasks.items()))


def get_concepts() -> dict[str, ConceptEntry]:
    """Every concept by name, in the order of the talk."""
    _import_all("concepts")
    return dict(sorted(_concepts.items(), key=lambda pair: pair[1].page.order))


def find_model(name: str, task: str | None = None) -> ModelEntry:
    """The model of that name, or 'timm:NAME' or 'torchvision:NAME'. Raises NotFound, with the nearest names.

    Raises ResourceError where that package is not installed.
    """
    from .weights import external_models as elsewhere

    if elsewhere.split_name(name):
        elsewhere.check_exists(name)
        return ModelEntry(
            name, "classify", f"see {name.partition(':')[0]}", partial(elsewhere.build_external_model, name)
        )
    found = get_models(task)
    if name not in found:
        raise NotFoundError.for_unknown("model", name, found)
    return found[name]


def find_task(name: str) -> type:
    """The task of that name. Raises NotFound, with the nearest names."""
    found = get_tasks()
    if name not in found:
        raise NotFoundError.for_unknown("task", name, found)
    return found[name]
