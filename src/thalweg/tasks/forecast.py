"""Forecast time series from their past, with intervals (Box and Jenkins 1970; here with neural networks)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import nn

from ..config.json_record import from_json
from ..config.parsing import Range
from ..data.base import DataRequest, take_dataset
from ..data.batches import InMemoryBatches
from ..data.series import dataset as series_data
from ..data.series import named
from ..data.series.cleaning import make_series_table
from ..data.series.dataset import SeriesDataset, SeriesSettings, SeriesSplit
from ..data.series.recent import RecentRows, read_recent_rows
from ..data.series.series_report import SeriesReport, check_series, looks_like_series
from ..engine.freezing import refuse_freezing
from ..errors import OptionError
from ..metrics.overfitting import describe_overfitting
from ..models.forecast.base import LEVELS
from ..objectives.supervised import Supervised
from ..predictions.base import Prediction
from ..predictions.series import SeriesPrediction
from ..registry import register_task
from . import forecast_report as report
from . import forecast_support as support
from .base import CardText, Context, EvalResult, InputType, Metric, Plot, Setup, Task
from .forecast_spec import ForecastSpec, WindowTensors, build_spec, window_indices

MAX_BATCH_SIZE = 64
#: steps of a training of unstated length, and the epochs that it stays between
DEFAULT_STEPS = 1000
MIN_EPOCHS = 3
MAX_EPOCHS = 40
#: rise of the validation metric over its best from which on a run is called overfit
MIN_RISE = 0.02
#: learning rate, but of models that are registered with their own
DEFAULT_LR = 1e-3


@dataclass(frozen=True)
class ForecastTrainOptions:
    """Options of `thalweg train forecast`."""

    horizon: Annotated[int | None, "steps to forecast  [default: a season]", Range(1, 1_000_000)] = None
    lookback: Annotated[
        int | None, "rows that a forecast reads  [default: 14 seasons, at most 336 rows]", Range(1, 1_000_000)
    ] = None
    target: Annotated[
        list[str] | None, "columns to forecast  [default: y of a long table, else all that hold numbers]"
    ] = None
    season: Annotated[
        int | None, "rows after which values are alike  [default: by the step; 24 of hourly rows]", Range(1, 1_000_000)
    ] = None
    past_covariates: Annotated[list[str] | None, "columns that are read and not forecast, known up to now"] = None
    future_covariates: Annotated[list[str] | None, "columns that are known in advance, as holidays or prices"] = None
    static_covariates: Annotated[list[str] | None, "columns that are the same in all rows of a series"] = None
    split_rows: Annotated[
        list[int] | None,
        "rows of train, val and test; later ones are not used  [default: the last 20 % are test]",
        Range(0, 1_000_000_000),
    ] = None
    resample: Annotated[
        str | None, "auto, or a step as 15min, 1h, 1d, 1mo: rows become the mean per step, gaps are filled"
    ] = None
    log: Annotated[bool, "forecast logarithms, for values that grow by percents"] = False

    def settings(self) -> SeriesSettings:
        """Return how a table is read."""
        return SeriesSettings(
            horizon=self.horizon,
            lookback=self.lookback,
            season=self.season,
            target=self.target,
            past_covariates=tuple(self.past_covariates or ()),
            future_covariates=tuple(self.future_covariates or ()),
            static_covariates=tuple(self.static_covariates or ()),
            split_rows=self.split_rows,
            resample=self.resample,
            log=self.log,
        )


@dataclass(frozen=True)
class ForecastPredictOptions:
    """Options of `thalweg predict`."""

    horizon: Annotated[
        int | None, "steps to forecast, at most those trained for  [default: all]", Range(1, 1_000_000)
    ] = None


@register_task
class Forecast(Task):
    """Values that follow values."""

    name = "forecast"
    description = "How will these series go on?"
    default_model = "sparsetsf"
    default_data = named.DEFAULT_NAME
    named_data = staticmethod(named.list_named_series)
    metrics = (
        Metric("mse_scaled", "standardized squared error", higher_is_better=False),
        Metric("mae_scaled", "standardized absolute error", higher_is_better=False),
        Metric("mse", "mean squared error", higher_is_better=False, in_curves=False),
        Metric("mae", "mean absolute error", higher_is_better=False, in_curves=False),
        Metric("rmse", "root mean squared error", higher_is_better=False, in_curves=False),
        Metric("mase", "MASE", higher_is_better=False, in_curves=False),
        Metric("smape", "sMAPE", higher_is_better=False, in_curves=False),
        Metric("pinball", "pinball loss", higher_is_better=False, in_curves=False),
        Metric("crps", "CRPS", higher_is_better=False),
        Metric("coverage_80", "coverage of the 80 % interval", unit="fraction", in_curves=False),
        Metric("coverage_95", "coverage of the 95 % interval", unit="fraction", in_curves=False),
        Metric("skill", "squared error saved against the best simple forecast", unit="fraction", in_curves=False),
    )
    input_type = InputType.TABLE
    DataSpec = ForecastSpec
    TrainOptions = ForecastTrainOptions
    PredictOptions = ForecastPredictOptions

    def load_data(
        self, request: DataRequest, options: ForecastTrainOptions, context: Context, spec: ForecastSpec | None = None
    ) -> SeriesDataset:
        """Read a table, wide or long: a file, a data frame, or the name of a series. Raises DataError."""
        in_memory = take_dataset(request, SeriesDataset, {})
        if in_memory is not None:  # its windows are cut anew, and its splits stay
            request = replace(request, make_splits=True)
        settings = options.settings()
        if spec is None:
            return series_data.load_series(request, settings)
        settings = replace(spec.settings(), split_rows=settings.split_rows, resample=settings.resample)
        return series_data.load_series(request, settings, spec.time_step)

    def toy_dataset(self) -> SeriesDataset:
        """Make two daily series."""
        table = make_series_table(named.make_toy())
        settings = SeriesSettings(lookback=28, horizon=7)
        return series_data.build_series_dataset(table, settings, DataRequest("toy"))

    def data_spec(self, dataset: SeriesDataset, options: ForecastTrainOptions) -> ForecastSpec:
        """Measure the training rows."""
        return build_spec(dataset)

    def spec_for_transfer(self, old: ForecastSpec, new: ForecastSpec) -> ForecastSpec:
        """Return the scales of the new data; all else is as in the weights, in whose terms it was read."""
        return new

    def spec_from_weights(self, weights: Any) -> ForecastSpec:
        """Return the spec that comes with the weights of a run."""
        return from_json(weights.spec_values, ForecastSpec)

    def model_kwargs(self, spec: ForecastSpec) -> dict[str, Any]:
        """Return the sizes."""
        return {"shape": spec.shape()}

    def default_options(self, dataset: SeriesDataset, spec: Any, options: Any, common: Any) -> dict[str, Any]:
        """Return batch size, epochs and learning rate by the number of windows; the best epoch is kept."""
        count = max(1, len(dataset.train))
        batch_size = min(MAX_BATCH_SIZE, 2 ** int(math.log2(max(1, count / 8))))
        rows = common.batch_size if isinstance(common.batch_size, int) else batch_size
        epochs = round(DEFAULT_STEPS * rows / count)
        values: dict[str, Any] = {
            "batch_size": batch_size,
            "epochs": min(MAX_EPOCHS, max(MIN_EPOCHS, epochs)),
            "optimizer": "adamw",
            "schedule": "one-cycle",
            "precision": "float32",
            "grad_clip": 1.0,
            "keep_best": True,
        }
        if common.optimizer in (None, "adam", "adamw"):
            values["lr"] = DEFAULT_LR
        return values

    def setup(
        self,
        model: nn.Module,
        dataset: SeriesDataset,
        spec: ForecastSpec,
        options: Any,
        batch_size: int,
        context: Context,
    ) -> Setup:
        """Train on windows in random order. Every validation also calibrates the intervals. Raises OptionError."""
        refuse_freezing(context.options, "a forecaster is trained as a whole")
        tensors = WindowTensors(dataset.train.data, spec, context.device)
        indices = window_indices(dataset.train, context.device)
        batches = InMemoryBatches(indices, batch_size, context.seed, context.rank, context.world_size)

        def validate(model: nn.Module) -> EvalResult:
            support.calibrate(model, dataset.train, dataset.val, tensors)
            return self._evaluate(model, dataset.val, spec, tensors)

        return Setup(Supervised(model, support.compute_loss), batches, tensors.gather, validate)

    def evaluate(
        self, model: nn.Module, split: SeriesSplit, spec: ForecastSpec, options: Any, context: Context
    ) -> EvalResult:
        """Forecast from every row of the split on (a rolling origin), beside simple forecasts of the same windows."""
        return self._evaluate(model, split, spec, WindowTensors(split.data, spec, context.device))

    def _evaluate(self, model: nn.Module, split: SeriesSplit, spec: ForecastSpec, tensors: WindowTensors) -> EvalResult:
        model.eval()
        evaluation = support.evaluate_split(model, split, tensors)
        details = report.collect_details(evaluation, split, spec)
        return EvalResult(report.collect_metrics(evaluation), details, evaluation)

    def plots(
        self, model: nn.Module, dataset: Any, spec: Any, options: Any, result: EvalResult, history: list[dict[str, Any]]
    ) -> list[Plot]:
        """Draw forecasts of test windows, errors by step, and a table with the simple forecasts."""
        return report.draw_plots(result.evidence, LEVELS)

    def preprocess(self, source: Any, spec: ForecastSpec, options: Any) -> RecentRows:
        """Read recent rows: a file, the bytes of a CSV file, or a data frame. Raises DataError and OptionError."""
        horizon = options.horizon
        if horizon is not None and horizon > spec.horizon:
            raise OptionError(
                f"--horizon: {horizon} steps; expected at most {spec.horizon}, for which the model was trained.",
                f"Train with --horizon {horizon}.",
                option="horizon",
                value=horizon,
                allowed=[1, spec.horizon],
            )
        return read_recent_rows(source, spec.settings(), spec.time_step, spec.are_dates)

    @torch.no_grad()
    def predict(
        self, model: nn.Module, names: Sequence[str], examples: Sequence[RecentRows], spec: ForecastSpec, options: Any
    ) -> list[Prediction]:
        """Forecast what follows the last row of every series."""
        device = next(model.parameters()).device
        steps = options.horizon or spec.horizon
        predictions: list[Prediction] = []
        for name, example in zip(names, examples, strict=True):
            forecasts = support.forecast_rows(model, example.data, spec, device, steps)
            predictions.append(SeriesPrediction(name, tuple(forecasts), LEVELS, example.frame_package))
        return predictions

    def recognizes(self, path: Path) -> bool:
        """Whether a path is a table with a column of times."""
        return looks_like_series(path)

    def dataset_report(self, request: DataRequest, options: ForecastTrainOptions, context: Context) -> SeriesReport:
        """Check a table."""
        return check_series(self.load_data(request, options, context))

    def advice(self, history: list[dict[str, Any]], spec: Any, options: Any, common: Any) -> list[str]:
        """Say where a simple forecast was better on the validation windows, and where training went on for too long."""
        lines = []
        skills = [row["skill"] for row in history if row.get("split") == "val" and row.get("skill") is not None]
        if skills and max(skills) < 0:
            lines.append(
                f"A simple forecast wins: on the validation windows its squared error is {-100 * max(skills):.1f} % "
                "smaller. Try a longer --lookback, --model nlinear, or use it instead; see the table in the report."
            )
        overfitting = describe_overfitting(history, self.metrics[0].name, MIN_RISE)
        return [*lines, f"{overfitting} The best epoch is kept."] if overfitting else lines

    def card_text(self, spec: ForecastSpec, options: Any, results: Mapping[str, Any]) -> CardText:
        """Say in words what the model does and where its limits are."""
        return report.describe_card(spec, results)
