"""The command `sparsify unpack`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sparsify.atomic import check_writable
from sparsify.console import out
from sparsify.errors import UsageError
from sparsify.naming import plural
from sparsify.options import INPUT, OUTPUT

__all__ = ["unpack"]


def unpack(
    model: Annotated[
        Path, Parameter(help="an .onnx or .safetensors file with packed weights", group=INPUT, show_default=False)
    ],
    /,
    *,
    output: Annotated[Path, Parameter(name=("--output", "-o"), help="the dense file, of the same kind", group=OUTPUT)],
) -> None:
    """Write a file with packed or compressed weights as a dense one, for tools that do not know how they are stored."""
    if model.suffix not in (".onnx", ".safetensors"):
        raise UsageError(f"{model}: only .onnx and .safetensors files have packed weights.")
    if output.suffix not in (".onnx", ".safetensors"):
        raise UsageError(f"{output}: a dense model is written as .onnx or .safetensors.")
    if model.suffix != output.suffix:
        raise UsageError(f"{output}: {model.name} is unpacked to a file of its own kind, {model.suffix}.")
    if output.exists() and model.exists() and output.samefile(model):
        raise UsageError(f"{output} is the model itself, which is never overwritten; name another file.")
    check_writable(output)
    from sparsify.report.quantities import size

    if output.suffix == ".onnx":
        from sparsify.export.storage import unpacked_file

        names, before, after = unpacked_file(model, output)
    else:
        from sparsify.export.checkpoint import unpacked_state

        names, before, after = unpacked_state(model, output)
    out.print(
        f"wrote {output} ({size(after)}, from {size(before)}): {plural(len(names), 'tensor')} whole again",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
