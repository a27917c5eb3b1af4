"""Signals: the first asks a training to stop, the second ends the process, and afterwards all is as before."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from thalweg.training.interrupts import on_interrupt

if os.name != "posix":
    pytest.skip("needs signals", allow_module_level=True)

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture(autouse=True)
def restore_handlers():
    """Leave the handlers of the test runner as they were."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def handlers() -> list:
    return [signal.getsignal(number) for number in SIGNALS]


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_calls_back_and_handlers_are_restored(number):
    before = handlers()
    calls = []
    with on_interrupt(lambda: calls.append(number)):
        assert calls == []
        os.kill(os.getpid(), number)
        assert calls == [number]
    assert handlers() == before


@pytest.mark.parametrize("number", SIGNALS)
def test_after_the_first_signal_any_other_ends_the_process(number):
    with on_interrupt(lambda: None):
        os.kill(os.getpid(), number)
        assert handlers() == [signal.default_int_handler, signal.SIG_DFL, signal.SIG_DFL]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_ignored_signals_stay_ignored_as_nohup_asks():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with on_interrupt(lambda: pytest.fail("SIGHUP was not ignored")):
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_nohup_holds_also_after_another_signal():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with on_interrupt(lambda: None):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGHUP)


def test_an_error_in_the_block_restores_the_handlers():
    before = handlers()
    with pytest.raises(RuntimeError), on_interrupt(lambda: None):
        raise RuntimeError
    assert handlers() == before


def test_other_threads_leave_signals_alone():
    before = handlers()
    during = []

    def run():
        with on_interrupt(lambda: None):
            during.append(handlers())

    worker = threading.Thread(target=run)
    worker.start()
    worker.join()
    assert during == [before] and handlers() == before
