"""The task forecast: what it learns, what it says beside simple forecasts, and what it answers."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import thalweg as tw
from tests.helpers.toy_tasks import format_csv
from thalweg.cli.main import invoke
from thalweg.config.json_record import FieldError, from_json, to_json
from thalweg.data.base import DataRequest
from thalweg.data.series.dataset import SeriesDataset, SeriesSettings, load_series
from thalweg.engine.config import TrainConfig
from thalweg.engine.trainer import Trainer
from thalweg.errors import DataError, OptionError
from thalweg.predictions.series import SeriesPrediction
from thalweg.registry import get_models
from thalweg.tasks import forecast_support as support
from thalweg.tasks.base import Context
from thalweg.tasks.forecast import Forecast, ForecastTrainOptions
from thalweg.tasks.forecast_report import describe_baseline
from thalweg.tasks.forecast_spec import ForecastSpec, WindowTensors

TASK = Forecast()
CPU = Context(torch.device("cpu"), seed=3)
ETT = Path(os.environ.get("THALWEG_DATA", "")) / "ett" / "ETTh1.csv"
AIRLINE = Path(os.environ.get("THALWEG_DATA", "")) / "airline" / "airline-passengers.csv"
START = np.datetime64("2024-01-01")


def write_csv(path: Path, columns: dict[str, np.ndarray], unit: str = "h") -> Path:
    count = len(next(iter(columns.values())))
    times = START + np.arange(count) * np.timedelta64(1, unit)
    lines = [",".join(["ds", *columns])]
    for row, time in enumerate(times):
        lines.append(",".join([str(time).replace("T", " "), *(f"{values[row]:.6g}" for values in columns.values())]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def fit(dataset: SeriesDataset, model_name: str = "nlinear", steps: int = 150, lr: float = 5e-3, **kwargs):
    """Train without a run."""
    options = ForecastTrainOptions()
    spec = TASK.data_spec(dataset, options)
    torch.manual_seed(0)
    model = get_models("forecast")[model_name](**TASK.model_kwargs(spec), **kwargs)
    setup = TASK.setup(model, dataset, spec, options, 32, CPU)
    for _ in Trainer(setup.objective, setup.batches, TrainConfig(steps=steps, lr=lr), setup.transform):
        pass
    setup.validate(model)
    return model.eval(), spec, options


def load(values: np.ndarray, tmp_path: Path, **settings) -> SeriesDataset:
    path = write_csv(tmp_path / "series.csv", {"y": values})
    return load_series(DataRequest(path), SeriesSettings(**{"lookback": 24, "horizon": 6, "season": 12, **settings}))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short run on the toy data on disk."""
    folder = tmp_path_factory.mktemp("forecast")
    (folder / "toy.csv").write_bytes(format_csv(TASK.toy_dataset().table))
    options = {"lookback": 28, "horizon": 7, "steps": 20, "cpu_threads": 1}
    return tw.train("forecast", str(folder / "toy.csv"), out=str(folder / "run"), **options)


# --- what is learned --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nlinear", "dlinear", "sparsetsf", "segrnn", "gru_forecaster"])
def test_a_forecast_of_a_function_of_time_is_not_a_step_late(name, tmp_path):
    """The classical fault is to forecast the last value: then the forecast fits best when it is shifted by a step."""
    time = np.arange(600)
    dataset = load(np.sin(2 * np.pi * time / 12) + 0.5 * np.sin(2 * np.pi * time / 5), tmp_path)
    model, spec, _ = fit(dataset, name, steps=250)
    tensors = WindowTensors(dataset.test.data, spec, CPU.device)
    (batch,) = support.iter_windows(dataset.test, tensors)
    first = model(support.make_inputs(batch)).mean_BHC[:, 0, 0].detach()
    target = batch["target"][:, 0, 0]
    errors = {}
    for shift in (-1, 0, 1):
        moved = target.roll(shift)[2:-2]
        errors[shift] = (first[2:-2] - moved).square().mean().item()
    assert min(errors, key=errors.__getitem__) == 0


def test_constant_sine_and_trend_are_forecast(tmp_path):
    time = np.arange(400.0)
    for values in (np.full(400, 7.0), 5 + np.sin(2 * np.pi * time / 12), 0.05 * time):
        dataset = load(values, tmp_path)
        model, spec, options = fit(dataset)
        metrics = TASK.evaluate(model, dataset.test, spec, options, CPU).metrics
        assert metrics["mae"] < 0.05 and metrics["mse_scaled"] < 0.05


def test_future_covariates_are_used(tmp_path):
    rng = np.random.default_rng(0)
    price = rng.integers(0, 2, 500).astype(float)
    path = write_csv(tmp_path / "sales.csv", {"y": 3 * price + 0.1 * rng.standard_normal(500), "price": price})
    errors = {}
    for names in ((), ("price",)):
        settings = SeriesSettings(target=("y",), future_covariates=names, lookback=12, horizon=4, season=1)
        dataset = load_series(DataRequest(path), settings)
        model, spec, options = fit(dataset, lr=0.02)
        errors[names] = TASK.evaluate(model, dataset.test, spec, options, CPU).metrics["mse_scaled"]
    assert errors["price",] < 0.3 * errors[()]


