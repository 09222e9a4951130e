"""`.pt2`: the program in training form as a torch.export archive, with its example inputs."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch

from sparsify import verify
from sparsify.atomic import writing
from sparsify.capture import from_exported
from sparsify.errors import ExportError, UntrustedError, UsageError, first_line
from sparsify.export.outputs import plain_spec
from sparsify.loading.safe_archive import LAYOUT, read_exported
from sparsify.program import Program, check_program, dynamic_sizes
from sparsify.tracing import export
from sparsify.version import __version__

__all__ = ["save"]

_ENDINGS = (".pt2", ".pt", ".pth")  # what a file is its content says; torch calls its own by any of these


def save(program: Program, path: str | Path) -> dict[str, Any]:
    """Write a program as a torch.export archive that `torch.export.load` and `sparsify.load` read.

    Classes of the model's own output (such as those of transformers) are written as dictionaries, so that the archive
    can be loaded without them.

    Returns:
        What was checked: `bytes`, `largest_difference`.

    Raises:
        UsageError: it is no program, or the ending of the path is that of another format, or of none.
        ExportError: torch.export cannot write it, or what it wrote computes something else.
        InputError: the path cannot be written.
    """
    check_program(program)
    if Path(path).suffix not in _ENDINGS:
        raise UsageError(f"{path}: save writes a torch.export archive; name it .pt2. (export_onnx writes .onnx.)")
    module = program.module(training=True)
    codegen: Any = module.graph._codegen
    codegen.pytree_info = codegen.pytree_info._replace(out_spec=plain_spec(program))
    module.recompile()
    with writing(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            exported = export(module, program.example, [dynamic_sizes(node) for node in program.placeholders])
            exported.example_inputs = (program.example.args, dict(program.example.kwargs))
            extra = {"sparsify.json": json.dumps({"version": __version__, "layout": LAYOUT, **program.provenance})}
            with temporary.open("wb") as file:
                torch.export.save(exported, file, extra_files=extra)
        except Exception as error:
            raise ExportError(
                f"The program cannot be written as .pt2: {type(error).__name__}: {first_line(error)}."
            ) from error
        with temporary.open("rb") as file:  # as a stranger would: through the checks, from the bytes that were written
            try:
                again = from_exported(read_exported(file, temporary, trust=False))
            except UntrustedError as error:
                foreign = ", ".join(_foreign(program)) or first_line(error)
                raise ExportError(
                    "The program cannot be written as .pt2, because nobody could load it without trusting it: it "
                    f"has something that is not torch's own ({foreign}). Keep the module instead: its state dict, and "
                    "the code that makes it (--model my_package:make_model)."
                ) from error
        return {"bytes": temporary.stat().st_size, "largest_difference": verify.equivalent(program, again)}


def _foreign(program: Program) -> list[str]:
    """Return the operators that are not torch's own."""
    targets = {node.target for node in program.graph.nodes if isinstance(node.target, torch._ops.OpOverload)}
    return sorted(target._schema.name for target in targets if target.namespace not in ("aten", "prims", "prim"))
