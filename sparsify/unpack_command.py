"""The command `sparsify unpack`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sparsify.atomic import check_writable
from sparsify.console import out
from sparsify.errors import UsageError
from sparsify.options import INPUT, OUTPUT

__all__ = ["unpack"]


def unpack(
    model: Annotated[Path, Parameter(help="an .onnx file with packed weights", group=INPUT, show_default=False)],
    /,
    *,
    output: Annotated[Path, Parameter(name=("--output", "-o"), help="the dense .onnx file", group=OUTPUT)],
) -> None:
    """Write an ONNX file with packed weights as a dense one, for tools that do not fold constants."""
    if output.suffix != ".onnx":
        raise UsageError(f"{output}: a dense model is written as .onnx.")
    if output.exists() and model.exists() and output.samefile(model):
        raise UsageError(f"{output} is the model itself, which is never overwritten; name another file.")
    check_writable(output)
    from sparsify.export.storage import unpacked_file
    from sparsify.report.quantities import size

    names, before, after = unpacked_file(model, output)
    out.print(
        f"wrote {output} ({size(after)}, from {size(before)}): {len(names)} weights with their zeros again",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
