"""Time stamps as whole numbers, the regular step between them, and what the calendar says of a time.

Times are int64: microseconds since 1970 where they are dates, and themselves where they are numbers.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np

from ...errors import DataError, OptionError
from .table import Table

StepUnit = Literal["microseconds", "months", "numbers"]

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
WEEK = 7 * DAY
#: a step of at least this is one of months, where all days are the same
_SHORTEST_MONTH = 28 * DAY
_FORMATS = ("%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d.%m.%Y", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y/%m/%d")
_AMERICAN_FORMATS = ("%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M", "%m/%d/%Y")
_EUROPEAN_FORMATS = ("%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%d/%m/%Y")
_WORDS = {"s": SECOND, "min": MINUTE, "h": HOUR, "d": DAY, "w": WEEK}
_NAMES = ((WEEK, "week"), (DAY, "day"), (HOUR, "hour"), (MINUTE, "minute"), (SECOND, "second"), (1, "microsecond"))


@dataclass(frozen=True)
class TimeStep:
    """The regular distance of rows: `count` microseconds, months or plain numbers."""

    count: int
    unit: StepUnit

    def __str__(self) -> str:
        count = self.count
        name = {"months": "month", "numbers": "step"}.get(self.unit, "")
        if self.unit == "microseconds":
            size, name = next((size, name) for size, name in _NAMES if count % size == 0)
            count //= size
        return f"{count} {name}" if count == 1 else f"{count} {name}s"

    @property
    def season(self) -> int:
        """Steps after which values are usually alike: a day of hours, a week of days, a year of weeks or months."""
        if self.unit == "numbers":
            return 1
        if self.unit == "months":
            return 12 // self.count if 12 % self.count == 0 else 1
        length = 52 * WEEK
        for limit, cycle in ((MINUTE, MINUTE), (5 * MINUTE, HOUR), (DAY, DAY), (WEEK, WEEK)):
            if self.count < limit:
                length = cycle
                break
        return length // self.count if length % self.count == 0 else 1

    def positions(self, times_N: np.ndarray, start: int) -> np.ndarray:
        """Return how many steps each time is after `start`, (N,) float64; whole numbers for times on the grid."""
        if self.unit != "months":
            return (times_N - start) / self.count
        months_N = _months(times_N)
        rest_N = times_N - _month_starts(months_N)
        first = _months(np.array([start]))
        offset = start - _month_starts(first)[0]
        is_end_N = _is_month_end(times_N)
        is_aligned_N = (rest_N == offset) | (is_end_N & _is_month_end(np.array([start]))[0])
        return (months_N - first[0]) / self.count + np.where(is_aligned_N, 0.0, 1e-3)

    def times(self, start: int, count: int) -> np.ndarray:
        """Return `count` times (count,) from `start` on."""
        index = np.arange(count, dtype=np.int64)
        if self.unit != "months":
            return start + index * self.count
        first = _months(np.array([start]))[0]
        months = first + index * self.count
        offset = start - _month_starts(np.array([first]))[0]
        if _is_month_end(np.array([start]))[0]:
            return _month_starts(months + 1) - (_month_starts(np.array([first + 1]))[0] - start)
        return _month_starts(months) + offset


def _months(times_N: np.ndarray) -> np.ndarray:
    return times_N.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)


def _month_starts(months_N: np.ndarray) -> np.ndarray:
    return months_N.astype("datetime64[M]").astype("datetime64[us]").astype(np.int64)


def _is_month_end(times_N: np.ndarray) -> np.ndarray:
    return _months(times_N + DAY) != _months(times_N)


def parse_step(text: str) -> TimeStep:
    """Parse '15min', '1h', '1d', '1w', '1mo', or '10' for numbered rows. Raises OptionError."""
    match = re.fullmatch(r"(\d*)\s*(s|min|h|d|w|mo|)", text.strip().lower())
    if match is None or not (match[1] or match[2]) or match[1] and not int(match[1]):
        raise OptionError(
            f"--resample: {text!r} is not a step; expected auto, or a number with s, min, h, d, w or mo, as 15min.",
            "For hourly rows: --resample 1h.",
            option="resample",
            value=text,
            allowed=["auto", *_WORDS, "mo"],
        )
    count = int(match[1] or 1)
    if match[2] == "mo":
        return TimeStep(count, "months")
    if match[2]:
        return TimeStep(count * _WORDS[match[2]], "microseconds")
    return TimeStep(count, "numbers")


def parse_times(table: Table, column: str) -> tuple[np.ndarray, bool]:
    """Return the times (N,) int64 of a column, and whether they are dates. Raises DataError with the first bad row."""
    values = table.columns[column]
    if values.dtype.kind == "M":
        times = values.astype("datetime64[us]").astype(np.int64)
        _refuse_missing(table, column, np.isnat(values))
        return times, True
    if values.dtype.kind in "iu":
        return values.astype(np.int64), False
    texts = list(map(str.strip, map(str, values)))
    if re.fullmatch(r"[+-]?\d{1,18}", texts[0]) and len(texts[0]) != 4:  # four digits are a year
        try:
            return np.array(texts, dtype=np.int64), False
        except ValueError:
            pass  # the first row that is none is named below
    times = _parse_dates(texts)
    if times is None:
        row = next(i for i, text in enumerate(texts) if _parse_dates([text]) is None or i == len(texts) - 1)
        raise DataError(
            f"{table.path}, {table.row_name(row)}: '{texts[row][:40]}' in column '{column}' is not a time; "
            "expected a form such as 2024-01-31 13:00, the same in all rows.",
            "Repair the row, or name the column of the times ds.",
            path=table.path,
            line=table.line(row),
            value=texts[row],
            option=column,
        )
    return times, True


def _refuse_missing(table: Table, column: str, is_missing_N: np.ndarray) -> None:
    if not is_missing_N.any():
        return
    row = int(np.flatnonzero(is_missing_N)[0])
    raise DataError(
        f"{table.path}, {table.row_name(row)}: column '{column}' has no time; expected one in every row.",
        "Fill in the time, or delete the row.",
        path=table.path,
        line=table.line(row),
        value=None,
        option=column,
    )


def _parse_dates(texts: list[str]) -> np.ndarray | None:
    """Return times (N,) in microseconds of texts of one form; None if they have none that is known."""
    if re.fullmatch(r"\d{4}(-\d\d(-\d\d([T ]\d\d(:\d\d(:\d\d(\.\d{1,6})?)?)?)?)?)?", texts[0]):
        try:
            times = np.array(texts, dtype="datetime64[us]")
        except ValueError:
            return None
        return None if np.isnat(times).any() else times.astype(np.int64)
    for parse in (_parse_iso, *(_make_parser(form) for form in (*_FORMATS, *_AMERICAN_FORMATS, *_EUROPEAN_FORMATS))):
        times = _apply(parse, texts)
        if times is not None:
            return times
    return None


def _apply(parse: Any, texts: list[str]) -> np.ndarray | None:
    times = np.empty(len(texts), np.int64)
    for index, text in enumerate(texts):
        try:
            time = parse(text)
        except ValueError:
            return None
        if time.tzinfo is None:
            time = time.replace(tzinfo=UTC)
        delta = time - datetime(1970, 1, 1, tzinfo=UTC)
        times[index] = (delta.days * 86_400 + delta.seconds) * SECOND + delta.microseconds
    return times


def _parse_iso(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _make_parser(form: str) -> Any:
    return lambda text: datetime.strptime(text, form)


def looks_like_times(values: np.ndarray) -> bool:
    """Whether the first cells of a column are dates."""
    if values.dtype.kind == "M":
        return True
    if values.dtype.kind != "O" and values.dtype.kind not in "US":
        return False
    texts = [str(value).strip() for value in values[:5]]
    return _parse_dates(texts) is not None


def find_step(times_by_series: list[np.ndarray], are_dates: bool) -> TimeStep | None:
    """Return the most frequent distance of sorted times; None where every series has one row only."""
    distances: Counter[int] = Counter()
    for times_N in times_by_series:
        values, counts = np.unique(np.diff(np.unique(times_N)), return_counts=True)
        distances.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    if not distances:
        return None
    count = min(distances, key=lambda distance: (-distances[distance], distance))
    if not are_dates:
        return TimeStep(count, "numbers")
    if count >= _SHORTEST_MONTH:
        months: Counter[int] = Counter()
        for times_N in times_by_series:
            months.update(np.diff(_months(np.unique(times_N))).tolist())
        step = TimeStep(max(1, min(months, key=lambda distance: (-months[distance], distance))), "months")
        if all(_is_whole(step.positions(times_N, int(times_N[0]))).all() for times_N in times_by_series):
            return step
    return TimeStep(count, "microseconds")


def _is_whole(positions_N: np.ndarray) -> np.ndarray:
    return positions_N == np.round(positions_N)


def format_time(time: int, are_dates: bool) -> str:
    """Format a time as ISO 8601 without what is zero: 2024-01-31, 2024-01-31 13:00:00; a number as it is."""
    return format_times(np.array([time]), are_dates)[0]


def format_times(times_N: np.ndarray, are_dates: bool) -> list[str]:
    """Format times in one form: as dates if all are midnight, else to the second or microsecond."""
    if not are_dates:
        return [str(time) for time in times_N.tolist()]
    unit = "us"
    if not (times_N % DAY).any():
        unit = "D"
    elif not (times_N % SECOND).any():
        unit = "s"
    texts = np.datetime_as_string(times_N.astype("datetime64[us]"), unit)
    return [text.replace("T", " ") for text in texts.tolist()]


def calendar_features(times_N: np.ndarray, step: TimeStep) -> np.ndarray:
    """Return what the calendar says (N, F) float64: sine and cosine of the time of day, day of week, time of year.

    Only cycles that are longer than the step and that a time can tell apart; none for numbered rows.
    """
    if step.unit == "numbers":
        return np.zeros((len(times_N), 0))
    phases = []
    length = step.count if step.unit == "microseconds" else _SHORTEST_MONTH
    if length < DAY:
        phases.append((times_N % DAY) / DAY)
    if length < WEEK:
        phases.append(((times_N // DAY + 3) % 7) / 7)  # 1970-01-01 was a Thursday
    dates = times_N.astype("datetime64[us]")
    months_N = dates.astype("datetime64[M]").astype(np.int64) % 12
    if step.unit == "months":
        phases.append(months_N / 12)
    columns = []
    for phase in phases:
        columns += [np.sin(2 * np.pi * phase), np.cos(2 * np.pi * phase)]
    if not columns:
        return np.zeros((len(times_N), 0))
    return np.stack(columns, 1)
