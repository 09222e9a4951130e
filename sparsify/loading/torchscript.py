"""TorchScript modules: become exported programs, with their parameters as parameters."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from sparsify.errors import InputError
from sparsify.loading.safe_pickle import brief
from sparsify.tracing import quiet

__all__ = ["convert", "read_script"]


def read_script(file: IO[bytes], path: Path) -> torch.jit.ScriptModule:
    """Load a TorchScript archive that the user trusts.

    Raises:
        InputError: torch cannot load it.
    """
    file.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return cast(torch.jit.ScriptModule, torch.jit.load(file, map_location="cpu"))  # type: ignore[no-untyped-call]
    except Exception as error:
        raise InputError(f"{path} is a TorchScript archive that torch cannot load: {brief(error)}.") from error


def convert(
    script: torch.jit.ScriptModule, args: tuple[Any, ...], kwargs: Mapping[str, Any], path: Path
) -> ExportedProgram:
    """Turn a TorchScript module into an exported program.

    The graph is that of the mode in which the module was saved: one traced in evaluation mode has lost its dropout.

    Args:
        script: a module that the user trusts; converting it runs it.
        args: positional example inputs.
        kwargs: keyword example inputs.
        path: of the archive, for messages.

    Raises:
        InputError: torch cannot convert it.
    """
    from torch._export.converter import TS2EPConverter

    try:
        with quiet():
            exported = TS2EPConverter(script, args, dict(kwargs)).convert()
    except Exception as error:
        raise InputError(
            f"{path} is a TorchScript archive that torch cannot convert to a graph: {brief(error)}. "
            "Load it where its Python class lives and save it with torch.export.save."
        ) from error
    names = {name for name, _ in script.named_parameters()}
    for spec in exported.graph_signature.input_specs:
        if spec.target in names:  # the converter lifts all state as buffers, which nothing would prune
            spec.kind, spec.persistent = InputKind.PARAMETER, None
            exported.state_dict[spec.target] = nn.Parameter(exported.state_dict[spec.target])
    return exported
