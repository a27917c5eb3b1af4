"""Values of any origin become checked options, or an error that carries the option and what it allows."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.config import options
from thalweg.config.options import (
    FOREIGN_NAMES,
    TrainOptions,
    parse_duration,
    parse_train_options,
    split_options,
    validate_options,
)
from thalweg.config.parsing import (
    OptionField,
    Range,
    convert,
    describe_type,
    format_setting,
    json_schema,
    non_default,
    option_fields,
    option_ranges,
    parse_options,
    union_members,
)
from thalweg.engine.config import DEFAULT_LR
from thalweg.errors import OptionError
from thalweg.registry import get_tasks
from thalweg.tasks.classify import ClassifyOptions

LR = float | Literal["auto"] | None
OPTION_CLASSES = [TrainOptions, *(task.TrainOptions for task in get_tasks().values())]


# --- one value -------------------------------------------------------------------------------------------------------


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
        ("auto", LR, "auto"),
        ("AUTO", LR, "auto"),
        ("0.1", LR, 0.1),
        ("none", float | None, None),
        (None, int | None, None),
        (2**60 + 1, int, 2**60 + 1),
        ({"a": 1}, dict, {"a": 1}),
        ("mnist", str | None, "mnist"),
        ("1, 2,3", list[int], [1, 2, 3]),
        ("1,2;3,4", list[list[float]], [[1.0, 2.0], [3.0, 4.0]]),
        ((1, 2), list[int], [1, 2]),
    ],
)
def test_values_become_the_type_of_the_option(value, kind, expected):
    converted = convert("batch_size", value, kind)
    assert converted == expected and type(converted) is type(expected)


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
        ("manual", LR),
        (None, int),
        ([1], int),
        (5, Literal["a", "b"]),
        ("a=b", dict),
        (3, str),
        ("1,x", list[int]),
        ([], list[int]),
    ],
)
def test_other_values_are_rejected_with_option_value_and_what_is_allowed(value, kind):
    with pytest.raises(OptionError) as error:
        convert("weight_decay", value, kind)
    assert error.value.option == "weight_decay" and error.value.value is value and error.value.allowed
    assert "--weight-decay" in error.value.message and describe_type(kind) in error.value.message


def test_misspelled_choices_are_answered_with_the_nearest():
    with pytest.raises(OptionError) as error:
        parse_train_options({"optimizer": "adamm"})
    assert error.value.allowed == list(DEFAULT_LR) and "'adam'" in error.value.cure


def test_types_are_described_in_words():
    assert describe_type(int | Literal["auto"] | None) == "a whole number or auto"
    assert describe_type(float) == "a number" and describe_type(bool) == "true or false"
    assert describe_type(dict[str, int]) == "a mapping of names to values, each a whole number"
    assert union_members(int | None) == (int, type(None))


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.5"), ([1, 2], "1,2"), ([[1, 2], [3, 4]], "1,2;3,4"), ("tanh", "tanh"), (True, "True")]
)
def test_formatted_settings_read_back(value, text):
    assert format_setting(value) == text


# --- ranges ----------------------------------------------------------------------------------------------------------


def edges(allowed: Range) -> tuple[list[float], list[float]]:
    """Return values at both ends of a range that are allowed, and those just outside."""
    step = 1 if allowed.high < 2**40 else allowed.high
    inside, outside = [], [allowed.low - 1, allowed.high + step]
    (outside if allowed.above else inside).append(allowed.low)
    (outside if allowed.below else inside).append(allowed.high)
    return inside, outside


@pytest.mark.parametrize("cls", OPTION_CLASSES, ids=lambda cls: cls.__name__)
def test_every_range_ends_where_it_says(cls):
    for name, allowed in option_ranges(cls).items():
        members = union_members(option_fields(cls)[name].kind)
        is_list = any(get_origin(member) is list for member in members)
        inside, outside = edges(allowed)
        for value in inside:
            given = [value] if is_list else value
            assert getattr(parse_options({name: given}, cls), name) == given
        for value in outside:
            with pytest.raises(OptionError) as error:
                parse_options({name: [value] if is_list else value}, cls, "--")
            assert error.value.option == name, name
            assert error.value.value == value and error.value.allowed == [allowed.low, allowed.high]


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0.0},
        {"epochs": -1.0},
        {"steps": 0},
        {"lr": 0.0},
        {"lr": -0.1},
        {"momentum": 1.0},
        {"momentum": -0.1},
        {"grad_clip": 0.0},
        {"warmup_fraction": 1.1},
        {"warmup_fraction": -0.1},
        {"batch_size": 0},
        {"grad_accum": 0},
        {"patience": 0},
        {"cpu_threads": 0},
        {"ema_decay": 1.0},
        {"val_fraction": 1.0},
        {"weight_decay": -1.0},
        {"checkpoint_every": -1.0},
        {"seed": -1},
        {"seed": 2**32},
        {"unfreeze_every": 0.0},
        {"unfreeze_groups": -1},
        {"layer_decay": 0.0},
        {"layer_decay": 1.01},
        {"snapshots": -1},
        {"image_size": 0},
        {"image_size": 5000},
        {"label_smoothing": -0.1},
        {"label_smoothing": 1.0},
        {"feature_views": 0},
    ],
    ids=str,
)
def test_values_that_no_run_can_have_are_rejected(wrong):
    common, own = split_options(wrong, ClassifyOptions)
    with pytest.raises(OptionError) as error:
        parse_train_options(common)
        parse_options(own, ClassifyOptions)
    assert [error.value.option] == list(wrong) and [error.value.value] == list(wrong.values())


@dataclass(frozen=True)
class Small:
    side: Annotated[int, "side in pixels", Range(1, 9)] = 8
    matrix: Annotated[list[list[float]], "rows", Range(0, 1)] = None  # type: ignore[assignment]


def test_ranges_hold_for_every_number_in_a_list():
    assert parse_options({"matrix": "0,1;1,0"}, Small).matrix == [[0, 1], [1, 0]]
    with pytest.raises(OptionError) as error:
        parse_options({"matrix": "0,1;1,2"}, Small)
    assert (error.value.option, error.value.value) == ("matrix", 2)


# --- names -----------------------------------------------------------------------------------------------------------


def test_unknown_options_are_answered_with_the_nearest():
    with pytest.raises(OptionError) as error:
        parse_train_options({"epoch": 3})
    assert error.value.option == "epoch" and "'epochs'" in error.value.cure
    assert error.value.allowed == sorted(option_fields(TrainOptions))
    with pytest.raises(OptionError) as error:
        split_options({"label-smothing": 3}, ClassifyOptions)
    assert error.value.option == "label_smothing" and "label-smoothing" in error.value.cure


@pytest.mark.parametrize("foreign", sorted(FOREIGN_NAMES))
def test_names_of_other_tools_are_answered_with_ours(foreign):
    with pytest.raises(OptionError) as error:
        split_options({foreign: 1}, ClassifyOptions)
    assert error.value.option == foreign
    assert f"--{FOREIGN_NAMES[foreign].replace('_', '-')}?" in error.value.cure


def test_dashes_and_underscores_are_one():
    expected = TrainOptions(weight_decay=0.1)
    assert parse_train_options({"weight-decay": "0.1"}) == parse_train_options({"weight_decay": 0.1}) == expected


def test_options_are_split_into_common_ones_and_those_of_the_task():
    assert split_options({"lr": 1, "tta": "flip"}, ClassifyOptions) == ({"lr": 1}, {"tta": "flip"})


def test_no_task_has_an_option_of_a_common_name():
    for cls in OPTION_CLASSES[1:]:
        assert not set(option_fields(cls)) & set(option_fields(TrainOptions)), cls


# --- lengths and combinations ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"), [("90s", 90), ("90", 90), ("2m", 120), ("1.5h", 5400), (" 3 m ", 180), ("0.5s", 0.5)]
)
def test_durations_are_parsed(text, expected):
    assert parse_duration(text) == expected


@pytest.mark.parametrize("text", ["", "0s", "-2m", "2 days", "1e3", "m", "1m30s", "nan"])
def test_invalid_durations_are_rejected(text):
    for check in (parse_duration, lambda text: validate_options(TrainOptions(time_budget=text))):
        with pytest.raises(OptionError) as error:
            check(text)
        assert (error.value.option, error.value.value) == ("time_budget", text)


@pytest.mark.parametrize(
    ("values", "option"),
    [
        ({"optimizer": "nesterov", "momentum": 0.0}, "momentum"),
        ({"epochs": 2.0, "steps": 3}, "steps"),
        ({"epochs": 2.0, "time_budget": "2m"}, "time_budget"),
        ({"cuda_graph": True, "unfreeze_every": 1.0}, "cuda_graph"),
        ({"cuda_graph": True, "optimizer": "adagrad"}, "cuda_graph"),
    ],
    ids=str,
)
def test_combinations_that_no_run_can_have_are_rejected(values, option):
    with pytest.raises(OptionError) as error:
        validate_options(parse_train_options(values))
    assert error.value.option == option
    for name in values:
        assert f"--{name.replace('_', '-')}" in str(error.value) or name == "momentum"


def test_other_combinations_are_allowed():
    for values in (
        {},
        {"lr": "auto", "batch_size": "auto", "time_budget": "2m", "optimizer": "nesterov"},
        {"unfreeze_groups": 0, "unfreeze_every": 0.5, "layer_decay": 1.0},
        {"cuda_graph": True, "optimizer": "muon"},
    ):
        validate_options(parse_train_options(values))


def test_every_optimizer_has_a_default_learning_rate():
    assert set(get_args(options.Optimizer)) == set(DEFAULT_LR)
    assert set(options.GRAPHABLE_OPTIMIZERS) <= set(DEFAULT_LR)


# --- all options -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", OPTION_CLASSES, ids=lambda cls: cls.__name__)
def test_every_option_has_a_help_text_and_takes_its_default(cls):
    for name, field in option_fields(cls).items():
        assert field.help and not field.help.endswith("."), name
        if field.default is not None:
            assert convert(name, field.default, field.kind) == field.default


def is_valid(value: Any, rule: dict[str, Any]) -> bool:
    """Whether a value is valid against the part of JSON schema that is used here."""
    if "anyOf" in rule:
        return any(is_valid(value, member) for member in rule["anyOf"])
    if "enum" in rule:
        return value in rule["enum"]
    types = {"integer": int, "number": (int, float), "string": str, "boolean": bool, "null": type(None)}
    types |= {"object": dict, "array": list}
    if isinstance(value, bool) and rule["type"] != "boolean":
        return False
    return isinstance(value, types[rule["type"]])


def test_schema_is_json_and_every_default_is_valid():
    schema = json.loads(json.dumps(json_schema(TrainOptions, ClassifyOptions), allow_nan=False))
    rules = schema["properties"]
    assert set(rules) == {*option_fields(TrainOptions), *option_fields(ClassifyOptions)}
    assert schema["additionalProperties"] is False
    for name, rule in rules.items():
        assert rule["description"] and is_valid(rule["default"], rule), name
    assert not is_valid("adamm", rules["optimizer"]) and is_valid("adam", rules["optimizer"])
    assert is_valid("auto", rules["lr"]) and not is_valid([], rules["lr"])
    assert is_valid(["mlflow"], rules["tracker"]) and not is_valid("mlflow", rules["tracker"])
    assert (rules["momentum"]["minimum"], rules["momentum"]["exclusiveMaximum"]) == (0, 1)


def test_any_annotated_dataclass_has_a_schema():
    rule = {"description": "side in pixels", "default": 8, "type": "integer", "minimum": 1, "maximum": 9}
    assert json_schema(Small)["properties"]["side"] == rule
    assert parse_options({"side": "9"}, Small) == Small(9)


def values_of(field: OptionField) -> st.SearchStrategy:
    """Return any value that an option allows."""
    strategies = []
    allowed = field.range or Range(-1e9, 1e9)
    for member in union_members(field.kind):
        if member is bool:
            strategies.append(st.booleans())
        elif member is int:
            strategies.append(st.integers(int(allowed.low), int(allowed.high)))
        elif member is float:
            ends = {"exclude_min": allowed.above, "exclude_max": allowed.below}
            strategies.append(st.floats(float(allowed.low), float(allowed.high), allow_nan=False, **ends))
        elif member is str:
            strategies.append(st.text())
        elif member is type(None):
            strategies.append(st.none())
        elif isinstance(member, type) or getattr(member, "__origin__", None) is dict:
            strategies.append(st.dictionaries(st.text(), st.integers()))
        elif getattr(member, "__origin__", None) is list:
            (inner,) = get_args(member)
            strategies.append(st.lists(st.sampled_from(get_args(inner)), min_size=1))
        else:
            strategies.append(st.sampled_from(get_args(member)))
    return st.one_of(strategies)


FIELDS = option_fields(TrainOptions)
ANY_OPTIONS = st.fixed_dictionaries({}, optional={name: values_of(field) for name, field in FIELDS.items()})


@given(ANY_OPTIONS)
def test_non_default_values_make_the_same_options_again(values):
    parsed = parse_train_options(values)
    changed = non_default(parsed)
    assert parse_train_options(changed) == parsed == replace(TrainOptions(), **changed)
    assert parse_train_options(json.loads(json.dumps(changed))) == parsed


ANYTHING = st.one_of(st.text(), st.floats(), st.integers(), st.none(), st.lists(st.none()))


@given(st.sampled_from(sorted(FIELDS)), ANYTHING)
def test_any_value_at_all_is_parsed_or_rejected_with_an_option_error(name, value):
    try:
        parsed = getattr(parse_train_options({name: value}), name)
    except OptionError as error:
        assert error.option == name and f"--{name.replace('_', '-')}" in error.message
    else:
        assert not isinstance(parsed, float) or math.isfinite(parsed)
