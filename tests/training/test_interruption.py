"""Ctrl-C: noted once, obeyed at once when pressed again, and left alone where it is not ours."""

import signal
import threading

import pytest

from sparsify.training.interruption import passed_on, waiting


def press():
    signal.raise_signal(signal.SIGINT)


def test_the_first_is_noted_and_the_handler_comes_back():
    before = signal.getsignal(signal.SIGINT)
    with waiting() as interrupted:
        assert not interrupted()
        press()
        assert interrupted()
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(KeyboardInterrupt):
        press()


def test_being_told_to_end_is_noted_where_that_is_handled():
    def handler(number, frame):
        raise SystemExit(143)

    first = signal.signal(signal.SIGTERM, handler)
    try:
        with waiting() as interrupted:
            signal.raise_signal(signal.SIGTERM)
            assert interrupted()
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with waiting():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, first)


def test_the_second_interrupts_at_once():
    def twice():
        with waiting():
            press()
            press()

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        twice()
    assert signal.getsignal(signal.SIGINT) is before


def test_unwanted_it_changes_nothing():
    def once():
        with waiting(False):
            press()

    with pytest.raises(KeyboardInterrupt):
        once()


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with waiting() as interrupted:
            press()
            assert not interrupted()
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_touch_no_handler():
    before, found = signal.getsignal(signal.SIGINT), []

    def work():
        with waiting() as interrupted:
            found.extend([signal.getsignal(signal.SIGINT), interrupted()])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before, False]


def fail(interrupted, otherwise=None):
    with passed_on(lambda: interrupted, otherwise):
        raise ValueError("a process has ended")


def test_errors_that_follow_from_it_are_its_own():
    fail(True)
    with pytest.raises(KeyboardInterrupt):
        fail(True, KeyboardInterrupt)
    with pytest.raises(ValueError, match="has ended"):
        fail(False, KeyboardInterrupt)
