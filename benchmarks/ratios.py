"""Tables of rates beside those of one reference contender."""

from __future__ import annotations

import statistics


def compare_with(reference: str, entries: list[dict], case: str, cases: list, rate: str) -> list[list[str]]:
    """Return a row per case and contender: the median rate, its range, and the median of the repeats' own ratios.

    `case` and `rate` are keys of the entries; those of a case were measured side by side within each `repeat`.
    """
    rows = [["contender", case, rate.replace("_per_second", "/s"), "range", f"times {reference}"]]
    for value in cases:
        rates_by_key = {(e["name"], e["repeat"]): e[rate] for e in entries if e[case] == value}
        for name in dict.fromkeys(name for name, _ in rates_by_key):
            rates = [rate_ for (who, _), rate_ in rates_by_key.items() if who == name]
            both = [repeat for who, repeat in rates_by_key if who == name and (reference, repeat) in rates_by_key]
            ratios = [rates_by_key[name, repeat] / rates_by_key[reference, repeat] for repeat in both]
            ratio = f"{statistics.median(ratios):.2f}" if ratios else "-"
            value_range = f"{min(rates):,.2f} to {max(rates):,.2f}"
            rows.append([name, str(value), f"{statistics.median(rates):,.2f}", value_range, ratio])
    return rows
