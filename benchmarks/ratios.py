"""Tables of rates beside those of one contender that all are compared with."""

from __future__ import annotations

import statistics


def against(reference: str, entries: list[dict], case: str, cases: list, rate: str) -> list[list[str]]:
    """A row per case and contender: the median rate, its range, and the median of the repeats' own ratios.

    `case` and `rate` are keys of the entries; those of a case were measured side by side within each `repeat`.
    """
    rows = [["contender", case, rate.replace("_per_second", "/s"), "range", f"times {reference}"]]
    for one in cases:
        found = {(e["name"], e["repeat"]): e[rate] for e in entries if e[case] == one}
        for name in dict.fromkeys(name for name, _ in found):
            rates = [value for (who, _), value in found.items() if who == name]
            both = [repeat for who, repeat in found if who == name and (reference, repeat) in found]
            shares = [found[name, repeat] / found[reference, repeat] for repeat in both]
            ratio = f"{statistics.median(shares):.2f}" if shares else "-"
            spread = f"{min(rates):,.2f} to {max(rates):,.2f}"
            rows.append([name, str(one), f"{statistics.median(rates):,.2f}", spread, ratio])
    return rows
