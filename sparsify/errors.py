"""Errors that a user can act on: what failed, where, and what to do; each class carries its exit status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = [
    "CaptureError",
    "ContractError",
    "ExportError",
    "GateError",
    "InputError",
    "NoInputsError",
    "OptionError",
    "PassError",
    "SparsifyError",
    "SweepError",
    "UntrustedError",
    "UsageError",
    "first_line",
    "unreadable",
]


class SparsifyError(Exception):
    """Base of every error that sparsify raises on purpose; the message is one readable paragraph."""

    exit_status = 2


class UsageError(SparsifyError):
    """An option, a pass spec or an argument is wrong."""


class OptionError(UsageError):
    """Options of a retraining do not go together with each other, the data or the program; it shows in use only."""


class InputError(SparsifyError):
    """A file is missing, broken, of an unknown kind, or does not fit what was asked."""


class NoInputsError(InputError):
    """A file has no example inputs, and nothing else gives them."""


class UntrustedError(InputError):
    """Loading the file could run code that it carries, and the user has not said `--trust`."""


class CaptureError(SparsifyError):
    """torch.export cannot turn the model into a graph, or the graph does not compute what the model does."""


class GateError(SparsifyError):
    """A limit that the user set (such as `--max-drop`) is not met.

    Attributes:
        report: of the run that it ended, or None.
    """

    exit_status = 1

    def __init__(self, message: str, report: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.report = report


class SweepError(SparsifyError):
    """A trial of a sweep failed; the others are done."""

    exit_status = 1


class PassError(SparsifyError):
    """A pass could not do what it was asked to do; the program before it is untouched."""


class ContractError(SparsifyError):
    """A pass changed what its contract promises to keep; the program before it is untouched."""

    exit_status = 3


class ExportError(SparsifyError):
    """An exported file does not compute what the program computes, so it was not written."""

    exit_status = 3


def first_line(error: Exception) -> str:
    """Return the first line of an error, without the full stop, to be part of a sentence."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300].rstrip(".")


def unreadable(error: Exception) -> str:
    """Say in short why a file cannot be read: no such file, or the place where it is not YAML."""
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        return f"line {mark.line + 1}, column {mark.column + 1}: {getattr(error, 'problem', None) or 'it is no YAML'}"
    return getattr(error, "strerror", None) or first_line(error)
