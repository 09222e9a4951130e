"""The command `sparsify diff`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sparsify.console import out, print_json, progress
from sparsify.errors import NoInputsError
from sparsify.options import AsJson, Device, Factory, Inputs, Model, Trust

if TYPE_CHECKING:
    from sparsify.program import Program

__all__ = ["diff"]


def diff(
    before: Model,
    after: Model,
    /,
    *,
    inputs: Inputs = None,
    factory: Factory = None,
    device: Device = "cpu",
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Show what changed from one model to another: sizes, zeros and values of every module, and what they compute.

    A file without example inputs gets those of the other.
    """
    from sparsify.differences import differences
    from sparsify.load import load
    from sparsify.report.changes import print_differences

    with progress() as show:
        read = partial(load, inputs=inputs, trust=trust, factory=factory, device=device)
        programs = _loaded((before, after), read, show)
        show("comparing")
        found = differences(*programs)
    if as_json:
        print_json(found.as_dict())
        return
    print_differences(out, found, (str(before), str(after)))


def _loaded(paths: Sequence[Path], read: Callable[..., Program], show: Callable[[str], None]) -> list[Program]:
    """Load models; one without example inputs is captured with those of another."""
    found: dict[Path, Program] = {}
    missing: NoInputsError | None = None
    for path in paths:
        show(f"loading {path}")
        try:
            found[path] = read(path)
        except NoInputsError as error:
            missing = error
    if missing is not None and not found:
        raise missing
    for path in set(paths) - found.keys():
        example = next(iter(found.values())).example
        found[path] = read(path, example=(example.args, dict(example.kwargs)))
    return [found[path] for path in paths]
