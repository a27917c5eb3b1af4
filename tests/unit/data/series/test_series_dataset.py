"""Cleaning, splits and windows of series."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from thalweg.data.base import DataRequest
from thalweg.data.series.cleaning import make_series_table
from thalweg.data.series.dataset import SeriesDataset, SeriesSettings, build_series_dataset, load_series
from thalweg.data.series.named import read_named
from thalweg.data.series.recent import read_recent_rows
from thalweg.data.series.series_report import check_series, measure_seasonality
from thalweg.data.series.table import read_table
from thalweg.data.series.time_step import TimeStep
from thalweg.errors import DataError, OptionError, ResourceError

ETT = Path(os.environ.get("THALWEG_DATA", "")) / "ett" / "ETTh1.csv"
HOURS = np.datetime64("2024-01-01") + np.arange(400) * np.timedelta64(1, "h")


def write_hours(values, rows=None, times=HOURS, name="y") -> bytes:
    rows = range(len(values)) if rows is None else rows
    lines = [f"ds,{name}"] + [f"{str(times[row]).replace('T', ' ')},{values[row]}" for row in rows]
    return "\n".join(lines).encode()


def load(content: bytes, tmp_path: Path, **settings) -> SeriesDataset:
    path = tmp_path / "series.csv"
    path.write_bytes(content)
    values = {"lookback": 24, "horizon": 12, **settings}
    return load_series(DataRequest(path), SeriesSettings(**values))


def test_unsorted_rows_are_sorted_with_a_note(tmp_path):
    values = np.arange(200.0)
    order = np.random.default_rng(0).permutation(200)
    sorted_dataset = load(write_hours(values), tmp_path)
    dataset = load(write_hours(values, order), tmp_path)
    assert any("order of time" in warning for warning in dataset.warnings)
    np.testing.assert_array_equal(dataset.train.data.values, sorted_dataset.train.data.values)
    assert dataset.fingerprint == sorted_dataset.fingerprint


def test_duplicates_and_gaps_are_named_by_row_and_resampled_on_request(tmp_path):
    values = np.arange(200.0)
    with pytest.raises(DataError, match=r"line 52: the time 2024-01-03 01:00:00 is there twice \(first in line 51\)"):
        load(write_hours(values, [*range(50), 49, *range(50, 200)]), tmp_path)
    with pytest.raises(
        DataError, match="line 52: 2024-01-03 03:00:00 follows 2024-01-03 01:00:00; expected steps of 1 h"
    ) as e:
        load(write_hours(values, [*range(50), *range(51, 200)]), tmp_path)
    assert "--resample" in e.value.cure and e.value.line == 52
    dataset = load(write_hours(values, [*range(50), 49, *range(51, 200)]), tmp_path, resample="auto")
    assert len(dataset.table.series[0]) == 200 and dataset.train.data.values[50, 0] == 49
    assert "1 missing value filled forward" in dataset.warnings


def test_resampling_takes_the_mean(tmp_path):
    dataset = load(write_hours(np.arange(400.0)), tmp_path, resample="4h", lookback=6, horizon=2)
    np.testing.assert_array_equal(dataset.train.data.values[:3, 0], [1.5, 5.5, 9.5])
    assert dataset.table.step == TimeStep(4 * 3_600_000_000, "microseconds")


def test_short_runs_of_missing_values_are_filled_and_long_ones_refused(tmp_path):
    values = np.arange(200.0).astype(object)
    values[:2] = values[30:40] = ""
    dataset = load(write_hours(values), tmp_path)
    assert "12 missing values filled forward" in dataset.warnings
    column = dataset.train.data.values[:, 0]
    assert (column[:3] == 2).all() and (column[30:40] == 29).all()
    values[30:60] = ""
    with pytest.raises(DataError, match="'y' has no value in 30 rows from 2024-01-02 06:00:00 on; .* 24") as error:
        load(write_hours(values), tmp_path)
    assert error.value.value == 30 and error.value.option == "y"


def test_windows_are_consecutive_and_none_is_left_out(tmp_path):
    dataset = load(write_hours(np.arange(200.0)), tmp_path)
    rows = {name: split.rows[0].tolist() for name, split in dataset.splits.items()}
    assert rows == {"train": [0, 140], "val": [140, 160], "test": [160, 200]}
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 105, "val": 9, "test": 29}
    assert dataset.test.starts[0] == 160 - 24 and dataset.test.starts[-1] + 24 + 12 == 200
    assert dataset.test.names([0]) == ["2024-01-07 16:00:00"]


def test_windows_of_long_tables_stay_within_their_series():
    toy = make_series_table(read_named_toy())
    dataset = build_series_dataset(toy, SeriesSettings(lookback=28, horizon=7), DataRequest("toy"))
    data = dataset.train.data
    for split in dataset.splits.values():
        first = data.offsets[split.series]
        assert (split.starts >= first).all() and (split.starts + 35 <= first + 240).all()


def read_named_toy():
    from thalweg.data.series.named import make_toy

    return make_toy()


def test_impossible_splits_are_refused(tmp_path):
    values = write_hours(np.arange(200.0))
    for settings, text in (
        ({"split_rows": (100, 50, 10)}, "the test part has 10 rows; expected at least the horizon, 12"),
        ({"split_rows": (100, 80, 40)}, "200 rows; expected at least 220"),
        ({"horizon": 100, "lookback": 24}, "leave none to train on"),
        ({"lookback": 160}, r"140 training rows; expected at least lookback \+ horizon, 160 \+ 12"),
    ):
        with pytest.raises(DataError, match=text) as error:
            load(values, tmp_path, **settings)
        assert error.value.cure
    with pytest.raises(OptionError, match="expected three"):
        load(values, tmp_path, split_rows=(100, 100))
    assert any("one horizon" in note for note in load(values, tmp_path, horizon=50).warnings)


def test_columns_are_chosen_by_name_and_each_has_one_purpose(tmp_path):
    content = b"ds,a,b\n" + b"".join(
        f"2024-01-01 {hour:02}:{minute:02},1,{hour}\n".encode() for hour in range(24) for minute in (0, 30)
    )
    assert load(content, tmp_path, lookback=4, horizon=2, past_covariates=("a",)).train.data.target == ("b",)
    with pytest.raises(DataError, match="no column 'c'"):
        load(content, tmp_path, target=("c",))
    with pytest.raises(DataError, match="no column 'c'"):
        load(content, tmp_path, future_covariates=("c",))
    with pytest.raises(OptionError, match="'a' is named twice"):
        load(content, tmp_path, lookback=4, horizon=2, target=("a",), past_covariates=("a",))


def test_constant_series_are_read_with_a_note(tmp_path):
    dataset = load(write_hours(np.full(200, 7.0)), tmp_path)
    assert any("constant in the training rows: 'y'" in warning for warning in dataset.warnings)


def test_named_series():
    table = make_series_table(read_named("hourly"))
    assert len(table.series[0]) == 3600 and table.step.season == 24
    assert measure_seasonality(table.series[0].values_TK[:, 0], 24) > 0.5


def test_a_named_series_that_is_not_here_says_where_to_put_it(tmp_path, monkeypatch):
    monkeypatch.setenv("THALWEG_DATA", str(tmp_path))
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path))
    with pytest.raises(ResourceError, match="ettm2") as error:
        read_named("ettm2")
    assert "ETDataset" in error.value.cure


def test_a_report_names_step_season_and_columns(tmp_path):
    report = check_series(load(write_hours(np.sin(np.arange(400) * 2 * np.pi / 24)), tmp_path))
    assert report.ok and report.json()["step"] == "1 hour" and report.json()["columns"][0]["seasonality"] > 0.99
    assert any("season 24" in line for line in report.lines())
    assert report.picture().width > 100


def test_recent_rows_hold_the_lookback_and_what_is_known_in_advance():
    settings = SeriesSettings(lookback=3, horizon=2, season=1, target=("y",), future_covariates=("price",))
    step = TimeStep(3_600_000_000, "microseconds")
    rows = [f"2024-01-01 {hour:02}:00,{hour if hour < 5 else ''},{10 * hour}" for hour in range(7)]
    data = read_recent_rows(("ds,y,price\n" + "\n".join(rows)).encode(), settings, step, True).data
    np.testing.assert_array_equal(data.values, [[2, 20], [3, 30], [4, 40], [4, 50], [4, 60]])
    with pytest.raises(DataError, match="'price' is not known in all of the 2 rows to come"):
        read_recent_rows(("ds,y,price\n" + "\n".join(rows[:6])).encode(), settings, step, True)
    with pytest.raises(DataError, match="2 rows with a value; expected at least 3, the lookback"):
        read_recent_rows(("ds,y,price\n" + "\n".join(rows[3:])).encode(), settings, step, True)
    with pytest.raises(DataError, match="expected steps of 1 hour"):
        read_recent_rows(b"ds,y,price\n2024-01-01,1,1\n2024-01-02,1,1\n2024-01-03,1,1\n", settings, step, True)


@pytest.mark.skipif(not ETT.is_file(), reason="THALWEG_DATA has no ett/ETTh1.csv")
@pytest.mark.parametrize(("horizon", "windows"), [(96, 2785), (720, 2161)])
def test_etth1_has_the_windows_of_the_published_protocol(horizon, windows):
    settings = SeriesSettings(lookback=336, horizon=horizon, split_rows=(8640, 2880, 2880))
    dataset = load_series(DataRequest("etth1"), settings)
    assert len(dataset.test) == len(dataset.val) == windows
    assert dataset.test.rows.tolist() == [[11520, 14400]] and dataset.test.starts[0] == 11520 - 336
    assert len(read_table(ETT)) == 17_420
