"""Annotated dataclasses of options: one definition gives flags, help, JSON schema and the checks of a recipe file.

    @dataclass(frozen=True)
    class Options:
        lr: Annotated[float, "learning rate", Range(0, 1)] = 0.1

Imports no torch, so that `thalweg --help` is quick.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from ..errors import OptionError, did_you_mean
from .size import Size, parse_size, to_height_width

T = TypeVar("T")

#: an upper end of a range from which on it is not worth a mention
UNBOUNDED = 1e12

_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_TYPE_NAMES = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    Size: "WIDTHxHEIGHT, as 320x240",
}
_VALUE_NAMES = {int: "N", float: "NUMBER", str: "TEXT", Size: "WIDTHxHEIGHT"}
_JSON_TYPES = {int: "integer", float: "number", str: "string", bool: "boolean", Size: "string", types.NoneType: "null"}


@dataclass(frozen=True)
class Range:
    """The smallest and the largest allowed value of a number, or of every number in a list or a Size.

    With `above`, the value has to be larger than `low`; with `below`, smaller than `high`.
    """

    low: float
    high: float
    above: bool = False
    below: bool = False

    def __contains__(self, value: float) -> bool:
        if self.above and value == self.low:
            return False
        if self.below and value == self.high:
            return False
        return not (value < self.low or value > self.high)

    def __str__(self) -> str:
        low = f"{self.low:g}"
        high = f"{self.high:.10g}"
        if self.above:
            low = f"more than {low}"
        if self.below:
            high = f"less than {self.high:g}"
        if self.high >= UNBOUNDED:
            return low if self.above else f"{low} or more"
        return f"{low} to {high}"


@dataclass(frozen=True)
class Alias:
    """A second name of an option, on the command line alone, without the dashes: `Alias("size")`."""

    flag: str


@dataclass(frozen=True)
class OptionField:
    """One option.

    Attributes:
        name: Name of the field.
        flag: The option as it is written on the command line, without dashes in front.
        kind: Its type.
        help: Help text.
        default: Default value.
        range: Allowed values of a number.
        choices: The words that the type allows: those of its Literals.
        is_boolean: Whether it is a switch, on, off or left out.
        value_name: How help writes a value: N, TEXT, NUMBER|auto.
        allowed: The range in words; empty without one.
        alias: The flag's second name, without dashes in front.
    """

    name: str
    flag: str
    kind: Any
    help: str
    default: Any
    range: Range | None
    choices: tuple[str, ...]
    is_boolean: bool
    value_name: str
    allowed: str
    alias: str | None = None


def option_fields(cls: type) -> dict[str, OptionField]:
    """Return the fields of a dataclass of `Annotated[type, help, ...]`, where a Range and an Alias may follow."""
    hints = typing.get_type_hints(cls, include_extras=True)
    result = {}
    for field in dataclasses.fields(cls):
        kind, help_text, *more = typing.get_args(hints[field.name])
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        allowed = next((item for item in more if isinstance(item, Range)), None)
        alias = next((item.flag for item in more if isinstance(item, Alias)), None)
        choices = literal_choices(kind)
        result[field.name] = OptionField(
            name=field.name,
            flag=field.name.replace("_", "-"),
            kind=kind,
            help=help_text,
            default=default,
            range=allowed,
            choices=tuple(choices),
            is_boolean=bool in union_members(kind),
            value_name="|".join([*_plain_value_names(kind), *choices])
            or ("NAME=VALUE" if is_mapping(kind) else "VALUE,…"),
            allowed="" if allowed is None else str(allowed),
            alias=alias,
        )
    return result


def _plain_value_names(kind: Any) -> list[str]:
    return [_VALUE_NAMES[member] for member in union_members(kind) if member in _VALUE_NAMES]


def is_mapping(kind: Any) -> bool:
    """Whether an option holds values by name; on the command line its flag is repeatable: --set NAME=VALUE."""
    return any(member is dict or typing.get_origin(member) is dict for member in union_members(kind))


def option_ranges(cls: type) -> dict[str, Range]:
    """Return the ranges of those fields that have one."""
    ranges = {}
    for name, field in option_fields(cls).items():
        if field.range is not None:
            ranges[name] = field.range
    return ranges


def parse_options(values: Mapping[str, Any], cls: type[T], prefix: str = "") -> T:
    """Build `cls` from a mapping (a recipe's YAML, a form's JSON, keyword arguments); strings are converted.

    Args:
        values: Option values by name; dashes in names count as underscores.
        cls: The annotated dataclass.
        prefix: Written before the option's name in messages: "--" for flags.

    Returns:
        The options.

    Raises:
        OptionError: For an unknown name (with the nearest known one) or a value that is not allowed.
    """
    fields = option_fields(cls)
    converted = {}
    for key, value in values.items():
        name = str(key).replace("-", "_")
        if name not in fields:
            raise OptionError(
                f"There is no option '{key}'.", did_you_mean(name, fields), option=name, allowed=sorted(fields)
            )
        converted[name] = parse_value(fields[name], value, prefix)
    return cls(**converted)


def parse_value(field: OptionField, value: Any, prefix: str = "--") -> Any:
    """Convert one value and check its range. Raises OptionError."""
    converted = convert(field.name, value, field.kind, prefix)
    if field.range is not None:
        _check_range(prefix + field.flag, converted, field.range)
    return converted


def _check_range(name: str, value: Any, allowed: Range) -> None:
    """Raise OptionError for a number outside of the range, also inside of lists and sizes."""
    if isinstance(value, Size):
        value = to_height_width(value)
    if isinstance(value, list | tuple):
        for inner in value:
            _check_range(name, inner, allowed)
    elif isinstance(value, int | float) and not isinstance(value, bool) and value not in allowed:
        raise OptionError(
            f"{name}: {value:g} is out of range; expected {allowed}.",
            option=name.lstrip("-").replace("-", "_"),
            value=value,
            allowed=[allowed.low, allowed.high],
        )


def convert(name: str, value: Any, kind: Any, prefix: str = "--") -> Any:
    """Convert `value` to the type `kind`.

    Args:
        name: Name of the option, for the message.
        value: Anything; strings are parsed.
        kind: A type, a Literal, a union of these, a list or a mapping.
        prefix: Written before the name in the message.

    Returns:
        The converted value.

    Raises:
        OptionError: Naming the option, the value and what is allowed.
    """
    for member in union_members(kind):
        fits, result = _coerce(value, member)
        if fits:
            return result
    flag = f"{prefix}{name.replace('_', '-')}"
    choices = literal_choices(kind)
    cure = ""
    if choices:
        cure = did_you_mean(str(value), choices)
    if not cure.startswith("Did"):
        cure = ""
    raise OptionError(
        f"{flag}: {value!r} is not allowed; expected {describe_type(kind)}.",
        cure,
        option=name,
        value=value,
        allowed=choices or None or [describe_type(kind)],
    )


def union_members(kind: Any) -> tuple[Any, ...]:
    """Return the alternatives of a union; a plain type is its own only member."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        members: list[Any] = []
        for one in typing.get_args(kind):
            members += union_members(one)
        return tuple(members)
    return (kind,)


