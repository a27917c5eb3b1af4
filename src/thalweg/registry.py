"""Registry of models, tasks and concepts. Each is found by importing every file of one folder of this package.

A model is a function that builds a plain `nn.Module`, a task is a class, and a concept is a function from a dataclass
of settings to a result. The decorators store metadata under the name and return what they decorate unchanged, so a new
model needs one new file and no other change.

Models of other packages are not registered one by one: `register_model_source("timm", find)` makes `find_model` call
`find("timm:NAME")` for every name with that prefix.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .errors import NotFoundError, OptionError, did_you_mean

BuilderT = TypeVar("BuilderT", bound=Callable[..., Any])
TaskT = TypeVar("TaskT", bound=type[Any])

_models: dict[str, ModelEntry] = {}
_model_sources: dict[str, Callable[[str], ModelEntry]] = {}
_tasks: dict[str, type[Any]] = {}
_concepts: dict[str, ConceptEntry] = {}


@dataclass(frozen=True)
class ModelEntry:
    """A registered model: `get_models()["lenet"](in_channels=1, num_classes=10)` builds it.

    `training` holds common training options, such as the learning rate, that suit the model where the user leaves them
    open.
    """

    name: str
    task: str
    paper: str
    builder: Callable[..., Any]
    training: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, **arguments: Any) -> Any:
        """Build the model. Raises OptionError for an argument that the builder does not take or cannot use."""
        self._check_names(arguments)
        try:
            return self.builder(**arguments)
        except (TypeError, ValueError, RuntimeError) as error:
            settings = ", ".join(f"{key}={value}" for key, value in arguments.items())
            raise OptionError(
                f"Cannot build the model '{self.name}' with {settings}: {error}.",
                cure="`thalweg models` lists the arguments of each model and their defaults.",
                option="arguments",
                value=arguments,
            ) from error

    def _check_names(self, arguments: Mapping[str, Any]) -> None:
        parameters = self.parameters
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            return
        for key, value in arguments.items():
            if key not in parameters:
                raise OptionError(
                    f"The model '{self.name}' has no argument '{key}'.",
                    cure=did_you_mean(key, parameters),
                    option=key,
                    value=value,
                    allowed=sorted(parameters),
                )

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """The parameters of the builder by name."""
        return dict(inspect.signature(self.builder).parameters)

    @property
    def summary(self) -> str:
        """The first sentence of the builder's docstring; empty without a docstring."""
        line = (inspect.getdoc(self.builder) or "").split("\n")[0]
        return line.split(". ")[0].rstrip(".") + "." if line else ""


def register_model(task: str, paper: str, training: Mapping[str, Any] | None = None) -> Callable[[BuilderT], BuilderT]:
    """Register the decorated builder as a model of `task`.

    Args:
        task: The task's name.
        paper: Cites its source.
        training: Defaults of common training options that suit the model better than the task's.

    Returns:
        The decorator; it returns the builder unchanged.
    """

    def register(builder: BuilderT) -> BuilderT:
        _models[builder.__name__] = ModelEntry(builder.__name__, task, paper, builder, training or {})
        return builder

    return register


def register_model_source(prefix: str, find: Callable[[str], ModelEntry]) -> None:
    """Let `find_model` call `find(name)` for every name that begins with `prefix` and a colon."""
    _model_sources[prefix] = find


def register_task(cls: TaskT) -> TaskT:
    """Register the decorated class under its attribute `name`."""
    _tasks[cls.name] = cls
    return cls


@dataclass(frozen=True)
class ConceptEntry:
    """A registered concept: its text `text`, its dataclass of `settings`, and the function that computes it.

    `input_kind` names the kind of user input it takes, a module of `thalweg.inference.inputs`; None if it takes none.
    """

    name: str
    text: Any
    settings: type[Any]
    input_kind: str | None
    explain: Callable[..., Any]


def register_concept(text: Any, settings: type[Any], input_kind: str | None = None) -> Callable[[BuilderT], BuilderT]:
    """Register the decorated function as a concept: `function(settings, **inputs)` returns a ConceptResult."""

    def register(explain: BuilderT) -> BuilderT:
        _concepts[explain.__name__] = ConceptEntry(explain.__name__, text, settings, input_kind, explain)
        return explain

    return register


def get_models(task: str | None = None) -> dict[str, ModelEntry]:
    """Return every registered model by name, or those of one task."""
    _import_all("models")
    return {name: entry for name, entry in sorted(_models.items()) if task in (None, entry.task)}


def get_tasks() -> dict[str, type[Any]]:
    """Return every task class by name."""
    _import_all("tasks")
    return dict(sorted(_tasks.items()))


def get_concepts() -> dict[str, ConceptEntry]:
    """Return every concept by name, in the order in which the pages teach them."""
    _import_all("concepts")
    return dict(sorted(_concepts.items(), key=lambda item: item[1].text.order))


def find_model(name: str, task: str | None = None) -> ModelEntry:
    """Return the model with that name (a dash counts as an underscore), or, as 'timm:NAME', one of a registered source.

    Raises NotFoundError with the nearest names, or for a prefix without a source; a source may raise other errors, such
    as ResourceError if its package is not installed.
    """
    prefix, colon, _ = name.partition(":")
    if colon:
        return _find_source(prefix, name)(name)
    models = get_models(task)
    entry = models.get(name) or models.get(name.replace("-", "_"))
    if entry is None:
        raise NotFoundError.for_unknown("model", name, models)
    return entry


def find_task(name: str) -> type[Any]:
    """Return the task with that name. Raises NotFoundError with the nearest names."""
    tasks = get_tasks()
    if name not in tasks:
        raise NotFoundError.for_unknown("task", name, tasks)
    return tasks[name]


def _find_source(prefix: str, name: str) -> Callable[[str], ModelEntry]:
    if prefix not in _model_sources:
        raise NotFoundError(
            f"There is no model named '{name}': '{prefix}:' is not a source of models.",
            cure=did_you_mean(prefix, _model_sources),
            value=name,
            allowed=sorted(_model_sources),
        )
    return _model_sources[prefix]


def _import_all(folder: str) -> None:
    package = importlib.import_module(f"thalweg.{folder}")
    for module in pkgutil.walk_packages(package.__path__, f"thalweg.{folder}."):
        importlib.import_module(module.name)
