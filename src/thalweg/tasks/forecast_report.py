"""What the task forecast says of an evaluation: metrics, details for run.json, tables, plots, and the card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..data.series.dataset import SeriesSplit
from ..plots.forecast import plot_error_by_step, plot_forecast
from .base import CardText, Plot
from .forecast_spec import ForecastSpec
from .forecast_support import Evaluation

#: origins whose error is kept in run.json
_MAX_ORIGINS = 1000


def best_baseline(evaluation: Evaluation) -> tuple[str, float] | None:
    """Return name and standardized squared error of the best baseline; None without windows."""
    scores = {}
    for name, errors in evaluation.baselines.items():
        value = errors.metrics()["mse_scaled"]
        if value is not None:
            scores[name] = float(value)
    if not scores:
        return None
    name = min(scores, key=scores.__getitem__)
    return name, scores[name]


def collect_metrics(evaluation: Evaluation) -> dict[str, float | int | None]:
    """Return the metrics, and the skill: 1 - squared error / that of the best baseline (Murphy 1988)."""
    metrics = evaluation.errors.metrics()
    best = best_baseline(evaluation)
    own = metrics["mse_scaled"]
    metrics["skill"] = None
    if best is not None and own is not None and best[1] > 0:
        metrics["skill"] = 1 - own / best[1]
    return metrics


def collect_details(evaluation: Evaluation, split: SeriesSplit, spec: ForecastSpec) -> dict[str, Any]:
    """Return what run.json holds beside the metrics: baselines, errors by step, by column and by origin."""
    errors = evaluation.errors
    origins = errors.by_origin()
    kept = torch.linspace(0, len(origins) - 1, min(len(origins), _MAX_ORIGINS)).round().long().tolist()
    by_origin = [{"first": split.names([index])[0], "mse_scaled": origins[index]} for index in kept]
    by_step = {name: errors.by_step(name) for name in ("mse_scaled", "mae_scaled", "coverage_80")}
    by_column = {}
    for name in ("mse_scaled", "mae_scaled", "coverage_80"):
        by_column[name] = dict(zip(spec.target, errors.by_column(name), strict=False))
    best = best_baseline(evaluation)
    return {
        "windows": len(split),
        "lookback": spec.lookback,
        "horizon": spec.horizon,
        "baselines": {name: item.metrics() for name, item in evaluation.baselines.items()},
        "best_baseline": None if best is None else best[0],
        "by_step": by_step,
        "by_column": by_column,
        "by_origin": by_origin,
    }


_TABLE_METRICS = ("mse_scaled", "mae_scaled", "mae", "mase", "smape", "crps", "coverage_80", "coverage_95")


def draw_plots(evaluation: Evaluation, levels: Sequence[float]) -> list[Plot]:
    """Draw forecasts, errors by step, and a table of the model beside the baselines."""
    table: list[list[object]] = [["method", *(name.replace("_", " ") for name in _TABLE_METRICS)]]
    errors_by_name = {"this model": evaluation.errors, **evaluation.baselines}
    for name, errors in errors_by_name.items():
        metrics = errors.metrics()
        table.append([name.replace("_", " "), *(_format(metrics[metric]) for metric in _TABLE_METRICS)])
    by_step = {}
    for name, errors in errors_by_name.items():
        by_step[name.replace("_", " ")] = errors.by_step("mse_scaled")
    examples = evaluation.examples
    image = plot_forecast(examples.panels, levels, "", examples.actual, examples.baselines)
    return [
        Plot("baselines", "Beside simple forecasts", "", table=table),
        Plot("forecasts", "Forecasts", "Test windows; bands hold 80 and 95 % of the values.", image),
        Plot(
            "error_by_step",
            "Error by step",
            "Standardized squared error, by how far ahead the forecast is.",
            plot_error_by_step(by_step, "standardized squared error"),
        ),
    ]


def _format(value: float | int | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def describe_baseline(results: Mapping[str, Any]) -> str:
    """Return a sentence if a baseline was better on the test windows, else an empty text."""
    test = results.get("test") or {}
    name = results.get("best_baseline")
    skill = test.get("skill")
    if skill is None or skill >= 0 or name is None:
        return ""
    other = results["baselines"][name]["mse_scaled"]
    return (
        f"A simple forecast wins: the {name.replace('_', ' ')} has a standardized squared error of {other:.4g} on the "
        f"same test windows, this model {test['mse_scaled']:.4g}. Use it instead, or train differently."
    )


def describe_card(spec: ForecastSpec, results: Mapping[str, Any]) -> CardText:
    """Say in words what a forecaster does and where its limits are."""
    sentence = describe_baseline(results)
    point = "mean of the logarithm, brought back: about the median" if spec.log else "mean"
    limits = [
        "It continues what the past looked like: what never happened in the training rows is not foreseen.",
        "The intervals are calibrated on the validation rows; where the future is rougher or calmer, they are too "
        "narrow or too wide.",
    ]
    return CardText(
        summary=(
            f"Forecasts {', '.join(spec.target[:8])} for {spec.horizon} steps of {spec.time_step} from {spec.lookback} "
            f"rows. The point forecast is the {point}. {sentence}"
        ).strip(),
        limitations=(*([sentence] if sentence else []), *limits),
        preprocessing=(
            "Sorted by time; a regular step is required; missing values are filled forward.",
            "Standardized by mean and standard deviation of the training rows"
            + (", after the logarithm." if spec.log else "."),
        ),
        usage_command="thalweg predict RUN recent.csv --csv",
        usage_python="for row in run.predict('recent.csv')[0].rows():\n    print(row)",
    )
