"""Interruptions: Ctrl-C waits for a step to end, so that the state behind it can be kept."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["passed_on", "waiting"]


@contextmanager
def waiting(wanted: bool = True, *, patient: bool = False) -> Iterator[Callable[[], bool]]:
    """Yield whether Ctrl-C was pressed in the block; pressed again, it interrupts at once.

    Only the main thread is told of signals, and where nobody handles this one, as in the background of a shell, it
    stays so: elsewhere nothing changes. The handler that was there before comes back.

    Args:
        wanted: leave Ctrl-C as it is, if it is not.
        patient: what comes after the first one is let pass, as where torchrun sends it again to all processes.
    """
    pressed = False
    before = signal.getsignal(signal.SIGINT)

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        if not patient:
            signal.signal(signal.SIGINT, before)

    if not wanted or not callable(before) or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    signal.signal(signal.SIGINT, handle)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def passed_on(interrupted: Callable[[], bool], otherwise: type[BaseException] | None = None) -> Iterator[None]:
    """Pass on errors, unless Ctrl-C was pressed: it ends the processes of data loaders, too.

    Args:
        interrupted: whether it was.
        otherwise: what is raised then; nothing if not said.
    """
    try:
        yield
    except Exception as error:
        if not interrupted():
            raise
        if otherwise is not None:
            raise otherwise from error
