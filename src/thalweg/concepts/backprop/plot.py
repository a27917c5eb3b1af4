"""Backpropagation step by step: the network with all that is known so far, and below it the formulas of the step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from ...plots import style
from ...plots.number_format import format_number

_HEIGHT = 640
#: the network stands between these heights, the formulas below it
_TOP, _BOTTOM, _FORMULAS = 60, 424, 496
_FORWARD, _BACKWARD = style.BLUE, style.VERMILLION
_INACTIVE = "#c4c4c4"
#: the left edges of the inputs and of the errors
_LEFT, _ERROR_LEFT = 24, 774
_TINTS = {_FORWARD: "#e3f0f8", _BACKWARD: "#fbeadd"}
#: the width of a row of formulas, and the space between two of them
_ROW_WIDTH, _COLUMN_GAP = 874, 22


@style.as_image
def plot_backprop(numbers: dict[str, Any], step: int) -> Figure:
    """Draws the numbers of the concept `plot_backprop`; what is not computed before `step` is left open."""
    now = numbers["steps"][step]
    made, axes = style.canvas(style.WIDTH, _HEIGHT)
    colour = _step_color(now["kind"])
    axes.text(24, 30, now["title"], fontsize=13, fontweight="bold", va="center", color=colour)
    if now["kind"] == "curve":
        _draw_error_curve(made, axes, numbers)
        return made
    if now["kind"] not in ("inputs", "update"):
        way = ("←  backward", colour) if colour == _BACKWARD else ("forward  →", colour)
        axes.text(876, 30, way[0], fontsize=13, fontweight="bold", va="center", ha="right", color=way[1])
    network = _NetworkDiagram(axes, numbers, step)
    network.edges()
    network.units()
    network.errors()
    _draw_formulas(axes, now, colour)
    return made


def _step_color(kind: str) -> str:
    return {"deltas": _BACKWARD, "gradients": _BACKWARD, "inputs": style.BLACK, "update": style.BLACK}.get(
        kind, _FORWARD
    )


class _NetworkDiagram:
    """Where everything stands, and what of it is known at a step."""

    def __init__(self, axes: Axes, numbers: dict[str, Any], step: int):
        self.axes, self.numbers, self.layers = axes, numbers, numbers["layers"]
        self.now, self.done = numbers["steps"][step], numbers["steps"][: step + 1]
        count = len(self.layers)
        self.narrow = count > 3
        self.wide = [72 if self.narrow else 90] + [106 if self.narrow else 122] * (count - 1)
        self.between = (_ERROR_LEFT - 34 - _LEFT - sum(self.wide)) / (count - 1)
        self.x = [_LEFT + sum(self.wide[:n]) + self.between * n + self.wide[n] / 2 for n in range(count)]
        self.y = [self._column(len(layer["units"])) for layer in self.layers]
        #: room for each edge at the unit that it leads to, and at the one that it comes from
        self.room = [0.0] + [self._room(place) for place in range(1, count)]

    def _column(self, units: int) -> np.ndarray:
        gap = min(175, (_BOTTOM - _TOP) / units)
        return (_TOP + _BOTTOM) / 2 + gap * (np.arange(units) - (units - 1) / 2)

    def _gap(self, place: int) -> float:
        return min(175, (_BOTTOM - _TOP) / len(self.layers[place]["units"]))

    def _room(self, place: int) -> float:
        return min(46, 0.92 * self._gap(place) / len(self.layers[place - 1]["units"]))

    def high(self, place: int) -> float:
        """The height of the boxes of a layer."""
        inside = 30 if place == 0 else 62
        below = len(self.layers[place - 1]["units"]) if place else 0
        return min(0.9 * self._gap(place), max(inside, self.room[place] * below))

    def knows(self, kind: str, place: int | None) -> bool:
        """Whether a step of that kind about that layer is done, or is the present one."""
        return any(one["kind"] == kind and one["layer"] == place for one in self.done)

    def brief(self, value: float) -> str:
        """A number that fits into a box."""
        return format_number(value, 4, 7 if self.narrow else 9)

    def active(self, kind: str, place: int | None) -> bool:
        """Whether the present step is that."""
        return self.now["kind"] == kind and self.now["layer"] == place

    # --- boxes

    def units(self) -> None:
        """A box for each unit: its name, its sum, what comes out, its delta."""
        again = self.now["kind"] == "after"
        for place, layer in enumerate(self.layers):
            for unit, name in enumerate(layer["units"]):
                told = []
                if place == 0:
                    told.append((self.brief(layer["outputs"][unit]), _FORWARD))
                elif self.knows("forward", place):
                    sums, outputs = ("sums_after", "outputs_after") if again else ("sums", "outputs")
                    told.append((f"sum {self.brief(layer[sums][unit])}", _FORWARD))
                    told.append((f"out {self.brief(layer[outputs][unit])}", _FORWARD))
                if place and self.knows("deltas", place) and not again:
                    told.append((f"δ {self.brief(layer['deltas'][unit])}", _BACKWARD))
                marked = None
                if self.active("forward", place) or again or (self.active("inputs", place)):
                    marked = _FORWARD
                elif self.active("deltas", place):
                    marked = _BACKWARD
                self._box(place, self.y[place][unit], name, told, marked)
            self._biases(place)

    def _box(self, place: int, y: float, name: str, told: Sequence[tuple[str, str]], marked: str | None) -> None:
        x, wide, high = self.x[place], self.wide[place], self.high(place)
        self.axes.add_patch(_rounded_box(x - wide / 2, y - high / 2, wide, high, marked))
        size = 9 if not self.narrow and (high >= 52 or not place) else 7.6 if high >= 46 or len(told) == 1 else 7
        self.axes.text(x - wide / 2 + 6, y, name, va="center", fontsize=size + 0.5, fontweight="bold", zorder=5)
        apart = min(19, (1.65 if high < 46 else 1.75) * size, high / max(len(told), 1))
        for line, (text, colour) in enumerate(told):
            at = y + apart * (line - (len(told) - 1) / 2)
            self.axes.text(x + wide / 2 - 6, at, text, va="center", ha="right", fontsize=size, color=colour, zorder=5)

    def _biases(self, place: int) -> None:
        """Below a layer its biases: their values, their gradients once known."""
        if not place:
            return
        layer, x = self.layers[place], self.x[place]
        new = self.numbers["train_biases"] and self.knows("update", None)
        values = layer["biases_after"] if new else layer["biases"]
        names, room = layer["bias_names"], min(self.wide[place] + self.between, 2 * (_ERROR_LEFT - 20 - x)) - 12
        known = self.knows("gradients", place) and not self.knows("update", None)
        if len(names) == 1:
            told = f"bias {names[0]}  {format_number(values[0], 4, 9)}"
            gradient = f"∂E/∂{names[0]}  {format_number(layer['bias_gradients'][0], 4, 9)}"
        else:
            told = _format_row(f"{names[0]}–{names[-1]}:", values, room)
            gradient = _format_row("∂:", layer["bias_gradients"], room)
        size = 9 if len(names) == 1 else 7.5
        self.axes.text(x, _BOTTOM + 16, told, ha="center", va="center", fontsize=size, color=style.BLACK)
        if known:
            self.axes.text(x, _BOTTOM + 34, gradient, ha="center", va="center", fontsize=size, color=_BACKWARD)

    # --- edges

    def edges(self) -> None:
        """A line for each weight, level where it meets the unit that it leads to; the weight stands there."""
        for place in range(1, len(self.layers)):
            layer, labelled = self.layers[place], self.room[place] >= 9
            size = 8.5 if self._roomy(place) and not self.narrow else 7.0
            pairs = [(row, source) for row, names in enumerate(layer["weight_names"]) for source in range(len(names))]
            # the lines are as long in every step, so that nothing moves from one to the next
            longest = max(style.text_width(self._gradient(place, *pair), size) for pair in pairs)
            level = min(20 + labelled * longest, self.between - 24)
            for row, source in pairs:
                label = self._label(place, row, source) if labelled else []
                self._edge(place, row, source, level, label, size)

    def _roomy(self, place: int) -> bool:
        """Whether the edges into a layer have room for two texts each."""
        return self.room[place] >= 26

    def _digits(self, place: int) -> tuple[int, int]:
        """How many digits and how many characters the number at an edge into a layer may have."""
        return (5, 11) if self._roomy(place) and not self.narrow else (3, 8)

    def _gradient(self, place: int, row: int, source: int) -> str:
        layer, long = self.layers[place], self._roomy(place) and not self.narrow
        value = format_number(layer["weight_gradients"][row][source], *self._digits(place))
        return f"∂{'E/∂' if long else ''}{layer['weight_names'][row][source]}  {value}"

    def _label(self, place: int, row: int, source: int) -> list[tuple[str, str]]:
        """One or two texts of an edge and their colours; two only where there is room."""
        layer, roomy = self.layers[place], self._roomy(place)
        name, value = layer["weight_names"][row][source], layer["weights"][row][source]
        digits = self._digits(place)
        if self.knows("update", None):
            new = (f"{name}  {format_number(layer['weights_after'][row][source], *digits)}", style.BLACK)
            return [new, (f"was {format_number(value, *digits)}", style.GRAY)] if roomy else [new]
        weight = (
            f"{name}  {format_number(value, *digits)}",
            _FORWARD if self.active("forward", place) else style.BLACK,
        )
        # where deltas come back, they come through the weights
        if not self.knows("gradients", place) or (self.active("deltas", place - 1) and not roomy):
            return [weight]
        found = (self._gradient(place, row, source), _BACKWARD)
        return [weight, found] if roomy else [found]

    def _edge(self, place: int, row: int, source: int, level: float, label: list[tuple[str, str]], size: float) -> None:
        layer = self.layers[place]
        below, above = len(self.layers[place - 1]["units"]), len(layer["units"])
        end_x = self.x[place] - self.wide[place] / 2
        start_x = end_x - self.between
        spread = min(12, 0.8 * self.high(place - 1) / above)
        start_y = self.y[place - 1][source] + spread * (row - (above - 1) / 2)
        end_y = self.y[place][row] + self.room[place] * (source - (below - 1) / 2)
        colour = self._edge_colour(place)
        largest = max(abs(w) for weights in layer["weights"] for w in weights) or 1.0
        # where edges are many they are thin, and their colour alone says which way the step goes
        dense = self.room[place] < 9
        width = (0.5 if dense else 1) * (0.6 + 1.6 * abs(layer["weights"][row][source]) / largest)
        bend = end_x - level
        self.axes.plot(
            [start_x, bend, end_x], [start_y, end_y, end_y], color=colour or _INACTIVE,
            linewidth=width, zorder=3 if colour else 2, solid_joinstyle="round",
        )  # fmt: skip
        if colour == _BACKWARD and not dense:
            steep = (end_y - start_y) / (bend - start_x)
            self.axes.plot(start_x + 5, start_y + 5 * steep, "<", color=colour, markersize=5)
        elif colour and not dense:
            self.axes.plot(end_x - 4, end_y, ">", color=colour, markersize=5, zorder=3)
        sides = [("bottom", -3), ("top", 4)] if self._roomy(place) else [("center", 0)]
        for (text, ink), (side, away) in zip(label, sides, strict=False):
            self.axes.text(
                end_x - 9, end_y + away, text, ha="right", va=side, fontsize=size, color=ink, zorder=3.5,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6} if side == "center" else None,
            )  # fmt: skip

    def _edge_colour(self, place: int) -> str | None:
        """The colour of the edges into a layer where the present step goes through them."""
        if self.active("forward", place) or self.now["kind"] == "after":
            return _FORWARD
        if self.active("gradients", place) or self.active("deltas", place - 1):
            return _BACKWARD
        return style.BLACK if self.now["kind"] == "update" else None

    # --- the error

    def errors(self) -> None:
        """At the right the target of each output and its part of the error; below them their sum."""
        again, known = self.now["kind"] == "after", self.knows("errors", None)
        errors = self.numbers["errors_after" if again else "errors"]
        last = len(self.layers) - 1
        high, wide = min(44, 0.9 * self._gap(last)), 876 - _ERROR_LEFT
        marked = _FORWARD if self.active("errors", None) or again else None
        back = self.active("deltas", last)
        for unit, y in enumerate(self.y[last]):
            told = [(f"target {format_number(self.numbers['targets'][unit], 4, 8)}", style.BLACK)]
            if known:
                told.append((f"E {format_number(errors[unit], 4, 9)}", _FORWARD))
            self.axes.annotate(
                "", (_ERROR_LEFT, y), (self.x[last] + self.wide[last] / 2, y),
                arrowprops={"arrowstyle": "<|-" if back else "-|>", "color": marked or (_BACKWARD if back else _INACTIVE),
                            "linewidth": 1.6, "shrinkA": 0, "shrinkB": 0},
            )  # fmt: skip
            self.axes.add_patch(_rounded_box(_ERROR_LEFT, y - high / 2, wide, high, marked, "--"))
            for line, (text, colour) in enumerate(told):
                at, middle = y + min(16, high / 2.3) * (line - (len(told) - 1) / 2), _ERROR_LEFT + wide / 2
                self.axes.text(middle, at, text, ha="center", va="center", fontsize=8.5, color=colour, zorder=5)
        if known:
            total = f"E = {format_number(self.numbers['error_after' if again else 'error'], 6)}"
            look = {"fontsize": 11, "fontweight": "bold", "color": _FORWARD}
            self.axes.text(876, _BOTTOM + 16, total, ha="right", va="center", **look)


def _rounded_box(
    left: float, top: float, wide: float, high: float, marked: str | None, line: str = "-"
) -> FancyBboxPatch:
    """A box with round corners, in the colour of the step where it is about this box."""
    return FancyBboxPatch(
        (left, top), wide, high, boxstyle="round,pad=0,rounding_size=7", facecolor=_TINTS.get(marked, "white"),
        edgecolor=marked or style.GRAY, linewidth=2.4 if marked else 1.1, linestyle=line, zorder=4,
    )  # fmt: skip


def _format_row(name: str, values: Sequence[float], room: float) -> str:
    """As many of the values as have room, behind their name."""
    told = [format_number(value, 3, 8) for value in values]
    for count in range(len(told), 0, -1):
        line = f"{name}  {', '.join(told[:count])}{', …' * (count < len(told))}"
        if style.text_width(line, 7.5) <= room:
            break
    return line


def _draw_formulas(axes: Axes, now: dict[str, Any], colour: str) -> None:
    """The formula of the step in letters, and with numbers: as long as fits, in as many columns as fit."""
    axes.plot([24, 876], [_FORMULAS - 26] * 2, color=style.LIGHT_GRAY, linewidth=1)
    top = _FORMULAS - 6
    if now["rule"]:
        axes.text(24, top, now["rule"], fontsize=10, va="center", color=colour, fontweight="bold")
        top += 22
    lines, columns, size = _fit_lines(now["lines"], _HEIGHT - 12 - top)
    deep = -(-len(lines) // columns)
    for place, line in enumerate(lines):
        x, y = 24 + _ROW_WIDTH / columns * (place // deep), top + 1.75 * size * (place % deep)
        axes.text(x, y, line, fontsize=size, va="center")


def _fit_lines(lines: Sequence[Sequence[str]], high: float) -> tuple[list[str], int, float]:
    """The lines in the longest form that fits into so much height, in how many columns, and the size of the letters."""
    for form in range(max(map(len, lines))):
        # a line that has no such short form stays in its shortest
        told = [forms[min(form, len(forms) - 1)] for forms in lines]
        for size in (10.5, 9.5, 8.5):
            rows = int(high / (1.75 * size)) + 1
            columns = -(-len(told) // rows)
            wide = max(style.text_width(line, size) for line in told) + _COLUMN_GAP
            if columns * wide <= _ROW_WIDTH:
                return told, columns, size
    columns = max(1, int(_ROW_WIDTH / wide))
    told = told[: columns * rows - 1]
    return [*told, f"… {len(lines) - len(told)} more"], columns, size


def _draw_error_curve(made: Figure, sheet: Axes, numbers: dict[str, Any]) -> None:
    """The error over all updates, what comes out before and after them, and how the gradients were checked."""
    curve = numbers["curve"]
    updates, errors = np.array(curve["update"]), np.array(curve["error"])
    axes = made.add_axes((0.085, 0.1, 0.47, 0.77))
    axes.plot(updates, errors, color=_FORWARD, linewidth=2)
    axes.plot(updates[-1], errors[-1], "o", color=_FORWARD, markersize=7, clip_on=False)
    if errors.min() > 0 and errors.max() > 20 * errors.min():
        axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_number(value, 4, 9)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set(xlabel="updates", xlim=(0, updates[-1]))
    axes.set_title("error E", fontweight="normal", fontsize=9.5)
    layer, last = numbers["layers"][-1], numbers["last"]
    rows = [("", "target", "at first", "after 1", f"after {updates[-1]}")]
    shown = (548, 644, 712, 780, 876) if updates[-1] > 1 else (548, 700, 788, 876)
    for unit, name in enumerate(layer["units"]):
        values = (numbers["targets"][unit], *(one[unit] for one in (layer["outputs"], layer["outputs_after"])))
        rows.append(
            (f"out {name}", *(format_number(v, 4, 7) for v in values), format_number(last["outputs"][unit], 4, 9))
        )
    values = (numbers["error"], numbers["error_after"])
    rows.append(("error E", "", *(format_number(v, 4, 7) for v in values), format_number(last["error"], 4, 9)))
    for line, row in enumerate(rows):
        for x, text in zip(shown, row, strict=False):
            ink = style.GRAY if not line else _FORWARD if row is rows[-1] else style.BLACK
            sheet.text(x, 100 + 26 * line, text, ha="left" if x == 548 else "right", va="center", color=ink)
    check, top = numbers["check"], 100 + 26 * len(rows) + 40
    sheet.text(548, top, "The gradients, checked", fontweight="bold", fontsize=10.5, va="center")
    for line, (told, value) in enumerate(
        (
            ("largest gradient", format_number(check["largest_gradient"])),
            ("largest difference from PyTorch's autograd", format_number(check["autograd"], 2)),
            ("largest difference from central differences", format_number(check["central_differences"], 2)),
        ),
        1,
    ):
        sheet.text(548, top + 26 * line, told, va="center", fontsize=9)
        sheet.text(876, top + 26 * line, value, va="center", ha="right", fontsize=9)
