"""Which runtime can use what a run took away: facts about runtimes, chosen by what is in the result.

`docs/runtimes.md` has them at length, with how to see for oneself. None of it is a promise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Use", "uses"]

_FOR_TENSOR_CORES = ("2:4", "1:4", "1:2")  # at most two of four
Verdict = Literal["faster", "smaller", "no use"]


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
    patterns = Counter(row["pattern"] for row in report["layers"]["rows"] if row["pattern"])
    found = [*_smaller(report), *_channels(patterns.pop("channels", 0))]
    if patterns:
        found += [_onnxruntime(report), _tensorrt(patterns), _core_ml(), _pytorch(report)]
    return found or [Use("every runtime", "no use", "no layer is smaller, and none has zeros that it had not before")]


def _smaller(report: Mapping[str, Any]) -> list[Use]:
    before, after = report["before"], report["after"]
    left = after["parameters"]
    if report["layers"]["sparse_layers"]:  # these store few values and are as large as they were
        left = sum(row["after"]["parameters"] for row in report["layers"]["rows"] if row["after"] is not None)
    if left >= before["parameters"]:
        return []
    text = "layers are gone or narrower, which needs no support"
    if after["macs"] >= before["macs"]:
        return [Use("every runtime", "smaller", f"{text}; there is as much to compute as before")]
    if report.get("latency"):
        speed = report["latency"]["speed"]
        if speed["verdict"] != "faster":
            return [Use("every runtime", "smaller", f"{text}; measured here it is {speed['verdict']}")]
        text += f"; measured here {speed['ratio']:.2f}x as fast"
    return [Use("every runtime", "faster", text)]


def _channels(layers: int) -> list[Use]:
    if not layers:
        return []
    text = (
        f"whole channels of {_layers(layers)} are masked: --pass shrink removes them, which makes every runtime faster"
    )
    return [Use("every runtime", "no use", text)]


def _layers(count: int) -> str:
    return "1 layer" if count == 1 else f"{count} layers"


def _onnxruntime(report: Mapping[str, Any]) -> Use:
    packed = any(artefact.get("storage") == "packed" for artefact in report.get("artefacts", ()))
    held = "the file leaves zeros out, and they are put back when it is loaded" if packed else (
        "--storage packed leaves zeros out of the file")  # fmt: skip
    return Use("onnxruntime, OpenVINO", "smaller" if packed else "no use", f"zeros are computed; {held}")


def _tensorrt(patterns: Mapping[str, int]) -> Use:
    fit, every = sum(patterns.get(name, 0) for name in _FOR_TENSOR_CORES), sum(patterns.values())
    if not fit:
        return Use("TensorRT", "no use", f"zeros are computed: {', '.join(sorted(patterns))}; it can use 2:4")
    where = f"2:4 zeros of {fit} of {_layers(every)} can go into sparse tensor cores"
    return Use("TensorRT", "faster", f"{where}: build with --sparsity=enable, and look in its log where it chose them")


def _core_ml() -> Use:
    return Use("Core ML", "smaller", "a .mlpackage stores sparse weights as bitmasks")


def _pytorch(report: Mapping[str, Any]) -> Use:
    measured = any(spec.partition(":")[0] == "lower" and "by=bytes" not in spec for spec in report["pipeline"])
    if report["layers"]["sparse_layers"]:
        if measured:
            return Use("PyTorch", "faster", "the .pt2 has sparse kernels where they measured faster")
        text = "the .pt2 has sparse kernels that nobody measured; --pass lower takes those that are faster"
        return Use("PyTorch", "smaller", text)
    if measured:
        return Use("PyTorch", "no use", "zeros are computed: the pass lower measured, and dense layers were as fast")
    return Use("PyTorch", "no use", "zeros are computed; --pass lower puts layers into sparse kernels where those are "
               "faster")  # fmt: skip
