"""Tables about a run: metrics by split, settings, and values as people write them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.helpers.records import make_bare_record, make_record
from thalweg.pages import summary
from thalweg.tasks.base import Metric
from thalweg.tasks.classify import Classify
from thalweg.tasks.write import Write


def with_metrics(**test):
    record = make_record()
    return replace(record, results=replace(record.results, test=test, val={}))


def test_the_results_table_has_a_row_per_metric_and_a_column_per_split():
    header, *rows = summary.build_results_table(make_record(), Classify.metrics)
    assert header == ["", "test", "validation"]
    labels = [row[0] for row in rows]
    assert labels == ["accuracy", "macro F1", "examples"], "intervals are part of the line of their metric"
    assert rows[0][1].startswith("98.00 %") and "93.00 to 99.50 %" in rows[0][1] and rows[0][2] == "97.00 %"


def test_metrics_of_any_task_are_shown_with_their_units():
    metrics = [*Write.metrics, Metric("boxes", "boxes")]
    record = with_metrics(extra=0.5, boxes=12_345, nats_per_character=1.6681, bits_per_character=None)
    assert summary.build_results_table(record, metrics) == [
        ["", "test"],
        ["nats per character", "1.668 nats"],
        ["bits per character", "undefined"],
        ["boxes", "12,345"],
        ["extra", "0.5"],
    ]


def test_intervals_have_the_unit_of_their_metric():
    metric = Metric("error", "error", unit="pixels")
    assert summary.format_interval({"error_low": 1.0, "error_high": 2.5}, metric) == "1 pixels to 2.5 pixels"
    assert summary.format_interval({"error_low": 1.0, "error_high": None}, metric) == ""


def test_key_metrics_begin_with_the_test_and_its_interval():
    labels, values = zip(*summary.key_metrics(make_record(), Classify.metrics), strict=True)
    assert values == ("98.00 %", "97.00 %", "97.90 %", "431,080", "12.5")
    assert labels[0].startswith("test accuracy") and "93.00 to 99.50 %" in labels[0]
    assert labels[1:3] == ("validation accuracy", "test macro F1")


def test_an_unfinished_run_has_no_metrics():
    record = make_bare_record()
    assert summary.build_results_table(record, Classify.metrics) is None
    assert summary.key_metrics(record, Classify.metrics) == []
    for build in (summary.build_versions_table, summary.build_plan_table, summary.build_options_table):
        assert build(record) is None
    assert summary.build_initial_weights_table(record) is None and summary.build_unreadable_table(record) is None


def test_the_data_table_names_the_data_and_not_its_path():
    cells = [cell for row in summary.build_data_table(make_record()) for cell in row]
    assert {"photos", "0123abcd", "train, test"} <= set(cells)
    assert not any("/home" in cell for cell in cells)
    options = summary.build_options_table(make_record())
    assert not any("/home" in cell for row in options for cell in row)


def test_the_plan_shows_the_numbers_of_the_trainer():
    rows = dict(summary.build_plan_table(make_record())[1:])
    assert rows["learning rate"] == "0.002" and rows["device"] == "cpu" and "config" not in rows


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (True, "yes"),
        (False, "no"),
        (1_234_567, "1,234,567"),
        (0.00123456, "0.001235"),
        (123456.7, "123,457"),
        ([1, 2], "1, 2"),
        ((), ""),
        ({"widths": [3, 4], "lr": 0.1}, "widths 3, 4, learning rate 0.1"),
        ("text", "text"),
    ],
)
def test_values_are_written_as_people_write_them(value, text):
    assert summary.format_value(value) == text


def test_a_seed_is_written_without_commas():
    rows = dict(summary.build_options_table(make_record())[1:])
    assert rows["seed"] == "12345"


def test_long_lists_are_counted():
    assert summary.join_values(list(range(30)), limit=3) == "0, 1, 2 and 27 more"
