"""The command `sparsify bench`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from sparsify.console import out, print_json, progress
from sparsify.errors import UsageError
from sparsify.options import INPUT, WORK, AsJson, Device

if TYPE_CHECKING:
    from sparsify.kernel_bench import Row

__all__ = ["bench"]


def bench(
    *,
    kernels: Annotated[
        bool, Parameter(negative="", show_default=False, help="measure sparse layers beside dense ones", group=WORK)
    ] = False,
    shapes: Annotated[str, Parameter(help="outputs x inputs of the layers", group=INPUT)] = "4096x1024,1024x4096",
    batches: Annotated[str, Parameter(help="how many inputs a layer is given at a time", group=INPUT)] = "1,16",
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        Parameter(help="of all numbers (default: float32 on a CPU, bfloat16 elsewhere)", group=INPUT),
    ] = None,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Measure how fast sparse layers are on this machine, beside the best dense one.

    On a GPU every kernel that fits is tried, and the fastest is remembered: sparse layers of these sizes use it from
    then on.
    """
    if not kernels:
        raise UsageError("Say what to measure: sparsify bench --kernels.")
    sizes = [_shape(text) for text in shapes.split(",")]
    counts = [_positive(text, "--batches") for text in batches.split(",")]
    import torch

    from sparsify.kernel_bench import measure_kernels
    from sparsify.kernels._measured import device_name, file_of
    from sparsify.loading.placement import find_device

    where = find_device(device)
    kind = getattr(torch, dtype or ("float32" if where.type == "cpu" else "bfloat16"))
    with progress() as show:
        rows = list(measure_kernels(where, kind, sizes, counts, show))
    if as_json:
        print_json([row.as_dict() for row in rows])
        return
    threads = f", {torch.get_num_threads()} threads" if where.type == "cpu" else ""
    _print(rows, f"{device_name(where)}, {str(kind).removeprefix('torch.')}{threads}")
    if where.type == "cuda":
        out.print(f"wrote {file_of(device_name(where))}", highlight=False, markup=False, soft_wrap=True)


def _print(rows: list[Row], where: str) -> None:
    from rich.table import Table

    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="bold")
    ways = any(row.way for row in rows)
    for title in ("layer", "batch", "format", "dense", "sparse", "speed", *(["kernel"] if ways else [])):
        table.add_column(title, justify="left" if title in ("layer", "format", "kernel") else "right", no_wrap=True)
    for row in rows:
        cells = [f"{row.outputs}x{row.inputs}", str(row.batch), row.kind, f"{row.dense:.3f} ms", f"{row.sparse:.3f} ms",
                 f"{row.speed:.2f}x", *([row.way] if ways else [])]  # fmt: skip
        table.add_row(*cells, style="green" if row.speed > 1 else "")
    out.print(table)
    out.print(
        f"Least times of calls in turns on {where}.",
        style="dim",
        highlight=False,
    )


def _shape(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text.strip())
    if not match:
        raise UsageError(f"--shapes {text}: write outputs x inputs, such as 4096x1024; several with commas.")
    return _positive(match[1], f"--shapes {text}:"), _positive(match[2], f"--shapes {text}:")


def _positive(text: str, option: str) -> int:
    if not text.strip().isdigit() or int(text) < 1:
        raise UsageError(f"{option} {text!r} is no whole number of at least 1.")
    return int(text)