def test_intervals_cover_what_they_promise_on_stationary_noise(tmp_path):
    dataset = load(np.random.default_rng(0).standard_normal(3000), tmp_path)
    model, spec, options = fit(dataset, steps=60)
    metrics = TASK.evaluate(model, dataset.test, spec, options, CPU).metrics
    assert abs(metrics["coverage_80"] - 0.8) < 0.04 and abs(metrics["coverage_95"] - 0.95) < 0.03


def test_statistics_come_from_training_rows_only(tmp_path):
    values = np.random.default_rng(0).standard_normal(400)
    values[280:] += 1000
    spec = TASK.data_spec(load(values, tmp_path), ForecastTrainOptions())
    assert spec.series[0].mean[0] == pytest.approx(values[:280].mean(), abs=1e-3)
    assert spec.series[0].raw_std[0] == pytest.approx(values[:280].std(), abs=1e-3)


@pytest.mark.parametrize("name", ["seasonal_naive", "seasonal_mean"])
def test_models_without_a_learned_mean_go_through_a_training(name, tmp_path):
    run = tw.train("forecast", TASK.toy_dataset(), model=name, steps=3, out=str(tmp_path / "run"), report=False)
    details = run.results["details"]
    assert run.results["test"]["mse_scaled"] == pytest.approx(details["baselines"][name]["mse_scaled"], rel=1e-4)


def test_logarithms_forecast_growth_and_refuse_what_has_none(tmp_path):
    dataset = load(np.exp(0.01 * np.arange(400.0)), tmp_path, log=True)
    model, spec, options = fit(dataset, steps=300)
    metrics = TASK.evaluate(model, dataset.test, spec, options, CPU).metrics
    assert metrics["smape"] < 0.02
    with pytest.raises(DataError, match="'y' is 0 at 2024-01-01; expected values above 0"):
        TASK.data_spec(load(np.arange(400.0), tmp_path, log=True), options)


# --- beside simple forecasts ------------------------------------------------------------------------------------------


@pytest.mark.skipif(not ETT.is_file(), reason="THALWEG_DATA has no ett/ETTh1.csv")
def test_baselines_on_etth1_are_those_of_the_published_protocol():
    """An independent NumPy program gave these, and arXiv:2205.13504 1.295 for the last value."""
    options = ForecastTrainOptions(horizon=96, lookback=336, split_rows=[8640, 2880, 2880])
    dataset = TASK.load_data(DataRequest("etth1", for_training=True), options, CPU)
    spec = TASK.data_spec(dataset, options)
    model = get_models("forecast")["seasonal_mean"](**TASK.model_kwargs(spec)).eval()
    result = TASK.evaluate(model, dataset.test, spec, options, CPU)
    measured = {}
    for name, values in result.details["baselines"].items():
        measured[name] = (round(values["mse_scaled"], 3), round(values["mae_scaled"], 3))
    assert measured["last_value"] == (1.294, 0.713)
    assert measured["seasonal_naive"] == (0.512, 0.433)
    assert measured["seasonal_mean"] == (0.404, 0.407)
    assert result.details["windows"] == 2785
    baselines = result.details["baselines"]
    assert baselines["seasonal_mean"]["crps"] == pytest.approx(0.357, abs=1e-3)
    assert baselines["seasonal_naive"]["coverage_80"] == pytest.approx(0.89, abs=0.01)


@pytest.mark.skipif(not AIRLINE.is_file(), reason="THALWEG_DATA has no airline/airline-passengers.csv")
def test_the_seasonal_naive_forecast_of_the_last_two_years_of_airline_passengers():
    options = ForecastTrainOptions(horizon=24, lookback=48, split_rows=[96, 24, 24])
    dataset = TASK.load_data(DataRequest("airline", for_training=True), options, CPU)
    spec = TASK.data_spec(dataset, options)
    model = get_models("forecast")["seasonal_naive"](**TASK.model_kwargs(spec)).eval()
    assert TASK.evaluate(model, dataset.test, spec, options, CPU).metrics["rmse"] == pytest.approx(77.0, abs=0.05)


def test_a_sentence_says_when_a_simple_forecast_wins(tmp_path):
    rng = np.random.default_rng(0)
    dataset = load(np.tile(rng.standard_normal(12), 40) + 0.3 * rng.standard_normal(480), tmp_path)
    data = {"model": "dlinear", "steps": 2, "lr": 1e-6}
    run = tw.train("forecast", dataset, out=str(tmp_path / "run"), **data)
    assert run.results["test"]["skill"] < 0
    for name in ("report.html", "MODEL_CARD.md"):
        assert "A simple forecast wins" in (run.path / name).read_text(encoding="utf-8")
    history = [{"split": "val", "skill": -0.5, "epoch": 1, "mse_scaled": 1.0}]
    assert "A simple forecast wins" in TASK.advice(history, None, None, None)[0]
    assert not TASK.advice([{**history[0], "skill": 0.1}], None, None, None)
    assert describe_baseline({"test": {"skill": 0.2}, "best_baseline": "drift"}) == ""


