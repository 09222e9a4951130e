"""The command `sparsify diff`."""

from __future__ import annotations

from sparsify.console import out, print_json, progress
from sparsify.options import AsJson, Device, Factory, Inputs, Model, Trust

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
    """Show what changed from one model to another: sizes, zeros and values of every module, and what they compute."""
    from sparsify.differences import differences
    from sparsify.load import load
    from sparsify.report.changes import print_differences

    with progress() as show:
        programs = []
        for path in (before, after):
            show(f"loading {path}")
            programs.append(load(path, inputs, trust=trust, factory=factory, device=device))
        show("comparing")
        found = differences(*programs)
    if as_json:
        print_json(found.as_dict())
        return
    print_differences(out, found, (str(before), str(after)))
