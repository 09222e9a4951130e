"""Interruptions: Ctrl-C and SIGTERM wait for a step to end, so that the state behind it can be kept."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["passed_on", "waiting"]


_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def waiting(wanted: bool = True, *, patient: bool = False) -> Iterator[Callable[[], bool]]:
    """Yield whether Ctrl-C was pressed in the block, or the process told to end; told again, it ends at once.

    Only the main thread is told of signals, and where nobody handles Ctrl-C, as in the background of a shell, it stays
    so: elsewhere nothing changes. SIGTERM, with which schedulers take a machine away, counts where it is handled, as
    the command does. The handlers that were there before come back.

    Args:
        wanted: leave both as they are, if it is not.
        patient: what comes after the first one is let pass, as where torchrun sends it again to all processes.
    """
    told = False
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    before = {number: handler for number, handler in before.items() if callable(handler)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal told
        told = True
        if not patient:
            restore()

    if not wanted or signal.SIGINT not in before or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    for number in before:
        signal.signal(number, handle)
    try:
        yield lambda: told
    finally:
        restore()


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