def test_evaluate_has_baselines_and_every_origin(run, capsys):
    assert invoke(["evaluate", str(run.path), "--json"]) == 0
    result = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    names = {"mse_scaled", "mae_scaled", "mae", "mase", "crps", "coverage_80"}
    assert names <= result["metrics"].keys()
    details = result["details"]
    for name in ("seasonal_naive", "seasonal_mean", "last_value", "drift"):
        assert names <= details["baselines"][name].keys()
    assert len(details["by_origin"]) == details["windows"] == 84
    assert details["by_origin"][0]["first"] == "north at 2024-07-11"
    assert len(details["by_step"]["mse_scaled"]) == 7


# --- what is answered -------------------------------------------------------------------------------------------------


def test_predict_gives_unique_id_ds_mean_and_quantiles(run, tmp_path, capsys):
    path = tmp_path / "recent.csv"
    path.write_bytes(format_csv(TASK.toy_dataset().table))
    assert invoke(["predict", str(run.path), str(path), "--csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "unique_id,ds,mean,q0.025,q0.1,q0.25,q0.5,q0.75,q0.9,q0.975"
    assert len(lines) == 1 + 2 * 7 and lines[1].startswith("north,2024-08-28,")
    (prediction,) = run.predict(str(path))
    for series in prediction.series:
        assert (np.diff(series.quantiles) >= 0).all()
    assert set(prediction.files()) == {".csv", ".png"} and isinstance(prediction.draw(), Image.Image)
    assert prediction.files()[".csv"].decode().splitlines()[0] == lines[0]


@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_frames_come_in_and_go_out(package, run, tmp_path):
    module = pytest.importorskip(package)
    path = tmp_path / "toy.csv"
    path.write_bytes(format_csv(TASK.toy_dataset().table))
    frame = module.read_csv(path)
    (prediction,) = run.predict(frame)
    (expected,) = run.predict(str(path))
    assert prediction.rows() == expected.rows()
    result = prediction.to_frame()
    assert type(result).__module__.startswith(package) and list(result.columns)[:3] == ["unique_id", "ds", "mean"]
    again = tw.train("forecast", frame, lookback=28, horizon=7, steps=20, cpu_threads=1, out=str(tmp_path / "run"))
    assert again.results["test"] == run.results["test"]
    assert again.evaluate(frame)["split"] == "all"


def test_a_horizon_may_be_shorter_but_not_longer_than_trained(run, tmp_path):
    (prediction,) = run.predict(format_csv(TASK.toy_dataset().table), horizon=3)
    assert isinstance(prediction, SeriesPrediction) and len(prediction.series[0].times) == 3
    with pytest.raises(OptionError, match="8 steps; expected at most 7, for which the model was trained") as error:
        list(run.predict(format_csv(TASK.toy_dataset().table), horizon=8))
    assert error.value.option == "horizon"


def test_a_series_that_was_not_trained_on_is_forecast_in_its_own_scale(run):
    text = format_csv(TASK.toy_dataset().table).decode().replace("north", "west")
    (prediction,) = run.predict(text.encode())
    west = prediction.series[0]
    assert west.id == "west" and abs(west.mean.mean() - west.history.mean()) < 3 * west.history.std()


def test_too_few_rows_are_an_unreadable_source(run):
    (prediction,) = run.predict(b"unique_id,ds,y\nnorth,2024-01-01,1\nnorth,2024-01-02,2\n")
    assert not prediction and "expected at least 28, the lookback" in prediction.reason


def test_intervals_are_saved_with_the_weights_and_loaded(run):
    model = tw.load(run.path).model
    assert float(model.get_submodule("head").get_buffer("calibration").abs().max()) > 0


def test_weights_of_a_run_are_a_start_for_other_data(run, tmp_path):
    values = 50 + 9 * np.sin(np.arange(200) * 2 * np.pi / 7)
    path = write_csv(tmp_path / "other.csv", {"y": values}, unit="D")
    other = tw.train("forecast", str(path), weights=str(run.path), steps=2, out=str(tmp_path / "run"), report=False)
    assert other.spec.horizon == 7 and other.spec.series[0].mean[0] == pytest.approx(values[:140].mean(), rel=1e-3)


def test_a_spec_refuses_lists_of_other_lengths():
    spec = TASK.data_spec(TASK.toy_dataset(), ForecastTrainOptions())
    assert from_json(to_json(spec), ForecastSpec) == spec
    with pytest.raises(FieldError, match="target"):
        replace(spec, target=[])
    with pytest.raises(FieldError, match=r"series\[0\]"):
        replace(spec, target=["y", "z"])


def test_data_check_recognizes_a_table_of_times(tmp_path, capsys):
    path = write_csv(tmp_path / "hours.csv", {"y": np.sin(np.arange(300))})
    assert TASK.recognizes(path) and not TASK.recognizes(tmp_path)
    assert invoke(["data", "check", str(path), "--task", "forecast"]) == 0
    assert "step 1 hour, season 24" in capsys.readouterr().out
