"""The flags of `thalweg train` come from the options, and say no more than was given."""

import dataclasses
import inspect

import pytest

from thalweg.cli import option_flags as flags
from thalweg.config import options
from thalweg.errors import OptionError


def test_every_option_has_a_flag_except_those_with_a_place_of_their_own():
    def verb(task: str = "x", **given):
        """Nothing."""

    made = inspect.signature(flags.with_option_flags(verb)).parameters
    expected = {field.name for field in dataclasses.fields(options.Options)} - {"data", "arguments"}
    assert set(made) == expected | {"task"}
    assert all(made[name].default is None for name in expected)


def test_only_what_was_given_is_passed_on():
    assert flags.parse_flags({"epochs": None, "lr": "0.1", "compile": None}) == {"lr": 0.1}
    assert flags.parse_flags({"compile": False}) == {"compile": False}
    assert flags.parse_flags({}) == {}


def test_values_are_converted_to_the_type_of_the_option():
    found = flags.parse_flags({"batch": "auto", "steps": "100", "lr": "3e-4", "optimizer": "muon", "time": "2m"})
    assert found == {"batch": "auto", "steps": 100, "lr": 3e-4, "optimizer": "muon", "time": "2m"}
    assert isinstance(found["steps"], int)


@pytest.mark.parametrize("wrong", [{"steps": "1.5"}, {"steps": "many"}, {"optimizer": "adamm"}, {"lr": "nan"}])
def test_a_value_that_does_not_fit_names_the_flag(wrong):
    with pytest.raises(OptionError, match="--" + next(iter(wrong))):
        flags.parse_flags(wrong)


def test_set_reaches_options_by_name_and_the_model_otherwise():
    found = flags.parse_flags({}, ["weight-decay=0.01", "activation=tanh", "widths=128,64", "bias=false"])
    assert found == {"weight_decay": 0.01, "arguments": {"activation": "tanh", "widths": [128, 64], "bias": False}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("0.5", 0.5),
        ("1e-3", 0.001),
        ("tanh", "tanh"),
        ("true", True),
        ("null", None),
        ("128,64", [128, 64]),
        ("128,", [128]),
        ("[1, 2]", [1, 2]),
        ("{a: 1}", {"a": 1}),
        ("'a,b'", "a,b"),
        ("", None),
        ("2020-01-31", "2020-01-31"),
        ("a=b", "a=b"),
    ],
)
def test_a_setting_reads_as_yaml_with_commas_as_a_list(text, value):
    assert flags.parse_value(text) == value
    assert type(flags.parse_value(text)) is type(value)


@pytest.mark.parametrize("text", ["[1", "a: b: c", "nan", "-inf", "1,.nan"])
def test_a_setting_that_no_file_could_hold_is_refused(text):
    with pytest.raises(OptionError):
        flags.parse_value(text)


@pytest.mark.parametrize("setting", ["activation", "=3", "a b=3", "data=photos", "arguments=3"])
def test_a_setting_without_a_usable_key_is_refused(setting):
    with pytest.raises(OptionError, match="--set"):
        flags.parse_flags({}, [setting])


def test_the_same_setting_twice_is_refused():
    with pytest.raises(OptionError, match="'lr' is given twice"):
        flags.parse_flags({"lr": "0.1"}, ["lr=0.2"])
    with pytest.raises(OptionError, match="'width' is given twice"):
        flags.parse_flags({}, ["width=1", "width=2"])


def test_epochs_with_a_plus_are_left_to_the_run_that_is_resumed():
    assert flags.parse_flags({"epochs": "+5"}) == {"epochs": "+5"}
    flags.check_relative_epochs("+5", resume=True)
    flags.check_relative_epochs("5", resume=False)
    flags.check_relative_epochs(None, resume=False)
    with pytest.raises(OptionError, match="only a resumed run"):
        flags.check_relative_epochs("+5", resume=False)
    with pytest.raises(OptionError, match="--epochs"):
        flags.parse_flags({"epochs": "+many"})


def test_the_words_that_a_type_allows_are_those_of_its_literals():
    known = options.option_fields()
    assert flags.literal_choices(known["schedule"][0]) == ["constant", "step", "linear", "cosine", "one-cycle"]
    assert flags.literal_choices(known["batch"][0]) == ["auto"]
    assert flags.literal_choices(known["seed"][0]) == []
