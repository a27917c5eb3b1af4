"""From the command line to options: one flag per field of an options dataclass, and `--set key=value` for the rest.

A flag that was not given is not passed on, so that recipes and defaults can fill in what is missing.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer

from ..config.parsing import OptionField, is_mapping, option_fields, parse_value
from ..errors import OptionError

#: options with a place of their own on the command line: DATA, and --set
NOT_FLAGS = {"data", "model_kwargs"}


def add_flags(function: Callable[..., Any], *option_types: type) -> None:
    """Give `function(..., **given)` a flag for every option: `given` receives strings, booleans, or None."""
    signature = inspect.signature(inspect.unwrap(function), eval_str=True)
    original = getattr(function, "original_parameters", None)
    if original is None:
        original = [item for item in signature.parameters.values() if item.kind is not item.VAR_KEYWORD]
        function.original_parameters = original  # type: ignore[attr-defined]
    taken = {item.name for item in original}
    flags = []
    for cls in option_types:
        for name, field in option_fields(cls).items():
            if name in NOT_FLAGS or name in taken:
                continue
            taken.add(name)
            kind = inspect.Parameter.KEYWORD_ONLY
            flags.append(inspect.Parameter(name, kind, default=None, annotation=make_flag(field)))
    function.__signature__ = signature.replace(parameters=[*original, *flags])  # type: ignore[attr-defined]


def make_flag(field: OptionField) -> Any:
    """Return the annotation of a flag."""
    text, default_text, rest = field.help.partition("  [default")
    if field.allowed:
        text = f"{text}, {field.allowed}"
    text += default_text + rest
    if field.is_boolean:
        text += "  [default: on]" if field.default else ""
        flag = typer.Option(f"--{field.flag}/--no-{field.flag}", help=text, show_default=False)
        return Annotated[bool | None, flag]
    if is_mapping(field.kind):
        return Annotated[list[str] | None, typer.Option(f"--{field.flag}", help=text, metavar=field.value_name)]
    if field.default is not None and "[default" not in text:
        text = f"{text}  [default: {format_default(field.default)}]"
    complete: dict[str, Any] = {"autocompletion": lambda: list(field.choices)} if field.choices else {}
    flags = [f"--{name}" for name in (field.flag, field.alias) if name]
    flag = typer.Option(*flags, help=text, metavar=field.value_name, show_default=False, **complete)
    return Annotated[str | None, flag]


def format_default(value: Any) -> str:
    """Format a default as it would be typed."""
    if value == "":
        return "none"
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def parse_flags(flags: Mapping[str, Any], settings: Sequence[str], option_types: Sequence[type]) -> dict[str, Any]:
    """Return the options that were given, converted.

    Args:
        flags: Values by field; None: not given.
        settings: Texts 'key=value'; a key that is no option is an argument of the model.
        option_types: The dataclasses of the options.

    Returns:
        Option values by name.

    Raises:
        OptionError: For a value that does not fit, a setting without '=', and an option that is given twice.
    """
    fields: dict[str, OptionField] = {}
    for cls in option_types:
        fields = {**option_fields(cls), **fields}
    texts: dict[str, Any] = {}
    for name, value in flags.items():
        if isinstance(value, list):  # of a repeatable flag
            value = _parse_pairs(fields[name], value) or None
        if value is not None:
            texts[name] = value
    model_kwargs = {}
    for name, text in parse_key_values(settings, taken=texts).items():
        if name in fields and name != "model_kwargs":
            texts[name] = text
        else:
            model_kwargs[name] = parse_yaml_value(text)
    options = {name: _convert_option(fields[name], value) for name, value in texts.items()}
    return {**options, "model_kwargs": model_kwargs} if model_kwargs else options


def parse_key_values(settings: Sequence[str], taken: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Parse 'key=value' texts. Raises OptionError for one without '=', and for a key that is given twice."""
    pairs: dict[str, str] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        name = key.strip().replace("-", "_")
        if not equals or not name:
            raise OptionError(
                f"--set: '{setting}' is not KEY=VALUE.",
                "For example: --set activation=tanh",
                option="set",
                value=setting,
            )
        if name in pairs or name in (taken or {}):
            raise OptionError(f"'{name}' is given twice.", "Leave one of the two out.", option=name)
        pairs[name] = text
    return pairs


def _parse_pairs(field: OptionField, pairs: Sequence[str]) -> dict[str, str]:
    """Parse the values NAME=VALUE of a repeatable flag. Raises OptionError for one without '=', or given twice."""
    values: dict[str, str] = {}
    for pair in pairs:
        name, equals, text = (part.strip() for part in pair.partition("="))
        if not equals or not name or name in values:
            problem = f"'{name}' is given twice" if name in values else f"'{pair}' is not NAME=VALUE"
            flag = f"--{field.flag}"
            raise OptionError(f"{flag}: {problem}.", f"Write {flag} NAME=2.", option=field.name, value=pair)
        values[name] = text
    return values


def _convert_option(field: OptionField, value: Any) -> Any:
    is_relative = field.name == "epochs" and str(value).startswith("+")
    number = parse_value(field, str(value)[1:] if is_relative else value)
    # '+5' stays a string: the number of epochs in all is known only to the run that is resumed
    return value if is_relative else number


def parse_yaml_value(text: str) -> Any:
    """Parse a text as YAML does: 3, 0.5, true, tanh; commas make a list: 128,64. Raises OptionError."""
    import yaml

    is_list = "," in text and not text.lstrip().startswith(("[", "{", '"', "'"))
    try:
        value = yaml.safe_load(f"[{text.rstrip(', ')}]" if is_list else text)
    except yaml.YAMLError:
        raise OptionError(
            f"--set: cannot parse the value {text!r}.", "Quote it: --set 'name=\"a: b\"'", option="set", value=text
        ) from None
    return _to_plain(value, text)


def _to_plain(value: Any, text: str) -> Any:
    """Turn 1e-3, which YAML takes for a string, into a number; refuse what no file of options could hold."""
    if isinstance(value, list):
        return [_to_plain(item, text) for item in value]
    if isinstance(value, dict):
        return {str(key): _to_plain(item, text) for key, item in value.items()}
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return value
    if isinstance(value, float) and not math.isfinite(value):
        raise OptionError(f"--set: {text!r} is not a finite number.", option="set", value=text)
    if value is None or isinstance(value, bool | int | float):
        return value
    return str(value)


def scan_words(
    words: Sequence[str], value_flags: Sequence[str], option_types: Sequence[type] = ()
) -> tuple[str | None, dict[str, str]]:
    """Find the first positional word, and the values of some flags, as `--out runs/a` or `--out=runs/a`.

    Args:
        words: The words after the verb.
        value_flags: The flags whose values are returned.
        option_types: Dataclasses of options; the values of their flags are no positional words either.

    Returns:
        The first word that is neither a flag nor a flag's value, and the first value of each flag that is given.
    """
    others = set()
    for cls in option_types:
        for field in option_fields(cls).values():
            if not field.is_boolean:
                others |= {f"--{name}" for name in (field.flag, field.alias) if name}
    values: dict[str, str] = {}
    positional = None
    rest = iter(words)
    for word in rest:
        flag, equals, value = word.partition("=")
        if word == "--":
            break
        if equals and flag in value_flags:
            values.setdefault(flag, value)
        elif word in value_flags:
            values.setdefault(word, next(rest, ""))
        elif word in others:
            next(rest, None)
        elif positional is None and (word == "-" or not word.startswith("-")):
            positional = word
    return positional, {flag: value for flag, value in values.items() if value}
