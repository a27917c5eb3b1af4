"""Reading tables, and times."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from thalweg.data.series.cleaning import make_series_table
from thalweg.data.series.table import Table, parse_numbers, read_table
from thalweg.data.series.time_step import TimeStep, find_step, format_times, parse_step, parse_times
from thalweg.errors import DataError, NotFoundError, OptionError, ResourceError

DATES = ["2024-01-01", "2024-01-02", "2024-01-03"]


def table_of(times: list[str]) -> Table:
    return Table("t", "CSV file", "t.csv", {"ds": np.array(times, dtype=object)}, range(2, 2 + len(times)))


@pytest.mark.parametrize(
    "content",
    [
        b"ds,y\n2024-01-01,1.5\n2024-01-02,\n2024-01-03,-2e3\n",
        b"\xef\xbb\xbfds;y\r\n2024-01-01;1,5\r\n2024-01-02;NA\r\n\r\n2024-01-03;-2000\r\n",
        b"ds\ty\n2024-01-01\t1.5\n2024-01-02\tnull\n2024-01-03\t-2000\n",
        'ds,y\n2024-01-01,1.5\n2024-01-02,?\n"2024-01-03",-2000\n'.encode("utf-16"),
    ],
)
def test_delimiters_decimals_encodings_and_missing_values(content):
    table = read_table(content)
    np.testing.assert_array_equal(parse_numbers(table, "y"), [1.5, np.nan, -2000])
    times, are_dates = parse_times(table, "ds")
    assert are_dates and format_times(times, are_dates) == DATES


def test_broken_tables_are_refused_by_line():
    cases = {
        b"ds,y\n2024-01-01,1\n2024-01-02\n": (3, "1 cells"),
        b"ds,y\n2024-01-01,1\n2024-01-02,one\n": (3, "'one' in column 'y'"),
        b"ds,y\n2024-01-01,1\n2024-01-02,inf\n": (3, "infinite"),
        b"ds,y\n2024-01-01,1\nsoon,2\n": (3, "'soon'"),
        b"ds,y,y\n2024-01-01,1,2\n": (1, "two columns"),
        b"2024,1\n2025,2\n": (1, "number"),
    }
    for content, (line, text) in cases.items():
        with pytest.raises(DataError, match=text) as error:
            make_series_table(read_table(content))
        assert error.value.line == line and error.value.cure


@pytest.mark.parametrize(
    ("content", "text"),
    [(b"y\n1\n2\n", "one column"), (b"ds,y\n", "no rows"), ("ds,ü\n1,2\n".encode("latin-1"), "UTF")],
)
def test_what_is_no_table_is_refused(content, text):
    with pytest.raises(DataError, match=text) as error:
        read_table(content)
    assert error.value.cure


def test_files_that_are_not_there_folders_and_other_values(tmp_path):
    with pytest.raises(NotFoundError):
        read_table(tmp_path / "none.csv")
    for source in (tmp_path, 3):
        with pytest.raises(DataError, match="expected"):
            read_table(source)


def test_a_table_without_times_or_without_numbers_is_refused():
    with pytest.raises(DataError, match="no column of times"):
        make_series_table(read_table(b"a,b\n1,2\n2,3\n"))
    with pytest.raises(DataError, match="no column of numbers"):
        make_series_table(read_table(b"ds,b\n2024-01-01,x\n2024-01-02,y\n"))
    with pytest.raises(DataError, match="no column 'tmeperature'") as error:
        make_series_table(read_table(b"ds,temperature\n2024-01-01,1\n2024-01-02,2\n"), ["tmeperature"])
    assert "temperature" in error.value.cure


@pytest.mark.parametrize(
    "texts",
    [
        ["1949-01", "1949-02", "1949-03"],
        ["2024-01-31T00:00:00Z", "2024-02-29T01:00:00+01:00", "2024-03-31T00:00:00Z"],
        ["31.01.2024", "29.02.2024", "31.03.2024"],
        ["01/31/2024", "02/29/2024", "03/31/2024"],
    ],
)
def test_months_are_a_step_also_from_month_end_to_month_end(texts):
    times, are_dates = parse_times(table_of(texts), "ds")
    step = find_step([times], are_dates)
    assert step == TimeStep(1, "months") and step.season == 12
    np.testing.assert_array_equal(step.times(int(times[0]), 3), times)
    np.testing.assert_array_equal(step.positions(times, int(times[0])), [0, 1, 2])


def test_steps_have_seasons_and_names():
    expected = {"1s": 60, "1min": 60, "15min": 96, "1h": 24, "1d": 7, "1w": 52, "3mo": 4, "12mo": 1, "5": 1}
    assert {text: parse_step(text).season for text in expected} == expected
    assert str(parse_step("15min")) == "15 minutes" and str(parse_step("h")) == "1 hour"
    for text in ("", "0h", "hourly", "1.5h"):
        with pytest.raises(OptionError, match="not a step"):
            parse_step(text)


def test_numbered_rows_have_no_calendar():
    table = make_series_table(read_table(b"time,y\n10,1\n20,2\n30,3\n"))
    assert table.step == TimeStep(10, "numbers") and not table.are_dates


@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_frames_are_tables(package, tmp_path):
    module = pytest.importorskip(package)
    times = np.array(DATES, dtype="datetime64[us]")
    frame = module.DataFrame({"ds": times, "y": [1.0, None, 3.0], "shop": ["a", "b", "c"]})
    table = make_series_table(read_table(frame))
    assert table.columns == ("y",) and "shop" in table.warnings[0]
    np.testing.assert_array_equal(table.series[0].values_TK[:, 0], [1, np.nan, 3])
    if package == "pandas":
        assert make_series_table(read_table(frame.set_index("ds"))).columns == ("y",)
    if package == "polars":
        frame.write_parquet(tmp_path / "t.parquet")
        assert make_series_table(read_table(tmp_path / "t.parquet")).columns == ("y",)
        (tmp_path / "bad.parquet").write_bytes(b"PAR1")
        with pytest.raises(DataError, match="not a Parquet file"):
            read_table(tmp_path / "bad.parquet")


def test_parquet_without_a_package_has_a_cure(tmp_path, monkeypatch):
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ResourceError, match="polars") as error:
        read_table(tmp_path / "t.parquet")
    assert "pip install" in error.value.cure
