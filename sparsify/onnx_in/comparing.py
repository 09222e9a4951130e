"""Comparing a program with the ONNX file that it was read from, in onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparsify import verify
from sparsify.errors import InputError, first_line
from sparsify.program import Program

__all__ = ["compare"]


def compare(program: Program, path: Path, inputs: Mapping[str, str], outputs: Sequence[str]) -> float:
    """Run file and program beside each other, on the example and on inputs of other sizes where sizes may vary.

    Args:
        program: is run in evaluation mode.
        path: of the file.
        inputs: for each argument of the program the input's name in the file.
        outputs: the names of the outputs in the file, in the program's order.

    Returns:
        The largest relative difference.

    Raises:
        InputError: onnxruntime cannot run the file, or the program computes another output; the first is named.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is an exception, and said once
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise InputError(f"{path} cannot be loaded in onnxruntime: {_reason(error)}.") from error
    worst = 0.0
    for leaves in verify.trial_inputs(program):
        given = {
            inputs[str(node.target)]: leaf.detach().cpu().numpy()
            for node, leaf in zip(program.placeholders, leaves, strict=True)
        }
        try:
            expected = session.run(list(outputs), given)
        except Exception as error:
            raise InputError(f"{path} cannot be run in onnxruntime: {_reason(error)}.") from error
        for name, one, other in zip(outputs, expected, verify.outputs(program, leaves), strict=True):
            wanted = torch.from_numpy(one)
            gap = verify.difference(wanted, other.cpu() if isinstance(other, Tensor) else other)
            worst = max(worst, gap)
            if not gap <= 10 * verify.tolerance(wanted):
                raise InputError(
                    f"{path} cannot be read: sparsify computes another {name!r:.100} than onnxruntime "
                    f"({_how(wanted, other, gap)}). Load the model that it was exported from instead."
                )
    return worst


def _how(wanted: Tensor, found: Any, gap: float) -> str:
    if isinstance(found, Tensor) and (found.shape, found.dtype) == (wanted.shape, wanted.dtype):
        return f"it differs by {gap:.2g}, relative"
    return f"{_kind(found)} instead of {_kind(wanted)}"


def _kind(value: Any) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"


def _reason(error: Exception) -> str:
    text = first_line(error)
    return text.partition("onnxruntime::")[0].strip() or text
