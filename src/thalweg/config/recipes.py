"""YAML files that reproduce one published result each: its source, the published figure, ours, and the options."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from ..errors import NotFoundError, OptionError, did_you_mean


@dataclass(frozen=True)
class Recipe:
    """One recipe. Figures are test accuracies in percent, with the number of seeds they are means over."""

    name: str
    task: str = "classify"
    about: str = ""
    source: str = ""
    published: str = ""
    ours: str = ""
    minutes: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)


def load_recipes() -> dict[str, Recipe]:
    """Return every recipe of the package by name."""
    recipes: dict[str, Recipe] = {}
    folder = resources.files("thalweg") / "recipes"
    for file in sorted(folder.iterdir(), key=lambda item: item.name):
        if file.name.endswith(".yaml"):
            recipe = parse_recipe(file.name, file.read_text(encoding="utf-8"))
            recipes[recipe.name] = recipe
    return recipes


def find_recipe(name: str) -> Recipe:
    """Return the recipe of that name, or the one in a YAML file. Raises NotFoundError with the nearest names."""
    if name.endswith((".yaml", ".yml")):
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise NotFoundError(
                f"There is no recipe file {name}.",
                "See `thalweg recipes` for the built-in ones.",
                path=name,
                value=name,
            ) from error
        recipe = parse_recipe(name, text)
        _check_options(name, recipe)
        return recipe
    recipes = load_recipes()
    if name not in recipes:
        raise NotFoundError.for_unknown("recipe", name, recipes)
    return recipes[name]


def parse_recipe(path: str, text: str) -> Recipe:
    """Parse a recipe's YAML. Raises OptionError naming the file and the key."""
    import yaml

    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise OptionError(f"{path} is not YAML: {error}.", path=path) from error
    if not isinstance(values, dict):
        raise OptionError(f"{path}: expected keys and values.", path=path, value=values)
    allowed = sorted(set(Recipe.__dataclass_fields__) - {"name"})
    for key in values:
        if key not in allowed:
            raise OptionError(
                f"{path}: there is no key '{key}' in a recipe.",
                did_you_mean(str(key), allowed),
                path=path,
                option=str(key),
                allowed=allowed,
            )
    options = values.get("options") or {}
    if not isinstance(options, dict):
        raise OptionError(
            f"{path}: 'options' is wrong; expected names and values.", path=path, option="options", value=options
        )
    return Recipe(**{**values, "name": Path(path).stem, "options": options})


def _check_options(path: str, recipe: Recipe) -> None:
    """Raise OptionError for options that the recipe's task does not have, or values that it does not allow."""
    from ..registry import find_task
    from .options import parse_train_options, split_options
    from .parsing import parse_options

    try:
        task_class = find_task(recipe.task).TrainOptions
        common, own = split_options(recipe.options, task_class)
        parse_train_options(common)
        parse_options(own, task_class, "--")
    except (OptionError, NotFoundError) as error:
        raise OptionError(
            f"{path}: {error.message}",
            error.cure,
            path=path,
            option=error.option or "task",
            value=error.value,
            allowed=error.allowed or [],
        ) from error
