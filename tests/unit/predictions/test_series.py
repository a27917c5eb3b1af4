"""Forecasts as rows, JSON, lines, drawings and files."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

from thalweg.plots.forecast import plot_error_by_step, plot_forecast
from thalweg.predictions.base import Prediction
from thalweg.predictions.series import MAX_LINES, SeriesForecast, SeriesPrediction

LEVELS = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)


def make_prediction(steps: int = 10) -> SeriesPrediction:
    mean = np.linspace(1, 2, steps)
    quantiles = mean[:, None] + np.linspace(-1, 1, len(LEVELS))
    times = [f"2024-01-{day + 1:02}" for day in range(steps)]
    items = [SeriesForecast(name, times, mean, quantiles, np.arange(20.0)) for name in ('shop "A", north', "b")]
    return SeriesPrediction("recent.csv", tuple(items), LEVELS)


def test_rows_and_json_hold_every_series_and_step():
    prediction = make_prediction()
    assert isinstance(prediction, Prediction)
    rows = prediction.rows()
    assert len(rows) == 20 and list(rows[0]) == ["unique_id", "ds", "mean", *(f"q{level:g}" for level in LEVELS)]
    values = json.loads(json.dumps(prediction.json(), allow_nan=False))
    assert values["source"] == "recent.csv" and values["series"][1]["quantiles"]["q0.9"][0] == pytest.approx(1 + 2 / 3)


def test_lines_show_at_most_some_steps_of_each_series():
    assert len(make_prediction().brief()) == 2 * (1 + MAX_LINES)
    assert make_prediction(1).brief()[1].split() == ["2024-01-01", "1", "(0.333333", "to", "1.66667)"]
    assert "2 series, 10 steps" in repr(make_prediction())


def test_files_are_csv_with_quotes_where_needed_and_a_drawing():
    files = make_prediction().files()
    rows = list(csv.DictReader(io.StringIO(files[".csv"].decode())))
    assert rows[0]["unique_id"] == 'shop "A", north' and float(rows[9]["mean"]) == 2
    assert files[".png"].startswith(b"\x89PNG")


def test_plots_take_one_step_and_no_forecast():
    assert plot_forecast([], LEVELS).width == plot_error_by_step({"model": [1.0]}, "error").width
    panel = ("y", np.arange(5.0), np.ones(3), np.ones((3, len(LEVELS))), ["2024-01-01"])
    image = plot_forecast([panel], LEVELS, "title", [np.zeros(3)], [{"seasonal mean": np.ones(3)}])
    assert image.height > 300
