"""How fast a program is beside the one that it came from: both as ONNX in onnxruntime, measured in turns."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from sparsify.errors import ExportError
from sparsify.export.onnx import export_onnx, feed
from sparsify.export.storage import size
from sparsify.inputs import with_batch
from sparsify.latency import Speed, compare
from sparsify.program import Program

__all__ = ["NotMeasured", "speed_of", "speedup"]


class NotMeasured(Exception):  # noqa: N818 - no error: a run may do without
    """There is nothing to measure; the message says why."""


def speedup(before: Program, after: Program, file: Path | None, *, seconds: float = 2.0) -> dict[str, Any]:
    """Measure a program beside the one before, one example at a time where the batch size is open.

    Args:
        before: what was pruned.
        after: what came of it.
        file: `after` as ONNX, if it is written; or else it is exported for this.
        seconds: how long the timed runs may take; loading takes time besides (see `sparsify.latency.compare`).

    Returns:
        `before` and `after`, as `Latency` has them; `dense_bytes` and `bytes`, the sizes of the ONNX files; and
        `speed`, as `Speed` has it.

    Raises:
        NotMeasured: a program cannot be written as ONNX.
    """
    with tempfile.TemporaryDirectory(prefix="sparsify-") as folder:
        dense = Path(folder) / "dense.onnx"
        _export(before, dense, "before")
        if file is None:
            file = Path(folder) / "small.onnx"
            _export(after, file, "after")
        feeds = [feed(program, with_batch(program, 1)) for program in (before, after)]
        one, two, speed = compare([dense, file], feeds, seconds=seconds)
        sizes = {"dense_bytes": size(dense), "bytes": size(file)}
    return {"before": one.as_dict(), "after": two.as_dict(), **sizes, "speed": speed.as_dict()}


def speed_of(latency: dict[str, Any]) -> Speed:
    """Return the speed that `speedup` found."""
    return Speed(*(latency["speed"][name] for name in ("ratio", "low", "high")))


def _export(program: Program, path: Path, which: str) -> None:
    try:
        export_onnx(program, path)
    except ExportError as error:
        raise NotMeasured(f"the model {which} cannot be written as ONNX. {error}") from error
