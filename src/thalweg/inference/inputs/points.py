"""Points in the plane, with or without labels: a table of the user's, or arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...data.point_table import MAX_MAGNITUDE, choose_axes, choose_columns, extract_points, parse_number, parse_table
from ...errors import DataError, NotFoundError, OptionError, pluralize
from . import check_max_words

#: of more points, so many are drawn
MAX_POINTS = 5000
MIN_POINTS = 10
MAX_CLASSES = 10
_ARRAYS_HINT = "Give numbers of the shape (N, 2), and N labels."


def load_input(words: list[Any], settings: Any, weights: str | None, offline: bool) -> dict[str, Any]:
    """Load [TABLE]: `points` (N, 2), `labels` (N,) into `classes`, the names of the two `axes`, `title`, `notes`.

    In Python TABLE may be a pair: points (N, 2) and a label for each. Without words nothing is loaded: the points are
    then synthetic. `settings.columns` names the columns, `settings.seed` draws MAX_POINTS of more points. Raises
    NotFoundError for a missing file or column, DataError with file, line and column for what cannot be used.
    """
    check_max_words(words, 1, "a table")
    if weights is not None:
        raise OptionError("This concept trains models of its own.", "Leave --weights out.", option="weights")
    if not words:
        return {}
    word = words[0]
    notes: list[str] = []
    axes = ["x1", "x2"]
    title = "points"
    if isinstance(word, tuple):
        points, names = _check_arrays(word)
    else:
        title = Path(word).name
        points, names, axes, notes = _read_table(word, settings.columns, choose_columns)
    if len(points) > MAX_POINTS:
        rows = _draw_rows(len(points), settings.seed, notes)
        points = points[rows]
        names = [names[row] for row in rows]
    classes = _sort_classes(names, title)
    labels = np.array([classes.index(name) for name in names], np.int64)
    return {"points": points, "labels": labels, "classes": classes, "axes": axes, "title": title, "notes": notes}


def load_unlabeled_points(word: Any, settings: Any) -> dict[str, Any]:
    """Load a table, an array (N, 2), or a pair of points and labels, without labels.

    Returns `points` (N, 2), the names of the two `axes`, `title` and `notes`. Raises what `load_input` raises.
    """
    notes: list[str] = []
    axes = ["x1", "x2"]
    title = "points"
    if isinstance(word, np.ndarray):
        points, _ = _check_arrays((word, np.zeros(len(word))))
    elif isinstance(word, tuple):
        points, _ = _check_arrays(word)
    else:
        title = Path(word).name
        points, _, axes, notes = _read_table(word, settings.columns, choose_axes)
    _check_count(len(points), title)
    if len(points) > MAX_POINTS:
        points = points[_draw_rows(len(points), settings.seed, notes)]
    return {"points": points, "axes": axes, "title": title, "notes": notes}


def _read_table(
    word: Any, columns: Any, choose: Callable[..., Any]
) -> tuple[np.ndarray, list[str], list[str], list[str]]:
    """Return points (N, 2), labels, the names of both axes and notes of a table, of the columns that `choose` takes."""
    table, notes = parse_table(_read_file(Path(word).expanduser()), str(word))
    chosen, choice = choose(table, columns)
    points, names = extract_points(table, chosen)
    return points, names, [table.header[column] for column in chosen[:2]], [*notes, *choice]


def _draw_rows(count: int, seed: int, notes: list[str]) -> np.ndarray:
    """Return MAX_POINTS of so many rows, in ascending order, and add a note."""
    notes.append(f"{MAX_POINTS} of {count} points are used, drawn by the seed.")
    return np.sort(np.random.default_rng(seed).permutation(count)[:MAX_POINTS])


def _read_file(path: Path) -> bytes:
    """Return the bytes of a file. Raises NotFoundError, DataError."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        nearby = [str(path.parent / other.name) for other in path.parent.glob("*.[ct]sv")]
        raise NotFoundError.for_unknown("file", str(path), nearby) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); expected a CSV file.", path=path) from None


def _check_arrays(pair: tuple[Any, ...]) -> tuple[np.ndarray, list[str]]:
    """Return points (N, 2) and labels (N,) that were given in Python. Raises DataError."""
    if len(pair) != 2:
        raise DataError(f"Got {len(pair)} values; expected a pair of points and labels.", _ARRAYS_HINT, value=len(pair))
    try:
        points = np.asarray(pair[0], np.float64)
        labels = np.asarray(pair[1])
    except (TypeError, ValueError):
        raise DataError("The points are not numbers.", _ARRAYS_HINT) from None
    if points.ndim != 2 or points.shape[1] != 2 or labels.shape != points.shape[:1]:
        raise DataError(
            f"Points have the shape {points.shape}, labels {labels.shape}; expected (N, 2) and (N,).",
            value=(points.shape, labels.shape),
        )
    is_finite = (np.abs(points) < MAX_MAGNITUDE).all(1)
    if not is_finite.all():
        row = int(np.flatnonzero(~is_finite)[0])
        raise DataError(f"Row {row} of the points is not finite.", "Leave it out.", value=row)
    return points, [str(label) for label in labels.tolist()]


def _sort_classes(names: Sequence[str], title: str) -> list[str]:
    """Return the different labels, in the order of numbers if all are, else of the alphabet. Raises DataError."""
    _check_count(len(names), title)
    classes = sorted(set(names))
    if all(parse_number(name, False) is not None for name in classes):
        classes.sort(key=float)
    if len(classes) == 1:
        raise DataError(
            f"{title}: all points have the label '{classes[0]}'; expected two or more.", path=title, value=classes
        )
    if len(classes) > MAX_CLASSES:
        raise DataError(
            f"{title}: {len(classes)} different labels; expected {MAX_CLASSES} at most.",
            "--set columns=x,y,label says which column is the label.",
            path=title,
            value=len(classes),
        )
    return classes


def _check_count(count: int, title: str) -> None:
    """Raise DataError for too few points."""
    if count < MIN_POINTS:
        raise DataError(
            f"{title}: {pluralize(count, 'point')}; expected {MIN_POINTS} or more.", path=title, value=count
        )
