"""What run.json says of a run, as tables and sentences: shared by the report and the model card.

Pure functions; what is missing is not spoken of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

RunContent = Mapping[str, Any]
Table = list[list[str]]

#: figures that are shares of 1, told in percent
_PERCENT_KEYS = {"accuracy", "accuracy_low", "accuracy_high", "top5", "macro_precision", "macro_recall", "macro_f1"}
_PERCENT_KEYS |= {"calibration_error", "precision", "recall", "f1", "valid_share"}
_DISPLAY_NAMES = {
    "top5": "top-5 accuracy",
    "loss": "loss (nats)",
    "macro_f1": "macro F1",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
    "f1": "F1",
    "lr": "learning rate",
    "ema": "decay of the averaged weights",
    "calibration_error": "calibration error",
}
#: of a plan or the data, what is told elsewhere or only machines need
_HIDDEN_KEYS = {"notes", "bad", "classes", "recipe", "report"}


def get_model_name(content: RunContent) -> str:
    """The name of the network, or of the task where that is not known."""
    return str((content.get("options") or {}).get("model") or content.get("model") or content.get("task") or "model")


def split_metrics(content: RunContent) -> dict[str, Mapping[str, Any]]:
    """The measured splits, test first: name -> figures."""
    results = content.get("results") or {}
    names = [n for n in ("test", "valid") if isinstance(results.get(n), Mapping)]
    return {name: results[name] for name in names}


def accuracy_interval(measured: Mapping[str, Any]) -> str:
    """'98.6 % to 99.0 %' where the figures have an interval of the accuracy, else ''."""
    low, high = measured.get("accuracy_low"), measured.get("accuracy_high")
    return "" if low is None or high is None else f"{format_value('accuracy', low)} to {format_value('accuracy', high)}"


def build_results_table(content: RunContent) -> Table | None:
    """A row for each figure, a column for each measured split; accuracy with its 95 % interval."""
    splits = split_metrics(content)
    keys = [
        k for k in dict.fromkeys(k for m in splits.values() for k in m) if k not in ("accuracy_low", "accuracy_high")
    ]
    rows = []
    for key in keys:
        if any(isinstance(m.get(key), Mapping | list) for m in splits.values()):
            continue
        cells = [format_value(key, measured.get(key)) for measured in splits.values()]
        rows.append([format_name(key), *cells])
        between = [accuracy_interval(measured) or "–" for measured in splits.values()]
        if key == "accuracy" and set(between) != {"–"}:
            rows.append(["95 % interval of the accuracy", *between])
    heads = {"valid": "validation"}
    return [["", *(heads.get(name, name) for name in splits)], *rows] if rows else None


def per_class_rows(content: RunContent) -> Sequence[Mapping[str, Any]]:
    """Precision, recall, F1 and examples of each class on the test set, where run.json has them."""
    results = content.get("results") or {}
    return results.get("per_class") or split_metrics(content).get("test", {}).get("per_class") or []


def build_per_class_table(content: RunContent) -> Table | None:
    """A row for each class, lowest F1 first."""
    rows, classes = per_class_rows(content), (content.get("facts") or {}).get("classes") or []
    if not rows or len(rows) != len(classes):
        return None
    told = sorted(zip(classes, rows, strict=True), key=lambda pair: (pair[1].get("f1") is None, pair[1].get("f1") or 0))
    keys = ("precision", "recall", "f1", "examples")
    return [
        ["class", *map(format_name, keys)],
        *([str(c), *(format_value(k, row.get(k)) for k in keys)] for c, row in told),
    ]


def build_settings_table(content: RunContent, part: str) -> Table | None:
    """Names and values of the plan, the options, the data or the versions; a plan's recipe is told with the plan."""
    values = dict(content.get(part) or {})
    inner = values.get("recipe")
    values = {k: v for k, v in values.items() if k not in _HIDDEN_KEYS and v not in (None, "", {}, [])}
    if isinstance(inner, Mapping):
        values |= {k: v for k, v in inner.items() if k not in _HIDDEN_KEYS and v not in (None, "", {}, [])}
    rows = [[format_name(k), format_value(k, v)] for k, v in values.items()]
    return [["", ""], *rows] if rows else None