def literal_choices(kind: Any) -> list[str]:
    """Return the words that a type allows: those of its Literals."""
    choices: list[str] = []
    for member in union_members(kind):
        if typing.get_origin(member) is Literal:
            choices += typing.get_args(member)
    return choices


def _coerce(value: Any, member: Any) -> tuple[bool, Any]:
    """Return (True, converted) if `value` can be a `member`, else (False, None)."""
    origin = typing.get_origin(member)
    if member is types.NoneType:
        return value is None or value == "none", None
    if origin is Literal:
        return _coerce_choice(value, typing.get_args(member))
    if member is bool:
        return _coerce_bool(value)
    if member in (int, float):
        return _coerce_number(value, member)
    if origin is dict or member is dict:
        return _coerce_mapping(value, typing.get_args(member))
    if origin is list:
        return _coerce_list(value, typing.get_args(member)[0])
    if member is Size:
        size = parse_size(value) if isinstance(value, str) else None
        return size is not None, size
    return isinstance(value, member), value


def _coerce_mapping(value: Any, args: tuple[Any, ...]) -> tuple[bool, Any]:
    """Convert the values of a mapping to those of a dict[str, V]; all else in it stays."""
    if not isinstance(value, Mapping):
        return False, None
    if len(args) != 2 or args[1] is Any:
        return True, dict(value)
    all_fit = True
    items = {}
    for key, item in value.items():
        fits, items[str(key)] = _coerce(item, args[1])
        all_fit = all_fit and fits
    return all_fit, items


