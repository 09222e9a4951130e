"""The choice of a criterion in the options of a pass: `criterion=wanda`, `criterion=filter-norm/p=1`."""

from __future__ import annotations

from sparsify import registry
from sparsify.criteria import Criterion, Scope
from sparsify.errors import PassError
from sparsify.observation.calibration import Calibration
from sparsify.program import Program

__all__ = ["chosen", "made"]

_PACKAGE = "sparsify.criteria"


def made(text: str) -> Criterion:
    """Make the criterion that an option describes: its name, and options of its own after slashes.

    Raises:
        UsageError: there is no such criterion, or an option does not fit.
    """
    name, *options = text.split("/")
    criterion, _ = registry.make(_PACKAGE, f"{name}:{','.join(options)}")
    assert isinstance(criterion, Criterion)
    return criterion


def chosen(text: str, scope: Scope, program: Program, calibration: Calibration) -> Criterion:
    """Make a criterion that will score weights, channels or blocks of a program.

    Raises:
        PassError: it scores something else, or the data that it needs is not there.
    """
    criterion = made(text)
    if scope not in criterion.scores:
        others = [entry.name for entry in registry.entries(_PACKAGE).values() if scope in entry.scores]
        raise PassError(
            f"The criterion {text} scores {' and '.join(criterion.scores)}, not {scope}. "
            f"Those that score {scope}: {', '.join(others)}."
        )
    calibration.check(program, registry.data_of(criterion.needs), text)
    return criterion