def describe_preprocessing(content: RunContent) -> list[str]:
    """What happens to a picture before the network sees it, in sentences."""
    facts, told = content.get("facts") or {}, []
    if facts.get("size"):
        sides, colour = join_values(facts["size"], " by "), {1: "grey", 3: "colour"}.get(facts.get("channels"), "")
        told.append(f"Pictures are brought to {sides} pixels{', ' + colour if colour else ''}.")
    if facts.get("ink"):
        told.append("Drawings are brought to white strokes on black, cropped, and centred by their mass.")
    if facts.get("mean") and facts.get("std"):
        mean, std = join_values(facts["mean"]), join_values(facts["std"])
        told.append(f"Values from 0 to 1 have the mean {mean} taken off and are divided by the deviation {std}.")
    augment = (content.get("options") or {}).get("augment")
    if augment and augment != "none":
        told.append(f"In training only, at random: {augment}.")
    return told


def limitations(content: RunContent) -> list[str]:
    """What the figures do not promise, in sentences."""
    test, facts = split_metrics(content).get("test", {}), content.get("facts") or {}
    told = [
        "The figures hold for examples like those of the test set; elsewhere (another camera, other people) test again."
    ]
    if facts.get("classes"):
        told.append(f"It knows {len(facts['classes'])} classes, and answers with one of them whatever it is shown.")
    if accuracy_interval(test):
        told.append(
            f"{format_value('examples', test.get('examples'))} test examples place the accuracy between "
            f"{accuracy_interval(test).replace(' to ', ' and ')} with 95 % confidence; differences within that may be chance."
        )
    if test.get("calibration_error") is not None:
        told.append(
            f"Its probabilities are off by {format_value('calibration_error', test['calibration_error'])} on average "
            "(calibration error on the test set)."
        )
    near = (content.get("results") or {}).get("near_copies") or {}
    if near.get("examples") and near.get("accuracy_without") is not None:
        told.append(
            f"{near['examples']:,} of the test examples are nearly in the training set; without them the accuracy is "
            f"{format_value('accuracy', near['accuracy_without'])}."
        )
    table = build_per_class_table(content)
    weak = [row[0] for row in table[1:4]] if table and len(table) > 4 else []
    if weak:
        told.append(f"It does least well on {join_values(weak)}.")
    return told


def format_name(key: str) -> str:
    """The name of a figure or setting in words."""
    return _DISPLAY_NAMES.get(key, str(key).replace("_", " "))


def format_value(key: str, it: Any) -> str:
    """A figure or setting as people write it: shares in percent, thousands divided, undefined as a dash."""
    if it is None:
        return "–"
    if isinstance(it, bool):
        return "yes" if it else "no"
    if key in _PERCENT_KEYS and isinstance(it, int | float):
        return f"{100 * it:.2f} %"
    if isinstance(it, int):
        return str(it) if key in ("seed", "python") else f"{it:,}"
    if isinstance(it, float):
        return f"{it:.4g}" if abs(it) < 1e4 else f"{it:,.0f}"
    if isinstance(it, Mapping):
        return ", ".join(f"{format_name(k)} {format_value(k, v)}" for k, v in it.items())
    return join_values(it) if isinstance(it, Sequence) and not isinstance(it, str) else str(it)


def join_values(items: Sequence[Any], between: str = ", ", limit: int = 20) -> str:
    """'a, b, c', the rest counted where there are more than `limit`."""
    told = between.join(format_value("", item) for item in items[:limit])
    return told if len(items) <= limit else f"{told} and {len(items) - limit} more"