def _coerce_choice(value: Any, choices: tuple[str, ...]) -> tuple[bool, Any]:
    if not isinstance(value, str):
        return False, None
    for choice in choices:
        if choice.lower() == value.lower():
            return True, choice
    return False, None


def _coerce_bool(value: Any) -> tuple[bool, Any]:
    if isinstance(value, bool):
        return True, value
    word = str(value).lower()
    return word in _BOOLEANS, _BOOLEANS.get(word)


def _coerce_number(value: Any, kind: type) -> tuple[bool, Any]:
    if isinstance(value, bool):
        return False, None
    try:
        number = kind(value)
    except (TypeError, ValueError, OverflowError):
        return False, None
    is_exact = number == value or not isinstance(value, float)
    return is_exact and (kind is int or math.isfinite(number)), number


def _coerce_list(value: Any, inner: Any) -> tuple[bool, Any]:
    """Parse a list of `inner`: '1,2,3' is numbers, '1,2;3,4' rows of them; arrays and tuples are lists too."""
    if isinstance(value, str):
        separator = ";" if typing.get_origin(inner) is list else ","
        value = value.strip().strip(";").split(separator)
    elif hasattr(value, "tolist"):
        value = value.tolist()
    if not isinstance(value, list | tuple) or not value:
        return False, None
    all_fit = True
    items = []
    for item in value:
        if isinstance(item, str):
            item = item.strip()
        fits, converted = _coerce(item, inner)
        items.append(converted)
        if not fits:
            all_fit = False
    return all_fit, items


def describe_type(kind: Any) -> str:
    """Describe a type in words: 'a whole number or auto'."""
    parts: list[str] = []
    for member in union_members(kind):
        if member is types.NoneType:  # leaving the option out means None
            continue
        if typing.get_origin(member) is Literal:
            parts.append(", ".join(typing.get_args(member)))
        elif typing.get_origin(member) is list:
            parts.append(_describe_list(typing.get_args(member)[0]))
        elif typing.get_origin(member) is dict:
            parts.append(_describe_mapping(typing.get_args(member)[1]))
        else:
            parts.append(_TYPE_NAMES.get(member, "a mapping"))
    return " or ".join(dict.fromkeys(parts))


def _describe_list(inner: Any) -> str:
    if typing.get_origin(inner) is list:
        return "rows of numbers, as 1,2;3,4"
    return "values with commas between, as 1,2,3"


def _describe_mapping(inner: Any) -> str:
    text = "a mapping"
    return text if inner is Any else f"{text} of names to values, each {describe_type(inner)}"


def json_schema(*option_types: type) -> dict[str, Any]:
    """Return the JSON schema of the options of one or more dataclasses together, for forms and editors."""
    properties = {}
    for cls in option_types:
        for name, field in option_fields(cls).items():
            properties[name] = _field_schema(field)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": option_types[-1].__name__,
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }


def _field_schema(field: OptionField) -> dict[str, Any]:
    alternatives: list[dict[str, Any]] = []
    for member in union_members(field.kind):
        if typing.get_origin(member) is Literal:
            continue
        alternatives.append({"type": _json_type(member)})
    if field.choices:
        alternatives.append({"enum": list(field.choices)})
    schema: dict[str, Any] = {"description": field.help, "default": field.default}
    if len(alternatives) == 1:
        schema |= alternatives[0]
    else:
        schema["anyOf"] = alternatives
    if field.range is not None:
        low_key = "exclusiveMinimum" if field.range.above else "minimum"
        high_key = "exclusiveMaximum" if field.range.below else "maximum"
        schema[low_key] = field.range.low
        schema[high_key] = field.range.high
    return schema


def _json_type(member: Any) -> str:
    if typing.get_origin(member) is list:
        return "array"
    return _JSON_TYPES.get(member, "object")


def non_default(options: Any) -> dict[str, Any]:
    """Return the fields that differ from their defaults."""
    defaults = type(options)()
    result = {}
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if value != getattr(defaults, field.name):
            result[field.name] = value
    return result


def format_setting(value: Any) -> str:
    """Format a value as --set takes it."""
    if isinstance(value, list | tuple):
        separator = ";" if value and isinstance(value[0], list | tuple) else ","
        return separator.join(map(format_setting, value))
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
