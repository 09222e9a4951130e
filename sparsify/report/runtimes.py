"""Which runtime can use what a run took away: facts about runtimes, chosen by what is in the result.

`docs/runtimes.md` has them at length, with how to see for oneself. None of it is a promise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Use", "uses"]

_FOR_TENSOR_CORES = {"2:4", "1:4", "1:2"}  # at most two of four
Verdict = Literal["faster", "smaller file", "no use"]


@dataclass(frozen=True)
class Use:
    """What one runtime makes of the result.

    Attributes:
        runtime: which.
        verdict: in a word.
        text: why.
    """

    runtime: str
    verdict: Verdict
    text: str


def uses(report: Mapping[str, Any]) -> list[Use]:
    """Return what each runtime can do with the result of a run.

    Args:
        report: with `layers`.
    """
    table = report["layers"]
    patterns = {row["pattern"] for row in table["rows"] if row["pattern"]}
    smaller = report["after"]["parameters"] < report["before"]["parameters"]
    packed = any(artefact.get("storage") == "packed" for artefact in report.get("artefacts", ()))
    dense = [Use("every runtime", "faster", "layers are gone or narrower, and what is left is dense")] * smaller
    if not patterns:
        return dense or [Use("every runtime", "no use", "nothing was removed, and nothing is sparse")]
    return [*dense, _onnxruntime(packed), _tensorrt(patterns), _core_ml(), _pytorch(table["sparse_layers"])]


def _onnxruntime(packed: bool) -> Use:
    held = "the file leaves zeros out, and they are put back when it is loaded" if packed else (
        "--storage packed leaves zeros out of the file")  # fmt: skip
    return Use("onnxruntime, OpenVINO", "smaller file" if packed else "no use", f"zeros are computed; {held}")


def _tensorrt(patterns: set[str]) -> Use:
    if patterns & _FOR_TENSOR_CORES:
        return Use("TensorRT", "faster", "2:4 zeros can go into sparse tensor cores: build with --sparsity=enable, and "
                   "look in its log whether it chose them")  # fmt: skip
    return Use("TensorRT", "no use", f"zeros are computed: {', '.join(sorted(patterns))}; it can use 2:4")


def _core_ml() -> Use:
    return Use("Core ML", "smaller file", "a .mlpackage stores sparse weights as bitmasks")


def _pytorch(sparse: bool) -> Use:
    if sparse:
        return Use("PyTorch", "faster", "the .pt2 has sparse kernels where they measured faster")
    return Use("PyTorch", "no use", "zeros are computed; --pass lower puts layers into sparse kernels where those are "
               "faster")  # fmt: skip
