"""Dataclasses to JSON and back: strict, so that a damaged file is refused by the name of the field."""

from __future__ import annotations

import dataclasses
import math
import sys
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from .parsing import Range

T = TypeVar("T")


class FieldError(ValueError):
    """A field of a JSON record that is missing or has a value that is not allowed."""

    def __init__(self, field: str, expected: str):
        super().__init__(f"'{field}' is missing or wrong; expected {expected}")
        self.field = field
        self.expected = expected


def to_json(value: Any) -> Any:
    """Convert to JSON values: NaN and infinities become None, tuples lists, dataclasses mappings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {}
        for field in dataclasses.fields(value):
            fields[field.name] = to_json(getattr(value, field.name))
        return fields
    if isinstance(value, Mapping):
        items = {}
        for key, item in value.items():
            items[str(key)] = to_json(item)
        return items
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(item) for item in value]
    to_list = getattr(value, "tolist", None)  # of NumPy and torch, which this module does not import
    if callable(to_list):
        return to_json(to_list())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def from_json(values: Any, cls: type[T], name: str = "") -> T:
    """Build a dataclass from JSON values.

    Args:
        values: The parsed JSON.
        cls: A dataclass; its fields may be `Annotated[type, help, Range]`.
        name: Path of the record inside the file, for messages: "plan".

    Returns:
        The dataclass. Unknown keys are ignored, so that newer files of the same format can be read.

    Raises:
        FieldError: For the first field that is missing or has a wrong type or value.
    """
    if not isinstance(values, Mapping):
        raise FieldError(name or cls.__name__, "a mapping")
    hints = typing.get_type_hints(cls, include_extras=True)
    result = {}
    for field in dataclasses.fields(typing.cast(Any, cls)):
        path = _join_path(name, field.name)
        has_default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if field.name in values:
            result[field.name] = _read(values[field.name], hints[field.name], path)
        elif not has_default:
            raise FieldError(path, _describe(hints[field.name]))
    try:
        return cls(**result)
    except FieldError as error:  # of __post_init__, which knows no more than the field
        raise FieldError(_join_path(name, error.field), error.expected) from None


def _join_path(name: str, field: str) -> str:
    if not name:
        return field
    return f"{name}.{field}"


def _read(value: Any, hint: Any, path: str) -> Any:
    origin = typing.get_origin(hint)
    if origin is Annotated:
        inner, *extras = typing.get_args(hint)
        result = _read(value, inner, path)
        for extra in extras:
            if isinstance(extra, Range):
                _check_range(result, extra, path)
        return result
    if origin in (types.UnionType, typing.Union):
        return _read_union(value, typing.get_args(hint), path)
    if origin is Literal:
        if value not in typing.get_args(hint):
            raise FieldError(path, _describe(hint))
        return value
    if origin in (list, tuple):
        return _read_sequence(value, origin, typing.get_args(hint), path)
    if origin is dict:
        return _read_mapping(value, typing.get_args(hint), path)
    if dataclasses.is_dataclass(hint):
        return from_json(value, typing.cast(type, hint), path)
    return _read_scalar(value, hint, path)


def _read_union(value: Any, members: tuple[Any, ...], path: str) -> Any:
    if value is None and types.NoneType in members:
        return None
    errors: list[FieldError] = []
    for member in members:
        if member is types.NoneType:
            continue
        try:
            return _read(value, member, path)
        except FieldError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    raise FieldError(path, " or ".join(map(_describe, members)))


def _read_sequence(value: Any, origin: type, args: tuple[Any, ...], path: str) -> Any:
    if not isinstance(value, list | tuple):
        raise FieldError(path, "a list")
    inner = args[0] if args else Any
    items = []
    for index, item in enumerate(value):
        items.append(_read(item, inner, f"{path}[{index}]"))
    return origin(items)


def _read_mapping(value: Any, args: tuple[Any, ...], path: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise FieldError(path, "a mapping")
    inner = args[1] if len(args) == 2 else Any
    result = {}
    for key, item in value.items():
        result[str(key)] = _read(item, inner, f"{path}.{key}")
    return result


def _read_scalar(value: Any, hint: Any, path: str) -> Any:
    if hint is Any:
        return value
    if hint is float and type(value) in (int, float) and abs(value) <= sys.float_info.max:  # NaN compares as False
        return float(value)
    if hint in (int, str, bool, dict, list) and type(value) is hint:
        return value
    raise FieldError(path, _describe(hint))


def _check_range(value: Any, allowed: Range, path: str) -> None:
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_range(item, allowed, f"{path}[{index}]")
    elif isinstance(value, int | float) and not isinstance(value, bool) and value not in allowed:
        raise FieldError(path, str(allowed))


def _describe(hint: Any) -> str:
    if typing.get_origin(hint) is Annotated:
        return _describe(typing.get_args(hint)[0])
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, typing.get_args(hint)))
    return getattr(hint, "__name__", str(hint)).replace("NoneType", "null")
