"""Values of any origin become checked options, or an error that names the option and what it takes."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Annotated, Literal, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.config import options
from thalweg.config.options import (
    Options,
    convert,
    describe_type,
    json_schema,
    non_default,
    option_fields,
    parse_options,
    union_members,
)
from thalweg.errors import OptionError


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ("3", int, 3),
        (3.0, int, 3),
        ("0.5", float, 0.5),
        ("1e-3", float, 1e-3),
        (1, float, 1.0),
        ("yes", bool, True),
        ("False", bool, False),
        (0, bool, False),
        ("auto", float | Literal["auto"] | None, "auto"),
        ("0.1", float | Literal["auto"] | None, 0.1),
        ("none", float | None, None),
        (None, int | None, None),
        (2**60 + 1, int, 2**60 + 1),
        ({"a": 1}, dict, {"a": 1}),
        ("mnist", str | None, "mnist"),
    ],
)
def test_a_value_becomes_what_the_option_takes(value, kind, expected):
    found = convert("batch", value, kind)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("3.5", int),
        (3.5, int),
        (True, int),
        (False, float),
        ("abc", float),
        (float("nan"), float),
        ("nan", float),
        ("inf", float),
        (float("inf"), int),
        (float("nan"), int),
        ("maybe", bool),
        (2, bool),
        ("manual", float | Literal["auto"] | None),
        (None, int),
        ([1], int),
        (5, Literal["a", "b"]),
        ("a=b", dict),
        (3, str),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_what_is_taken(value, kind):
    with pytest.raises(OptionError) as raised:
        convert("weight_decay", value, kind)
    assert "--weight-decay" in raised.value.message and repr(value) in raised.value.message
    assert describe_type(kind) in raised.value.cure


def test_types_are_told_in_words():
    assert describe_type(int | Literal["auto"] | None) == "a whole number or auto"
    assert describe_type(float) == "a number" and describe_type(bool) == "true or false"
    assert describe_type(dict[str, int]) == "a mapping"
    assert union_members(int | None) == (int, type(None))


def test_an_unknown_option_is_answered_with_the_nearest():
    with pytest.raises(OptionError, match="no option 'epoch'") as raised:
        parse_options({"epoch": 3})
    assert "'epochs'" in raised.value.cure
    with pytest.raises(OptionError, match="no option '7'"):
        parse_options({7: 3})


def test_dashes_and_underscores_are_one():
    assert parse_options({"weight-decay": "0.1"}) == parse_options({"weight_decay": 0.1}) == Options(weight_decay=0.1)


def test_every_option_says_what_it_is_and_takes_its_default():
    for name, (kind, about, default) in option_fields().items():
        assert about and about[0].islower() and not about.endswith("."), name
        assert convert(name, default, kind) == default


def fits(value, rule: dict) -> bool:
    """Whether a value is valid against the part of JSON schema that is used here."""
    if "anyOf" in rule:
        return any(fits(value, one) for one in rule["anyOf"])
    if "enum" in rule:
        return value in rule["enum"]
    kinds = {"integer": int, "number": (int, float), "string": str, "boolean": bool, "null": type(None), "object": dict}
    return isinstance(value, kinds[rule["type"]]) and (rule["type"] == "boolean" or not isinstance(value, bool))


def test_the_schema_is_json_and_every_default_is_valid():
    told = json.loads(json.dumps(json_schema(), allow_nan=False))
    assert set(told["properties"]) == set(option_fields()) and told["additionalProperties"] is False
    for name, rule in told["properties"].items():
        assert rule["description"] and fits(rule["default"], rule), name
    assert not fits("adamm", told["properties"]["optimizer"]) and fits("adam", told["properties"]["optimizer"])
    assert fits("auto", told["properties"]["lr"]) and not fits([], told["properties"]["lr"])


@dataclasses.dataclass(frozen=True)
class Small:
    side: Annotated[int, "side in pixels"] = 8


def test_any_dataclass_of_that_form_has_a_schema():
    assert json_schema(Small)["properties"] == {
        "side": {"description": "side in pixels", "default": 8, "type": "integer"}
    }
    assert parse_options({"side": "9"}, Small) == Small(9)


def values_of(kind) -> st.SearchStrategy:
    """Any value that an option of this type takes."""
    found = []
    for member in union_members(kind):
        if member is bool:
            found.append(st.booleans())
        elif member is int:
            found.append(st.integers())
        elif member is float:
            found.append(st.floats(allow_nan=False, allow_infinity=False))
        elif member is str:
            found.append(st.text())
        elif member is type(None):
            found.append(st.none())
        elif isinstance(member, type) or getattr(member, "__origin__", None) is dict:
            found.append(st.dictionaries(st.text(), st.integers()))
        else:
            found.append(st.sampled_from(get_args(member)))
    return st.one_of(found)


KNOWN = option_fields()
ANY = st.fixed_dictionaries({}, optional={name: values_of(kind) for name, (kind, _, _) in KNOWN.items()})


@given(ANY)
def test_what_changed_makes_the_same_options_again(values):
    made = parse_options(values)
    again = non_default(made)
    assert parse_options(again) == made
    assert parse_options(json.loads(json.dumps(again))) == made
    assert all(getattr(Options(), name) != value for name, value in again.items())


@given(st.sampled_from(sorted(KNOWN)), st.one_of(st.text(), st.floats(), st.integers(), st.none(), st.lists(st.none())))
def test_any_value_at_all_is_taken_or_refused_with_an_option_error(name, value):
    try:
        found = getattr(parse_options({name: value}), name)
    except OptionError as error:
        assert f"--{name.replace('_', '-')}" in error.message
    else:
        assert not isinstance(found, float) or math.isfinite(found)


def test_literals_and_rates_agree():
    from thalweg.engine.config import DEFAULT_LR

    assert set(get_args(options.Optimizer)) == set(DEFAULT_LR)
