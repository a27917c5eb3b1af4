"""Records survive JSON, and damaged ones are rejected with the path of the first wrong field."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thalweg.config.json_record import FieldError, from_json, to_json
from thalweg.config.parsing import Range


@dataclass(frozen=True)
class Inner:
    names: list[str]
    size: Annotated[list[int], "height and width", Range(1, 100)] = field(default_factory=lambda: [1, 1])


@dataclass(frozen=True)
class Outer:
    inner: Inner
    kind: Literal["a", "b"]
    rate: float = 0.5
    limit: Annotated[int | None, "limit", Range(0, 9)] = None
    counts: dict[str, int] = field(default_factory=dict)
    extra: Any = None
    more: list[Inner] = field(default_factory=list)


VALUES = {"inner": {"names": ["x"]}, "kind": "a"}


def test_records_survive_json():
    record = Outer(Inner(["x", "y"], [3, 4]), "b", 2.0, 7, {"train": 3}, {"any": [1, None]}, [Inner([])])
    text = json.dumps(to_json(record), allow_nan=False)
    assert from_json(json.loads(text), Outer) == record


def test_missing_fields_take_their_default_and_unknown_ones_are_ignored():
    record = from_json({**VALUES, "of a newer version": 3}, Outer)
    assert record == Outer(Inner(["x"]), "a")


def test_whole_numbers_are_numbers():
    assert from_json({**VALUES, "rate": 1}, Outer).rate == 1.0


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"inner": None}, "inner"),
        ({"inner": []}, "inner"),
        ({"inner": {}}, "inner.names"),
        ({"inner": {"names": "xy"}}, "inner.names"),
        ({"inner": {"names": ["x", 3]}}, "inner.names[1]"),
        ({"inner": {"names": [], "size": [4, 101]}}, "inner.size[1]"),
        ({"inner": {"names": [], "size": [4.0, 4]}}, "inner.size[0]"),
        ({"kind": "c"}, "kind"),
        ({"rate": "0.5"}, "rate"),
        ({"rate": True}, "rate"),
        ({"rate": None}, "rate"),
        ({"rate": float("nan")}, "rate"),
        ({"rate": 10**400}, "rate"),
        ({"limit": 10}, "limit"),
        ({"limit": True}, "limit"),
        ({"counts": {"train": "many"}}, "counts.train"),
        ({"counts": [3]}, "counts"),
        ({"more": [{"names": []}, {}]}, "more[1].names"),
        ({"kind": []}, "kind"),
    ],
    ids=str,
)
def test_damaged_fields_are_named_by_their_path(changed, name):
    with pytest.raises(FieldError) as error:
        from_json({**VALUES, **changed}, Outer)
    assert error.value.field == name


@pytest.mark.parametrize("values", [None, [], "text", 3])
def test_records_are_mappings(values):
    with pytest.raises(FieldError):
        from_json(values, Outer, "plan")


def test_values_that_are_not_finite_become_null():
    values = {"a": float("nan"), "b": [float("inf"), 1.5], "c": torch.tensor([float("-inf"), 2.0]), 3: (1, np.int64(2))}
    assert to_json(values) == {"a": None, "b": [None, 1.5], "c": [None, 2.0], "3": [1, 2]}


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(ANYTHING)
def test_anything_becomes_strict_json(value):
    json.loads(json.dumps(to_json(value), allow_nan=False), parse_constant=pytest.fail)


@given(st.dictionaries(st.sampled_from(sorted(Outer.__dataclass_fields__)), ANYTHING))
def test_any_values_at_all_are_read_or_rejected_with_a_field_error(values):
    try:
        record = from_json({**VALUES, **values}, Outer)
    except FieldError as error:
        assert error.field
    else:
        assert math.isfinite(record.rate)
