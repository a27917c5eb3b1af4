"""Tables and sentences about a run, shared by the report and the model card. Missing values are skipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ..tasks.base import Metric

Table = list[list[str]]

#: lines of metric tables that are part of another line
_INTERVALS = ("_low", "_high")
#: of a plan or the data, what is shown elsewhere or only machines need
_HIDDEN_KEYS = {"warnings", "unreadable", "fingerprint", "config", "report_every"}
_SPLIT_NAMES = {"test": "test", "val": "validation"}


class RecordLike(Protocol):
    """What the pages read of a run's record."""

    @property
    def task(self) -> str:
        """Name of the task."""
        ...

    @property
    def model(self) -> str:
        """Name of the model."""
        ...

    @property
    def model_kwargs(self) -> dict[str, Any]:
        """Arguments of the model's builder."""
        ...

    @property
    def options(self) -> dict[str, Any]:
        """Common training options."""
        ...

    @property
    def task_options(self) -> dict[str, Any]:
        """The task's own training options."""
        ...

    @property
    def command(self) -> str:
        """The command that repeats the run."""
        ...

    @property
    def num_params(self) -> int:
        """Number of parameters."""
        ...

    @property
    def plan(self) -> dict[str, Any] | None:
        """The plan; None for a run that was not planned."""
        ...

    @property
    def versions(self) -> dict[str, str]:
        """Versions by package."""
        ...

    @property
    def data(self) -> Any:
        """What is known of the data."""
        ...

    @property
    def results(self) -> Any:
        """Metrics; None for an unfinished run."""
        ...

    @property
    def initial_weights(self) -> Any:
        """Where the initial weights came from; None for random ones."""
        ...


def metrics_by_split(record: RecordLike) -> dict[str, Mapping[str, Any]]:
    """Return the metrics of the evaluated splits, test first."""
    if record.results is None:
        return {}
    splits = {"test": record.results.test, "val": record.results.val}
    return {name: metrics for name, metrics in splits.items() if metrics}


def build_results_table(record: RecordLike, metrics: Sequence[Metric]) -> Table | None:
    """Build a row per metric with a column per split; intervals stand in the row of their metric."""
    splits = metrics_by_split(record)
    known = {metric.name: metric for metric in metrics}
    names: dict[str, None] = {}
    for values in splits.values():
        names |= dict.fromkeys(values)
    rows = []
    ranks = dict(zip(known, range(len(known)), strict=True))
    for name in sorted(names, key=lambda name: ranks.get(name, len(known))):
        if name.endswith(_INTERVALS):
            continue
        metric = known.get(name)
        label = format_name(name)
        if metric is not None:
            label = metric.label
        row = [label]
        for values in splits.values():
            row.append(format_metric(name, values, metric))
        rows.append(row)
    return _add_heads(["", *[_SPLIT_NAMES[name] for name in splits]], rows)


def _add_heads(heads: list[str], rows: Table) -> Table | None:
    """Put the heads above the rows; None where there are no rows."""
    if not rows:
        return None
    return [heads, *rows]


def format_metric(name: str, values: Mapping[str, Any], metric: Metric | None) -> str:
    """Format a metric, with its 95 % interval where there is one: 98.19 % (95.44 to 99.29 %)."""
    value = values.get(name)
    if metric is None:
        return format_value(value)
    text = metric.format(value)
    interval = format_interval(values, metric)
    if not interval:
        return text
    return f"{text} (95 % interval {interval})"


def format_interval(values: Mapping[str, Any], metric: Metric) -> str:
    """Format the 95 % interval of a metric, where there is one: 95.44 to 99.29 %."""
    low = values.get(f"{metric.name}_low")
    high = values.get(f"{metric.name}_high")
    if low is None or high is None:
        return ""
    if metric.unit == "fraction":
        return f"{100 * low:.2f} to {metric.format(high)}"
    return f"{metric.format(low)} to {metric.format(high)}"


