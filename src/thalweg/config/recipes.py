"""Files that reproduce one published result each: the source, the published figure, ours, and the options that give it.

`list(thalweg.recipes)` names them; `thalweg.recipes["mnist-lenet"]` is one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from ..errors import NotFoundError, OptionError, did_you_mean


@dataclass(frozen=True)
class Recipe:
    """One recipe. Figures are test accuracies in per cent, with the number of seeds they are means over."""

    name: str
    task: str
    about: str
    source: str
    published: str
    ours: str
    minutes: float
    options: dict[str, Any] = field(default_factory=dict)


def load_recipes() -> dict[str, Recipe]:
    """Every recipe of the package, by name."""
    files = {
        f.name.removesuffix(".yaml"): f
        for f in (resources.files("thalweg") / "recipes").iterdir()
        if f.name.endswith(".yaml")
    }
    return {name: parse_recipe(file.name, file.read_text(encoding="utf-8")) for name, file in sorted(files.items())}


def find_recipe(name: str) -> Recipe:
    """The recipe of that name, or the one in the YAML file of that path. Raises NotFound, with the nearest names."""
    if name.endswith((".yaml", ".yml")):
        try:
            return parse_recipe(name, Path(name).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise NotFoundError(
                f"There is no recipe file {name}.", cure="See `thalweg recipes` for the built-in ones."
            ) from error
    known = load_recipes()
    if name not in known:
        raise NotFoundError.for_unknown("recipe", name, known)
    return known[name]


def parse_recipe(where: str, text: str) -> Recipe:
    """A recipe from its YAML. Raises OptionError naming the file and the key."""
    import yaml

    from . import options

    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise OptionError(f"{where} is not YAML: {error}.") from error
    if not isinstance(values, dict):
        raise OptionError(f"{where} is not a mapping of keys to values.")
    keys = {"name", *Recipe.__dataclass_fields__}
    for key in values:
        if key not in keys:
            raise OptionError(f"{where}: there is no key '{key}' in a recipe.", cure=did_you_mean(str(key), keys))
    settings = values.get("options") or {}
    if not isinstance(settings, dict):
        raise OptionError(f"{where}: 'options' is not a mapping of options to values.")
    try:
        options.parse_options(settings)
    except OptionError as error:
        raise OptionError(f"{where}: {error.message}", error.cure) from error
    filled = {"task": "classify", "about": "", "source": "", "published": "", "ours": "", "minutes": 0.0, **values}
    return Recipe(**{**filled, "name": Path(where).stem, "options": settings})
