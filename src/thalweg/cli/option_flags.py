"""From the command line to options: one flag for every field of `Options`, and `--set key=value` for the rest.

A flag that was not given is not passed on, so that recipes and defaults can fill in what is missing.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from ..config import options
from ..errors import OptionError

#: what has a place of its own on the command line: DATA, and --set
NOT_FLAGS = {"data", "arguments"}


def with_option_flags(function: Callable) -> Callable:
    """Gives `function(..., **given)` a flag for every option: `given` receives texts, booleans, or None."""
    told = inspect.signature(function, eval_str=True)
    own = [p for p in told.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    flags = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_make_flag(name, *facts))
        for name, facts in options.option_fields().items()
        if name not in NOT_FLAGS
    ]
    function.__signature__ = told.replace(parameters=[*own, *flags])
    return function


def _make_flag(name: str, kind: Any, about: str, default: Any) -> Any:
    spelled = name.replace("_", "-")
    if kind is bool:
        about += "  [default: on]" if default else ""
        return Annotated[bool | None, typer.Option(f"--{spelled}/--no-{spelled}", help=about, show_default=False)]
    if default is not None:
        about = f"{about}  [default: {default}]"
    choices = literal_choices(kind)
    complete = {"autocompletion": lambda: choices} if choices else {}
    flag = typer.Option(f"--{spelled}", help=about, metavar=_metavar(kind), show_default=False, **complete)
    return Annotated[str | None, flag]


def literal_choices(kind: Any) -> list[str]:
    """The words that a type allows: those of its Literals."""
    return [
        word for member in options.union_members(kind) if get_origin(member) is Literal for word in get_args(member)
    ]


def _metavar(kind: Any) -> str:
    words = {int: "N", float: "NUMBER", str: "TEXT"}
    plain = [words[member] for member in options.union_members(kind) if member in words]
    return "|".join([*plain, *literal_choices(kind)])


def parse_flags(flags: Mapping[str, Any], settings: Sequence[str] = ()) -> dict[str, Any]:
    """The options that were given, converted: `flags` by field (None: not given), `settings` as 'key=value'.

    A key of `settings` that is no option is an argument of the model. Raises OptionError for a value that does not fit,
    a setting without '=', and an option that is given twice.
    """
    known = options.option_fields()
    texts = {name: value for name, value in flags.items() if value is not None}
    arguments = {}
    for name, text in parse_key_values(settings, texts).items():
        if name in NOT_FLAGS:
            raise OptionError(
                f"--set {name}={text}: '{name}' has a place of its own.", cure="See `thalweg train --help`."
            )
        if name in known:
            texts[name] = text
        else:
            arguments[name] = parse_value(text)
    values = {name: _convert_option(name, value, known[name][0]) for name, value in texts.items()}
    return values | ({"arguments": arguments} if arguments else {})


def parse_key_values(settings: Sequence[str], taken: Collection[str] = ()) -> dict[str, str]:
    """'key=value' texts as a mapping, the dashes of keys as underscores.

    Raises OptionError for what is not of that form, and for what is given twice, also among what is `taken`.
    """
    found: dict[str, str] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        name = key.strip().replace("-", "_")
        if not equals or not name.isidentifier():
            raise OptionError(f"--set {setting}: this is not key=value.", cure="For example: --set activation=tanh")
        if name in taken or name in found:
            raise OptionError(f"'{name}' is given twice.", cure="Leave one of the two out.")
        found[name] = text
    return found


def _convert_option(name: str, value: Any, kind: Any) -> Any:
    number = options.convert(name, value, kind)
    # '+5' stays a text: the number of epochs in all is known only to the run that is resumed.
    return value if name == "epochs" and str(value).startswith("+") else number


def parse_value(text: str) -> Any:
    """A text as YAML reads it: 3, 0.5, true, tanh; commas make a list: 128,64. Raises OptionError if it is neither."""
    import yaml

    listed = "," in text and not text.lstrip().startswith(("[", "{", '"', "'"))
    try:
        value = yaml.safe_load(f"[{text.rstrip(', ')}]" if listed else text)
    except yaml.YAMLError:
        raise OptionError(
            f"--set: the value {text!r} cannot be read.", cure="Quote it: --set 'name=\"a: b\"'"
        ) from None
    return _to_plain(value, text)


def _to_plain(value: Any, text: str) -> Any:
    """Turns 1e-3, which YAML takes for a text, into a number; refuses what no file of options could hold."""
    if isinstance(value, list):
        return [_to_plain(v, text) for v in value]
    if isinstance(value, dict):
        return {str(k): _to_plain(v, text) for k, v in value.items()}
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return value
    if isinstance(value, float) and not math.isfinite(value):
        raise OptionError(f"--set: {text!r} is not a finite number.", cure="Give a finite number.")
    if value is None or isinstance(value, bool | int | float):
        return value
    return str(value)


def check_relative_epochs(epochs: str | None, resume: bool) -> None:
    """`--epochs +N` means N more than the resumed run was to have. Raises OptionError without `--resume`."""
    if epochs is not None and epochs.startswith("+") and not resume:
        raise OptionError(
            f"--epochs {epochs}: only a resumed run can have more.", cure="Add --resume, or give the total."
        )