def key_metrics(record: RecordLike, metrics: Sequence[Metric]) -> list[tuple[str, str]]:
    """Return the figures that matter most: the main metric on test and validation, parameters, time."""
    main = metrics[0]
    figures = []
    for name, values in metrics_by_split(record).items():
        if values.get(main.name) is not None:
            interval = format_interval(values, main)
            label = f"{_SPLIT_NAMES[name]} {main.label}"
            if interval:
                label += f", 95 % interval {interval}"
            figures.append((label, main.format(values[main.name])))
    for other in metrics[1:3]:
        values = metrics_by_split(record).get("test", {})
        if values.get(other.name) is not None:
            figures.append((f"test {other.label}", other.format(values[other.name])))
    if record.num_params:
        figures.append(("parameters", format_value(record.num_params)))
    if record.results is not None:
        figures.append(("seconds of training", format_value(record.results.seconds)))
    return figures


def build_data_table(record: RecordLike) -> Table | None:
    """Build a table of what is known of the data, by its name and not by its path."""
    data = record.data
    counts = []
    for name, count in data.counts.items():
        counts.append(f"{count:,} {_SPLIT_NAMES.get(name, name)}")
    values = {
        "name": data.name,
        "format": data.format,
        "content": data.summary,
        f"{data.unit}s": ", ".join(counts),
        "official splits": join_values(data.official_splits),
        "SHA-256": data.fingerprint,
    }
    return _build_table(values)


def build_plan_table(record: RecordLike) -> Table | None:
    """Build a table of the plan; the trainer's numbers stand beside those of the plan."""
    plan = dict(record.plan or {})
    return _build_table({**plan, **(plan.get("config") or {})})


def build_options_table(record: RecordLike) -> Table | None:
    """Build a table of the options that were given or have a default."""
    options = dict(record.options)
    options.pop("data", None)
    return _build_table({**options, **record.task_options})


def build_versions_table(record: RecordLike) -> Table | None:
    """Build a table of versions."""
    return _build_table(record.versions)


def build_model_table(record: RecordLike) -> Table | None:
    """Build a table of the model: name, arguments, parameters."""
    values = {"model": record.model, "arguments": record.model_kwargs, "parameters": record.num_params}
    return _build_table(values)


def build_initial_weights_table(record: RecordLike) -> Table | None:
    """Build a table of the initial weights: they were made from other data, under other terms."""
    weights = record.initial_weights
    if weights is None:
        return None
    values = {
        "weights": weights.weights,
        "file": weights.file,
        "SHA-256": weights.sha256,
        "reset": join_values(weights.reset),
        "license": weights.license,
    }
    return _build_table(values)


def build_unreadable_table(record: RecordLike) -> Table | None:
    """Build a table of files that were skipped."""
    rows = [[file.path, file.reason] for file in record.data.unreadable]
    return _add_heads(["file", "reason"], rows)


def _build_table(values: Mapping[str, Any]) -> Table | None:
    rows = []
    for name, value in values.items():
        if name not in _HIDDEN_KEYS and value not in (None, "", {}, []):
            text = str(value) if name == "seed" else format_value(value)
            rows.append([format_name(name), text])
    return _add_heads(["", ""], rows)


def format_name(key: str) -> str:
    """Format the name of a metric or setting in words."""
    if key == "lr":
        return "learning rate"
    return str(key).replace("_", " ")


def format_value(value: Any) -> str:
    """Format a value for people: thousands separated, undefined as a dash."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return _format_float(value)
    if isinstance(value, Mapping):
        return _format_mapping(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return join_values(value)
    return str(value)


def _format_float(value: float) -> str:
    if abs(value) < 1e4:
        return f"{value:.4g}"
    return f"{value:,.0f}"


def _format_mapping(values: Mapping[str, Any]) -> str:
    parts = []
    for key, value in values.items():
        parts.append(f"{format_name(key)} {format_value(value)}")
    return ", ".join(parts)


def join_values(items: Sequence[Any], separator: str = ", ", limit: int = 20) -> str:
    """Join 'a, b, c', the rest counted where there are more than `limit`."""
    text = separator.join(map(str, items[:limit]))
    if len(items) <= limit:
        return text
    return f"{text} and {len(items) - limit:,} more"
