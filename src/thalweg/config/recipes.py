"""Recipes: YAML files that reproduce one published result each, with the source, its figure, ours, and the options."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from ..errors import NotFoundError, OptionError, did_you_mean
from .options import LENGTHS


@dataclass(frozen=True)
class Recipe:
    """One recipe. `reference_result` and `our_result` name their metric and the number of seeds they are means over."""

    name: str
    task: str
    summary: str = ""
    source: str = ""
    reference_result: str = ""
    our_result: str = ""
    minutes: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)

    def merge(self, overrides: dict[str, Any]) -> dict[str, Any]:
        """Return the recipe's options with those that were given; one length of the run replaces another."""
        values = dict(self.options)
        if set(LENGTHS) & set(overrides):
            for name in LENGTHS:
                values.pop(name, None)
        kwargs = {**values.get("model_kwargs", {}), **(overrides.get("model_kwargs") or {})}
        return {**values, **overrides, "model_kwargs": kwargs}


def load_recipes() -> dict[str, Recipe]:
    """Return every recipe of the package, by name."""
    recipes = {}
    files = (resources.files("thalweg") / "recipes").iterdir()
    for file in sorted(files, key=lambda file: file.name):
        if file.name.endswith(".yaml"):
            recipes[file.name.removesuffix(".yaml")] = parse_recipe(file.name, file.read_text(encoding="utf-8"))
    return recipes


def find_recipe(name: str) -> Recipe:
    """Return the recipe of that name, or the one in the YAML file of that path. Raises NotFoundError."""
    if name.endswith((".yaml", ".yml")):
        return read_recipe(name)
    recipes = load_recipes()
    if name not in recipes:
        raise NotFoundError.for_unknown("recipe", name, recipes)
    return recipes[name]


def read_recipe(path: str) -> Recipe:
    """Return the recipe in a YAML file. Raises NotFoundError, or OptionError naming the file and the key."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NotFoundError(
            f"There is no recipe file {path}.", "See `thalweg recipes` for the built-in ones.", path=path, value=path
        ) from error
    recipe = parse_recipe(path, text)
    _check_options(path, recipe)
    return recipe


def parse_recipe(path: str, text: str) -> Recipe:
    """Parse a recipe's YAML. Raises OptionError naming the file and the key."""
    import yaml

    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise OptionError(f"{path} is not YAML: {error}.", path=path) from error
    if not isinstance(values, dict):
        raise OptionError(f"{path} is not a mapping of keys to values.", path=path, value=values)
    allowed = sorted(set(Recipe.__dataclass_fields__) - {"name"})
    for key in values:
        if key not in allowed:
            raise OptionError(
                f"{path}: a recipe has no key '{key}'.",
                did_you_mean(str(key), allowed),
                path=path,
                option=str(key),
                allowed=allowed,
            )
    if "task" not in values:
        raise OptionError(f"{path}: the key 'task' is missing.", path=path, option="task")
    options = values.get("options") or {}
    if not isinstance(options, dict):
        raise OptionError(
            f"{path}: 'options' is not a mapping of options to values.", path=path, option="options", value=options
        )
    plain = {}
    for key, value in options.items():
        plain[str(key).replace("-", "_")] = value
    return Recipe(**{**values, "name": Path(path).stem, "options": plain})


def _check_options(path: str, recipe: Recipe) -> None:
    """Raise OptionError for options that the recipe's task does not have, or values that it does not allow."""
    from ..registry import find_task
    from .options import parse_run_options

    try:
        parse_run_options(recipe.options, find_task(recipe.task).TrainOptions)
    except (OptionError, NotFoundError) as error:
        raise OptionError(
            f"{path}: {error.message}",
            error.cure,
            path=path,
            option=error.option or "task",
            value=error.value,
            allowed=error.allowed or [],
        ) from error
