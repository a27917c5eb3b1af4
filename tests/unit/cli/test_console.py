"""Results and notices are apart, no character controls the terminal, JSON has no NaN, and progress is quiet."""

import csv
import io
import json
import math
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.cli import console

VAL = {"examples": 99, "accuracy": 0.9, "accuracy_low": 0.8, "top5": 1.0, "x": None, "loss": 0.5, "macro_f1": 0.9}


def progress(step, val=None, warnings=(), eta=60.0):
    return SimpleNamespace(
        step=step,
        steps=100,
        epoch=step / 10,
        epochs=10.0,
        losses={"loss": 0.25},
        lr=0.001,
        elapsed=float(step),
        eta=eta,
        val=val,
        warnings=warnings,
    )


@given(st.text())
def test_escaped_text_has_no_control_characters(text):
    shown = console.escape_controls(text)
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000 for c in shown)
    assert not set(shown) & console.BIDI_CONTROLS


def test_harmless_names_stay_unchanged():
    for name in ("naïve 数据 🐱 a'b.png", "photos\\cat.png", "ﬁlm – 1.jpg"):
        assert console.escape_controls(name) == name


def test_bidirectional_controls_are_escaped():
    assert console.escape_controls("cat\u202egnp.exe") == "cat\\u202egnp.exe"


def test_json_is_the_same_in_every_locale_and_has_no_nan():
    text = console.to_json({"数": math.nan, "b": [math.inf, 1.5, True, None], "c": np.float32(0.5), "d": np.arange(2)})
    assert text.isascii()
    assert json.loads(text, parse_constant=pytest.fail) == {
        "数": None,
        "b": [None, 1.5, True, None],
        "c": 0.5,
        "d": [0, 1],
    }


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", "\tx", "\rx"])
def test_spreadsheet_formulas_are_quoted(name):
    (row,) = csv.reader(io.StringIO(console.format_csv_line([name, "plain", 0.5])))
    assert row[0].startswith("'") and row[1:] == ["plain", "0.5"]


def test_csv_keeps_commas_and_quotes():
    (row,) = csv.reader(io.StringIO(console.format_csv_line(['a,"b"', "c"])))
    assert row == ['a,"b"', "c"]


def test_columns_of_a_table_are_aligned():
    lines = console.format_table(("name", "count"), [("cat", 3), ("数据", 1200), ("no\nline", 7)])
    assert lines == ["name      count", "cat           3", "数据       1200", "no\\nline      7"]


def test_a_table_without_rows_is_its_headings():
    assert console.format_table(("a", "b"), []) == ["a  b"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(7.4, "0:07"), (760, "12:40"), (3753, "1:02:33"), (None, ""), (math.inf, "")]
)
def test_durations_read_as_clocks(seconds, text):
    assert console.format_duration(seconds) == text


def test_results_and_notices_go_apart(capsys):
    console.print_result("result")
    console.print_notice("notice")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("result\n", "notice\n")


def test_only_rank_0_prints(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    console.print_result("result")
    console.print_notice("notice")
    with console.make_progress() as display:
        display.show(progress(1, val={"accuracy": 0.5}, warnings=("a warning",)))
    assert capsys.readouterr() == ("", "")


def test_a_lost_terminal_does_not_stop_the_program(monkeypatch):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Gone())
    console.print_notice("nobody reads this")


def test_plain_progress_prints_at_validations_and_every_ten_seconds(capsys):
    now = [0.0]
    with console.PlainProgress(clock=lambda: now[0]) as display:
        for step in range(1, 31):
            now[0] = step * 1.0
            display.show(progress(step, val=VAL if step == 15 else None))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[3] for line in lines] == ["1/10", "1.5/10", "2.5/10"]
    assert lines[0] == "1:00 left  epoch 1/10  loss 0.2500  step 10/100  lr 0.001  0:10"
    assert lines[1] == "1:00 left  epoch 1.5/10  loss 0.2500  val loss 0.5000  0:15"


def test_a_validation_without_the_losses_shows_its_first_three_metrics():
    val = {"images": 3, "iou": 0.5, "dice": 0.6, "x": None, "hole": 0.1, "more": 0.2}
    shown = console.progress_line(progress(10, val=val, eta=None))
    assert shown == "epoch 1/10  loss 0.2500  val iou 0.5000  val dice 0.6000  val hole 0.1000  0:10"


def test_warnings_are_printed_when_they_come(capsys):
    with console.PlainProgress(clock=lambda: 0.0) as display:
        display.show(progress(1, warnings=("no better for 3 epochs\x1b",)))
    assert capsys.readouterr().err == "no better for 3 epochs\\x1b\n"


def test_progress_outside_a_terminal_is_plain(capsys):
    assert isinstance(console.make_progress(), console.PlainProgress)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_on_a_terminal_is_a_bar_with_a_line_per_validation(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "150")
    with console.make_progress() as display:
        assert isinstance(display, console.ProgressBar)
        display.show(progress(10, warnings=("[red] warning",)))
        display.show(progress(20, val={"accuracy": 0.75}))
    drawn = screen.getvalue()
    assert "[red] warning" in drawn
    assert "val accuracy 0.7500" in drawn
    assert "1:00 left" in drawn


def test_a_dumb_terminal_gets_plain_lines(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(console.make_progress(), console.PlainProgress)


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_files_get_utf8_in_every_locale(locale):
    program = (
        r"from thalweg.cli.console import *; configure_streams(); print_result('\u6570\u636e'); print_notice('\xe9')"
    )
    environment = {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=environment, check=True)
    assert done.stdout == "数据\n".encode()
    assert done.stderr == "é\n".encode()


def test_reading_progress_waits_a_second_and_then_prints_every_two(capsys):
    now = [0.0]
    display = console.ReadingProgress(clock=lambda: now[0])
    for second in range(6):
        now[0] = float(second)
        display.show(second * 1000, 5000)
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_a_closed_standard_output_is_a_broken_pipe(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    console.configure_streams()
    try:
        with pytest.raises(BrokenPipeError):
            console.print_result("nobody reads this")
    finally:
        sys.stdout.close()
